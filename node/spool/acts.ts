/** What people, and the guard, do to mail that waits: one bounded step of an act, in the transaction of the caller. */
import type { Effects } from './effects.ts';
import type { Outbox } from './outbox.ts';
import type { ActResult, ActStep, CancelScheduled } from './protocol.ts';
import { detailsOf, idOf, type Recipients } from './recipients.ts';
import type { Held, OpenRow } from './rows.ts';
import type { Scan } from './scan.ts';
import { backwardsMs, cancellingAt, heldAt } from './schema.ts';

export type ActsParts = {
  scan: Scan;
  recipients: Recipients;
  effects: Effects;
  outbox: Outbox;
  /** A try of that recipient is under way. */
  isFlying: (seq: number) => boolean;
  knows: (did: string, queueId: string) => boolean;
};

export class Acts {
  readonly #parts: ActsParts;

  constructor(parts: ActsParts) {
    this.#parts = parts;
  }

  step(step: ActStep, at: number): ActResult {
    if (Object.values(step.selection).every((field) => field === undefined)) return { changed: 0 };
    const { rows, cursor } = this.#parts.scan.page(step.selection, step.after);
    const changed = rows.filter((row) => row.next_at !== cancellingAt && this.#do(row, step, at));
    return cursor === undefined ? { changed: changed.length } : { changed: changed.length, cursor };
  }

  /** All recipients of the message that wait for its time. */
  cancelScheduled(did: string, queueId: string, at: number): CancelScheduled {
    const { recipients, isFlying, knows } = this.#parts;
    if (!knows(did, queueId)) return 'unknown';
    const waiting = recipients
      .openOfMessage(queueId)
      .filter((row) => isScheduled(row, at) && !isFlying(row.seq));
    for (const row of waiting) this.#finish(row, { by: did, reason: 'cancelled by the member' }, at);
    return waiting.length > 0 ? 'cancelled' : 'not-scheduled';
  }

  /** @returns whether it changed something */
  #do(row: OpenRow, step: ActStep, at: number): boolean {
    switch (step.act) {
      case 'held':
        return this.#hold(row, step, at);
      case 'released':
        return this.#unhold(row, step, at);
      case 'retry':
        return this.#retry(row, step, at);
      case 'cancelled':
        return this.#cancel(row, step, at);
      case 'failed':
        return this.#fail(row, step, at);
      case 'rerouted':
        return this.#reroute(row, step, at);
    }
  }

  #hold(row: OpenRow, step: ActStep, at: number): boolean {
    if (row.state === 'held') return false;
    const held = { at, state: row.state, nextAt: row.next_at, by: step.by };
    this.#move(row, step, at, { state: 'held', nextAt: heldAt, details: { ...detailsOf(row), held } });
    this.#tell(row, step, at);
    return true;
  }

  #unhold(row: OpenRow, step: ActStep, at: number): boolean {
    if (row.state !== 'held') return false;
    const { held, ...details } = detailsOf(row);
    resume(row, at);
    this.#move(row, step, at, { state: held!.state, nextAt: resumedAt(held!, at), details });
    this.#tell(row, step, at);
    return true;
  }

  #retry(row: OpenRow, step: ActStep, at: number): boolean {
    if (row.state !== 'accepted' && row.state !== 'deferred') return false;
    if (row.next_at <= at || this.#parts.isFlying(row.seq)) return false;
    this.#move(row, step, at, { state: row.state, nextAt: at, details: detailsOf(row) });
    return true;
  }

  #cancel(row: OpenRow, { by, reason }: ActStep, at: number): boolean {
    const { recipients, isFlying } = this.#parts;
    if (!isFlying(row.seq)) {
      this.#finish(row, { by, reason }, at);
      return true;
    }
    recipients.recordAct(row, { at, act: 'cancelled', by, reason });
    const details = { ...detailsOf(row), cancel: { by, reason } };
    recipients.move(row, { state: row.state, nextAt: cancellingAt, details });
    return true;
  }

  /** Without its hold or schedule it is due at once, for delivery to bounce it. */
  #fail(row: OpenRow, step: ActStep, at: number): boolean {
    const { held, ...details } = detailsOf(row);
    if (details.failReason !== undefined) return false;
    if (held) resume(row, at);
    const failed = { ...details, failReason: step.reason };
    this.#move(row, step, at, { state: 'deferred', nextAt: at, details: failed });
    return true;
  }

  #reroute(row: OpenRow, step: ActStep, at: number): boolean {
    const { reroute, ...details } = detailsOf(row);
    if ((reroute ?? null) === (step.to ?? null)) return false;
    const rerouted = step.to ? { ...details, reroute: step.to } : details;
    this.#move(row, step, at, { state: row.state, nextAt: row.next_at, details: rerouted });
    return true;
  }

  #move(row: OpenRow, step: ActStep, at: number, to: Parameters<Recipients['move']>[1]): void {
    const { recipients, effects } = this.#parts;
    const { act, by, reason } = step;
    recipients.recordAct(row, { at, act, by, reason });
    recipients.move(row, to);
    effects.changed.push({ site: row.site, did: row.did });
  }

  #finish(row: OpenRow, { by, reason }: { by: string; reason: string }, at: number): void {
    const { recipients, effects, outbox } = this.#parts;
    recipients.recordAct(row, { at, act: 'cancelled', by, reason });
    recipients.finish(row, 'cancelled', at);
    effects.changed.push({ site: row.site, did: row.did });
    outbox.tellResult(row, idOf(row), 'cancelled', { act: { by, reason } }, at);
  }

  #tell(row: OpenRow, act: ActStep, at: number): void {
    this.#parts.outbox.tellResult(row, idOf(row), row.state, { act }, at);
  }
}

/** The time since the hold began does not count; what it was scheduled for was added when it came. */
function resume(row: OpenRow, at: number): void {
  const { at: since, state, nextAt } = detailsOf(row).held!;
  const from = state === 'scheduled' ? Math.max(since, nextAt) : since;
  row.paused_ms += Math.max(0, at - from);
}

/** Held by a clock that was ahead, it waits no longer than it had to then. A member's own time stands. */
function resumedAt({ at: since, state, nextAt }: Held, at: number): number {
  const back = since - at;
  return state === 'scheduled' || back <= backwardsMs ? nextAt : nextAt - back;
}

function isScheduled(row: OpenRow, at: number): boolean {
  const { held } = detailsOf(row);
  const { state, nextAt } = held ?? { state: row.state, nextAt: row.next_at };
  return state === 'scheduled' && nextAt > at;
}
