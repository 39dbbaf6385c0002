/**
 * Domains of members: whose each is, since when, and where its bounces go.
 *
 * A name belongs to at most one member, in its normal form (domain-name.ts); a subdomain is a domain of its own.
 */
import type { Database } from '../../appview/database.ts';
import type { Category } from './category.ts';
import { normalizeDomain } from './domain-name.ts';

export type MemberDomain = {
  /** A-labels, lower case. */
  name: string;
  did: string;
  /** Unix ms; warming counts from here. */
  enrolledAt: number;
  defaultCategory: Category;
  forwardTo: string | null;
  /** Unix ms; null until the owner of the address followed the mailed link. */
  forwardToConfirmedAt: number | null;
};

type Statement = Database.Statement<unknown[]>;

const selectDomain = `
  SELECT name, did, enrolled_at AS enrolledAt, default_category AS defaultCategory,
         forward_to AS forwardTo, forward_to_confirmed_at AS forwardToConfirmedAt
  FROM domain`;

export class Domains {
  readonly #byName: Statement;
  readonly #ofMember: Statement;
  readonly #insert: Statement;
  readonly #setCategory: Statement;

  /** @param db node.db */
  constructor(db: Database.Database) {
    this.#byName = db.prepare(`${selectDomain} WHERE name = ?`);
    this.#ofMember = db.prepare(`${selectDomain} WHERE did = ? ORDER BY enrolled_at, name`);
    this.#insert = db.prepare('INSERT INTO domain (name, did, enrolled_at, warmed_days) VALUES (?, ?, ?, ?)');
    this.#setCategory = db.prepare('UPDATE domain SET default_category = ? WHERE name = ?');
  }

  /** @param domain in any spelling */
  get(domain: string): MemberDomain | undefined {
    const name = normalizeDomain(domain);
    return name === undefined ? undefined : (this.#byName.get(name) as MemberDomain | undefined);
  }

  /** @returns false when the domain is not enrolled */
  setCategory(domain: string, category: Category): boolean {
    return this.#setCategory.run(category, normalizeDomain(domain) ?? '').changes === 1;
  }

  /** In the order of enrolment. */
  of(did: string): MemberDomain[] {
    return this.#ofMember.all(did) as MemberDomain[];
  }

  /** @param name in its normal form; at in Unix ms; warmedDays of warming that it is spared */
  add(name: string, did: string, at: number, warmedDays = 0): void {
    this.#insert.run(name, did, at, warmedDays);
  }
}
