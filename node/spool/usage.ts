/**
 * How many recipients each scope accepted in the last hour and the last day.
 *
 * Counted in minute buckets inside the message's own transaction, so a crash neither loses a count nor
 * counts a message that was not stored. A clock that steps back only makes the caps stricter: buckets
 * that lie in the future count as present.
 */
import type { Database } from '../../appview/database.ts';
import type { Cap } from './message.ts';

const minuteMs = 60_000;
const keptMinutes = 48 * 60;
const maxRemembered = 10_000;

type Statement = Database.Statement<unknown[]>;
/** Sums before `minute`, and what came since. */
type Tally = { minute: number; hour: number; day: number; current: number };

export class Usage {
  readonly #sums: Statement;
  readonly #add: Statement;
  readonly #trim: Statement;
  /** One query a scope and minute instead of one a message. */
  readonly #tallies = new Map<string, Tally>();

  constructor(db: Database.Database) {
    this.#sums = db.prepare(`
      SELECT COALESCE(SUM(recipients) FILTER (WHERE minute > ?2 - 60), 0) AS hour, COALESCE(SUM(recipients), 0) AS day
      FROM usage WHERE scope = ?1 AND minute > ?2 - 1440`);
    this.#add = db.prepare(`
      INSERT INTO usage (scope, minute, recipients) VALUES (?, ?, ?)
      ON CONFLICT (scope, minute) DO UPDATE SET recipients = recipients + excluded.recipients`);
    this.#trim = db.prepare('DELETE FROM usage WHERE minute < ?');
  }

  /** The first cap without room for `recipients` more at `at`. */
  exceeded(caps: readonly Cap[], recipients: number, at: number): Cap | undefined {
    return caps.find((cap) => {
      const { hour, day, current } = this.#tally(cap.scope, at);
      return hour + current + recipients > cap.perHour || day + current + recipients > cap.perDay;
    });
  }

  add(caps: readonly Cap[], recipients: number, at: number): void {
    for (const scope of new Set(caps.map((cap) => cap.scope))) {
      const tally = this.#tally(scope, at);
      this.#add.run(scope, tally.minute, recipients);
      tally.current += recipients;
    }
  }

  /** To be called when a transaction that counted was rolled back. */
  forget(): void {
    this.#tallies.clear();
  }

  trim(at: number): void {
    this.#trim.run(Math.floor(at / minuteMs) - keptMinutes);
  }

  #tally(scope: string, at: number): Tally {
    const minute = Math.floor(at / minuteMs);
    const known = this.#tallies.get(scope);
    if (known?.minute === minute) return known;
    if (this.#tallies.size >= maxRemembered) this.#tallies.clear();
    const { hour, day } = this.#sums.get(scope, minute) as { hour: number; day: number };
    const tally = { minute, hour, day, current: 0 };
    this.#tallies.set(scope, tally);
    return tally;
  }
}
