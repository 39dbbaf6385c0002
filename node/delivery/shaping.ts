/**
 * How much a site gets from one of our addresses at once: one `Lane` for each (MX site, source address).
 *
 * Concurrency grows by one after a full window of successes and halves when the site asks for less (421,
 * "too many", a rate) or does not answer. Where even one at a time is too much, or the site asks again
 * before anything went well, the lane is suspended, longer each time, and starts again from one.
 * The suspensions are shorter than the waits of the schedule, so a message alone there is tried in time.
 * All that is remembered here is in memory: after a restart a lane begins again carefully.
 */

/** Connections at once to a site that nothing is known of. */
const firstLimit = 5;
/** By how often it was suspended in a row. */
const suspensionsMs = [30_000, 120_000, 300_000, 600_000] as const;
/** After which a suspension says nothing any more. */
const forgottenAfterMs = 60 * 60_000;
const maxReply = 500;

export type LaneView = {
  site: string;
  /** Absent: the system chooses the address. */
  source?: string;
  /** Tries under way. */
  connections: number;
  limit: number;
  /** Unix ms. */
  suspendedUntil?: number;
  /** The last that asked for less or failed. */
  lastReply?: string;
};

export class Lane {
  readonly site: string;
  readonly source: string | undefined;
  /** Tries under way. */
  running = 0;
  /** Unix ms; 0 for not. */
  suspendedUntil = 0;
  /** The last thing heard of the site was not good. */
  isTroubled = false;
  /** Changes when it is slowed down: tries that began before have nothing new to say. */
  epoch = 0;
  /** Messages after which a connection is closed; less where the site said so. */
  perSession: number;
  lastReply: string | undefined;
  readonly #max: number;
  #limit: number;
  #successes = 0;
  #suspensions = 0;

  constructor(site: string, source: string | undefined, max: number, perSession: number) {
    this.site = site;
    this.source = source;
    this.#max = max;
    this.perSession = perSession;
    this.#limit = Math.min(firstLimit, max);
  }

  get limit(): number {
    return this.#limit;
  }

  hasRoom(now: number): boolean {
    return this.running < this.#limit && this.suspendedUntil <= now;
  }

  /** Nothing worth remembering. */
  isQuiet(now: number): boolean {
    return this.running === 0 && this.suspendedUntil + forgottenAfterMs <= now;
  }

  succeeded(): void {
    this.isTroubled = false;
    this.#successes += 1;
    if (this.#successes < this.#limit) return;
    this.#successes = 0;
    this.#suspensions = 0;
    if (this.#limit < this.#max) this.#limit += 1;
  }

  /** It answered, to whatever effect. */
  answered(): void {
    this.isTroubled = false;
  }

  /** @param epoch as it was when the try began */
  slowedDown(epoch: number, now: number, reply: string): void {
    this.lastReply = reply.slice(0, maxReply);
    if (epoch !== this.epoch) return;
    const hasRoomToGive = this.#limit > 1 && !(this.isTroubled && this.#successes === 0);
    this.#halve();
    if (hasRoomToGive) return;
    this.#limit = 1;
    this.suspendedUntil = now + suspensionsMs[Math.min(this.#suspensions, suspensionsMs.length - 1)]!;
    this.#suspensions += 1;
  }

  /** No session, or no reply within it. Hosts that do not answer are unreachable.ts's business. */
  failed(epoch: number, summary: string): void {
    this.lastReply = summary.slice(0, maxReply);
    if (epoch === this.epoch) this.#halve();
    this.isTroubled = true;
  }

  /** An operator's word: from now on as if nothing had happened, but carefully. */
  resume(): void {
    this.suspendedUntil = 0;
    this.#suspensions = 0;
    this.isTroubled = false;
  }

  /** The clock was set back by so much. */
  turnBack(ms: number): void {
    this.suspendedUntil = Math.max(0, this.suspendedUntil - ms);
  }

  view(now: number): LaneView {
    const { site, source, running, suspendedUntil, lastReply } = this;
    return {
      site,
      ...(source && { source }),
      connections: running,
      limit: this.#limit,
      ...(suspendedUntil > now && { suspendedUntil }),
      ...(lastReply && { lastReply }),
    };
  }

  #halve(): void {
    this.epoch += 1;
    this.#successes = 0;
    this.#limit = Math.max(1, Math.floor(this.#limit / 2));
    this.isTroubled = true;
  }
}
