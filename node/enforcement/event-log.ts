/**
 * Copies the events of an outbox into node.db, where rules, charts and exports read them.
 *
 * Promise: each event arrives once, in order, however often a copy is repeated or broken off
 * (event-store.ts). Nothing waits on this copy; a failed one is tried again, unless our own state is damaged:
 * that ends the process. An outbox forgets its events only after they are on disk here. Rows hold addresses
 * and peers' words, so they are removed after `retainMs`, a few in each commit.
 *
 * Listeners hear of events after their commit. One that fails is logged and costs nobody else anything.
 */
import type { Logger } from 'pino';
import { type Database, isCorruption } from '../../appview/database.ts';
import { EventStore, type OwnEvent, type Projection } from './event-store.ts';
import { type Event, outboxes } from './events.ts';

/** What this file needs of an outbox, for example the spool's. */
export type EventSource = {
  /** @returns events with greater ids, oldest first; `0` is before the first */
  eventsAfter(id: string, limit: number): Promise<Event[]>;
  /** Drops events up to and including `through`. */
  forgetEvents(through: string): Promise<void>;
};

/** Records events of the node's own, with ids of outbox 0, in one synced commit with what caused them. */
export type RecordEvents = (events: OwnEvent | readonly OwnEvent[], change?: () => void) => void;

export type EventLogOptions = {
  /** node.db. */
  db: Database.Database;
  source: EventSource;
  /** The number of that outbox in events.ts. */
  outbox: number;
  /** Derived in the commit that stores an event, in this order. */
  projections?: readonly Projection[];
  log: Logger;
  count: (what: string, reason?: string) => void;
  /** Between copies when nothing happens, and between two syncs of the disk. Default 1 s. */
  intervalMs?: number;
  /** How late a copy may be after wake(): what comes meanwhile shares its commit. Default 100 ms. */
  patienceMs?: number;
  /** How long a row is kept, counted from its event. Default 30 days. */
  retainMs?: number;
  now?: () => number;
};

const batch = 500;
const housekeepingEveryMs = 60_000;

export class EventLog {
  readonly #options: Required<Omit<EventLogOptions, 'db' | 'retainMs' | 'projections'>>;
  readonly #store: EventStore;
  readonly #listeners = new Set<(events: readonly Event[]) => void>();
  #position: string;
  /** The outbox has nothing more of what is stored here. */
  #isForgotten = false;
  #forgotAt = 0;
  #housekeptAt = 0;
  #timer: NodeJS.Timeout | undefined;
  #timerAt = 0;
  #copying: Promise<unknown> | undefined;
  #isWoken = false;
  #stopped = true;

  constructor({ db, retainMs, projections = [], ...options }: EventLogOptions) {
    this.#options = { intervalMs: 1000, patienceMs: 100, now: Date.now, ...options };
    const { now } = this.#options;
    this.#store = new EventStore({ db, projections, now, ...(retainMs !== undefined && { retainMs }) });
    this.#position = this.#store.position(options.outbox);
  }

  start(): void {
    this.#stopped = false;
    this.#schedule(0);
  }

  /** Something was committed in the outbox. Cheap enough for every commit. */
  wake(): void {
    if (this.#copying) this.#isWoken = true;
    else this.#schedule(this.#options.patienceMs);
  }

  /** Ends when the copy under way has ended; what is left waits for the next start. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#copying?.catch(() => undefined);
  }

  /** Copies what is there now. @returns how many events were new here */
  async copy(): Promise<number> {
    const copied = await this.#copyNew();
    await this.#forget();
    return copied;
  }

  readonly record: RecordEvents = (events, change = () => undefined) => {
    this.#announce(this.#store.record(outboxes.node, [events].flat(), change));
  };

  /** Calls back after each commit with the events in it. @returns the way to stop it */
  onStored(listener: (events: readonly Event[]) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async #copyNew(): Promise<number> {
    const { source, outbox } = this.#options;
    let copied = 0;
    for (;;) {
      const events = await source.eventsAfter(this.#position, batch);
      if (events.length === 0) {
        if (copied === 0) this.#store.removeOld(this.#position);
        return copied;
      }
      const fresh = this.#store.store(outbox, events);
      this.#position = events.at(-1)!.id;
      this.#isForgotten = false;
      copied += fresh.length;
      this.#announce(fresh);
    }
  }

  /** At most once an interval: the sync before it takes the disk from the commits of the spool. */
  async #forget(): Promise<void> {
    if (this.#isForgotten || this.#position === '0') return;
    this.#forgotAt = performance.now();
    const through = this.#position;
    await this.#store.makeDurable();
    await this.#options.source.forgetEvents(through);
    this.#isForgotten = through === this.#position;
  }

  /** Later calls only make it earlier. */
  #schedule(delayMs: number): void {
    const at = performance.now() + delayMs;
    if (this.#stopped || (this.#timer && this.#timerAt <= at)) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    this.#timer = setTimeout(() => void this.#run(), delayMs);
    this.#timer.unref();
  }

  /** Rejects, unhandled on purpose, when node.db or the outbox is damaged. */
  async #run(): Promise<void> {
    const { log, count, intervalMs, patienceMs } = this.#options;
    this.#timer = undefined;
    this.#isWoken = false;
    const pass = this.#pass();
    this.#copying = pass;
    let isBusy = false;
    try {
      isBusy = await pass;
    } catch (error) {
      if (isCorruption(error)) throw error;
      count('event_copies_failed');
      log.error({ err: error }, 'events could not be copied into node.db; trying again');
    } finally {
      this.#copying = undefined;
    }
    this.#schedule(isBusy || this.#isWoken ? Math.min(patienceMs, intervalMs) : intervalMs);
  }

  /** @returns whether another one soon is worth it */
  async #pass(): Promise<boolean> {
    const copied = await this.#copyNew();
    if (copied === 0 || performance.now() - this.#forgotAt >= this.#options.intervalMs) await this.#forget();
    return this.#housekeep() || copied > 0;
  }

  #housekeep(): boolean {
    if (performance.now() - this.#housekeptAt < housekeepingEveryMs) return false;
    const isBehind = this.#store.housekeep();
    if (!isBehind) this.#housekeptAt = performance.now();
    return isBehind;
  }

  #announce(events: readonly Event[]): void {
    if (events.length === 0) return;
    for (const listener of this.#listeners) {
      try {
        listener(events);
      } catch (error) {
        if (isCorruption(error)) throw error;
        this.#options.count('event_listeners_failed');
        this.#options.log.error({ err: error }, 'a listener to events failed');
      }
    }
  }
}
