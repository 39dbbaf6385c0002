/**
 * When a domain is looked at: at once after its attestation's commit or a change of its member, then as
 * labeler.ts says.
 *
 * Promise: work is found by asking the database every second, so an enrolment by another process is seen
 * like one by this; a bounded number of domains is checked at once; stop() does not wait for DNS.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Logger } from 'pino';
import { isCorruption } from '../../appview/database.ts';
import type { AttestationIndex, Labeler } from './labeler.ts';
import type { DomainOf, Verifications } from './verifications.ts';

export type ScheduleOptions = {
  labeler: Labeler;
  verifications: Verifications;
  attestations: AttestationIndex;
  now: () => number;
  log: Logger;
  /** Between two questions to the database. Default 1,000. */
  pollMs?: number;
};

const maxAtOnce = 8;
/** Longer than the slowest check. */
const leaseMs = 120_000;
const startPage = 500;

export class LabelerSchedule {
  readonly #o: ScheduleOptions;
  readonly #stopping = new AbortController();
  readonly #running = new Set<Promise<void>>();
  #timer: NodeJS.Timeout | undefined;
  #unsubscribe: () => void = () => undefined;

  constructor(options: ScheduleOptions) {
    this.#o = options;
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
    const free = maxAtOnce - this.#running.size;
    if (signal.aborted || free <= 0) return;
    try {
      for (const claim of verifications.claim(now(), leaseMs, free))
        this.#track(labeler.verify(claim, signal));
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
