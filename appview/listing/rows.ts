/**
 * The listings as decided, in appview.db: one row a name, in the order of their last change.
 *
 * Promise: a seq is never given twice, not even after the database was thrown away and rebuilt: a new
 * one begins at the Unix time in ms. A removed name keeps its row, so that a follower learns of it.
 */
import type { Listing } from '../../dnsbl/listing.ts';
import type { Database } from '../database.ts';
import { appviewDamaged } from '../rebuild.ts';

/** A listing without its place in the feed. */
export type ListingBody = Omit<Listing, 'seq' | 'removed'>;

type Row = { seq: number; removed: number; body: string };

export class ListingRows {
  /** A follower with an older cursor, other than 0, followed a database that is gone. */
  readonly epoch: number;
  readonly #sql: ReturnType<typeof prepare>;
  #last: number;

  constructor(db: Database.Database, now: () => number) {
    this.#sql = prepare(db);
    this.epoch = this.#epoch(now);
    this.#last = Math.max(this.epoch, (this.#sql.newest.get() as { seq: number | null }).seq ?? 0);
  }

  /** The seq of the newest change; `epoch` where there is none yet. */
  get last(): number {
    return this.#last;
  }

  /** How many names there are, removed ones included. */
  get size(): number {
    return (this.#sql.size.get() as { size: number }).size;
  }

  get(domain: string): Listing | undefined {
    const row = this.#sql.find.get(nameOf(domain)) as Row | undefined;
    return row && toListing(row);
  }

  /** Without the removed ones. */
  *all(): Iterable<Listing> {
    for (const row of this.#sql.all.iterate() as Iterable<Row>) yield toListing(row);
  }

  /** @returns at most `limit` listings with a greater seq, ascending, removed ones included */
  since(seq: number, limit: number): Listing[] {
    return (this.#sql.since.all(seq, limit) as Row[]).map(toListing);
  }

  /** @returns the listing with its seq, or undefined when it stands there already */
  put(domain: string, body: ListingBody): Listing | undefined {
    return this.#write(domain, JSON.stringify(body), 0);
  }

  /** @returns what is gone, or undefined when nothing stood there */
  remove(domain: string): Listing | undefined {
    const row = this.#sql.find.get(nameOf(domain)) as Row | undefined;
    return row && this.#write(domain, row.body, 1);
  }

  #write(domain: string, body: string, removed: 0 | 1): Listing | undefined {
    const row = this.#sql.find.get(nameOf(domain)) as Row | undefined;
    if (row?.removed === removed && row.body === body) return undefined;
    this.#last += 1;
    this.#sql.put.run(nameOf(domain), this.#last, removed, body);
    return toListing({ seq: this.#last, removed, body });
  }

  #epoch(now: () => number): number {
    const known = this.#sql.epoch.get() as { seq: number } | undefined;
    if (known) return known.seq;
    const seq = now();
    this.#sql.begin.run(seq);
    return seq;
  }
}

function nameOf(domain: string): string {
  return `dom:${domain}`;
}

function toListing({ seq, removed, body }: Row): Listing {
  try {
    return { ...(JSON.parse(body) as ListingBody), seq, ...(removed ? { removed: true } : {}) };
  } catch (error) {
    throw appviewDamaged('holds a listing that is none', error);
  }
}

function prepare(db: Database.Database) {
  return {
    epoch: db.prepare('SELECT seq FROM listing_epoch'),
    begin: db.prepare('INSERT INTO listing_epoch (seq) VALUES (?)'),
    newest: db.prepare('SELECT max(seq) AS seq FROM listing'),
    find: db.prepare('SELECT seq, removed, body FROM listing WHERE name = ?'),
    size: db.prepare('SELECT count(*) AS size FROM listing'),
    all: db.prepare('SELECT seq, removed, body FROM listing WHERE removed = 0 ORDER BY seq'),
    since: db.prepare('SELECT seq, removed, body FROM listing WHERE seq > ? ORDER BY seq LIMIT ?'),
    put: db.prepare('INSERT OR REPLACE INTO listing (name, seq, removed, body) VALUES (?, ?, ?, ?)'),
  };
}
