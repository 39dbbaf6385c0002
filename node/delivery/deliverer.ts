/**
 * Takes due recipients from the spool, tries them, and writes back what became of them.
 *
 * Promise: a claimed recipient is settled, or given back; neither a failure of ours nor a stop loses it.
 * A bounce and its DSN are one commit. A recipient domain has at most `perDomain` tries at once, so a slow
 * one does not hold up the others. Wakes on each commit of the spool and at the next due time, polls nothing.
 *
 * In numbered steps: (1) due() claims, (2) attempt.ts speaks to the destination, (3) schedule.ts says
 * when again, (4) bounce.ts makes the DSN if never, (5) settle() commits it all.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { addressAllowed } from '../../appview/identity/address.ts';
import type { Resolver } from '../resolver.ts';
import { defaultLifetimeMs } from '../spool/message.ts';
import type { AttemptRecord, Claim, NextState, Settlement, Spool } from '../spool/spool.ts';
import { type AttemptOptions, attempt } from './attempt.ts';
import { bounceMessage, type DsnOptions } from './bounce.ts';
import { defaultTimeouts, type Timeouts, type TlsPolicy } from './client.ts';
import { defaultRetryMinutes, nextTryAt, ownFailureWait } from './schedule.ts';

export type DelivererOptions = {
  spool: Spool;
  resolver: Resolver;
  /** Of the mail exchangers. 25 in the world. */
  port: number;
  /** No packet leaves the machine: other addresses bounce. Otherwise only public ones are spoken to. */
  loopbackOnly: boolean;
  tls: TlsPolicy;
  /** Our name in EHLO and in DSNs. */
  hostname: string;
  dsn: DsnOptions;
  retryMinutes?: readonly number[];
  /** Of the DSNs made here; a message brings its own `expiresAt`. Default 4 days. */
  lifetimeMs?: number;
  timeouts?: Partial<Timeouts>;
  /** Tries at once. Default 50 in all, 5 a recipient domain. */
  concurrency?: { total: number; perDomain: number };
  /** How long in-flight tries may finish at a stop. Default 10 s. */
  graceMs?: number;
  log: Logger;
  count: (what: string, reason?: string) => void;
  now: () => number;
};

const defaultConcurrency = { total: 50, perDomain: 5 };
const defaultGraceMs = 10_000;
/** Sleeping longer would miss a clock that is set forward. */
const maxSleepMs = 60_000;
const afterSpoolErrorMs = 5_000;
const maxSettlePauseMs = 60_000;

export class Deliverer {
  readonly #options: DelivererOptions;
  readonly #attempt: AttemptOptions;
  readonly #concurrency: { total: number; perDomain: number };
  readonly #abort = new AbortController();
  readonly #running = new Set<Promise<void>>();
  readonly #domains = new Map<string, number>();
  #state: 'new' | 'running' | 'stopping' = 'new';
  #unsubscribe: (() => void) | undefined;
  #timer: NodeJS.Timeout | undefined;
  #filling: Promise<void> | undefined;
  #again = false;

  constructor(options: DelivererOptions) {
    this.#options = options;
    const { resolver, loopbackOnly, hostname, tls, port, now } = options;
    const rules = { allowLoopback: loopbackOnly, loopbackOnly };
    this.#attempt = {
      route: { resolver, allowed: (address) => addressAllowed(address, rules) },
      client: { hostname, tls, timeouts: { ...defaultTimeouts, ...options.timeouts } },
      port,
      now,
    };
    this.#concurrency = options.concurrency ?? defaultConcurrency;
  }

  start(): void {
    if (this.#state !== 'new') return;
    this.#state = 'running';
    this.#unsubscribe = this.#options.spool.onCommitted(() => this.wake());
    this.wake();
  }

  /** Looks into the queue now. Called by itself on commits and due times; a clock that jumps may need it. */
  wake(): void {
    if (this.#state !== 'running') return;
    this.#again = true;
    this.#filling ??= this.#fillWhileAsked().finally(() => {
      this.#filling = undefined;
      if (this.#again) this.wake();
    });
  }

  /** Takes nothing more; in-flight tries finish within the grace or are given back. Call before closing the spool. */
  async stop(): Promise<void> {
    this.#state = 'stopping';
    this.#unsubscribe?.();
    clearTimeout(this.#timer);
    await this.#filling;
    const graceOver = new AbortController();
    const all = Promise.all(this.#running);
    await Promise.race([all, pause(this.#options.graceMs ?? defaultGraceMs, graceOver.signal)]);
    graceOver.abort();
    this.#abort.abort();
    await all;
  }

  async #fillWhileAsked(): Promise<void> {
    while (this.#again && this.#state === 'running') {
      this.#again = false;
      try {
        await this.#fill();
      } catch (error) {
        this.#options.log.error({ err: error }, 'delivery: the spool did not answer');
        this.#options.count('delivery_spool_errors');
        this.#sleep(afterSpoolErrorMs);
      }
    }
  }

  /** Claims until there is no room or nothing due that has room at its domain. */
  async #fill(): Promise<void> {
    const { spool, now } = this.#options;
    for (;;) {
      const room = this.#concurrency.total - this.#running.size;
      if (room <= 0) return;
      const claims = await spool.due(room, now(), this.#fullDomains());
      if (claims.length === 0) break;
      const excess = claims.filter((claim) => !this.#begin(claim));
      if (excess.length > 0) await spool.release(excess.map((claim) => claim.recipientId));
      if (this.#state !== 'running') return;
    }
    const next = await spool.nextDueAt(this.#fullDomains());
    if (next !== undefined) this.#sleep(next - now());
  }

  #fullDomains(): string[] {
    return [...this.#domains]
      .filter(([, tries]) => tries >= this.#concurrency.perDomain)
      .map(([domain]) => domain);
  }

  #sleep(ms: number): void {
    clearTimeout(this.#timer);
    if (this.#state !== 'running') return;
    this.#timer = setTimeout(() => this.wake(), Math.min(Math.max(ms, 0), maxSleepMs));
  }

  /** @returns false when there is no room for it */
  #begin(claim: Claim): boolean {
    const tries = this.#domains.get(claim.recipientDomain) ?? 0;
    if (this.#state !== 'running' || tries >= this.#concurrency.perDomain) return false;
    this.#domains.set(claim.recipientDomain, tries + 1);
    const run = this.#run(claim).finally(() => {
      this.#running.delete(run);
      this.#leave(claim.recipientDomain);
      this.wake();
    });
    this.#running.add(run);
    return true;
  }

  #leave(domain: string): void {
    const tries = this.#domains.get(domain)! - 1;
    if (tries === 0) this.#domains.delete(domain);
    else this.#domains.set(domain, tries);
  }

  /** Never rejects. */
  async #run(claim: Claim): Promise<void> {
    const record = await this.#try(claim);
    if (record && (await this.#conclude(claim, record))) return;
    await this.#options.spool.release([claim.recipientId]).catch((error: Error) => {
      // Claims live in memory: the next start gives it back anyway.
      this.#options.log.warn({ err: error, recipientId: claim.recipientId }, 'delivery: not given back');
    });
  }

  /** @returns undefined when it was aborted by a stop, or nothing is left to try */
  async #try(claim: Claim): Promise<AttemptRecord | undefined> {
    const { spool, now, log, count } = this.#options;
    try {
      if (claim.expiresAt <= now()) return await this.#expired(claim);
      const body = await spool.body(claim.queueId);
      if (!body) return this.#gone(claim);
      const tried = await attempt(claim, body, this.#attempt, this.#abort.signal);
      return tried.kind === 'tried' ? tried.record : undefined;
    } catch (error) {
      log.error({ err: error, recipientId: claim.recipientId }, 'delivery: a try failed on our side');
      count('delivery_internal_errors');
      const summary = 'a failure on our side';
      return { at: now(), durationMs: 0, outcome: 'deferred', counted: false, status: '4.3.0', summary };
    }
  }

  /** The lifetime is over: the destination's last words, if any, are the reason that the member reads. */
  async #expired(claim: Claim): Promise<AttemptRecord> {
    const message = await this.#options.spool.message(claim.queueId);
    const timeline = message?.recipients.find(({ id }) => id === claim.recipientId)?.timeline ?? [];
    const last = timeline.at(-1);
    const days = (claim.expiresAt - claim.receivedAt) / (24 * 60 * 60_000);
    return {
      at: this.#options.now(),
      durationMs: 0,
      outcome: 'failed',
      counted: false,
      host: last?.host,
      reply: last?.reply,
      status: '4.4.7',
      summary: `not delivered within ${Number(days.toFixed(1))} days${last ? `; last: ${last.summary}` : ''}`,
    };
  }

  /** Finished meanwhile by somebody else, or forgotten: there is nothing to send and nothing to write down. */
  #gone({ recipientId }: Claim): undefined {
    this.#options.log.warn({ recipientId }, 'delivery: the recipient is not open any more');
    this.#options.count('delivery_not_open');
  }

  /**
   * Writes the outcome down, however long the disk refuses: the destination must not get it twice.
   *
   * @returns false when a stop came first, or nothing was to be written
   */
  async #conclude(claim: Claim, record: AttemptRecord): Promise<boolean> {
    const { spool, log, count } = this.#options;
    // Made once: a DSN is signed, and every round would cost a signature.
    const settlement = await this.#settlement(claim, record);
    if (!settlement) return false;
    for (let pauseMs = 1_000; ; pauseMs = Math.min(pauseMs * 2, maxSettlePauseMs)) {
      try {
        const settled = await spool.settle(settlement);
        if (settled === 'settled') this.#report(claim, settlement);
        else this.#gone(claim);
        return true;
      } catch (error) {
        log.error({ err: error, recipientId: claim.recipientId }, 'delivery: outcome not stored yet');
        count('delivery_settle_retries');
        if (!(await pause(pauseMs, this.#abort.signal))) return false;
      }
    }
  }

  /** Never rejects. @returns undefined when the message is finished */
  async #settlement(claim: Claim, record: AttemptRecord): Promise<Settlement | undefined> {
    const { recipientId } = claim;
    const next = this.#next(claim, record);
    if (next.state !== 'bounced') return { recipientId, attempt: record, next };
    const { spool, dsn, hostname, now, lifetimeMs = defaultLifetimeMs } = this.#options;
    try {
      const body = await spool.body(claim.queueId);
      if (!body) return this.#gone(claim);
      const bounce = { claim, cause: explained(claim, record), body };
      const notice = await bounceMessage(bounce, dsn, { hostname, lifetimeMs, now });
      return { recipientId, attempt: record, next, dsn: notice };
    } catch (error) {
      return this.#bounceLater(claim, record, error as Error);
    }
  }

  /**
   * No bounce without its DSN. The recipient waits for it in the queue and holds no place here; what was
   * refused may be offered once more meanwhile, since nobody got it.
   */
  #bounceLater(claim: Claim, record: AttemptRecord, error: Error): Settlement {
    const { log, count, now } = this.#options;
    const { recipientId, receivedAt } = claim;
    log.error({ err: error, recipientId }, 'delivery: the notice of a bounce could not be made yet');
    count('delivery_dsn_failures');
    // Always the same words: repeated for days, it stays one line of the timeline.
    const summary = 'it bounced, but the notice of that could not be made yet';
    return {
      recipientId,
      attempt: { ...record, outcome: 'deferred', counted: false, recipientInvalid: false, summary },
      next: { state: 'deferred', at: now() + ownFailureWait({ now: now(), receivedAt }) },
    };
  }

  #next({ attempts, receivedAt, expiresAt }: Claim, { at, outcome, counted }: AttemptRecord): NextState {
    if (outcome === 'delivered') return { state: 'sent' };
    if (outcome === 'failed') return { state: 'bounced' };
    const tried = { now: at, counted, attempts: attempts + (counted ? 1 : 0), receivedAt, expiresAt };
    const nextAt = nextTryAt(tried, this.#options.retryMinutes ?? defaultRetryMinutes);
    return nextAt === undefined ? { state: 'bounced' } : { state: 'deferred', at: nextAt };
  }

  #report(claim: Claim, { next, attempt: record, dsn }: Settlement): void {
    const { log, count } = this.#options;
    const { queueId, recipientId, recipientDomain } = claim;
    const { status, host, durationMs, summary } = record;
    log.info(
      { queueId, recipientId, recipientDomain, state: next.state, status, host, durationMs, summary },
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
