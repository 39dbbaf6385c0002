/**
 * How many tries, and how many octets of messages, are under way at once, and who may begin another.
 *
 * Sites in trouble share a quarter. What was begun at a site before it fell into trouble takes nothing from
 * the others beyond that quarter, so a dozen tarpits leave three quarters free. A member may have twice
 * as many under way as are free: alone two thirds of all, less with each other one, and never the last.
 */
import type { Claim } from '../spool/spool.ts';
import type { Run, SiteWork } from './site-work.ts';

export type SlotsOptions = {
  total: number;
  /** Octets of messages in memory. A larger message is taken when nothing else is under way. */
  maxBytes: number;
};

type Use = { tries: number; bytes: number };

export class Slots {
  readonly #total: number;
  readonly #maxBytes: number;
  readonly #quarter: Use;
  readonly #members = new Map<string, number>();
  /** Sites with something under way. */
  readonly #sites = new Set<SiteWork>();
  #tries = 0;
  #bytes = 0;
  #now = 0;
  #troubled: Use | undefined;

  constructor({ total, maxBytes }: SlotsOptions) {
    this.#total = total;
    this.#maxBytes = maxBytes;
    this.#quarter = { tries: Math.max(1, Math.floor(total / 4)), bytes: maxBytes / 4 };
  }

  get running(): number {
    return this.#tries;
  }

  /** Before a round of mayBegin(): what is in trouble now. */
  look(now: number): void {
    this.#now = now;
    this.#troubled = undefined;
  }

  take(run: Run): void {
    const { did } = run.claim;
    this.#tries += 1;
    this.#bytes += run.bytes;
    this.#members.set(did, (this.#members.get(did) ?? 0) + 1);
    run.site.running.add(run);
    this.#sites.add(run.site);
    this.#troubled = undefined;
  }

  free(run: Run): void {
    const { did } = run.claim;
    this.#tries -= 1;
    this.#bytes -= run.bytes;
    const left = this.#members.get(did)! - 1;
    if (left === 0) this.#members.delete(did);
    else this.#members.set(did, left);
    run.site.running.delete(run);
    if (run.site.running.size === 0) this.#sites.delete(run.site);
    this.#troubled = undefined;
  }

  /** @param bytes that it would hold */
  mayBegin(site: SiteWork, claim: Claim, bytes: number): boolean {
    if (this.#tries === 0) return true;
    if (site.isTroubled(this.#now) && !this.#hasTroubleFor(bytes)) return false;
    if (this.#free() <= 0 || this.#freeBytes(bytes) < bytes) return false;
    return (this.#members.get(claim.did) ?? 0) < 2 * this.#free();
  }

  /** Nothing may begin until something ends, or falls into trouble. */
  isFull(): boolean {
    return this.#tries > 0 && this.#free() <= 0;
  }

  /** Sites in trouble have their quarter. */
  isTroubleFull(): boolean {
    return this.#tries >= this.#quarter.tries && this.#inTrouble().tries >= this.#quarter.tries;
  }

  /** Members who have their share. */
  sated(): string[] {
    const sated: string[] = [];
    for (const did of this.#members.keys()) if (this.isSated(did)) sated.push(did);
    return sated;
  }

  isSated(did: string): boolean {
    return (this.#members.get(did) ?? 0) >= 2 * Math.max(this.#free(), 1);
  }

  #hasTroubleFor(bytes: number): boolean {
    const { tries, bytes: held } = this.#inTrouble();
    if (tries >= this.#quarter.tries) return false;
    return tries === 0 || held + bytes <= this.#quarter.bytes;
  }

  #free(): number {
    const free = this.#total - this.#tries;
    // Asked only where it matters: it looks at every site.
    if (free > 0) return free;
    // Whatever falls into trouble, no more than twice the total is under way.
    if (this.#tries >= 2 * this.#total) return 0;
    return free + Math.max(0, this.#inTrouble().tries - this.#quarter.tries);
  }

  #freeBytes(wanted: number): number {
    const free = this.#maxBytes - this.#bytes;
    return free >= wanted ? free : free + Math.max(0, this.#inTrouble().bytes - this.#quarter.bytes);
  }

  #inTrouble(): Use {
    this.#troubled ??= this.#sumTroubled(this.#now);
    return this.#troubled;
  }

  #sumTroubled(now: number): Use {
    const use = { tries: 0, bytes: 0 };
    for (const site of this.#sites) {
      if (!site.isTroubled(now)) continue;
      use.tries += site.running.size;
      for (const { bytes } of site.running) use.bytes += bytes;
    }
    return use;
  }
}
