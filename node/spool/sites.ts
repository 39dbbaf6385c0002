/** Which MX site a recipient domain's mail goes to, as delivery found out. */
import type { Database } from '../../appview/database.ts';

const maxRemembered = 10_000;
/** What is forgotten is assigned anew by the next delivery. */
const maxKept = 100_000;
const movedAtOnce = 500;

type Statement = Database.Statement<unknown[]>;
type Lane = { site: string; did: string };

export class Sites {
  readonly #find: Statement;
  readonly #set: Statement;
  readonly #trim: Statement;
  readonly #some: Statement;
  readonly #move: Statement;
  readonly #remembered = new Map<string, string>();

  constructor(db: Database.Database) {
    this.#find = db.prepare('SELECT site FROM site_of WHERE domain = ?');
    this.#set = db.prepare('INSERT OR REPLACE INTO site_of (domain, site) VALUES (?, ?)');
    this.#trim = db.prepare(
      `DELETE FROM site_of WHERE rowid <= (SELECT MAX(rowid) FROM site_of) - ${maxKept}`,
    );
    // From the lane that has most of it at most; the rest in the steps that follow.
    this.#some = db.prepare(`
      SELECT seq, did FROM recipient WHERE site = ?1 AND next_at IS NOT NULL AND recipient_domain = ?2
      LIMIT ${movedAtOnce}`);
    this.#move = db.prepare('UPDATE recipient SET site = ? WHERE seq = ?');
  }

  of(domain: string): string {
    let site = this.#remembered.get(domain);
    if (site === undefined) {
      site = (this.#find.get(domain) as { site: string } | undefined)?.site ?? domain;
      if (this.#remembered.size >= maxRemembered) this.#remembered.clear();
      this.#remembered.set(domain, site);
    }
    return site;
  }

  /** @returns the lanes that changed; as many again may wait when `isWhole` is false */
  assign(domain: string, site: string, from: string): { lanes: Lane[]; isWhole: boolean } {
    if (this.of(domain) !== site) {
      this.#set.run([domain, site]);
      this.#trim.run();
      this.#remembered.set(domain, site);
    }
    if (from === site) return { lanes: [], isWhole: true };
    const rows = this.#some.all([from, domain]) as { seq: number; did: string }[];
    for (const { seq } of rows) this.#move.run([site, seq]);
    const members = [...new Set(rows.map(({ did }) => did))];
    const lanes = members.flatMap((did) => [from, site].map((name) => ({ site: name, did })));
    return { lanes, isWhole: rows.length < movedAtOnce };
  }

  /** To be called when a transaction that assigned was rolled back. */
  forget(): void {
    this.#remembered.clear();
  }
}
