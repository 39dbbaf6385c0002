/**
 * Copies the events of an outbox into node.db, where rules, charts and exports read them.
 *
 * Promise: each event arrives once, in order, however often a copy is repeated or broken off: the id is
 * the row, and the newest id present is where the next copy begins. Nothing waits on this copy; a
 * failed one is tried again, unless our own state is damaged: that ends the process. An outbox forgets
 * its events only after they are committed here. Rows hold addresses and peers' words, so they are
 * removed after `retainMs`, a few in each commit.
 */
import type { Logger } from 'pino';
import { type Database, isCorruption, transaction } from '../../appview/database.ts';
import { type Event, idsPerMs } from './events.ts';

/** What this file needs of an outbox, for example the spool's. */
export type EventSource = {
  /** @returns events with greater ids, oldest first; `0` is before the first */
  eventsAfter(id: string, limit: number): Promise<Event[]>;
  /** Drops events up to and including `through`. */
  forgetEvents(through: string): Promise<void>;
};

export type EventLogOptions = {
  /** node.db. */
  db: Database.Database;
  source: EventSource;
  /** The number of that outbox in events.ts. */
  outbox: number;
  log: Logger;
  count: (what: string, reason?: string) => void;
  /** Between copies. Default 1 s. */
  intervalMs?: number;
  /** How long a row is kept, counted from its event. Default 30 days. */
  retainMs?: number;
  now?: () => number;
};

const batch = 500;
/** Rows past their retention that one commit removes at most: twice what it adds, so it catches up. */
const removedAtOnce = 2 * batch;
const thirtyDaysMs = 30 * 24 * 60 * 60_000;

export class EventLog {
  readonly #options: Required<EventLogOptions>;
  #position: string;
  #timer: NodeJS.Timeout | undefined;
  #copying: Promise<number> | undefined;
  #stopped = true;

  constructor(options: EventLogOptions) {
    this.#options = { intervalMs: 1000, retainMs: thirtyDaysMs, now: Date.now, ...options };
    this.#position = this.#newestCopied();
  }

  start(): void {
    this.#stopped = false;
    this.#schedule(0);
  }

  /** Ends when the copy under way has ended; what is left waits for the next start. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#copying?.catch(() => undefined);
  }

  /** Copies what is there now. @returns how many events were new here */
  async copy(): Promise<number> {
    let copied = 0;
    for (;;) {
      const events = await this.#options.source.eventsAfter(this.#position, batch);
      if (events.length === 0) {
        if (copied === 0) this.#removeOld(this.#position);
        return copied;
      }
      copied += this.#store(events);
      this.#position = events.at(-1)!.id;
      await this.#options.source.forgetEvents(this.#position);
    }
  }

  #schedule(delayMs: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#run(), delayMs);
    this.#timer.unref();
  }

  /** Rejects, unhandled on purpose, when node.db or the outbox is damaged. */
  async #run(): Promise<void> {
    const { log, count, intervalMs } = this.#options;
    this.#copying = this.copy();
    try {
      await this.#copying;
    } catch (error) {
      if (isCorruption(error)) throw error;
      count('event_copies_failed');
      log.error({ err: error }, 'events could not be copied into node.db; trying again');
    } finally {
      this.#copying = undefined;
    }
    if (!this.#stopped) this.#schedule(intervalMs);
  }

  #store(events: readonly Event[]): number {
    const { db } = this.#options;
    const insert = db.prepare(
      `INSERT OR IGNORE INTO event (id, type, at, did, domain, message_id, recipient_id, detail)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
    );
    return transaction(db, () => {
      let stored = 0;
      for (const e of events) {
        const row = [Number(e.id), e.type, e.at, e.did, e.domain ?? null, e.messageId ?? null];
        stored += insert.run(...row, e.recipientId ?? null, JSON.stringify(e.detail)).changes;
      }
      this.#removeOld(events.at(-1)!.id);
      return stored;
    });
  }

  /** By id, which begins with the time of the event. @param kept where the next copy begins, however old */
  #removeOld(kept: string): void {
    const { db, now, retainMs } = this.#options;
    const oldest = Math.max(now() - retainMs, 0) * idsPerMs;
    db.prepare(
      'DELETE FROM event WHERE id IN (SELECT id FROM event WHERE id < ? AND id <> ? ORDER BY id LIMIT ?)',
    ).run(oldest, Number(kept), removedAtOnce);
  }

  /** Ids carry their outbox in bits 7–10 (events.ts); going down from the newest finds one of ours at once. */
  #newestCopied(): string {
    const row = this.#options.db
      .prepare('SELECT id FROM event WHERE ((id >> 7) & 15) = ? ORDER BY id DESC LIMIT 1')
      .get(this.#options.outbox) as { id: number } | undefined;
    return String(row?.id ?? 0);
  }
}
