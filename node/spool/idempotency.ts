/** The answers of requests that brought a key: 24 hours from their commit, the same request gets the same again. */
import type { Database } from '../../appview/database.ts';

const keptMs = 24 * 60 * 60_000;
const removedAtOnce = 1_000;

type Statement = Database.Statement<unknown[]>;

export type Known = { kind: 'repeated'; answer: string } | { kind: 'key-reused' };

export class Answers {
  readonly #find: Statement;
  readonly #store: Statement;
  readonly #trim: Statement;

  constructor(db: Database.Database) {
    this.#find = db.prepare(
      'SELECT fingerprint, answer FROM idempotency WHERE did = ? AND key = ? AND at > ?',
    );
    this.#store = db.prepare(
      'INSERT OR REPLACE INTO idempotency (did, key, fingerprint, answer, at) VALUES (?, ?, ?, ?, ?)',
    );
    this.#trim = db.prepare(`
      DELETE FROM idempotency WHERE rowid IN
        (SELECT rowid FROM idempotency WHERE at <= ? ORDER BY at LIMIT ${removedAtOnce})`);
  }

  find(did: string, key: string, fingerprint: string, at: number): Known | undefined {
    const row = this.#find.get([did, key, at - keptMs]) as
      | { fingerprint: string; answer: string }
      | undefined;
    if (!row) return undefined;
    return row.fingerprint === fingerprint
      ? { kind: 'repeated', answer: row.answer }
      : { kind: 'key-reused' };
  }

  store(did: string, key: string, fingerprint: string, answer: string, at: number): void {
    this.#store.run([did, key, fingerprint, answer, at]);
  }

  /** @returns whether more are left to remove */
  trim(at: number): boolean {
    return this.#trim.run(at - keptMs).changes === removedAtOnce;
  }
}
