/**
 * The table `verification`: what is known of each enrolled domain, and when to look again.
 *
 * Rows appear and become due by triggers (node/migrations.ts) in the commit that enrols, changes or
 * removes a member, whichever process makes it. So the database is asked for work; memory holds none.
 *
 * A claim moves `next_at` into the near future, to a value that no other claim has. Whoever makes the row
 * due meanwhile changes `next_at` again, and the claim is void: record(), reschedule() and drop() then
 * change nothing. So no wake-up is lost, a slow run never overwrites a younger one, and after a crash the
 * claim runs out by itself.
 */
import type { Database } from '../../appview/database.ts';
import type { CheckResult } from './checks.ts';
import type { Verdict } from './finding.ts';

export type DomainOf = { did: string; domain: string };

export type Verification = DomainOf & {
  /** The last verdict that was decided for `cid`. */
  verdict: Verdict;
  /** The attestation it is about; null before the first check. */
  cid: string | null;
  /** Of the last run, decided or not. */
  evidence: CheckResult[];
  /** Unix ms; null before the first run. */
  checkedAt: number | null;
  /** Unix ms; 0 = at once. */
  nextAt: number;
};

export type Claim = DomainOf & { until: number };

type Row = Omit<Verification, 'evidence'> & { evidence: string };

export class Verifications {
  readonly #db: Database.Database;
  #lastClaim = 0;

  /** @param db node.db */
  constructor(db: Database.Database) {
    this.#db = db;
  }

  get({ did, domain }: DomainOf): Verification | undefined {
    const row = this.#db
      .prepare(
        `SELECT verdict, cid, evidence, checked_at AS checkedAt, next_at AS nextAt
         FROM verification WHERE did = ? AND domain = ?`,
      )
      .get(did, domain) as Row | undefined;
    if (!row) return undefined;
    const { verdict, cid, checkedAt, nextAt } = row;
    return { did, domain, verdict, cid, evidence: JSON.parse(row.evidence), checkedAt, nextAt };
  }

  /** Takes what is due, longest waiting first. @param now Unix ms */
  claim(now: number, leaseMs: number, limit: number): Claim[] {
    const rows = this.#db
      .prepare('SELECT did, domain FROM verification WHERE next_at <= ? ORDER BY next_at LIMIT ?')
      .all(now, limit) as DomainOf[];
    return rows.map(({ did, domain }) => {
      const until = Math.max(now + leaseMs, this.#lastClaim + 1);
      this.#lastClaim = until;
      this.#db
        .prepare('UPDATE verification SET next_at = ? WHERE did = ? AND domain = ?')
        .run(until, did, domain);
      return { did, domain, until };
    });
  }

  makeDue({ did, domain }: DomainOf): void {
    this.#db.prepare('UPDATE verification SET next_at = 0 WHERE did = ? AND domain = ?').run(did, domain);
  }

  /** @returns false when the claim is void */
  record({ did, domain, until }: Claim, found: Omit<Verification, 'nextAt' | keyof DomainOf>): boolean {
    const { verdict, cid, evidence, checkedAt } = found;
    const { changes } = this.#db
      .prepare(
        `UPDATE verification SET verdict = ?, cid = ?, evidence = ?, checked_at = ?
         WHERE did = ? AND domain = ? AND next_at = ?`,
      )
      .run(verdict, cid, JSON.stringify(evidence), checkedAt, did, domain, until);
    return changes > 0;
  }

  reschedule({ did, domain, until }: Claim, nextAt: number): void {
    this.#db
      .prepare('UPDATE verification SET next_at = ? WHERE did = ? AND domain = ? AND next_at = ?')
      .run(nextAt, did, domain, until);
  }

  drop({ did, domain, until }: Claim): void {
    this.#db
      .prepare('DELETE FROM verification WHERE did = ? AND domain = ? AND next_at = ?')
      .run(did, domain, until);
  }

  /** In pages by key, so that a start with many members does not hold the thread. */
  after(last: DomainOf | undefined, limit: number): (DomainOf & { cid: string | null })[] {
    return this.#db
      .prepare(
        'SELECT did, domain, cid FROM verification WHERE (did, domain) > (?, ?) ORDER BY did, domain LIMIT ?',
      )
      .all(last?.did ?? '', last?.domain ?? '', limit) as (DomainOf & { cid: string | null })[];
  }
}
