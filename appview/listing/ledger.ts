/**
 * First sights: since when we have seen each label's unbroken chain.
 *
 * Promise: an age here is never older than our own first sight, whatever a cts says, and it survives
 * the AppView: a rebuild replays old labels, and what is older than the chain's newest label is then
 * known as history and changes nothing. ledger.db is in the backup and is never rebuilt.
 *
 * A chain is broken by a negation, by an exp that passed before the next label was made, or when the issuer
 * serves the label no more. A negation under a key that may be taken back breaks it only when the label comes
 * again: forgotten with its key, it has never been.
 */
import { attestedDomain } from '../attestation-uri.ts';
import { type Database, transaction } from '../database.ts';
import type { SignedLabel } from '../labels/codec.ts';
import type { StoredLabel } from '../labels/store.ts';

type Row = { at: number; latest_at: number; expires_at: number | null };

export class Ledger {
  readonly #db: Database.Database;
  readonly #now: () => number;
  readonly #sql: ReturnType<typeof prepare>;

  constructor(options: { db: Database.Database; now: () => number }) {
    this.#db = options.db;
    this.#now = options.now;
    this.#sql = prepare(options.db);
  }

  /** Takes note of labels that became current, in order; one commit. Only those on attestations can ever vote. */
  observe(applied: readonly StoredLabel[]): void {
    const relevant = applied.filter(({ label }) => attestedDomain(label.uri) !== undefined);
    if (relevant.length === 0) return;
    transaction(this.#db, () => {
      for (const stored of relevant) this.#observe(stored);
    });
  }

  /** Since when the chain of this label, which is in force, is unbroken (Unix ms). Only reads. */
  firstSight(label: SignedLabel): number | undefined {
    return this.#row(label)?.at;
  }

  /** Labels in force that the ledger does not know, because it was lost, begin to age now; one commit. */
  begin(unknown: readonly StoredLabel[]): void {
    if (unknown.length === 0) return;
    const at = this.#now();
    transaction(this.#db, () => {
      for (const stored of unknown) this.#put(stored, at);
    });
  }

  /**
   * Forgets the labels of an issuer that is followed no more, at most `limit` in one commit.
   *
   * @returns whether some are left
   */
  forget(src: string, limit: number): boolean {
    return this.#sql.forgetIssuer.run(src, limit).changes === limit;
  }

  #observe(stored: StoredLabel): void {
    const known = this.#row(stored.label);
    if (stored.isProvisional || (known && stored.orderedAt < known.latest_at)) return;
    if (stored.label.neg || stored.goneAt !== undefined) this.#sql.forget.run(...key(stored.label));
    else this.#put(stored, known && !isBroken(known, stored) ? known.at : stored.receivedAt);
  }

  #row(label: SignedLabel): Row | undefined {
    return this.#sql.find.get(...key(label)) as Row | undefined;
  }

  #put({ label, orderedAt, expiresAt }: StoredLabel, at: number): void {
    this.#sql.put.run(...key(label), at, orderedAt, expiresAt ?? null);
  }
}

// A rebuild meets old negations again; the label behind them is then the chain's newest, and no newer.
function isBroken(known: Row, stored: StoredLabel): boolean {
  return endedBefore(known, stored) || (stored.wasNegated === true && stored.orderedAt > known.latest_at);
}

// By the time of making, not of receipt: our own absence while a label was renewed breaks no chain.
function endedBefore(known: Row, { label, receivedAt }: StoredLabel): boolean {
  return known.expires_at !== null && Math.min(Date.parse(label.cts), receivedAt) >= known.expires_at;
}

function key({ src, uri, val }: SignedLabel): [string, string, string] {
  return [src, uri, val];
}

function prepare(db: Database.Database) {
  return {
    find: db.prepare(
      'SELECT at, latest_at, expires_at FROM first_sight WHERE src = ? AND uri = ? AND val = ?',
    ),
    put: db.prepare(
      `INSERT OR REPLACE INTO first_sight (src, uri, val, at, latest_at, expires_at)
       VALUES (?, ?, ?, ?, ?, ?)`,
    ),
    forgetIssuer: db.prepare(
      'DELETE FROM first_sight WHERE rowid IN (SELECT rowid FROM first_sight WHERE src = ? LIMIT ?)',
    ),
    forget: db.prepare('DELETE FROM first_sight WHERE src = ? AND uri = ? AND val = ?'),
  };
}
