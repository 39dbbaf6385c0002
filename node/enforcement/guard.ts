/**
 * The guard: a few breakers in plain code, for what cannot wait for rules or people.
 *
 * | breaker | when | then |
 * |---|---|---|
 * | velocity | more than 3 × the tier's hourly cap attempted in 5 min | throttled at once, for a day |
 * | unknown users | ≥ 5 recipients in 10 min that servers refused as not existing, ≥ 20 % of that time's sends | held, the queue too, until somebody looks |
 * | the door | ≥ 10 % of ≥ 50 sends in 1 h not existing, or unknown users twice in 24 h | suspended |
 *
 * Promise: it reads figures that are on record, looks right after the commit of the events that changed them,
 * and looks again at a start, so a crash delays it and loses nothing. The member reads the figures in the
 * reason; the operator is told (operator-notices.ts). Reports that come later, from who knows whom, trip nothing: only what a server
 * said in the session counts. After a person's act the count begins anew.
 */
import type { Logger } from 'pino';
import type { Database } from '../../appview/database.ts';
import type { Event } from './events.ts';
import { holding, type MeasureOutcome, type Measures } from './measures.ts';
import type { RateFigures, Rates, RateWindow } from './rates.ts';
import type { StandingOf } from './standing.ts';

export type GuardFigures = {
  enabled: boolean;
  /** Times the hourly cap of the tier, attempted in 5 minutes. */
  velocityFactor: number;
  throttleForMs: number;
  /** Recipients within 10 minutes, and their share of what was sent then. */
  unknownUsers: number;
  unknownUsersShare: number;
  /** Sends in an hour from which on the next figure counts, and the share that suspends. */
  invalidSends: number;
  invalidShare: number;
};

export const defaultGuardFigures: GuardFigures = {
  enabled: true,
  velocityFactor: 3,
  throttleForMs: 24 * 3_600_000,
  unknownUsers: 5,
  unknownUsersShare: 0.2,
  invalidSends: 50,
  invalidShare: 0.1,
};

export type GuardOptions = {
  /** node.db. */
  db: Database.Database;
  rates: Pick<Rates, 'of' | 'active'>;
  standingOf: StandingOf;
  measures: Pick<Measures, 'throttle' | 'hold' | 'suspend' | 'personActedAt'>;
  /** What is not given has its default. */
  figures?: Partial<GuardFigures>;
  now: () => number;
  log: Logger;
};

type Breaker = 'velocity' | 'unknown-users' | 'door';

const dayMs = 86_400_000;
const hourMs = 3_600_000;
const fiveMinutesMs = 5 * 60_000;

export class Guard {
  readonly #options: GuardOptions;
  readonly #figures: GuardFigures;
  readonly #trips: Database.Statement;
  readonly #isMember: Database.Statement;
  /** By member: recipients attempted in the running five minutes of the clock and in those before. */
  readonly #paces = new Map<string, { limit: number; before: number; now: number }>();
  #block = 0;

  constructor(options: GuardOptions) {
    this.#options = options;
    this.#figures = { ...defaultGuardFigures, ...options.figures };
    this.#isMember = options.db.prepare('SELECT 1 FROM member WHERE did = ?');
    this.#trips = options.db.prepare(
      `SELECT count(*) AS trips FROM event WHERE did = ? AND at BETWEEN ? AND ? AND type = 'staff_act'
       AND detail->>'breaker' = ?`,
    );
  }

  /** Everyone who sent in the last hour: a crash may have come before their figures were looked at. */
  start(): void {
    if (!this.#figures.enabled) return;
    for (const did of this.#options.rates.active(this.#options.now() - hourMs)) {
      if (!this.#isMember.get(did)) continue;
      this.#lookAtVelocity(did);
      this.#lookAtUnknownUsers(did);
    }
  }

  /** After the commit of these events. */
  examine(events: readonly Event[]): void {
    if (!this.#figures.enabled) return;
    const attempting = new Set<string>();
    const failing = new Set<string>();
    for (const { type, did, detail } of events) {
      if (detail.simulated === true) continue;
      if (type === 'relay_attempt' && this.#mayBeFast(did, Number(detail.recipients ?? 1)))
        attempting.add(did);
      else if (type === 'delivery_result' && detail.recipientInvalid === true) failing.add(did);
    }
    for (const did of attempting) this.#lookAtVelocity(did);
    for (const did of failing) if (this.#isMember.get(did)) this.#lookAtUnknownUsers(did);
  }

  /** A rough count in memory, never below the true one, so that the exact one is asked for only near the limit. */
  #mayBeFast(did: string, recipients: number): boolean {
    const block = Math.floor(this.#options.now() / fiveMinutesMs);
    if (block !== this.#block) this.#turn(block);
    let pace = this.#paces.get(did);
    if (!pace) {
      if (!this.#isMember.get(did)) return false;
      const { standingOf, rates } = this.#options;
      const limit = this.#figures.velocityFactor * standingOf(did).caps.perHour;
      pace = { limit, before: rates.of({ did, window: '10m' }).attempted, now: 0 };
      this.#paces.set(did, pace);
    }
    pace.now += recipients;
    return pace.before + pace.now > pace.limit;
  }

  /** What was counted in the five minutes before last is no part of the last five. */
  #turn(block: number): void {
    const isNext = block === this.#block + 1;
    this.#block = block;
    // Read anew: the limit may have changed.
    const old = [...this.#paces];
    this.#paces.clear();
    if (!isNext) return;
    for (const [did, { limit, now }] of old)
      if (now > 0) this.#paces.set(did, { limit, before: now, now: 0 });
  }

  #lookAtVelocity(did: string): void {
    const { velocityFactor, throttleForMs } = this.#figures;
    const { attempted } = this.#rates(did, '5m');
    const standing = this.#options.standingOf(did);
    // Of one who is throttled the caps are lower, and nothing is left to do here.
    if (standing.state !== 'active' && standing.state !== 'probation') return;
    const limit = velocityFactor * standing.caps.perHour;
    if (attempted <= limit) return;
    const reason = `${attempted} recipients were attempted within 5 minutes; ${limit} is the limit (${velocityFactor} × the ${standing.caps.perHour} an hour of the tier ${standing.tier}).`;
    const until = this.#options.now() + throttleForMs;
    const evidence = { breaker: 'velocity', attempted, limit, window: '5m' };
    const measure = { did, reason, until, by: 'automatic', actor: 'guard', evidence } as const;
    this.#log('velocity', did, reason, this.#options.measures.throttle(measure));
  }

  #lookAtUnknownUsers(did: string): void {
    const hour = this.#rates(did, '1h');
    const { unknownUsers, unknownUsersShare, invalidSends, invalidShare } = this.#figures;
    const sent = sendsOf(hour);
    if (sent >= invalidSends && hour.unknownUsers >= invalidShare * sent) {
      const words = `${percent(invalidShare)} of at least ${invalidSends} is the limit`;
      this.#suspend(did, hour, '1h', words);
      return;
    }
    const recent = this.#rates(did, '10m');
    const isMany = recent.unknownUsers >= unknownUsers;
    if (!isMany || recent.unknownUsers < unknownUsersShare * sendsOf(recent)) return;
    // What was in flight when it tripped is not a second time.
    if (holding.includes(this.#options.standingOf(did).state)) return;
    const words = `${unknownUsers} and ${percent(unknownUsersShare)} are the limit`;
    if (this.#tripsOf(did, 'unknown-users') > 0) {
      this.#suspend(did, recent, '10m', `${words}, and this is the second time in 24 hours`);
      return;
    }
    const reason = describe(recent, '10m', words);
    const outcome = this.#options.measures.hold(measureOf(did, reason, 'unknown-users', recent, '10m'));
    this.#log('unknown-users', did, reason, outcome);
  }

  #suspend(did: string, figures: RateFigures, window: '10m' | '1h', words: string): void {
    const reason = describe(figures, window, words);
    const outcome = this.#options.measures.suspend(measureOf(did, reason, 'door', figures, window));
    this.#log('door', did, reason, outcome);
  }

  #rates(did: string, window: RateWindow): RateFigures {
    return this.#options.rates.of({ did, window, notBefore: this.#options.measures.personActedAt(did) });
  }

  #tripsOf(did: string, breaker: Breaker): number {
    const now = this.#options.now();
    return (this.#trips.get(did, now - dayMs, now, breaker) as { trips: number }).trips;
  }

  /** What a person decided, or had been done already, is no news. */
  #log(breaker: Breaker, did: string, reason: string, outcome: MeasureOutcome): void {
    if (outcome === 'done') this.#options.log.warn({ did, breaker, reason }, 'the guard acted');
  }
}

/** Sends of a window: of a backlog that is tried now, the acceptance lies before it and the end within. */
function sendsOf({ sends, delivered, bounced }: RateFigures): number {
  return Math.max(sends, delivered + bounced);
}

function measureOf(did: string, reason: string, breaker: Breaker, figures: RateFigures, window: string) {
  const { unknownUsers } = figures;
  const evidence = { breaker, unknownUsers, sends: sendsOf(figures), window };
  return { did, reason, by: 'automatic', actor: 'guard', evidence } as const;
}

function describe(figures: RateFigures, window: '10m' | '1h', words: string): string {
  const sent = sendsOf(figures);
  const share = percent(figures.unknownUsers / Math.max(sent, 1));
  const time = { '10m': '10 minutes', '1h': 'an hour' }[window];
  return `${figures.unknownUsers} of ${sent} recipients (${share}) within ${time} do not exist; ${words}.`;
}

function percent(share: number): string {
  return `${Math.round(share * 1000) / 10} %`;
}
