/**
 * When a domain is looked at: at once after its attestation's commit or a change of its member, then as
 * labeler.ts says.
 *
 * Promise: work is found by asking the database every second, so an enrolment by another process is seen
 * like one by this. However much is due, as after a long stop, a bounded number of domains is checked at once
 * and in a second, what someone waits for first, then what is overdue longest. Memory holds only what is being
 * checked. stop() does not wait for DNS.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Logger } from 'pino';
import { isCorruption } from '../../appview/database.ts';
import type { AttestationIndex, Labeler } from './labeler.ts';
import type { DomainOf, Verifications } from './verifications.ts';

export type ScheduleOptions = {
  labeler: Pick<Labeler, 'verify' | 'reconcile'>;
  verifications: Verifications;
  attestations: AttestationIndex;
  now: () => number;
  log: Logger;
  /** Between two questions to the database. Default 1,000. */
  pollMs?: number;
  /** Domains that are begun in a second, in the long run. Default 10. */
  maxPerSecond?: number;
};

const maxAtOnce = 8;
const defaultMaxPerSecond = 10;
/** Longer than the slowest check. */
const leaseMs = 120_000;
const startPage = 500;

export class LabelerSchedule {
  readonly #o: ScheduleOptions;
  readonly #stopping = new AbortController();
  readonly #running = new Set<Promise<void>>();
  readonly #pace: Pace;
  #timer: NodeJS.Timeout | undefined;
  #unsubscribe: () => void = () => undefined;

  constructor(options: ScheduleOptions) {
    this.#o = options;
    this.#pace = new Pace(options.maxPerSecond ?? defaultMaxPerSecond, options.now);
  }

  start(): void {
    const { attestations, pollMs = 1_000 } = this.#o;
    this.#unsubscribe = attestations.onChange(({ did, rkey, cid }) => {
      const about = { did, domain: rkey };
      this.#track(cid === undefined ? this.#withdraw(about) : this.#lookNow(about));
    });
    this.#timer = setInterval(() => this.#takeDue(), pollMs);
    this.#track(this.#catchUp());
    this.#takeDue();
  }

  /** Resolves when nothing of ours will touch the database any more. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#unsubscribe();
    clearInterval(this.#timer);
    await Promise.all(this.#running);
  }

  #takeDue(): void {
    const { labeler, verifications, now } = this.#o;
    const { signal } = this.#stopping;
    const free = Math.min(maxAtOnce - this.#running.size, this.#pace.free);
    if (signal.aborted || free <= 0) return;
    try {
      const claims = verifications.claim(now(), leaseMs, free);
      this.#pace.take(claims.length);
      for (const claim of claims) this.#track(labeler.verify(claim, signal));
    } catch (error) {
      this.#report(error);
    }
  }

  /** A promise, so that a failure here is not the firehose reader's, who tells us of the change. */
  async #lookNow(about: DomainOf): Promise<void> {
    this.#o.verifications.makeDue(about);
  }

  /**
   * An attestation that is gone takes its labels with it now, without a question to DNS. One whose account
   * is not active may come back: the look that is due now sets the time at which its labels go.
   */
  async #withdraw(about: DomainOf): Promise<void> {
    const { labeler, verifications, attestations } = this.#o;
    try {
      await labeler.reconcile(about.did);
      if (attestations.hidden(about.did)) verifications.makeDue(about);
    } catch (error) {
      verifications.makeDue(about);
      throw error;
    }
  }

  /** Attestations that changed or went while we were not looking: a crash came between their commit and us. */
  async #catchUp(): Promise<void> {
    const { verifications, attestations } = this.#o;
    let page = verifications.after(undefined, startPage);
    while (page.length > 0 && !this.#stopping.signal.aborted) {
      for (const row of page) {
        const current = attestations.of(row.did).find(({ rkey }) => rkey === row.domain);
        if ((current?.cid ?? null) !== row.cid) verifications.makeDue(row);
      }
      page = verifications.after(page.at(-1), startPage);
      await nextTurn();
    }
  }

  #track(work: Promise<void>): void {
    const tracked = work
      .catch((error: unknown) => this.#report(error))
      .finally(() => {
        this.#running.delete(tracked);
        this.#takeDue();
      });
    this.#running.add(tracked);
  }

  /** For instance a database that another process holds for long: the claim runs out, and we look again. */
  #report(error: unknown): void {
    if (isCorruption(error)) throw error;
    this.#o.log.error({ err: error }, 'a verification failed');
  }
}

/** So many in a second; what was not used is saved up for two seconds, for those who come together. */
class Pace {
  readonly #perMs: number;
  readonly #most: number;
  readonly #now: () => number;
  #left: number;
  #at: number;

  constructor(perSecond: number, now: () => number) {
    this.#perMs = perSecond / 1_000;
    this.#most = perSecond * 2;
    this.#now = now;
    this.#left = this.#most;
    this.#at = now();
  }

  get free(): number {
    const now = this.#now();
    this.#left = Math.min(this.#most, this.#left + Math.max(now - this.#at, 0) * this.#perMs);
    this.#at = now;
    return Math.floor(this.#left);
  }

  take(count: number): void {
    this.#left -= count;
  }
}
