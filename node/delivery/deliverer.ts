/**
 * Takes due recipients from the spool, tries them, and writes back what became of them.
 *
 * Promise: a claimed recipient is settled, or given back; neither a failure of ours nor a stop loses it.
 * A bounce and its DSN are one commit. Wakes on commits of the spool that made mail due and at the next due time.
 *
 * In numbered steps: (1) on-hand.ts claims a few ahead, by site, members in turn, and coming.ts what was just
 * accepted; (2) slots.ts and the site's lanes say who may begin; (3) destinations.ts finds where to, sources.ts
 * from which address; (4) attempt.ts speaks, over a session of the pool where there is one; (5) shaping hears
 * what it heard; (6) conclusion.ts says when again, makes the DSN if never, and commits it all, while the next
 * begins.
 */
import type { Logger } from 'pino';
import { addressAllowed } from '../../appview/identity/address.ts';
import { unlessAborted } from '../../appview/labels/unless-aborted.ts';
import type { Resolver } from '../resolver.ts';
import { defaultLifetimeMs } from '../spool/message.ts';
import { freeClaim } from '../spool/packing.ts';
import type { AttemptRecord, Claim, Spool } from '../spool/spool.ts';
import { attempt, type CrashPoint, outgoingOf, type Tried, type Verdict, type Wire } from './attempt.ts';
import type { DsnOptions } from './bounce.ts';
import { defaultTimeouts, type Timeouts } from './client.ts';
import { Coming, type ComingOptions } from './coming.ts';
import { Conclusions, type Ended } from './conclusion.ts';
import { type Destination, Destinations, type DestinationsOptions, type Site } from './destinations.ts';
import { OnHand } from './on-hand.ts';
import { SessionPool } from './pool.ts';
import type { RouteOptions } from './route.ts';
import { defaultRetryMinutes } from './schedule.ts';
import { openSession } from './session.ts';
import type { Lane, LaneView } from './shaping.ts';
import { simulate } from './simulator.ts';
import type { Run } from './site-work.ts';
import { Slots } from './slots.ts';
import { type Source, Sources } from './sources.ts';
import { Unreachable } from './unreachable.ts';

export type DelivererOptions = {
  spool: Spool;
  resolver: Resolver;
  /** Of the mail exchangers. 25 in the world. */
  port: number;
  /** No packet leaves the machine: other addresses bounce. Otherwise only public ones are spoken to. */
  loopbackOnly: boolean;
  /** What routing asks beside the resolver and the allowed addresses. */
  route?: Partial<Omit<RouteOptions, 'resolver' | 'allowed'>>;
  /** What each host must offer; TlsPolicies. */
  tls: { demandsFor: DestinationsOptions['demandsFor'] };
  /** Roots of verified TLS; absent: the public ones. */
  ca?: readonly string[];
  /** Our name in EHLO and in DSNs. */
  hostname: string;
  dsn: DsnOptions;
  /** Absent: signatures go out as they were made. */
  signatures?: {
    isCurrent(claim: Claim): boolean;
    /** @throws when they cannot be made now; the recipient is then deferred, uncounted */
    renew(claim: Claim, body: Buffer): Promise<Buffer>;
  };
  /** Our addresses; empty or absent: the system chooses. */
  sources?: readonly Source[];
  /** Messages a day to each provider on the first days of a new one. */
  sourceWarming?: readonly number[];
  retryMinutes?: readonly number[];
  /** After those waits, on at this distance until the lifetime is over. */
  longTailMs?: number;
  /** From acceptance to the bounce: of the DSNs made here, and what a message's age is told by. Default 4 days. */
  lifetimeMs?: number;
  /** Tell the member once that a message waits. Default: never. */
  delayNoticeMs?: number;
  timeouts?: Partial<Timeouts>;
  /** Connections at once. Default 200 in all, 20 to one site from one address. */
  concurrency?: { total: number; perSite: number };
  /** Default 100. */
  messagesPerConnection?: number;
  /** How long a connection waits for another message. Default 3 s. */
  idleMs?: number;
  /** Octets of messages in memory. Default 64 MiB. */
  maxBytes?: number;
  /** How long in-flight tries may finish at a stop. Default 10 s. */
  graceMs?: number;
  /** Tests only: named points at which the process may be made to die. */
  reached?: (point: CrashPoint) => void;
  log: Logger;
  count: (what: string, reason?: string) => void;
  now: () => number;
};

const defaultSourceWarming: readonly number[] = [
  50, 100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 102_400,
];

const defaults = {
  concurrency: { total: 200, perSite: 20 },
  messagesPerConnection: 100,
  idleMs: 3_000,
  maxBytes: 64 * 1024 * 1024,
  graceMs: 10_000,
} as const;

export class Deliverer {
  readonly #options: DelivererOptions;
  readonly #abort = new AbortController();
  readonly #running = new Set<Promise<void>>();
  readonly #concluding = new Set<Promise<void>>();
  readonly #sources: Sources;
  readonly #destinations: Destinations;
  readonly #conclusions: Conclusions;
  readonly #slots: Slots;
  readonly #onHand: OnHand;
  readonly #wire: Wire;
  #state: 'new' | 'running' | 'stopping' = 'new';
  #unsubscribe: (() => void) | undefined;

  constructor(options: DelivererOptions) {
    this.#options = options;
    const { spool, log, count, now, concurrency = defaults.concurrency } = options;
    const { maxBytes = defaults.maxBytes, sources = [], sourceWarming = defaultSourceWarming } = options;
    this.#sources = new Sources({ sources, warming: sourceWarming, now });
    this.#destinations = destinationsFor(options);
    this.#conclusions = conclusionsFor(options, this.#abort.signal);
    this.#slots = new Slots({ total: concurrency.total, maxBytes });
    this.#wire = wireFor(options);
    const { messagesPerConnection: perSession = defaults.messagesPerConnection } = options;
    this.#onHand = new OnHand({
      ...{ spool, log, count, now, perSession },
      perSite: concurrency.perSite,
      sources: this.#sources.addresses(),
      slots: this.#slots,
      siteOf: (claim) => this.#destinations.known(claim)?.site,
      giveBack: (claims) => this.#conclude(this.#conclusions.giveBack(claims)),
      postpone: (claim) => this.#postpone(claim),
      begin: (run) => this.#begin(run),
      isHeldUp: () => this.#concluding.size > 2 * concurrency.total,
    });
  }

  start(): void {
    if (this.#state !== 'new') return;
    this.#state = 'running';
    const { spool } = this.#options;
    this.#unsubscribe = spool.onCommitted((mayBeDue) => mayBeDue && this.#onHand.committed());
    const siteOf: ComingOptions['siteOf'] = (asked) => this.#destinations.known(asked)?.site;
    spool.handTo(new Coming({ siteOf, hand: this.#onHand }));
    this.#onHand.start(async () => this.#sources.recover(await this.#options.spool.sourceUse()));
  }

  /** Looks into the queue now. Called by itself on commits and due times; a clock that jumps may need it. */
  wake(): void {
    this.#onHand.wake();
  }

  /** Takes nothing more; in-flight tries finish within the grace or are given back. Call before closing the spool. */
  async stop(): Promise<void> {
    this.#state = 'stopping';
    this.#unsubscribe?.();
    this.#options.spool.handTo(undefined);
    const graceOver = setTimeout(() => this.#abort.abort(), this.#options.graceMs ?? defaults.graceMs);
    // A disk that hangs is not waited for, here and below.
    await unlessAborted(this.#onHand.stop(), this.#abort.signal).catch(ignore);
    await Promise.all(this.#running);
    this.#wire.pool.close();
    // What has its outcome may still be on its way to the disk.
    await unlessAborted(this.#untilConcluded(), this.#abort.signal).catch(ignore);
    clearTimeout(graceOver);
    this.#abort.abort();
  }

  /** What is known of each site that was spoken to lately, from each of our addresses. */
  sites(): LaneView[] {
    return this.#onHand.views();
  }

  /** An operator's word: the site is tried again as if it had never complained. Its recipients keep their times. */
  flush(site: string): void {
    this.#destinations.forget(site);
    this.#wire.unreachable.clear();
    this.#onHand.resume(site);
  }

  async #untilConcluded(): Promise<void> {
    while (this.#concluding.size > 0) await Promise.all(this.#concluding);
  }

  #begin(run: Run): void {
    const running = this.#run(run).finally(() => {
      this.#running.delete(running);
      this.#onHand.ended(run);
    });
    this.#running.add(running);
  }

  /** It waits as after a failure of our own. */
  #postpone(claim: Claim): void {
    const record = {
      at: this.#options.now(),
      durationMs: 0,
      ...ourFailure('the site asked for less; it waits'),
    };
    this.#conclude(this.#conclusions.conclude({ claim, record }));
  }

  /** Never rejects. The outcome goes to the disk while the place is somebody else's already. */
  async #run(run: Run): Promise<void> {
    const { claim } = run;
    const startedAt = this.#options.now();
    const tried = await this.#try(run);
    if (tried === 'moved') return;
    if (tried === undefined) return this.#conclude(this.#conclusions.giveBack([claim]));
    const at = this.#options.now();
    const { verdict, relayed = false, emit } = tried;
    const record: AttemptRecord = { at, durationMs: at - startedAt, ...verdict };
    const ended: Ended = { claim, record, relayed, ...(emit && { emit }) };
    const concluded = this.#conclusions.conclude(ended);
    this.#conclude(record.outcome === 'delivered' ? concluded.then(() => freeClaim(claim)) : concluded);
  }

  #conclude(work: Promise<void>): void {
    const concluding = work.finally(() => {
      this.#concluding.delete(concluding);
      this.#onHand.concluded();
    });
    this.#concluding.add(concluding);
  }

  /** @returns undefined when it was aborted by a stop, or nothing is left to try */
  async #try(run: Run): Promise<Outcome | 'moved' | undefined> {
    const { claim } = run;
    try {
      const settled = await this.#withoutTrying(claim);
      return settled ?? (await this.#reach(run));
    } catch (error) {
      if (this.#abort.signal.aborted) return undefined;
      const { log, count } = this.#options;
      log.error({ err: error, recipientId: claim.recipientId }, 'delivery: a try failed on our side');
      count('delivery_internal_errors');
      return { verdict: ourFailure('a failure on our side') };
    }
  }

  #withoutTrying(claim: Claim): Outcome | Promise<Outcome> | undefined {
    const { failReason, simulated, expiresAt } = claim;
    if (failReason !== undefined) return { verdict: failedBy(failReason) };
    if (expiresAt <= this.#options.now()) return this.#expired(claim).then((verdict) => ({ verdict }));
    return simulated ? simulate(claim) : undefined;
  }

  /** The lifetime is over: the destination's last words, if any, are the reason that the member reads. */
  async #expired(claim: Claim): Promise<Verdict> {
    const message = await unlessAborted(this.#options.spool.message(claim.queueId), this.#abort.signal);
    const timeline = message?.recipients.find(({ id }) => id === claim.recipientId)?.timeline ?? [];
    const last = timeline.at(-1);
    const days = (claim.expiresAt - claim.receivedAt) / (24 * 60 * 60_000);
    return {
      ...{ outcome: 'failed', counted: false, status: '4.4.7' },
      ...{ host: last?.host, reply: last?.reply },
      summary: `not delivered within ${Number(days.toFixed(1))} days${last ? `; last: ${last.summary}` : ''}`,
    };
  }

  async #reach(run: Run): Promise<Outcome | 'moved' | undefined> {
    const { claim } = run;
    const found = this.#destinations.of(claim);
    // DNS questions cannot be called back; their answer is just not waited for.
    const destination: Destination = 'then' in found ? await unlessAborted(found, this.#abort.signal) : found;
    if (destination.kind === 'none') return { verdict: { ...destination.verdict, site: claim.site } };
    if (destination.site !== run.site.name) {
      this.#onHand.move(claim, destination.site);
      return 'moved';
    }
    const lane = this.#choose(run, destination);
    if (!lane) return 'moved';
    if (typeof lane === 'string') return { verdict: ourFailure(lane) };
    return this.#through(lane, run, destination);
  }

  /** @returns undefined when it waits for a lane, a text why there is none for it */
  #choose({ claim, site }: Run, { families, site: name }: Site): Lane | string | undefined {
    const now = this.#options.now();
    const hasRoom = (source: string | undefined) => site.lane(source).hasRoom(now);
    const isSuspended = (source: string | undefined) => site.lane(source).suspendedUntil > now;
    const last = claim.lastSource;
    const chosen = this.#sources.choose({ site: name, families, last, hasRoom, isSuspended });
    if (chosen.kind === 'chosen') return site.lane(chosen.source);
    if (chosen.kind === 'no-family') return 'no address of ours can speak to those of the destination';
    if (chosen.kind === 'last-busy') return `${chosen.source}, from which it was tried before, is busy there`;
    this.#onHand.putBack(claim, site, chosen.kind === 'spent' ? chosen.until : undefined);
    return undefined;
  }

  async #through(lane: Lane, run: Run, destination: Site): Promise<Outcome | undefined> {
    const { claim, site } = run;
    const { source, epoch } = lane;
    run.hadLane = true;
    lane.running += 1;
    this.#sources.began(source, site.name);
    let tried: Tried | Outcome | undefined;
    try {
      tried = await this.#speak(claim, lane, destination);
    } finally {
      lane.running -= 1;
      const isDelivered = tried !== undefined && 'verdict' in tried && tried.verdict.outcome === 'delivered';
      this.#sources.ended(source, site.name, isDelivered);
    }
    if (tried === undefined || !('heard' in tried)) return tried;
    this.#learn(lane, epoch, tried);
    return tried;
  }

  async #speak(
    claim: Claim,
    lane: Lane,
    site: Site,
  ): Promise<Extract<Tried, { kind: 'tried' }> | Outcome | undefined> {
    const { spool, signatures } = this.#options;
    const body = claim.body ?? (await unlessAborted(spool.body(claim.queueId), this.#abort.signal));
    if (!body) return void this.#conclusions.gone(claim);
    let signed = claim.signatures;
    if (signatures && !signatures.isCurrent(claim)) {
      try {
        signed = await signatures.renew(claim, body);
      } catch (error) {
        this.#options.log.warn({ err: error, recipientId: claim.recipientId }, 'delivery: not signed anew');
        this.#options.count('delivery_signing_failures');
        return { verdict: ourFailure('the message could not be signed anew') };
      }
    }
    const { source, perSession } = lane;
    const one = { outgoing: outgoingOf(claim, signed, body), site, source, perSession };
    const tried = await attempt(one, this.#wire, this.#abort.signal);
    return tried.kind === 'aborted' ? undefined : tried;
  }

  #learn(lane: Lane, epoch: number, { heard, blamed, perSession }: Extract<Tried, { kind: 'tried' }>): void {
    const now = this.#options.now();
    if (blamed) this.#sources.blamed(lane.source, lane.site);
    if (perSession !== undefined) lane.perSession = Math.max(1, Math.min(lane.perSession, perSession));
    if (heard.kind === 'delivered') lane.succeeded();
    else if (heard.kind === 'answered') lane.answered();
    else if (heard.kind === 'slow-down') lane.slowedDown(epoch, now, heard.reply);
    else if (heard.kind === 'failed') lane.failed(epoch, heard.reply);
  }
}

type Outcome = { verdict: Verdict; relayed?: boolean; emit?: 'complaint_received' };

function destinationsFor({ resolver, loopbackOnly, route, tls, port, now }: DelivererOptions): Destinations {
  const rules = { allowLoopback: loopbackOnly, loopbackOnly };
  return new Destinations({
    route: { ...route, resolver, allowed: (address) => addressAllowed(address, rules) },
    demandsFor: (domain, hosts, message) => tls.demandsFor(domain, hosts, message),
    ...{ port, now },
  });
}

function conclusionsFor(options: DelivererOptions, stop: AbortSignal): Conclusions {
  const { spool, dsn, hostname, log, count, now, delayNoticeMs, longTailMs } = options;
  const { lifetimeMs = defaultLifetimeMs, retryMinutes = defaultRetryMinutes } = options;
  const schedule = { retryMinutes, ...(longTailMs !== undefined && { tailMs: longTailMs }) };
  const reached = options.reached ?? ignore;
  const notices = { hostname, lifetimeMs, now };
  return new Conclusions({ spool, dsn, notices, schedule, delayNoticeMs, reached, log, count, now }, stop);
}

function wireFor(options: DelivererOptions): Wire {
  const { hostname, ca, now, idleMs = defaults.idleMs, concurrency = defaults.concurrency } = options;
  const session = { hostname, timeouts: { ...defaultTimeouts, ...options.timeouts }, ...(ca && { ca }) };
  return {
    open: ({ name, address, port, demand }, source, stop) =>
      openSession(
        { name, address, port, tls: demand, ...(source !== undefined && { source }) },
        session,
        stop,
      ),
    pool: new SessionPool({ idleMs, max: concurrency.total }),
    unreachable: new Unreachable(now),
    reached: options.reached ?? ignore,
  };
}

function ignore(): void {
  // Nobody is interested but tests.
}

function ourFailure(summary: string): Verdict {
  return { outcome: 'deferred', counted: false, status: '4.3.0', summary };
}

function failedBy(reason: string): Verdict {
  return { outcome: 'failed', counted: false, status: '5.3.0', summary: `ended by the operator: ${reason}` };
}
