/**
 * API keys: made, looked up and revoked. Shown once, bcrypt at rest.
 *
 * A key names its own row (`atmos_<id>_<secret>`), so one login costs exactly one bcrypt however many
 * keys a member has, and the same for a key that does not exist (authenticate.ts).
 */
import { randomBytes } from 'node:crypto';
import { hash } from '@node-rs/bcrypt';
import type { Database } from '../../appview/database.ts';
import type { Category } from './category.ts';

export type ApiKeyRow = {
  id: string;
  did: string;
  name: string;
  defaultCategory: Category | null;
  /** Unix ms. */
  createdAt: number;
  lastUsedAt: number | null;
  revokedAt: number | null;
};

/** What authentication needs of a live key: its hash, and who may use it. */
export type KeyCredential = {
  keyId: string;
  did: string;
  handle: string | null;
  hash: string;
  defaultCategory: Category | null;
};

// bcrypt reads 72 bytes: `atmos_` + 16 + `_` + 43 are 66, so no byte of a key is beyond its sight.
const shape = /^atmos_([a-f0-9]{16})_[A-Za-z0-9_-]{43}$/;

/** @returns the id inside a well-formed key */
export function keyIdOf(key: string): string | undefined {
  return shape.exec(key)?.[1];
}

type Statement = Database.Statement<unknown[]>;

export class ApiKeys {
  readonly #db: Database.Database;
  readonly #now: () => number;
  readonly #bcryptCost: number;
  readonly #credential: Statement;
  readonly #markUsed: Statement;

  /** @param bcryptCost 4–31; 10 is about 45 ms */
  constructor(o: { db: Database.Database; now: () => number; bcryptCost: number }) {
    this.#db = o.db;
    this.#now = o.now;
    this.#bcryptCost = o.bcryptCost;
    // Asked at every login and every message, so prepared once.
    this.#credential = o.db.prepare(
      `SELECT k.id AS keyId, k.did, m.handle, k.hash, k.default_category AS defaultCategory
       FROM api_key k JOIN member m ON m.did = k.did WHERE k.id = ? AND k.revoked_at IS NULL`,
    );
    this.#markUsed = o.db.prepare('UPDATE api_key SET last_used_at = ? WHERE id = ?');
  }

  /** @returns the key itself, for the only time: what is stored cannot bring it back */
  async issue(did: string, name: string, category?: Category): Promise<{ id: string; key: string }> {
    const id = randomBytes(8).toString('hex');
    const key = `atmos_${id}_${randomBytes(32).toString('base64url')}`;
    const hashed = await hash(key, this.#bcryptCost);
    this.#db
      .prepare(
        'INSERT INTO api_key (id, did, name, hash, default_category, created_at) VALUES (?, ?, ?, ?, ?, ?)',
      )
      .run(id, did, name, hashed, category ?? null, this.#now());
    return { id, key };
  }

  /** @returns false when the member has no such live key */
  revoke(did: string, id: string): boolean {
    const { changes } = this.#db
      .prepare('UPDATE api_key SET revoked_at = ? WHERE id = ? AND did = ? AND revoked_at IS NULL')
      .run(this.#now(), id, did);
    return changes === 1;
  }

  /** Newest first, revoked ones included, hashes never. */
  of(did: string): ApiKeyRow[] {
    return this.#db
      .prepare(
        `SELECT id, did, name, default_category AS defaultCategory, created_at AS createdAt,
                last_used_at AS lastUsedAt, revoked_at AS revokedAt
         FROM api_key WHERE did = ? ORDER BY created_at DESC, id`,
      )
      .all(did) as ApiKeyRow[];
  }

  /** @returns undefined for an unknown or revoked key */
  credential(id: string): KeyCredential | undefined {
    return this.#credential.get(id) as KeyCredential | undefined;
  }

  markUsed(id: string): void {
    this.#markUsed.run(this.#now(), id);
  }
}
