/** How a try ends: its record, the state that follows, its events and its DSN, in the transaction of the caller. */
import type { Effects } from './effects.ts';
import type { AttemptRecord, NewMessage, NextState, Settled, Settlement } from './message.ts';
import type { Outbox } from './outbox.ts';
import { detailsOf, idOf, type Recipients } from './recipients.ts';
import type { OpenRow, RecipientDetails } from './rows.ts';
import { cancellingAt, heldAt } from './schema.ts';
import type { SourceCounts } from './source-use.ts';

export type SettlingParts = {
  recipients: Recipients;
  effects: Effects;
  outbox: Outbox;
  sources: SourceCounts;
  /** A try of that recipient is under way. */
  isFlying: (seq: number) => boolean;
  /** Stores a DSN. */
  insert: (message: NewMessage, at: number) => void;
};

export class Settling {
  readonly #parts: SettlingParts;

  constructor(parts: SettlingParts) {
    this.#parts = parts;
  }

  settle(settlement: Settlement, at: number): Settled {
    const { recipientId, attempt, next, dsn, emit } = settlement;
    const { recipients, effects, outbox, isFlying, insert } = this.#parts;
    effects.landed.push(recipientId);
    const row = recipients.open(recipientId);
    if (!row) return 'not-open';
    // Nobody claimed it: its lane would still hand it out as it was.
    if (!isFlying(row.seq)) effects.changed.push({ site: row.site, did: row.did });
    const repeated = recipients.recordAttempt(row, attempt);
    this.#countSource(row, attempt, at);
    if (next.state === 'deferred') this.#defer(row, settlement, next.at, at, repeated);
    else this.#end(row, attempt, next, at);
    if (emit) outbox.tellComplaint(row, recipientId, attempt.summary, at);
    if (dsn) insert(dsn, at);
    return 'settled';
  }

  /** Ends those that were to be cancelled as soon as their try is over. */
  finishCancelled(seqs: readonly number[], at: number): void {
    for (const seq of seqs) {
      const row = this.#parts.recipients.openBySeq(seq);
      if (row?.next_at === cancellingAt) this.#cancel(row, undefined, at);
    }
  }

  #end(
    row: OpenRow,
    attempt: AttemptRecord,
    next: Exclude<NextState, { state: 'deferred' }>,
    at: number,
  ): void {
    const { recipients, outbox } = this.#parts;
    const act = next.state === 'cancelled' ? { by: next.by, reason: next.reason } : undefined;
    if (act) recipients.recordAct(row, { at, act: 'cancelled', ...act });
    recipients.finish(row, next.state, at);
    outbox.tellResult(row, idOf(row), next.state, { attempt, act }, at);
  }

  #defer(
    row: OpenRow,
    { attempt, delayNoticed }: Settlement,
    wanted: number,
    at: number,
    repeated: boolean,
  ): void {
    const { recipients, effects, outbox } = this.#parts;
    if (row.next_at === cancellingAt) {
      this.#cancel(row, attempt, at);
      return;
    }
    const details = deferredDetails(row, attempt, delayNoticed === true);
    // Failed by an operator meanwhile: it is handed out at once, to be bounced.
    const nextAt = details.failReason === undefined ? wanted : at;
    if (row.state === 'held') {
      const held = { ...details.held!, state: 'deferred' as const, nextAt };
      recipients.move(row, { state: 'held', nextAt: heldAt, details: { ...details, held } });
    } else {
      recipients.move(row, { state: 'deferred', nextAt, details });
      effects.waiting.push({ site: row.site, did: row.did, seq: row.seq, at: nextAt });
    }
    if (!repeated) outbox.tellResult(row, idOf(row), row.state, { attempt }, at);
  }

  #cancel(row: OpenRow, attempt: AttemptRecord | undefined, at: number): void {
    const { recipients, outbox } = this.#parts;
    const act = detailsOf(row).cancel;
    recipients.finish(row, 'cancelled', at);
    outbox.tellResult(row, idOf(row), 'cancelled', { attempt, act }, at);
  }

  #countSource(row: OpenRow, { outcome, source, site }: AttemptRecord, at: number): void {
    if (source === undefined || outcome !== 'delivered' || detailsOf(row).simulated) return;
    this.#parts.sources.count(source, site ?? row.site, at);
  }
}

function deferredDetails(row: OpenRow, { source }: AttemptRecord, delayNoticed: boolean): RecipientDetails {
  return {
    ...detailsOf(row),
    ...(source !== undefined && { lastSource: source }),
    ...(delayNoticed && { delayNoticed: true }),
  };
}
