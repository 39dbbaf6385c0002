/**
 * Durable queue of accepted messages: the face of it on the main thread.
 *
 * Promise: once accept() answers `committed`, the message survives a crash or power loss, and every one
 * of its recipients is handed out by due() until settle() or an operator has made it terminal. Nothing
 * else forgets it. One commit carries body, recipients, usage, idempotency key and event; another carries
 * an attempt with its outcome, its event and its DSN.
 *
 * All work is done in the thread of worker.ts. When to retry is delivery/schedule.ts's business; this
 * folder only remembers.
 */
import type { Logger } from 'pino';
import type { Event } from '../enforcement/events.ts';
import { canBeginAtOnce, claimOf, type Taker } from './at-once.ts';
import type { CrashPoint } from './crash.ts';
import { Link } from './link.ts';
import type {
  Accepted,
  Batch,
  BatchAccepted,
  Budget,
  Cap,
  Claim,
  MessagePage,
  MessageQuery,
  MessageStatus,
  NewMessage,
  Settled,
  Settlement,
} from './message.ts';
import { asBuffer, packed } from './packing.ts';
import type { ActStep, CancelScheduled, DueQuery, Except, Quotas } from './protocol.ts';
import type { QueuePage, QueueSummary, Selection, SourceUse } from './selection.ts';
import { Summing } from './summing.ts';

export type { Taker } from './at-once.ts';
export type * from './message.ts';
export type { CancelScheduled, DueQuery, Except, Quota, Quotas } from './protocol.ts';
export type * from './selection.ts';

export type SpoolOptions = {
  /** Holds `spool.db` and the folder `spool/`; made when missing. */
  dir: string;
  log: Logger;
  now?: () => number;
  /** How long the history of a finished message is kept. Default 30 days. */
  retainMs?: number;
  /**
   * What may wait at most, in all and of one member. Our own mail and simulated mail count in all alone; our own is
   * never refused. Default: no limit.
   */
  quotas?: Quotas;
  /** Tests only: the process is killed there. */
  crashPoint?: CrashPoint;
  /** The thread died of corrupt state or a bug. Default: throw, which stops the process. */
  onFatal?: (error: Error) => void;
};

/** Who acts, and why: both stand in the timeline. */
export type Reasoned = { by: string; reason: string };

const thirtyDaysMs = 30 * 24 * 60 * 60_000;
const unlimited = { messages: Number.MAX_SAFE_INTEGER, bytes: Number.MAX_SAFE_INTEGER };
/** Commits clean up by themselves; this is for a spool without any. */
const housekeepingEveryMs = 60_000;

export class Spool {
  readonly #link: Link;
  readonly #log: Logger;
  readonly #listeners = new Set<(mayBeDue: boolean) => void>();
  readonly #housekeeping: NodeJS.Timeout;
  #taker: Taker | undefined;

  private constructor(link: Link, log: Logger) {
    this.#link = link;
    this.#log = log;
    this.#housekeeping = setInterval(() => this.#housekeep(), housekeepingEveryMs);
    this.#housekeeping.unref();
  }

  /**
   * Opens or makes the spool and recovers everything in it.
   *
   * @throws CorruptState when the database is damaged or a body is missing; Error when another process has it
   */
  static async open({
    dir,
    log,
    now = Date.now,
    onFatal = throwLater,
    ...rest
  }: SpoolOptions): Promise<Spool> {
    const { retainMs = thirtyDaysMs, quotas = { all: unlimited, perMember: unlimited }, crashPoint } = rest;
    const workerOptions = { dir, retainMs, quotas, ...(crashPoint && { crashPoint }) };
    const link = await Link.start(workerOptions, now, (error) => {
      log.fatal({ err: error }, 'spool: stopped');
      onFatal(error);
    });
    return new Spool(link, log);
  }

  /** Never rejects. `committed` means on disk; with all others nothing is stored. */
  async accept(message: NewMessage): Promise<Accepted> {
    const size = message.body.length;
    const taker = canBeginAtOnce(message) && this.#taker?.wants(message) ? this.#taker : undefined;
    let claim: Claim | undefined;
    try {
      const { sent, transfer } = packed(message);
      const accepted = await this.#link.call('accept', [sent, taker !== undefined], transfer);
      if (accepted.kind === 'committed') {
        claim = accepted.claimed && claimOf(message, accepted.claimed);
        this.#announce(claim === undefined);
        return committed;
      }
      if (accepted.kind === 'failed')
        this.#log.error({ reason: accepted.reason }, 'spool: message not stored');
      return accepted;
    } catch (error) {
      return { kind: 'failed', reason: (error as Error).message };
    } finally {
      taker?.answered(size, claim);
    }
  }

  /** One transaction for all items; the answers are in their order. Never rejects. */
  async acceptBatch({ items, ...rest }: Batch): Promise<BatchAccepted> {
    const transfers: ArrayBuffer[] = [];
    const sentItems = items.map((item) => {
      if (!('message' in item)) return item;
      const { sent, transfer } = packed(item.message);
      transfers.push(...transfer);
      return { ...item, message: sent };
    });
    try {
      const accepted = await this.#link.call('acceptBatch', [{ ...rest, items: sentItems }], transfers);
      if (accepted.kind === 'done') this.#announce();
      else if (accepted.kind === 'failed')
        this.#log.error({ reason: accepted.reason }, 'spool: batch not stored');
      return accepted;
    } catch (error) {
      return { kind: 'failed', reason: (error as Error).message };
    }
  }

  /** What a request with this key was answered within 24 hours; undefined for the first time. */
  answerTo({ did, key, fingerprint }: { did: string; key: string; fingerprint: string }) {
    return this.#link.call('answerTo', [did, key, fingerprint]);
  }

  /** In the order of `caps`, one for each scope. */
  budget(caps: readonly Cap[], now: number): Promise<Budget[]> {
    return this.#link.call('budget', [caps, now]);
  }

  /**
   * Claims up to `limit` recipients whose time has come: in turn from each (site, member) that has some,
   * those first that had no turn for longest, and within one the longest due first.
   *
   * @param query exceptSites and exceptMembers have no room for another try now
   */
  async due(query: DueQuery): Promise<Claim[]> {
    const claims = await this.#link.call('due', [query]);
    for (const claim of claims) {
      claim.signatures = asBuffer(claim.signatures);
      claim.prefix = asBuffer(claim.prefix);
      if (claim.body) claim.body = asBuffer(claim.body);
    }
    return claims;
  }

  /** Who is offered what is accepted, before due() is asked; undefined: nobody. */
  handTo(taker: Taker | undefined): void {
    this.#taker = taker;
  }

  /** Unix ms at which due() has something to give, past or future; undefined when it never will. */
  nextDueAt(except: Except = { exceptSites: [], exceptMembers: [] }): Promise<number | undefined> {
    return this.#link.call('nextDueAt', [except]);
  }

  /** From now on recipients of `domain`, those that wait and those to come, belong to `site`. */
  async assignSite(domain: string, site: string): Promise<void> {
    let from: string | undefined;
    do from = await this.#link.call('assignSite', [domain, site, from]);
    while (from !== undefined);
  }

  /**
   * The message without the prepended lines, or its first `octets`; undefined when its last recipient is
   * terminal.
   */
  async body(queueId: string, octets?: number): Promise<Buffer | undefined> {
    const bytes = await this.#link.call('body', [queueId, octets]);
    return bytes && asBuffer(bytes);
  }

  /**
   * Ends a claim with its outcome, on disk when resolved with `settled`.
   *
   * `not-open`: nothing was stored and never will be, the DSN neither; the claim is gone.
   * Rejects when it could not be committed: the claim then stands, and the caller offers it again.
   */
  async settle(settlement: Settlement): Promise<Settled> {
    const { dsn, next } = settlement;
    const { sent, transfer } = dsn ? packed(dsn) : { sent: undefined, transfer: [] };
    const settled = await this.#link.call(
      'settle',
      [dsn ? { ...settlement, dsn: sent } : settlement],
      transfer,
    );
    if (settled === 'settled') this.#announce(dsn !== undefined || next.state === 'deferred');
    return settled;
  }

  /** Gives claims back untried; they are due again at once. */
  async release(recipientIds: readonly string[]): Promise<void> {
    await this.#link.call('release', [recipientIds]);
  }

  /** The message with the timeline of each recipient; undefined when unknown or past its retention. */
  message(queueId: string): Promise<MessageStatus | undefined> {
    return this.#link.call('message', [queueId]);
  }

  messages(query: MessageQuery): Promise<MessagePage> {
    return this.#link.call('messages', [query]);
  }

  list({ limit, cursor, ...selection }: Selection & { limit: number; cursor?: string }): Promise<QueuePage> {
    return this.#link.call('list', [selection, limit, cursor]);
  }

  /** In steps too: what arrives or leaves meanwhile may be missed or counted. */
  async summary(now: number): Promise<QueueSummary> {
    const sum = new Summing();
    for (let after: string | undefined; ; ) {
      const { sites, cursor, ...total } = await this.#link.call('summary', [now, after]);
      sum.merge(sites);
      if (cursor === undefined) return sum.result(total);
      after = cursor;
    }
  }

  /** Not tried until unhold(); a try that is under way ends first. @returns how many recipients changed */
  hold(selection: Selection, { by, reason }: Reasoned): Promise<number> {
    return this.#act({ selection, act: 'held', by, reason });
  }

  /** They go on where they were; the time they were held does not count against their lifetime. */
  unhold(selection: Selection, { by, reason }: Reasoned): Promise<number> {
    return this.#act({ selection, act: 'released', by, reason });
  }

  /** Those that wait for a later try are due at once; held and scheduled ones stay so. */
  retryNow(selection: Selection, { by }: { by: string }): Promise<number> {
    return this.#act({ selection, act: 'retry', by, reason: '' });
  }

  /** Ends them without a DSN; of those being tried now, the ones that are not delivered by it. */
  cancel(selection: Selection, { by, reason }: Reasoned): Promise<number> {
    return this.#act({ selection, act: 'cancelled', by, reason });
  }

  /** Handed out at once with a `failReason`, so that they bounce with a DSN; held and scheduled ones too. */
  fail(selection: Selection, { by, reason }: Reasoned): Promise<number> {
    return this.#act({ selection, act: 'failed', by, reason });
  }

  /** @param to host, host:port or [address]:port; null: by its own route again */
  reroute(selection: Selection, { by, to }: { by: string; to: string | null }): Promise<number> {
    return this.#act({ selection, act: 'rerouted', by, reason: to ?? '', to });
  }

  /** A member's own: only while it is `scheduled`, and for all recipients of the message. */
  cancelScheduled(did: string, queueId: string): Promise<CancelScheduled> {
    return this.#link.call('cancelScheduled', [did, queueId]);
  }

  /** Of the last 8 days, newest day first, at most 10,000 rows. */
  sourceUse(): Promise<SourceUse[]> {
    return this.#link.call('sourceUse', []);
  }

  /** Oldest first. @param id '0' for the beginning */
  eventsAfter(id: string, limit: number): Promise<Event[]> {
    return this.#link.call('eventsAfter', [id, limit]);
  }

  /** Drops events up to and including `through`, once they are copied. */
  async forgetEvents(through: string): Promise<void> {
    await this.#link.call('forgetEvents', [through]);
  }

  /**
   * Calls back after each commit of mail or of an outcome, on the way to the caller that waits for it.
   *
   * @param listener `mayBeDue`: recipients may have become due, not only events been written
   * @returns the way to stop it
   */
  onCommitted(listener: (mayBeDue: boolean) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Commits what waits, then ends the thread. Claims that are open are due again at the next start. */
  async close(): Promise<void> {
    clearInterval(this.#housekeeping);
    await this.#link.close();
  }

  /**
   * In steps, each a bounded part of a commit, so that no act over the whole queue stops the mail. Where mail shall
   * not go on as it was, what was claimed and not begun is given back before each step, and after it what had been
   * on its way to whoever claims.
   */
  async #act(step: ActStep): Promise<number> {
    const recall = () => step.act !== 'released' && step.act !== 'retry' && this.#taker?.recall();
    let total = 0;
    for (let after: string | undefined; ; ) {
      recall();
      const { changed, cursor } = await this.#link.call('act', [
        after === undefined ? step : { ...step, after },
      ]);
      recall();
      total += changed;
      if (changed > 0) this.#announce();
      if (cursor === undefined) return total;
      after = cursor;
    }
  }

  /** What could not be removed now is removed a minute later. */
  #housekeep(): void {
    if (this.#link.isOver) clearInterval(this.#housekeeping);
    this.#link
      .call('housekeep', [])
      .catch((error: Error) => this.#log.warn({ err: error }, 'spool: old history not removed'));
  }

  #announce(mayBeDue = true): void {
    for (const listener of this.#listeners) listener(mayBeDue);
  }
}

const committed: Accepted = { kind: 'committed' };

function throwLater(error: Error): void {
  setImmediate(() => {
    throw error;
  });
}
