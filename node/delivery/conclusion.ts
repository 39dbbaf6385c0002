/**
 * Writes down what became of a try: the next state, the DSN that goes with it, and the commit of both.
 *
 * Promise: a bounce and its DSN are one commit; while the DSN cannot be made the recipient waits in the
 * queue. A delivery never waits for a notice, since the destination must not get it twice: its report, and
 * that of a delay, are made if they can be. The outcome is offered to the spool however long the disk
 * refuses, until a stop.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { AttemptRecord, Claim, NewMessage, NextState, Settlement, Spool } from '../spool/spool.ts';
import type { CrashPoint } from './attempt.ts';
import { type DsnOptions, type NoticeContext, notice, recipientOf } from './bounce.ts';
import type { DsnAction } from './dsn.ts';
import { nextTryAt, ownFailureWait, type Schedule } from './schedule.ts';

export type ConclusionOptions = {
  spool: Pick<Spool, 'settle' | 'body' | 'release'>;
  dsn: DsnOptions;
  notices: NoticeContext;
  schedule: Schedule;
  /** Ms after which the member is told once that a message waits; undefined: never. */
  delayNoticeMs: number | undefined;
  reached: (point: CrashPoint) => void;
  log: Logger;
  count: (what: string, reason?: string) => void;
  now: () => number;
};

export type Ended = {
  claim: Claim;
  record: AttemptRecord;
  /** The peer reports success itself. */
  relayed?: boolean;
  emit?: 'complaint_received';
};

const maxSettlePauseMs = 60_000;

export class Conclusions {
  readonly #options: ConclusionOptions;
  readonly #stop: AbortSignal;

  constructor(options: ConclusionOptions, stop: AbortSignal) {
    this.#options = options;
    this.#stop = stop;
  }

  /** Never rejects. At a stop before it is on disk the claim is given back. */
  async conclude(ended: Ended): Promise<void> {
    // Made once: a DSN is signed, and every round would cost a signature.
    const settlement = await this.#settlement(ended);
    if (settlement && (await this.#settle(ended.claim, settlement))) return;
    await this.giveBack([ended.claim]);
  }

  /** Untried. Never rejects: claims live in memory, so the next start gives them back anyway. */
  async giveBack(claims: readonly Claim[]): Promise<void> {
    if (claims.length === 0) return;
    const recipientIds = claims.map(({ recipientId }) => recipientId);
    await this.#options.spool.release(recipientIds).catch((error: Error) => {
      this.#options.log.warn(
        { err: error, recipientIds: recipientIds.slice(0, 10) },
        'delivery: not given back',
      );
    });
  }

  /** Finished meanwhile by somebody else, or forgotten: there is nothing to send and nothing to write down. */
  gone({ recipientId }: Claim): void {
    this.#options.log.warn({ recipientId }, 'delivery: the recipient is not open any more');
    this.#options.count('delivery_not_open');
  }

  async #settle(claim: Claim, settlement: Settlement): Promise<boolean> {
    const { spool, log, count, reached } = this.#options;
    for (let pauseMs = 1_000; ; pauseMs = Math.min(pauseMs * 2, maxSettlePauseMs)) {
      try {
        reached('before-mark');
        const settled = await spool.settle(settlement);
        if (settled === 'settled') this.#report(claim, settlement);
        else this.gone(claim);
        return true;
      } catch (error) {
        log.error({ err: error, recipientId: claim.recipientId }, 'delivery: outcome not stored yet');
        count('delivery_settle_retries');
        if (!(await pause(pauseMs, this.#stop))) return false;
      }
    }
  }

  /** Never rejects. @returns undefined when the message is finished */
  #settlement(ended: Ended): Settlement | Promise<Settlement | undefined> {
    const { claim, record, emit } = ended;
    const { recipientId } = claim;
    const next = this.#next(claim, record);
    const plain: Settlement = { recipientId, attempt: record, next, ...(emit && { emit }) };
    if (next.state === 'bounced') return this.#bounced(claim, record, plain);
    if (next.state === 'sent') {
      const isDue = !ended.relayed && this.#isTold('relayed', claim);
      return isDue ? this.#withNotice('relayed', ended, plain) : plain;
    }
    if (!this.#isLate(claim)) return plain;
    return this.#withNotice('delayed', ended, plain);
  }

  #isDue(action: DsnAction, claim: Claim): boolean {
    return recipientOf(action, claim, this.#options.dsn) !== undefined;
  }

  /** Whether a notice is due that nothing waits for: not where nobody can say to whom. */
  #isTold(action: DsnAction, claim: Claim): boolean {
    try {
      return this.#isDue(action, claim);
    } catch (error) {
      this.#dsnFailed(claim, error as Error);
      return false;
    }
  }

  /** Time that it was scheduled or held is in `expiresAt`, so what is left of the lifetime tells the age. */
  #isLate(claim: Claim): boolean {
    const { delayNoticeMs, notices, now } = this.#options;
    if (delayNoticeMs === undefined || claim.delayNoticed) return false;
    const age = Math.min(notices.lifetimeMs - (claim.expiresAt - now()), now() - claim.receivedAt);
    return age >= delayNoticeMs && this.#isTold('delayed', claim);
  }

  /** A failure to make it is no reason to wait. */
  async #withNotice(action: DsnAction, { claim, record }: Ended, plain: Settlement): Promise<Settlement> {
    try {
      const dsn = await this.#notice(action, claim, record);
      if (!dsn) return plain;
      return { ...plain, dsn, ...(action === 'delayed' && { delayNoticed: true }) };
    } catch (error) {
      this.#dsnFailed(claim, error as Error);
      return plain;
    }
  }

  async #bounced(claim: Claim, record: AttemptRecord, plain: Settlement): Promise<Settlement | undefined> {
    try {
      const isDue = this.#isDue('failed', claim);
      const dsn = isDue ? await this.#notice('failed', claim, explained(claim, record)) : undefined;
      // The message is finished, or forgotten.
      if (isDue && !dsn) return void this.gone(claim);
      return dsn ? { ...plain, dsn } : plain;
    } catch (error) {
      this.#dsnFailed(claim, error as Error);
      return this.#bounceLater(claim, record);
    }
  }

  #notice(action: DsnAction, claim: Claim, cause: AttemptRecord): Promise<NewMessage | undefined> {
    const { spool, dsn, notices } = this.#options;
    // A bounce holds no place, so many may be made at once: never a large message in whole.
    const original = async (octets: number) => {
      const body = claim.body?.subarray(0, octets) ?? (await spool.body(claim.queueId, octets));
      return body && Buffer.concat([claim.signatures, claim.prefix, body]);
    };
    const retryUntil = action === 'delayed' ? { retryUntil: claim.expiresAt } : {};
    return notice({ action, subject: claim, cause, original, ...retryUntil }, dsn, notices);
  }

  /**
   * No bounce without its DSN. The recipient waits for it in the queue and holds no place here; what was
   * refused may be offered once more meanwhile, since nobody got it.
   */
  #bounceLater({ recipientId, receivedAt }: Claim, record: AttemptRecord): Settlement {
    const now = this.#options.now();
    // Always the same words: repeated for days, it stays one line of the timeline.
    const summary = 'it bounced, but the notice of that could not be made yet';
    return {
      recipientId,
      attempt: { ...record, outcome: 'deferred', counted: false, recipientInvalid: false, summary },
      next: { state: 'deferred', at: now + ownFailureWait({ now, receivedAt }) },
    };
  }

  #dsnFailed({ recipientId }: Claim, error: Error): void {
    this.#options.log.error({ err: error, recipientId }, 'delivery: a notice could not be made yet');
    this.#options.count('delivery_dsn_failures');
  }

  #next({ attempts, receivedAt, expiresAt }: Claim, { at, outcome, counted }: AttemptRecord): NextState {
    if (outcome === 'delivered') return { state: 'sent' };
    if (outcome === 'failed') return { state: 'bounced' };
    const tried = { now: at, counted, attempts: attempts + (counted ? 1 : 0), receivedAt, expiresAt };
    const nextAt = nextTryAt(tried, this.#options.schedule);
    return nextAt === undefined ? { state: 'bounced' } : { state: 'deferred', at: nextAt };
  }

  #report(claim: Claim, { next, attempt: record, dsn }: Settlement): void {
    const { log, count } = this.#options;
    const { queueId, recipientId, recipientDomain } = claim;
    const { status, host, source, site, durationMs, summary } = record;
    log.info(
      {
        queueId,
        recipientId,
        recipientDomain,
        state: next.state,
        status,
        host,
        source,
        site,
        durationMs,
        summary,
      },
      'delivery',
    );
    if (next.state === 'bounced' && claim.kind === 'mail') count(dsn ? 'dsns_made' : 'dsns_withheld');
    count('delivery_results', next.state);
  }
}

/** A bounce after retries says that there were some. */
function explained({ attempts }: Claim, record: AttemptRecord): AttemptRecord {
  if (record.outcome !== 'deferred') return record;
  const tries = attempts + (record.counted ? 1 : 0);
  return { ...record, summary: `${record.summary}; given up after ${tries} tries` };
}

/** @returns false when the signal came first */
async function pause(ms: number, signal: AbortSignal): Promise<boolean> {
  try {
    await delay(ms, undefined, { signal });
    return true;
  } catch {
    return false;
  }
}
