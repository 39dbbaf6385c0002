/**
 * How one issuer behaves: its pace, its volume, its lag and its faults, held against limits.ts.
 *
 * Promise: a pace over the limit costs the issuer waiting and nothing else; a day's volume, a lag without end or
 * too many faults of a kind in an hour name the reason for a quarantine. Remembers counts, never what came.
 */
import type { Fault, LabelLimits } from './limits.ts';

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;

/** Counts that begin anew when their time is over. */
class Tally {
  readonly #spanMs: number;
  #since = Number.NEGATIVE_INFINITY;
  #count = 0;

  constructor(spanMs: number) {
    this.#spanMs = spanMs;
  }

  add(many: number, at: number): number {
    this.#count = this.at(at) + many;
    return this.#count;
  }

  at(now: number): number {
    // The other way round the clock was set back.
    if (Math.abs(now - this.#since) < this.#spanMs) return this.#count;
    this.#since = now;
    this.#count = 0;
    return 0;
  }
}

export class Conduct {
  readonly #limits: LabelLimits;
  readonly #faults = new Map<Fault, Tally>();
  readonly #received = new Tally(dayMs);
  readonly #refused = new Tally(dayMs);
  /** What may be verified at once, and since when that is known. */
  #allowance: number;
  #filledAt: number | undefined;
  #behindSince: number | undefined;

  constructor(limits: LabelLimits) {
    this.#limits = limits;
    this.#allowance = limits.labelsPerSecond;
  }

  /** @returns how long these labels have to wait, in ms. @param many labels, or frames without any */
  paceMs(many: number, now: number): number {
    const { labelsPerSecond: rate } = this.#limits;
    const elapsedMs = Math.max(now - (this.#filledAt ?? now), 0);
    this.#allowance = Math.min(this.#allowance + (elapsedMs * rate) / 1000, rate) - many;
    this.#filledAt = now;
    return this.#allowance >= 0 ? 0 : Math.ceil((-this.#allowance * 1000) / rate);
  }

  /** @returns the reason for a quarantine, if this is one */
  received(many: number, now: number): 'too_many_labels' | undefined {
    return this.#received.add(many, now) > this.#limits.labelsPerDay ? 'too_many_labels' : undefined;
  }

  /** More stood in line when the last of it was taken. @returns the reason for a quarantine, if this is one */
  isBehind(now: number): 'endless_backlog' | undefined {
    this.#behindSince = Math.min(this.#behindSince ?? now, now);
    return now - this.#behindSince > this.#limits.maxLagMs ? 'endless_backlog' : undefined;
  }

  caughtUp(): void {
    this.#behindSince = undefined;
  }

  /** Since when the stream has been behind without a pause. */
  lagMs(now: number): number {
    return this.#behindSince === undefined ? 0 : Math.max(now - this.#behindSince, 0);
  }

  /** @returns the reason for a quarantine, if this is one */
  fault(kind: Fault, now: number): Fault | undefined {
    const tally = this.#faults.get(kind) ?? new Tally(hourMs);
    this.#faults.set(kind, tally);
    return tally.add(1, now) > this.#limits.faultsPerHour[kind] ? kind : undefined;
  }

  refused(now: number): void {
    this.#refused.add(1, now);
  }

  /** Labels and frames refused in the last day or less. */
  refusedToday(now: number): number {
    return this.#refused.at(now);
  }
}
