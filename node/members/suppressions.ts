/**
 * Whom a member does not write to any more, and why.
 *
 * Promise: addresses are compared without regard to case, in the domain's normal form. Each reason is kept
 * for itself, so none weakens or outlives another: an unsubscribe stays when a bounce ends.
 * What a suppression refuses is admission's question; exempt mail passes an unsubscribe, nothing else.
 * What a recipient asked for, the member cannot take back.
 */
import type { Database } from '../../appview/database.ts';
import { normalizeDomain } from './domain-name.ts';

export type SuppressionReason = 'unsubscribe' | 'bounce' | 'manual' | 'complaint';

export type Suppression = {
  did: string;
  /** Lower case. */
  address: string;
  /** The strongest in force: complaint, manual, bounce, unsubscribe. */
  reason: SuppressionReason;
  /** For the member: the peer's reply, or who did it. */
  evidence: string;
  /** The queue id of the mail that it came from. */
  messageId: string | null;
  /** Unix ms. */
  createdAt: number;
  /** Unix ms; null: never. */
  expiresAt: number | null;
};

export type NewSuppression = {
  did: string;
  address: string;
  reason: SuppressionReason;
  /** Cut to 1,000 characters. */
  evidence: string;
  messageId?: string;
  /** Unix ms. Default: 30 days from now for a bounce, else never. */
  expiresAt?: number;
};

export type SuppressionPage = { suppressions: Suppression[]; cursor?: string };

/** What the member itself may remove: a bounce that may be over, and its own entries. */
export const ownReasons: readonly SuppressionReason[] = ['bounce', 'manual'];

/** How long an address that does not exist is not tried again. */
export const bounceSuppressionMs = 30 * 86_400_000;

const maxEvidence = 1_000;
const maxPage = 1_000;

const columns = `did, address, reason, evidence, message_id AS messageId,
  created_at AS createdAt, expires_at AS expiresAt`;
const inForce = '(expires_at IS NULL OR expires_at > ?)';
/** The weakest first. */
const strengths: readonly SuppressionReason[] = ['unsubscribe', 'bounce', 'manual', 'complaint'];
const strength = `CASE reason ${strengths.map((reason, rank) => `WHEN '${reason}' THEN ${rank}`).join(' ')} END`;

export class Suppressions {
  readonly #db: Database.Database;
  readonly #now: () => number;
  readonly #find: Database.Statement;
  readonly #has: Database.Statement;
  readonly #insert: Database.Statement;
  readonly #remove: Database.Statement;
  readonly #prune: Database.Statement;

  /** @param o.db node.db */
  constructor(o: { db: Database.Database; now: () => number }) {
    this.#db = o.db;
    this.#now = o.now;
    this.#find = o.db.prepare(
      `SELECT ${columns} FROM suppression WHERE did = ? AND address = ? AND ${inForce}`,
    );
    this.#has = o.db.prepare(
      `SELECT 1 FROM suppression WHERE did = ? AND address = ? AND reason = ? AND ${inForce}`,
    );
    // A later one of the same reason brings its evidence; what never ends stays without an end.
    this.#insert = o.db.prepare(
      `INSERT INTO suppression (did, address, reason, evidence, message_id, created_at, expires_at)
       VALUES (?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT (did, address, reason) DO UPDATE SET
         evidence = excluded.evidence, message_id = excluded.message_id, created_at = excluded.created_at,
         expires_at = CASE WHEN expires_at IS NULL THEN NULL ELSE excluded.expires_at END`,
    );
    this.#remove = o.db.prepare('DELETE FROM suppression WHERE did = ? AND address = ? AND reason = ?');
    this.#prune = o.db.prepare(
      `DELETE FROM suppression WHERE (did, address, reason) IN
         (SELECT did, address, reason FROM suppression WHERE expires_at <= ? LIMIT 100)`,
    );
  }

  /** @returns the strongest entry in force */
  find(did: string, address: string): Suppression | undefined {
    const found = this.#find.all(did, comparable(address), this.#now()) as Suppression[];
    // Asked for each recipient: hardly any has a row, so sorting them is not SQLite's work.
    return found.reduce<Suppression | undefined>(
      (best, one) => (best && strengths.indexOf(best.reason) > strengths.indexOf(one.reason) ? best : one),
      undefined,
    );
  }

  has(did: string, address: string, reason: SuppressionReason): boolean {
    return this.#has.get(did, comparable(address), reason, this.#now()) !== undefined;
  }

  /** Idempotent. Runs inside the caller's transaction, if there is one. */
  add(o: NewSuppression): void {
    const now = this.#now();
    const expiresAt = o.expiresAt ?? (o.reason === 'bounce' ? now + bounceSuppressionMs : null);
    const evidence = o.evidence.slice(0, maxEvidence);
    this.#prune.run(now);
    this.#insert.run(o.did, comparable(o.address), o.reason, evidence, o.messageId ?? null, now, expiresAt);
  }

  /**
   * Runs inside the caller's transaction, if there is one.
   *
   * @param reasons those that are taken away. Default: every one
   * @returns which of them were in force
   */
  remove(
    did: string,
    address: string,
    reasons: readonly SuppressionReason[] = strengths,
  ): SuppressionReason[] {
    const removed = reasons.filter((reason) => this.has(did, address, reason));
    for (const reason of removed) this.#remove.run(did, comparable(address), reason);
    return removed;
  }

  /**
   * In the order of addresses, each once, with its strongest reason.
   *
   * @param o.cursor of the page before; @param o.limit 1–1,000
   */
  list(did: string, o: { limit: number; cursor?: string }): SuppressionPage {
    const limit = Math.min(Math.max(1, o.limit), maxPage);
    const found = this.#db
      .prepare(
        `SELECT ${columns}, max(${strength}) AS strength FROM suppression
         WHERE did = ? AND address > ? AND ${inForce} GROUP BY address ORDER BY address LIMIT ?`,
      )
      .all(did, o.cursor ?? '', this.#now(), limit + 1) as (Suppression & { strength: number })[];
    const suppressions = found.slice(0, limit).map(({ strength: _, ...row }) => row);
    return found.length > limit ? { suppressions, cursor: suppressions.at(-1)!.address } : { suppressions };
  }
}

/** Case is the receiver's to tell apart in a local part (RFC 5321 §2.4); hardly any does, and people do not. */
function comparable(address: string): string {
  const at = address.lastIndexOf('@');
  const domain = normalizeDomain(address.slice(at + 1)) ?? address.slice(at + 1).toLowerCase();
  return `${address.slice(0, at).normalize('NFC').toLowerCase()}@${domain}`;
}
