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
import type { Seen } from './dns-changes.ts';
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
  /** Unix ms of the run that gave the verdict; null before. */
  decidedAt: number | null;
  /** Unix ms: since then nobody could say, and the verdict is kept from before; null when the last run decided. */
  undecidedSince: number | null;
  /** What that silence means, one sentence to read; null when there is none. */
  note: string | null;
  /** Runs in a row that did not pass. */
  tries: number;
  /** What the next run is compared with. */
  seen: Seen;
  /** Unix ms; 0 = at once. */
  nextAt: number;
};

/** What a run leaves in the row. */
export type Found = Omit<Verification, 'nextAt' | keyof DomainOf>;

/** Of a domain with nothing to check. */
export function nothingFound(checkedAt: number): Found {
  const untold = { decidedAt: null, undecidedSince: null, note: null, tries: 0, seen: {} };
  return { verdict: 'undecided', cid: null, evidence: [], checkedAt, ...untold };
}

export type Claim = DomainOf & { until: number };

type Row = Omit<Found, 'evidence' | 'seen'> & { evidence: string; seen: string; nextAt: number };

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
        `SELECT verdict, cid, evidence, checked_at AS checkedAt, decided_at AS decidedAt,
           undecided_since AS undecidedSince, note, tries, seen, next_at AS nextAt
         FROM verification WHERE did = ? AND domain = ?`,
      )
      .get(did, domain) as Row | undefined;
    if (!row) return undefined;
    const { verdict, cid, checkedAt, decidedAt, undecidedSince, note, tries, nextAt } = row;
    const [evidence, seen] = [JSON.parse(row.evidence) as CheckResult[], JSON.parse(row.seen) as Seen];
    const silence = { undecidedSince, note, tries };
    return { did, domain, verdict, cid, evidence, checkedAt, decidedAt, ...silence, seen, nextAt };
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

  /** At once, and patience starts anew: whoever asks for it has changed something. */
  makeDue({ did, domain }: DomainOf): void {
    this.#db
      .prepare('UPDATE verification SET next_at = 0, tries = 0 WHERE did = ? AND domain = ?')
      .run(did, domain);
  }

  /** @returns false when the claim is void */
  record({ did, domain, until }: Claim, found: Found): boolean {
    const { verdict, cid, checkedAt, decidedAt, undecidedSince, note, tries } = found;
    const { changes } = this.#db
      .prepare(
        `UPDATE verification SET verdict = ?, cid = ?, evidence = ?, checked_at = ?, decided_at = ?,
           undecided_since = ?, note = ?, tries = ?, seen = ?
         WHERE did = ? AND domain = ? AND next_at = ?`,
      )
      .run(
        ...[verdict, cid, JSON.stringify(found.evidence), checkedAt, decidedAt],
        ...[undecidedSince, note, tries, JSON.stringify(found.seen)],
        ...[did, domain, until],
      );
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
