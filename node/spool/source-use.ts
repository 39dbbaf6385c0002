/** What our source addresses sent to each provider, day by day: for the warming of new ones. */
import type { Database } from '../../appview/database.ts';
import type { SourceUse } from './selection.ts';

const dayMs = 24 * 60 * 60_000;
const keptDays = 8;
const maxRows = 10_000;

type Statement = Database.Statement<unknown[]>;
type Sent = { source: string; provider: string; day: number; at: number; sent: number };

export class SourceCounts {
  readonly #first: Statement;
  readonly #add: Statement;
  readonly #trim: Statement;
  readonly #list: Statement;
  /** One row a transaction, not one a message. */
  readonly #counted = new Map<string, Sent>();

  constructor(db: Database.Database) {
    this.#first = db.prepare('INSERT OR IGNORE INTO source (address, first_at) VALUES (?, ?)');
    this.#add = db.prepare(`
      INSERT INTO source_use (day, source, provider, sent) VALUES (?, ?, ?, ?)
      ON CONFLICT (day, source, provider) DO UPDATE SET sent = sent + excluded.sent`);
    this.#trim = db.prepare('DELETE FROM source_use WHERE day < ?');
    this.#list = db.prepare(`
      SELECT u.source, s.first_at AS firstAt, u.provider, u.day, u.sent
      FROM source_use u JOIN source s ON s.address = u.source
      ORDER BY u.day DESC, u.source, u.provider LIMIT ${maxRows}`);
  }

  count(source: string, provider: string, at: number): void {
    const day = Math.floor(at / dayMs);
    const key = `${day} ${source} ${provider}`;
    const sent = this.#counted.get(key);
    if (sent) sent.sent += 1;
    else this.#counted.set(key, { source, provider, day, at, sent: 1 });
  }

  /** To be called in the transaction of what was counted. */
  flush(): void {
    for (const { source, provider, day, at, sent } of this.#counted.values()) {
      this.#first.run([source, at]);
      this.#add.run([day, source, provider, sent]);
    }
    this.#counted.clear();
  }

  /** To be called when a transaction that counted was rolled back. */
  forget(): void {
    this.#counted.clear();
  }

  trim(at: number): void {
    this.#trim.run(Math.floor(at / dayMs) - keptDays);
  }

  list(): SourceUse[] {
    return this.#list.all() as SourceUse[];
  }
}
