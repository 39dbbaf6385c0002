/**
 * Events in node.db: the rows, and everything that is counted from them.
 *
 * Promise: each event is stored once, and what the projections make of it stands in the same commit, so a
 * crash between any two steps neither loses nor repeats a figure, a suppression or a notice. What is new is
 * told by the position of its outbox, which moves in that commit too.
 */
import { checkpoint, syncLog } from '../../appview/checkpoint.ts';
import { type Database, transaction } from '../../appview/database.ts';
import { type Event, eventIds } from './events.ts';

/** Something that is derived from events. */
export type Projection = {
  /** In the transaction that stores them; each event comes once, oldest first. A throw stores nothing. */
  project(events: readonly Event[]): void;
  /** Removes what is past its time, a bounded number of rows. @returns whether there may be more */
  housekeep?(): boolean;
};

/** An event of the node's own: the id, and the time where it is now, are filled in. */
export type OwnEvent = Omit<Event, 'id' | 'at' | 'rates'> & { at?: number };

export type EventStoreOptions = {
  /** node.db. */
  db: Database.Database;
  projections?: readonly Projection[];
  /** How long a row is kept, counted from its event. Default 30 days. */
  retainMs?: number;
  now: () => number;
};

/** Rows of one INSERT, as many as fit: crossing into SQLite costs more than the row. */
const rowsAtOnce = [50, 10, 1] as const;
/** Rows past their retention that one commit removes at most: twice a batch of the copy, so it catches up. */
const removedAtOnce = 1_000;
/** Events until a checkpoint that nobody waits for: some 4 MiB of log. */
const checkpointEvery = 2_000;
/** Until SQLite makes one inside a commit: where others write much more than events, or ours fail. */
const checkpointPages = 8_000;
const thirtyDaysMs = 30 * 24 * 60 * 60_000;
const columns = 'id, type, at, did, domain, message_id, recipient_id, detail';
const values = '(?, ?, ?, ?, ?, ?, ?, ?)';

export class EventStore {
  readonly #db: Database.Database;
  readonly #projections: readonly Projection[];
  readonly #retainMs: number;
  readonly #now: () => number;
  readonly #sql: ReturnType<typeof prepareAll>;
  /** Since the last checkpoint of ours. */
  #stored = 0;
  /** Undefined in memory. */
  readonly #file: string | undefined;

  constructor({ db, projections = [], retainMs = thirtyDaysMs, now }: EventStoreOptions) {
    this.#db = db;
    this.#file = fileOf(db);
    db.exec(`PRAGMA wal_autocheckpoint = ${checkpointPages}`);
    this.#projections = projections;
    this.#retainMs = retainMs;
    this.#now = now;
    this.#sql = prepareAll(db);
  }

  /** The newest event of that outbox that is stored; '0' before the first. */
  position(outbox: number): string {
    const row = this.#sql.position.get(outbox) as { id: number } | undefined;
    return String(row?.id ?? 0);
  }

  /**
   * Stores what is new of an outbox and counts it.
   *
   * The commit is not synced: a power failure may take it back as a whole. makeDurable() must come before
   * the outbox forgets.
   *
   * @param events in the order of their ids
   * @returns those that were new
   */
  store(outbox: number, events: readonly Event[]): readonly Event[] {
    this.#db.exec('PRAGMA synchronous = NORMAL');
    try {
      return transaction(this.#db, () => {
        const known = Number(this.position(outbox));
        const fresh = events.filter(({ id }) => Number(id) > known);
        this.#add(outbox, fresh);
        this.#removeOld(events.at(-1)!.id);
        return fresh;
      });
    } finally {
      this.#db.exec('PRAGMA synchronous = FULL');
    }
  }

  /**
   * Resolves when all commits up to here are on disk. Nobody else waits for it.
   *
   * @throws what the disk says; nothing is known to be durable then
   */
  async makeDurable(): Promise<void> {
    if (this.#file === undefined) return;
    await syncLog(this.#file);
    if (this.#stored < checkpointEvery) return;
    this.#stored = 0;
    await checkpoint(this.#file);
  }

  /**
   * Stores events of the node's own, synced, in one commit with their cause.
   *
   * @param change writes the cause; a throw stores nothing
   */
  record(outbox: number, events: readonly OwnEvent[], change: () => void): readonly Event[] {
    return transaction(this.#db, () => {
      change();
      // Another process may have recorded since: the position is the only memory.
      const nextId = eventIds(outbox, this.#now, Number(this.position(outbox)));
      const stored = events.map((event): Event => ({ at: this.#now(), ...event, id: nextId() }));
      this.#add(outbox, stored);
      return stored;
    });
  }

  /** What is past its retention, also where no event comes. @param kept where the next copy begins */
  removeOld(kept: string): void {
    this.#removeOld(kept);
  }

  /** @returns whether there is more to do at once */
  housekeep(): boolean {
    return transaction(this.#db, () => this.#projections.map((one) => one.housekeep?.()).includes(true));
  }

  #add(outbox: number, events: readonly Event[]): void {
    if (events.length === 0) return;
    const { inserts, setPosition } = this.#sql;
    let from = 0;
    for (const { rows, insert } of inserts)
      for (; from + rows <= events.length; from += rows)
        insert.run(events.slice(from, from + rows).flatMap(row));
    this.#stored += events.length;
    setPosition.run(outbox, Number(events.at(-1)!.id));
    for (const projection of this.#projections) projection.project(events);
  }

  /** By time: ids may have run ahead of a clock that was put back. */
  #removeOld(kept: string): void {
    this.#sql.removeOld.run(this.#now() - this.#retainMs, Number(kept), removedAtOnce);
  }
}

function row(e: Event): (string | number | null)[] {
  const about = [e.did, e.domain ?? null, e.messageId ?? null, e.recipientId ?? null];
  return [Number(e.id), e.type, e.at, ...about, JSON.stringify(e.detail)];
}

function fileOf(db: Database.Database): string | undefined {
  const [main] = db.prepare('PRAGMA database_list').all() as { file: string }[];
  return main!.file || undefined;
}

function prepareAll(db: Database.Database) {
  return {
    inserts: rowsAtOnce.map((rows) => {
      const many = Array.from({ length: rows }, () => values).join(', ');
      return { rows, insert: db.prepare(`INSERT INTO event (${columns}) VALUES ${many}`) };
    }),
    position: db.prepare('SELECT id FROM event_position WHERE outbox = ?'),
    setPosition: db.prepare(
      `INSERT INTO event_position (outbox, id) VALUES (?, ?)
       ON CONFLICT (outbox) DO UPDATE SET id = excluded.id`,
    ),
    removeOld: db.prepare(
      'DELETE FROM event WHERE id IN (SELECT id FROM event WHERE at < ? AND id <> ? ORDER BY at LIMIT ?)',
    ),
  };
}
