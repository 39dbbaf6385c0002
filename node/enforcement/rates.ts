/**
 * Window counters of a member's mail, by domain and provider.
 *
 * Promise: an event is counted in the commit that stores it, so exactly once. A recipient that does not exist
 * counts once in 7 days, one that complains once in 30, however often it was written to. Simulated mail
 * counts nowhere, nor what ended unsent because its recipient is on the list. Minute buckets live 48 h and then become part of the daily sums, which live 13 months, and of
 * the totals, which live as long as the member: an event costs one row, and a sum adds what is still in minutes.
 *
 * Limits: windows up to a day end with the running minute and are whole minutes; the others are days of UTC,
 * today included. A domain has at most 100 providers a day by name, the rest together are `other`.
 */
import { createHash } from 'node:crypto';
import type { Database } from '../../appview/database.ts';
import type { Event } from './events.ts';

export type RateWindow = '5m' | '10m' | '1h' | '24h' | '7d' | '14d' | '30d' | 'total';

export type RateFigures = {
  /**
   * Recipients accepted. With a provider: those that ended there, since nobody knows a recipient's provider
   * before the first try.
   */
  sends: number;
  /** Recipients refused because of a cap. */
  refused: number;
  /** `sends` + `refused`. */
  attempted: number;
  delivered: number;
  /** Tries that ended with a later one. */
  deferred: number;
  bounced: number;
  /** Recipients that a server refused as not existing, in the session itself; one recipient counts once. */
  unknownUsers: number;
  /** Recipient-invalid bounces, those that were reported later too; one recipient counts once. */
  recipientInvalid: number;
  complaints: number;
  unsubscribes: number;
};

export type RatesOf = (query: {
  did: string;
  domain?: string;
  /** The MX site. Not with `total`. */
  provider?: string;
  window: RateWindow;
  /** Unix ms; only whole buckets after it count. */
  notBefore?: number;
}) => RateFigures;

const columns = [
  'sends',
  'refused',
  'delivered',
  'deferred',
  'bounced',
  'unknown_users',
  'reported_invalid',
  'complaints',
  'unsubscribes',
] as const;
type Column = (typeof columns)[number];
/** Figures in the order of `columns`. */
type Sums = number[];

const minuteMs = 60_000;
const dayMs = 86_400_000;
const minutesOfDay = 1_440;
const windowMinutes = { '5m': 5, '10m': 10, '1h': 60, '24h': 1440 } as const;
const windowDays = { '7d': 7, '14d': 14, '30d': 30 } as const;

const keptMinutes = 48 * 60;
/** 13 months. */
const keptDays = 397;
const removedAtOnce = 5_000;
const minutesAtOnce = 10;
/** Rows of one INSERT: crossing into SQLite costs more than the row. */
const rowsAtOnce = 20;
const countedAgainMs = { invalid: 7 * dayMs, complaint: 30 * dayMs } as const;
const maxProviders = 100;
/** Domains whose providers of the day are remembered; others are read again. */
const maxRemembered = 5_000;

export class Rates {
  readonly #now: () => number;
  readonly #sql: ReturnType<typeof prepareAll>;
  readonly #providers = new Map<string, { day: number; known: Set<string> }>();

  /** @param o.db node.db */
  constructor(o: { db: Database.Database; now: () => number }) {
    this.#now = o.now;
    this.#sql = prepareAll(o.db);
  }

  /** @throws RangeError for a total by provider: only windows have providers */
  readonly of: RatesOf = ({ did, domain, provider, window, notBefore = 0 }) => {
    const filter = [domain ?? null, provider ?? null];
    if (window === 'total') {
      if (provider !== undefined) throw new RangeError('totals are not kept by provider');
      const row = this.#sql.total.get([did, filter[0]]);
      return figures(added(row, this.#minutes(did, 0, Number.MAX_SAFE_INTEGER, filter)), false);
    }
    const minute = Math.floor(this.#now() / minuteMs);
    if (window in windowMinutes) {
      const first = minute - windowMinutes[window as '5m'] + 1;
      const from = Math.max(first, Math.floor(notBefore / minuteMs) + 1);
      return figures(this.#minutes(did, from, minute, filter), provider !== undefined);
    }
    const day = Math.floor(this.#now() / dayMs);
    const first = day - windowDays[window as '7d'] + 1;
    const from = Math.max(first, Math.floor(notBefore / dayMs) + 1);
    const row = this.#sql.days.get([did, from, day, ...filter]);
    const rest = this.#minutes(did, from * minutesOfDay, minute, filter);
    return figures(added(row, rest), provider !== undefined);
  };

  /** Those that a member's mail met within the window, busiest first. */
  readonly providersOf = (did: string, window: '7d' | '14d' | '30d'): string[] => {
    const today = Math.floor(this.#now() / dayMs);
    const rows = this.#sql.busiest.all([did, today - windowDays[window] + 1, today]) as {
      provider: string;
    }[];
    return rows.map(({ provider }) => provider);
  };

  /** Members with anything counted since then. @param since Unix ms */
  active(since: number): string[] {
    const rows = this.#sql.active.all(Math.floor(since / minuteMs)) as { did: string }[];
    return rows.map(({ did }) => did);
  }

  /** In the transaction that stores the events, each of them new. */
  project(events: readonly Event[]): void {
    const minutes = new Map<string, Counted>();
    for (const event of events) {
      if (event.detail.simulated === true || event.detail.suppressed === true) continue;
      for (const [column, by] of this.#countsOf(event)) this.#add(minutes, event, column, by);
    }
    const rows = [...minutes.values()].map(({ did, minute, domain, provider, sums }) => {
      return [did, minute, domain, provider, ...sums];
    });
    let from = 0;
    for (; from + rowsAtOnce <= rows.length; from += rowsAtOnce)
      this.#sql.addMinutes.run(rows.slice(from, from + rowsAtOnce).flat());
    for (; from < rows.length; from++) this.#sql.addMinute.run(rows[from]!);
  }

  /**
   * Sums up what is past its time, and removes it: some minutes, a bounded number of other rows.
   *
   * @returns whether there may be more
   */
  housekeep(): boolean {
    const now = this.#now();
    const minute = Math.floor(now / minuteMs);
    const isBehind = this.#sumUp(minute - keptMinutes);
    const removed = [
      // Beyond tomorrow: written by a clock that ran ahead.
      this.#sql.trimMinutes.run([minute + keptMinutes, removedAtOnce]),
      this.#sql.trimDays.run([Math.floor(now / dayMs) - keptDays, removedAtOnce]),
      this.#sql.trimCounted.run([now - countedAgainMs.complaint, removedAtOnce]),
    ];
    return isBehind || removed.some(({ changes }) => changes >= removedAtOnce);
  }

  /** @param end the first minute that stays */
  #sumUp(end: number): boolean {
    const { oldest } = this.#sql.oldestMinute.get() as { oldest: number | null };
    if (oldest === null || oldest >= end) return false;
    const until = Math.min(end, oldest + minutesAtOnce);
    this.#sql.minutesToDays.run([until]);
    this.#sql.minutesToTotals.run([until]);
    this.#sql.removeMinutes.run([until]);
    return until < end;
  }

  #minutes(did: string, from: number, to: number, filter: (string | null)[]): unknown {
    return this.#sql.minutes.get([did, from, to, ...filter]);
  }

  #countsOf(event: Event): [Column, number][] {
    const { detail } = event;
    switch (event.type) {
      case 'relay_attempt':
        return detail.refused === undefined ? one('sends') : [['refused', positive(detail.recipients)]];
      case 'delivery_result':
        return this.#resultCounts(event);
      case 'bounce_received':
        return detail.recipientInvalid === true && this.#isFirst(event, 'invalid')
          ? one('reported_invalid')
          : [];
      case 'complaint_received':
        return this.#isFirst(event, 'complaint') ? one('complaints') : [];
      case 'unsubscribe':
        return one('unsubscribes');
      default:
        return [];
    }
  }

  #resultCounts(event: Event): [Column, number][] {
    const { state, recipientInvalid } = event.detail;
    if (state === 'sent') return one('delivered');
    if (state === 'deferred') return one('deferred');
    if (state !== 'bounced') return [];
    const isUnknown = recipientInvalid === true && this.#isFirst(event, 'invalid');
    return isUnknown ? [...one('bounced'), ['unknown_users', 1]] : one('bounced');
  }

  /** Within the days in which a recipient of this member is not counted again. */
  #isFirst({ did, detail, recipientId, at }: Event, kind: keyof typeof countedAgainMs): boolean {
    const recipient = typeof detail.recipient === 'string' ? detail.recipient.toLowerCase() : recipientId;
    if (recipient === undefined) return true;
    const hash = createHash('sha256').update(recipient).digest().subarray(0, 12);
    return this.#sql.countOnce.run([did, kind, hash, at, countedAgainMs[kind]]).changes > 0;
  }

  #add(into: Map<string, Counted>, event: Event, column: Column, by: number): void {
    const { did, domain = '', detail } = event;
    const minute = Math.floor(event.at / minuteMs);
    const site = typeof detail.site === 'string' ? detail.site : '';
    const provider = site === '' ? '' : this.#providerOf(did, domain, dayOf(minute), site);
    const key = `${did}\n${minute}\n${domain}\n${provider}`;
    let counted = into.get(key);
    if (!counted) {
      counted = { did, minute, domain, provider, sums: columns.map(() => 0) };
      into.set(key, counted);
    }
    counted.sums[columns.indexOf(column)]! += by;
  }

  #providerOf(did: string, domain: string, day: number, site: string): string {
    const key = `${did}\n${domain}`;
    let today = this.#providers.get(key);
    if (today?.day !== day) {
      const first = day * minutesOfDay;
      const rows = this.#sql.providers.all([did, first, first + minutesOfDay - 1, domain]) as {
        provider: string;
      }[];
      today = { day, known: new Set(rows.map(({ provider }) => provider)) };
      if (this.#providers.size >= maxRemembered) this.#providers.clear();
      this.#providers.set(key, today);
    }
    if (today.known.has(site)) return site;
    if (today.known.size >= maxProviders) return 'other';
    today.known.add(site);
    return site;
  }
}

type Counted = { did: string; minute: number; domain: string; provider: string; sums: Sums };

function one(column: Column): [Column, number][] {
  return [[column, 1]];
}

function positive(count: unknown): number {
  return Number.isSafeInteger(count) && (count as number) > 0 ? (count as number) : 1;
}

function dayOf(minute: number): number {
  return Math.floor(minute / minutesOfDay);
}

/** Of two rows of sums; one that found nothing has nulls. */
function added(one: unknown, other: unknown): Partial<Record<Column, number>> {
  const [a, b] = [one, other] as Partial<Record<Column, number | null>>[];
  return Object.fromEntries(columns.map((name) => [name, (a?.[name] ?? 0) + (b?.[name] ?? 0)]));
}

function figures(row: unknown, byProvider: boolean): RateFigures {
  const found = (row ?? {}) as Partial<Record<Column, number | null>>;
  const of = (column: Column) => found[column] ?? 0;
  const sends = byProvider ? of('delivered') + of('bounced') : of('sends');
  return {
    sends,
    refused: of('refused'),
    attempted: sends + of('refused'),
    delivered: of('delivered'),
    deferred: of('deferred'),
    bounced: of('bounced'),
    unknownUsers: of('unknown_users'),
    recipientInvalid: of('unknown_users') + of('reported_invalid'),
    complaints: of('complaints'),
    unsubscribes: of('unsubscribes'),
  };
}

function prepareAll(db: Database.Database) {
  const names = columns.join(', ');
  const sums = columns.map((name) => `sum(${name}) AS ${name}`).join(', ');
  const onConflict = `ON CONFLICT DO UPDATE SET ${columns.map((name) => `${name} = ${name} + excluded.${name}`).join(', ')}`;
  const window = (table: string, bucket: string) =>
    db.prepare(
      `SELECT ${sums} FROM ${table} WHERE did = ?1 AND ${bucket} BETWEEN ?2 AND ?3
       AND (?4 IS NULL OR domain = ?4) AND (?5 IS NULL OR provider = ?5)`,
    );
  const row = `(${Array.from({ length: 4 + columns.length }, () => '?').join(', ')})`;
  const addMinutes = (rows: number) =>
    db.prepare(
      `INSERT INTO rate_minute (did, minute, domain, provider, ${names})
       VALUES ${Array.from({ length: rows }, () => row).join(', ')} ${onConflict}`,
    );
  return {
    minutes: window('rate_minute', 'minute'),
    days: window('rate_day', 'day'),
    total: db.prepare(`SELECT ${sums} FROM rate_total WHERE did = ?1 AND (?2 IS NULL OR domain = ?2)`),
    busiest: db.prepare(
      `SELECT provider FROM (
         SELECT provider, delivered + deferred + bounced AS met FROM rate_day WHERE did = ?1 AND day >= ?2
         UNION ALL
         SELECT provider, delivered + deferred + bounced FROM rate_minute WHERE did = ?1 AND minute >= ?3)
       WHERE provider <> '' GROUP BY provider ORDER BY sum(met) DESC, provider LIMIT ${maxProviders}`,
    ),
    active: db.prepare('SELECT DISTINCT did FROM rate_minute WHERE minute >= ?'),
    providers: db.prepare(
      `SELECT DISTINCT provider FROM rate_minute
       WHERE did = ? AND minute BETWEEN ? AND ? AND domain = ? AND provider NOT IN ('', 'other')`,
    ),
    addMinute: addMinutes(1),
    addMinutes: addMinutes(rowsAtOnce),
    countOnce: db.prepare(
      `INSERT INTO counted_recipient (did, kind, hash, at) VALUES (?1, ?2, ?3, ?4)
       ON CONFLICT DO UPDATE SET at = excluded.at WHERE excluded.at - at >= ?5`,
    ),
    oldestMinute: db.prepare('SELECT min(minute) AS oldest FROM rate_minute'),
    minutesToDays: db.prepare(
      `INSERT INTO rate_day (did, day, domain, provider, ${names})
       SELECT did, minute / ${minutesOfDay} AS day, domain, provider, ${sums} FROM rate_minute WHERE minute < ?1
       GROUP BY did, minute / ${minutesOfDay}, domain, provider ${onConflict}`,
    ),
    minutesToTotals: db.prepare(
      `INSERT INTO rate_total (did, domain, ${names})
       SELECT did, domain, ${sums} FROM rate_minute WHERE minute < ?1 GROUP BY did, domain ${onConflict}`,
    ),
    removeMinutes: db.prepare('DELETE FROM rate_minute WHERE minute < ?'),
    trimMinutes: db.prepare(
      `DELETE FROM rate_minute WHERE (did, minute, domain, provider) IN
         (SELECT did, minute, domain, provider FROM rate_minute WHERE minute > ?1 LIMIT ?2)`,
    ),
    trimDays: db.prepare(
      `DELETE FROM rate_day WHERE (did, day, domain, provider) IN
         (SELECT did, day, domain, provider FROM rate_day WHERE day < ?1 LIMIT ?2)`,
    ),
    trimCounted: db.prepare(
      `DELETE FROM counted_recipient WHERE (did, kind, hash) IN
         (SELECT did, kind, hash FROM counted_recipient WHERE at < ?1 LIMIT ?2)`,
    ),
  };
}
