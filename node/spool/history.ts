/** Finished messages are forgotten when their retention is over, a few in each commit. */
import type { Database } from '../../appview/database.ts';
import { recipientsPerMessage } from './ids.ts';

/** So that no commit becomes slow; the next one goes on. */
const removedAtOnce = 200;

type Statement = Database.Statement<unknown[]>;

export class History {
  readonly #retainMs: number;
  readonly #old: Statement;
  readonly #removals: { statement: Statement; isOfRecipients: boolean }[];

  constructor(db: Database.Database, retainMs: number) {
    this.#retainMs = retainMs;
    this.#old = db.prepare(
      `SELECT seq FROM message WHERE finished_at < ? ORDER BY finished_at LIMIT ${removedAtOnce}`,
    );
    this.#removals = [
      { statement: db.prepare('DELETE FROM history WHERE recipient BETWEEN ? AND ?'), isOfRecipients: true },
      { statement: db.prepare('DELETE FROM recipient WHERE seq BETWEEN ? AND ?'), isOfRecipients: true },
      { statement: db.prepare('DELETE FROM message WHERE seq BETWEEN ? AND ?'), isOfRecipients: false },
    ];
  }

  /** @returns whether more is left to remove */
  trim(at: number): boolean {
    const rows = this.#old.all(at - this.#retainMs) as { seq: number }[];
    for (const { seq } of rows) {
      const first = seq * recipientsPerMessage;
      for (const { statement, isOfRecipients } of this.#removals)
        statement.run(isOfRecipients ? [first, first + recipientsPerMessage - 1] : [seq, seq]);
    }
    return rows.length === removedAtOnce;
  }
}
