/**
 * What is on hand and under way at one MX site, and how it is shared.
 *
 * Claims on hand are the few that were taken from the spool ahead of a free connection. Members take turns,
 * however many each has.
 */
import type { Claim } from '../spool/spool.ts';
import type { Lane, LaneView } from './shaping.ts';

export type Run = {
  claim: Claim;
  site: SiteWork;
  /** Unix ms. */
  startedAt: number;
  /** Octets that it holds in memory. */
  bytes: number;
  /** It got as far as a lane. */
  hadLane: boolean;
};

/** A try that lasts longer makes its site one in trouble. */
const slowMs = 10_000;
const onHandPerConnection = 6;
const maxOnHand = 128;
const minOnHand = 4;

export class SiteWork {
  readonly name: string;
  readonly queue = new TurnQueue();
  /** Oldest first. */
  readonly running = new Set<Run>();
  /** Unix ms: until then, or until a try ends, no lane has room. */
  stalledUntil = 0;
  /** Unix ms: until then nothing of the plans of our addresses is left (sources.ts). */
  spentUntil = 0;
  readonly #lanes = new Map<string | undefined, Lane>();
  readonly #sources: readonly (string | undefined)[];
  readonly #newLane: (source: string | undefined) => Lane;

  constructor(
    name: string,
    sources: readonly (string | undefined)[],
    newLane: (source: string | undefined) => Lane,
  ) {
    this.name = name;
    this.#sources = sources;
    this.#newLane = newLane;
  }

  lane(source: string | undefined): Lane {
    const known = this.#lanes.get(source);
    if (known) return known;
    const lane = this.#newLane(source);
    this.#lanes.set(source, lane);
    return lane;
  }

  /** Connections that its lanes allow at once now. */
  capacity(now: number): number {
    if (this.#blockedUntil > now) return 0;
    let sum = 0;
    for (const source of this.#sources) {
      const lane = this.lane(source);
      if (lane.suspendedUntil <= now) sum += lane.limit;
    }
    return sum;
  }

  hasRoom(now: number): boolean {
    return this.running.size < this.capacity(now);
  }

  /** When something may begin again; undefined when it may now, or when what is under way decides. */
  closedUntil(now: number): number | undefined {
    if (this.#blockedUntil > now) return this.#blockedUntil;
    if (this.capacity(now) > 0) return undefined;
    let first = Number.POSITIVE_INFINITY;
    for (const { suspendedUntil } of this.#lanes.values()) first = Math.min(first, suspendedUntil);
    return first;
  }

  /** How many claims may wait here ahead of a free connection. */
  mayHold(now: number): number {
    if (this.isTroubled(now)) return minOnHand;
    return Math.min(Math.max(this.capacity(now) * onHandPerConnection, minOnHand), maxOnHand);
  }

  /** The last thing heard was not good, or a try has lasted long. */
  isTroubled(now: number): boolean {
    const oldest = this.running.values().next().value;
    if (oldest !== undefined && now - oldest.startedAt >= slowMs) return true;
    for (const lane of this.#lanes.values()) if (lane.isTroubled) return true;
    return false;
  }

  isQuiet(now: number): boolean {
    if (this.running.size > 0 || this.queue.size > 0 || this.#blockedUntil > now) return false;
    for (const lane of this.#lanes.values()) if (!lane.isQuiet(now)) return false;
    return true;
  }

  resume(): void {
    this.stalledUntil = 0;
    this.spentUntil = 0;
    for (const lane of this.#lanes.values()) lane.resume();
  }

  /** The clock was set back by so much: what was to last a while does not last so much longer. */
  turnBack(ms: number): void {
    this.stalledUntil -= ms;
    this.spentUntil = 0;
    for (const lane of this.#lanes.values()) lane.turnBack(ms);
  }

  view(now: number): LaneView[] {
    return [...this.#lanes.values()].map((lane) => lane.view(now));
  }

  get #blockedUntil(): number {
    return Math.max(this.stalledUntil, this.spentUntil);
  }
}

/** First in, first out within a member; members in turn. */
export class TurnQueue {
  readonly #members = new Map<string, Claim[]>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  push(claim: Claim): void {
    const waiting = this.#members.get(claim.did);
    if (waiting) waiting.push(claim);
    else this.#members.set(claim.did, [claim]);
    this.#size += 1;
  }

  /** It is the next one again. */
  unshift(claim: Claim): void {
    const waiting = this.#members.get(claim.did) ?? [];
    waiting.unshift(claim);
    this.#members.set(claim.did, waiting);
    this.#size += 1;
  }

  /** The first whose member may go on now. */
  next(mayBegin: (claim: Claim) => boolean): Claim | undefined {
    for (const [did, waiting] of this.#members) {
      if (!mayBegin(waiting[0]!)) continue;
      const claim = waiting.shift()!;
      this.#members.delete(did);
      if (waiting.length > 0) this.#members.set(did, waiting);
      this.#size -= 1;
      return claim;
    }
    return undefined;
  }

  /** Empties it. */
  drain(): Claim[] {
    const claims = [...this.#members.values()].flat();
    this.#members.clear();
    this.#size = 0;
    return claims;
  }
}
