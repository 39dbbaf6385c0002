/**
 * How many recipients each scope accepted, against its caps.
 *
 * The hour is a token bucket: `perHour` accrue an hour, `burst` at most are saved up. Kept is its debt, how
 * far it is below full, which depends on no burst. The day is the sum of the last 23 hours, so that mail
 * with a daily rhythm, some minutes earlier than the day before, finds room. Both stand in minute buckets
 * inside the message's own transaction, so a crash neither loses a count nor counts a message that was not
 * stored. A clock that steps back only makes the caps stricter: what lies in the future counts as present.
 */
import type { Database } from '../../appview/database.ts';
import type { Budget, Cap } from './message.ts';

const minuteMs = 60_000;
const hourMinutes = 60;
const dayMinutes = 23 * hourMinutes;
const keptMinutes = 48 * hourMinutes;
const maxRemembered = 10_000;
/** Of what accrues in a minute. */
const rounding = 1e-6;

type Statement = Database.Statement<unknown[]>;
/** `day`: before `minute`; `current`: in it; `debt`: now. */
type Tally = { scope: string; minute: number; day: number; current: number; debt: number };

export class Usage {
  readonly #last: Statement;
  readonly #sums: Statement;
  readonly #write: Statement;
  readonly #freed: Statement;
  readonly #hour: Statement;
  readonly #trim: Statement;
  /** One query a scope and minute instead of one a message. */
  readonly #tallies = new Map<string, Tally>();
  /** Counted, not yet written. */
  readonly #changed = new Set<Tally>();

  constructor(db: Database.Database) {
    this.#last = db.prepare('SELECT minute, debt FROM usage WHERE scope = ? ORDER BY minute DESC LIMIT 1');
    this.#sums = db.prepare(`
      SELECT COALESCE(SUM(recipients) FILTER (WHERE minute < ?2), 0) AS day,
        COALESCE(SUM(recipients) FILTER (WHERE minute = ?2), 0) AS current
      FROM usage WHERE scope = ?1 AND minute > ?2 - ${dayMinutes}`);
    this.#write = db.prepare(`
      INSERT INTO usage (scope, minute, recipients, debt) VALUES (?, ?, ?, ?)
      ON CONFLICT (scope, minute) DO UPDATE SET recipients = excluded.recipients, debt = excluded.debt`);
    this.#freed = db.prepare(`
      SELECT minute FROM (SELECT minute, SUM(recipients) OVER (ORDER BY minute) AS sum
        FROM usage WHERE scope = ? AND minute > ?) WHERE sum >= ? ORDER BY minute LIMIT 1`);
    this.#hour = db.prepare(
      'SELECT COALESCE(SUM(recipients), 0) AS used FROM usage WHERE scope = ? AND minute > ?',
    );
    this.#trim = db.prepare('DELETE FROM usage WHERE minute < ?');
  }

  /** The first cap without room for `counted` (ids of recipients) at `at`, and when it has some. */
  exceeded(
    caps: readonly Cap[],
    counted: readonly string[],
    at: number,
  ): { cap: Cap; retryAt: number } | undefined {
    for (const cap of caps) {
      const wanted = share(cap, counted);
      const retryAt = wanted === 0 ? undefined : this.retryAt(cap, wanted, at);
      if (retryAt !== undefined) return { cap, retryAt };
    }
    return undefined;
  }

  /** When the cap has room for `wanted` more, Unix ms; undefined: it has it at `at`. */
  retryAt(cap: Cap, wanted: number, at: number): number | undefined {
    const tally = this.#tally(cap, at);
    const overHour = tally.debt + wanted > burstOf(cap) + rounding;
    const overDay = tally.day + tally.current + wanted > cap.perDay;
    if (!overHour && !overDay) return undefined;
    return Math.max(
      overHour ? hourHasRoomAt(tally, cap, wanted) : 0,
      overDay ? this.#dayHasRoomAt(tally, cap, wanted) : 0,
    );
  }

  /** Not written until flush(). */
  add(caps: readonly Cap[], counted: readonly string[], at: number): void {
    const done = new Set<string>();
    for (const cap of caps) {
      const wanted = share(cap, counted);
      if (wanted === 0 || done.has(cap.scope)) continue;
      done.add(cap.scope);
      const tally = this.#tally(cap, at);
      tally.current += wanted;
      tally.debt += wanted;
      this.#changed.add(tally);
    }
  }

  /** To be called in the transaction of what was added. */
  flush(): void {
    for (const { scope, minute, current, debt } of this.#changed)
      this.#write.run([scope, minute, current, debt]);
    this.#changed.clear();
  }

  /** To be called when a transaction that counted was rolled back. */
  forget(): void {
    this.#changed.clear();
    this.#tallies.clear();
  }

  budget(caps: readonly Cap[], at: number): Budget[] {
    return caps.map((cap) => {
      const { minute, day, current, debt } = this.#tally(cap, at);
      const { used } = this.#hour.get([cap.scope, minute - hourMinutes]) as { used: number };
      return {
        scope: cap.scope,
        hour: { used, left: Math.max(0, Math.floor(burstOf(cap) - debt + rounding)) },
        day: { used: day + current, left: Math.max(0, cap.perDay - day - current) },
      };
    });
  }

  trim(at: number): void {
    this.#trim.run(Math.floor(at / minuteMs) - keptMinutes);
  }

  #tally(cap: Cap, at: number): Tally {
    const minute = Math.floor(at / minuteMs);
    const known = this.#tallies.get(cap.scope);
    // One that is ahead of the clock stays, unless nothing was counted there: a restart would not know it.
    if (known && (known.minute === minute || (known.minute > minute && known.current > 0))) return known;
    this.flush();
    if (this.#tallies.size >= maxRemembered) this.#tallies.clear();
    const tally = this.#read(cap, minute);
    this.#tallies.set(cap.scope, tally);
    return tally;
  }

  #read({ scope, perHour }: Cap, now: number): Tally {
    const last = this.#last.get(scope) as { minute: number; debt: number } | undefined;
    const minute = Math.max(now, last?.minute ?? now);
    const { day, current } = this.#sums.get([scope, minute]) as { day: number; current: number };
    const accrued = last ? ((minute - last.minute) * perHour) / hourMinutes : 0;
    return { scope, minute, day, current, debt: Math.max(0, (last?.debt ?? 0) - accrued) };
  }

  #dayHasRoomAt({ scope, minute, day, current }: Tally, { perDay }: Cap, wanted: number): number {
    this.flush();
    const excess = day + current + Math.min(wanted, perDay) - perDay;
    const freed = this.#freed.get([scope, minute - dayMinutes, excess]) as { minute: number } | undefined;
    return ((freed?.minute ?? minute) + dayMinutes) * minuteMs;
  }
}

function share({ only }: Cap, counted: readonly string[]): number {
  if (only === undefined) return counted.length;
  return counted.includes(only) ? 1 : 0;
}

function burstOf({ burst, perHour }: Cap): number {
  return burst ?? perHour;
}

function hourHasRoomAt({ minute, debt }: Tally, cap: Cap, wanted: number): number {
  if (cap.perHour <= 0) return (minute + hourMinutes) * minuteMs;
  const burst = burstOf(cap);
  const excess = debt + Math.min(wanted, burst) - burst;
  return (minute + Math.max(1, Math.ceil((excess * hourMinutes) / cap.perHour - rounding))) * minuteMs;
}
