/**
 * Copies the events of an outbox into node.db, where rules, charts and exports read them.
 *
 * Promise: each event arrives once, in order, however often a copy is repeated or broken off: the id is
 * the row, and the newest id present is where the next copy begins. Nothing waits on this copy; a
 * failed one is tried again. An outbox forgets its events only after they are committed here.
 */
import type { Logger } from 'pino';
import { type Database, transaction } from '../../appview/database.ts';
import type { Event } from './events.ts';

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
  /** Between copies without a wake(). Default 1 s. */
  intervalMs?: number;
};

const batch = 500;

export class EventLog {
  readonly #options: Required<EventLogOptions>;
  #position: string;
  #timer: NodeJS.Timeout | undefined;
  #copying: Promise<number> | undefined;
  #stopped = true;

  constructor(options: EventLogOptions) {
    this.#options = { intervalMs: 1000, ...options };
    this.#position = this.#newestCopied();
  }

  start(): void {
    this.#stopped = false;
    this.#schedule(0);
  }

  /** Something happened: copy now instead of at the end of the interval. */
  wake(): void {
    if (!this.#stopped && !this.#copying) this.#schedule(0);
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
      if (events.length === 0) return copied;
      copied += this.#store(events);
      this.#position = events.at(-1)!.id;
      await this.#options.source.forgetEvents(this.#position);
    }
  }

  #schedule(delayMs: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#run(), delayMs);
    this.#timer.unref();
  }

  async #run(): Promise<void> {
    const { log, count, intervalMs } = this.#options;
    this.#copying = this.copy();
    try {
      await this.#copying;
    } catch (error) {
      count('event_copies_failed');
      log.error({ err: error }, 'events could not be copied into node.db; trying again');
    } finally {
      this.#copying = undefined;
      if (!this.#stopped) this.#schedule(intervalMs);
    }
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
      return stored;
    });
  }

  /** Ids carry their outbox in bits 7–10 (events.ts); going down from the newest finds one of ours at once. */
  #newestCopied(): string {
    const row = this.#options.db
      .prepare('SELECT id FROM event WHERE ((id >> 7) & 15) = ? ORDER BY id DESC LIMIT 1')
      .get(this.#options.outbox) as { id: number } | undefined;
    return String(row?.id ?? 0);
  }
}
