/**
 * The account whose repo holds our declarations: its PDS and an app password, sealed in node.db.
 *
 * Promise: the password is bound to its DID and opens with state/keys/seal.key alone. It is an app password:
 * whoever has it can write records and can change neither the identity nor the account's own password, and
 * the account's owner can revoke it.
 */
import type { Database } from '../../appview/database.ts';
import type { Seal } from '../members/seal.ts';

export type RepoAccount = { did: string; pds: string; appPassword: string };

export const repoAccountSchema = `
  -- The account of a did:plc cooperative, in whose repo its declarations stand.
  CREATE TABLE repo_account (
    did TEXT PRIMARY KEY,
    pds TEXT NOT NULL,              -- base URL without a path
    app_password BLOB NOT NULL,     -- sealed with state/keys/seal.key
    added_at INTEGER NOT NULL       -- Unix ms
  ) STRICT;
`;

export class RepoAccounts {
  readonly #seal: Seal;
  readonly #now: () => number;
  readonly #db: Database.Database;

  constructor(o: { db: Database.Database; seal: Seal; now: () => number }) {
    this.#db = o.db;
    this.#seal = o.seal;
    this.#now = o.now;
  }

  /** @throws CorruptState when the password does not open */
  get(did: string): RepoAccount | undefined {
    const row = this.#db.prepare('SELECT pds, app_password FROM repo_account WHERE did = ?').get(did) as
      | { pds: string; app_password: Buffer }
      | undefined;
    if (!row) return undefined;
    const opened = this.#seal.open(Buffer.from(row.app_password), purposeOf(did));
    return { did, pds: row.pds, appPassword: opened.toString('utf8') };
  }

  /** In place of what was there. */
  keep({ did, pds, appPassword }: RepoAccount): void {
    this.#db
      .prepare(
        `INSERT INTO repo_account (did, pds, app_password, added_at) VALUES (?, ?, ?, ?)
         ON CONFLICT (did) DO UPDATE SET
           pds = excluded.pds, app_password = excluded.app_password, added_at = excluded.added_at`,
      )
      .run(did, pds, this.#seal.close(Buffer.from(appPassword), purposeOf(did)), this.#now());
  }

  /** @returns false where there was none */
  forget(did: string): boolean {
    return this.#db.prepare('DELETE FROM repo_account WHERE did = ?').run(did).changes > 0;
  }
}

function purposeOf(did: string): string {
  return `repo_account ${did}`;
}
