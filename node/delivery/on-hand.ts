/**
 * The claims that are on hand, by site, and who begins next.
 *
 * A few claims are taken from the spool ahead of free connections, so that a session goes on to its next
 * message without asking anybody. Sites without room are left out of the question, so their backlog is
 * never moved about; what is on hand for a site that is suspended goes back to the spool. Asks the spool
 * on its commits, when room appears, and at the next due time; coming.ts brings what was just accepted.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Claim, Spool } from '../spool/spool.ts';
import { Lane, type LaneView } from './shaping.ts';
import { type Run, SiteWork } from './site-work.ts';
import type { Slots } from './slots.ts';

export type OnHandOptions = {
  spool: Pick<Spool, 'due' | 'nextDueAt' | 'assignSite'>;
  slots: Slots;
  sources: readonly (string | undefined)[];
  /** Connections to a site from one address. */
  perSite: number;
  /** Messages over one connection. */
  perSession: number;
  /** The site that a claim goes to, where it is known. */
  siteOf: (claim: Claim) => string | undefined;
  giveBack: (claims: readonly Claim[]) => void;
  /** Comes back by itself after a while. */
  postpone: (claim: Claim) => void;
  begin: (run: Run) => void;
  /** Too many outcomes wait for the disk. */
  isHeldUp: () => boolean;
  log: Logger;
  count: (what: string, reason?: string) => void;
  now: () => number;
};

/** Claims at once, and of them for one member. */
const maxClaims = 1_024;
const maxOfMember = maxClaims / 4;
const maxBatch = 256;
/** Octets of the bodies that came with claims. */
const maxBodyBytes = 16 * 1024 * 1024;
/** The spool is asked at most so often. */
const askEveryMs = 4;
/** Sleeping longer would miss a clock that is set forward. */
const maxSleepMs = 60_000;
/** A try that lasts makes room for others (slots.ts) without an event: somebody must look. */
const lookAgainMs = 5_000;
const afterSpoolErrorMs = 5_000;
const waitForLaneMs = 1_000;
/** A clock that goes back by less is a correction that nobody notices. */
const backwardsMs = 60_000;
const maxSites = 5_000;
const maxAssigned = 10_000;

export class OnHand {
  readonly #options: OnHandOptions;
  readonly #sites = new Map<string, SiteWork>();
  /** Those with claims that wait, in the order of their turns. */
  readonly #waiting = new Set<SiteWork>();
  /** Suspended, or waiting for another day. */
  readonly #closed = new Set<SiteWork>();
  /** What the spool was told of recipient domains. */
  readonly #assigned = new Map<string, string>();
  readonly #members = new Map<string, number>();
  /** Left out of the last question. */
  #exceptSites: ReadonlySet<string> = new Set();
  #exceptMembers: ReadonlySet<string> = new Set();
  #size = 0;
  #bodyBytes = 0;
  #pumping: NodeJS.Immediate | undefined;
  /** The last question got everything that there was, but for those left out. */
  #isDrained = false;
  /** The latest time that was seen. */
  #latest = 0;
  #isRunning = false;
  #wasHeldUp = false;
  #recover: (() => Promise<void>) | undefined;
  #asking: Promise<void> | undefined;
  #again = false;
  #askedAt = 0;
  #timer: NodeJS.Timeout | undefined;
  /** Of the timer, by the clock that only goes forward. */
  #wakeAt = Number.POSITIVE_INFINITY;
  #lookAgain: NodeJS.Timeout | undefined;

  constructor(options: OnHandOptions) {
    this.#options = options;
  }

  /** @param recover runs before the first question, until it succeeds */
  start(recover: () => Promise<void>): void {
    this.#isRunning = true;
    this.#recover = recover;
    this.wake();
  }

  /** Gives back what was not begun. */
  async stop(): Promise<void> {
    this.#isRunning = false;
    this.#stopSleeping();
    clearTimeout(this.#lookAgain);
    await this.#asking;
    for (const site of this.#waiting) this.#empty(site);
  }

  wake(): void {
    if (!this.#isRunning) return;
    this.#again = true;
    this.#asking ??= this.#askWhileWanted().finally(() => {
      this.#asking = undefined;
      if (this.#again) this.wake();
    });
  }

  /** Something may have become due. */
  committed(): void {
    this.#isDrained = false;
    this.wake();
  }

  /** Whether so much more would begin here soon. */
  canHold(name: string, did: string, { claims, bytes }: { claims: number; bytes: number }): boolean {
    const { slots, now, isHeldUp } = this.#options;
    const site = this.#sites.get(name);
    const at = now();
    if (!this.#isRunning || !site || site.closedUntil(at) !== undefined || site.isTroubled(at)) return false;
    if (this.#size + claims > maxClaims || this.#bodyBytes + bytes > maxBodyBytes || isHeldUp()) return false;
    if ((this.#members.get(did) ?? 0) + claims > maxOfMember || slots.isSated(did)) return false;
    return site.queue.size + claims <= site.mayHold(at);
  }

  /** It came unasked. */
  take(claim: Claim): void {
    this.#add(claim, this.#options.siteOf(claim) ?? claim.site);
    // What was accepted in this turn gets its answer first.
    this.#pumping ??= setImmediate(() => {
      this.#pumping = undefined;
      this.#pump();
    });
  }

  /** Gives back what was not begun, for an operator or the guard means something else with some of it. */
  recall(): void {
    // Rerouted ones too: no site is closed, so they may come again at once.
    for (const site of [...this.#waiting]) this.#options.giveBack(this.#drain(site));
    this.committed();
  }

  /** An outcome is on disk. */
  concluded(): void {
    if (!this.#wasHeldUp || this.#options.isHeldUp()) return;
    this.#wasHeldUp = false;
    this.#pump();
    this.wake();
  }

  ended(run: Run): void {
    const { site, claim } = run;
    this.#options.slots.free(run);
    // Only a try that had a lane has left one.
    if (run.hadLane) site.stalledUntil = 0;
    if (site.closedUntil(this.#options.now()) !== undefined) this.#close(site);
    this.#pump();
    if (this.#wantsMore(site, claim)) this.wake();
  }

  /** The claim belongs to another site than was thought, and waits there. */
  move(claim: Claim, to: string): void {
    this.#add(claim, to);
  }

  /** It waits for a lane; with `until` for another day. */
  putBack(claim: Claim, site: SiteWork, until?: number): void {
    site.queue.unshift(claim);
    this.#count(claim, 1);
    this.#waiting.add(site);
    if (until === undefined && this.#isRunning) {
      site.stalledUntil = this.#options.now() + waitForLaneMs;
      this.#sleep(waitForLaneMs);
    } else {
      site.spentUntil = until ?? 0;
      this.#close(site);
    }
  }

  views(): LaneView[] {
    const now = this.#options.now();
    return [...this.#sites.values()].flatMap((site) => site.view(now));
  }

  /** As if the site had never complained. */
  resume(name: string): void {
    this.#sites.get(name)?.resume();
    this.wake();
  }

  async #askWhileWanted(): Promise<void> {
    while (this.#again && this.#isRunning) {
      this.#again = false;
      try {
        await this.#recover?.();
        this.#recover = undefined;
        await this.#ask();
      } catch (error) {
        this.#options.log.error({ err: error }, 'delivery: the spool did not answer');
        this.#options.count('delivery_spool_errors');
        this.#sleep(afterSpoolErrorMs);
      }
    }
  }

  async #ask(): Promise<void> {
    const { spool, now, isHeldUp, siteOf } = this.#options;
    const waitMs = this.#askedAt + askEveryMs - performance.now();
    if (waitMs > 0) await delay(waitMs);
    this.#askedAt = performance.now();
    this.#stopSleeping();
    this.#watchClock();
    this.#pump();
    const limit = Math.min(maxBatch, maxClaims - this.#size);
    this.#wasHeldUp = isHeldUp();
    if (!this.#isRunning || limit <= 0 || this.#bodyBytes >= maxBodyBytes || this.#wasHeldUp) {
      // The next end asks again.
      this.#sleep(maxSleepMs);
      return;
    }
    const at = now();
    const except = this.#except(at);
    const claims = await spool.due({ limit, now: at, ...except });
    for (const claim of claims) this.#add(claim, siteOf(claim) ?? claim.site);
    this.#pump();
    this.#isDrained = claims.length === 0;
    if (!this.#isDrained) {
      this.#again = true;
      return;
    }
    const next = await spool.nextDueAt(except);
    this.#sleep(Math.min(next === undefined ? maxSleepMs : next - now(), this.#opensInMs()));
  }

  #watchClock(): void {
    const now = this.#options.now();
    const back = this.#latest - now;
    if (back > backwardsMs) for (const site of this.#sites.values()) site.turnBack(back);
    if (back < 0 || back > backwardsMs) this.#latest = now;
  }

  /** Begins what may begin; sites take turns, and within one its members. */
  #pump(): void {
    const { slots, now, begin, isHeldUp } = this.#options;
    if (!this.#isRunning || this.#waiting.size === 0) return;
    if (isHeldUp()) {
      this.#wasHeldUp = true;
      return;
    }
    const at = now();
    slots.look(at);
    for (const site of this.#waiting) {
      if (slots.isFull()) {
        this.#lookLater();
        return;
      }
      if (!site.hasRoom(at)) continue;
      const claim = site.queue.next((one) => slots.mayBegin(site, one, bytesOf(one)));
      if (!claim) continue;
      this.#count(claim, -1);
      // Added anew, it is visited again after the others.
      this.#waiting.delete(site);
      if (site.queue.size > 0) this.#waiting.add(site);
      const run: Run = { claim, site, startedAt: at, bytes: bytesOf(claim), hadLane: false };
      slots.take(run);
      begin(run);
    }
  }

  #lookLater(): void {
    this.#lookAgain ??= setTimeout(() => {
      this.#lookAgain = undefined;
      this.#pump();
      this.wake();
    }, lookAgainMs);
  }

  #wantsMore(site: SiteWork, { did }: Claim): boolean {
    if (!this.#isDrained) return this.#size <= maxClaims / 2;
    if (this.#exceptMembers.has(did)) return true;
    return this.#exceptSites.has(site.name) && site.queue.size <= site.mayHold(this.#options.now()) / 2;
  }

  #except(now: number): { exceptSites: string[]; exceptMembers: string[] } {
    const sites = new Set<string>();
    for (const site of this.#closed) {
      if (site.closedUntil(now) === undefined) this.#closed.delete(site);
      else sites.add(site.name);
    }
    for (const site of this.#waiting) if (site.queue.size >= site.mayHold(now)) sites.add(site.name);
    if (this.#options.slots.isTroubleFull()) this.#exceptTroubled(now, sites);
    const members = new Set(this.#options.slots.sated());
    for (const [did, held] of this.#members) if (held >= maxOfMember) members.add(did);
    this.#exceptSites = sites;
    this.#exceptMembers = members;
    return { exceptSites: [...sites], exceptMembers: [...members] };
  }

  /** What cannot begin must not take up the hand. */
  #exceptTroubled(now: number, sites: Set<string>): void {
    for (const site of this.#sites.values()) {
      if (!site.isTroubled(now)) continue;
      sites.add(site.name);
      if (site.queue.size > 0) this.#empty(site);
    }
  }

  #add(claim: Claim, to: string): void {
    const { now, giveBack, postpone } = this.#options;
    const site = this.#site(to);
    this.#assign(claim, to);
    const isClosed = site.closedUntil(now()) !== undefined;
    if (isClosed) this.#closed.add(site);
    if (this.#isRunning && !isClosed) {
      site.queue.push(claim);
      this.#count(claim, 1);
      this.#waiting.add(site);
    } else if (this.#isRunning && claim.reroute !== undefined) {
      // The spool knows it under another site, and would hand it out again at once.
      postpone(claim);
    } else giveBack([claim]);
  }

  #site(name: string): SiteWork {
    const known = this.#sites.get(name);
    if (known) return known;
    if (this.#sites.size >= maxSites) this.#forgetQuiet();
    const { sources, perSite, perSession } = this.#options;
    const site = new SiteWork(name, sources, (source) => new Lane(name, source, perSite, perSession));
    this.#sites.set(name, site);
    return site;
  }

  #forgetQuiet(): void {
    const now = this.#options.now();
    for (const [name, site] of this.#sites) if (site.isQuiet(now)) this.#sites.delete(name);
  }

  #assign({ recipientDomain, site, reroute }: Claim, to: string): void {
    if (site === to || reroute !== undefined || this.#assigned.get(recipientDomain) === to) return;
    if (this.#assigned.size >= maxAssigned) this.#assigned.delete(this.#assigned.keys().next().value!);
    this.#assigned.set(recipientDomain, to);
    this.#options.spool.assignSite(recipientDomain, to).catch((error: Error) => {
      this.#assigned.delete(recipientDomain);
      this.#options.log.warn({ err: error, recipientDomain }, 'delivery: the site was not stored');
    });
  }

  #close(site: SiteWork): void {
    this.#closed.add(site);
    this.#empty(site);
    this.#sleep(this.#opensInMs());
  }

  #drain(site: SiteWork): Claim[] {
    const claims = site.queue.drain();
    this.#waiting.delete(site);
    for (const claim of claims) this.#count(claim, -1);
    return claims;
  }

  #empty(site: SiteWork): void {
    const claims = this.#drain(site);
    const { giveBack, postpone } = this.#options;
    giveBack(claims.filter(({ reroute }) => reroute === undefined));
    for (const claim of claims) if (claim.reroute !== undefined) postpone(claim);
  }

  #count({ did, body }: Claim, change: 1 | -1): void {
    this.#size += change;
    this.#bodyBytes += change * (body?.length ?? 0);
    const held = (this.#members.get(did) ?? 0) + change;
    if (held === 0) this.#members.delete(did);
    else this.#members.set(did, held);
  }

  #opensInMs(): number {
    const now = this.#options.now();
    let first = maxSleepMs;
    for (const site of this.#closed) first = Math.min(first, (site.closedUntil(now) ?? now) - now);
    return first;
  }

  /** Until then at most: the nearest of several counts. */
  #sleep(ms: number): void {
    const forMs = Math.min(Math.max(ms, 0), maxSleepMs);
    const wakeAt = performance.now() + forMs;
    if (!this.#isRunning || wakeAt >= this.#wakeAt) return;
    clearTimeout(this.#timer);
    this.#wakeAt = wakeAt;
    this.#timer = setTimeout(() => this.wake(), forMs);
  }

  #stopSleeping(): void {
    clearTimeout(this.#timer);
    this.#wakeAt = Number.POSITIVE_INFINITY;
  }
}

/** The message as it goes out, beside the body that it is made of. */
function bytesOf({ size }: Claim): number {
  return 2 * size;
}
