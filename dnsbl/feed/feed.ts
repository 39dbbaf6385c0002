/**
 * Keeps a zone what an AppView says, and answering when the AppView is gone.
 *
 * Promise: a change is in the zone as soon as its message is read; after any interruption the feed goes on
 * behind the last message that it has; and where the AppView was rebuilt, the old state answers until the
 * new one is whole. How old the state is can always be asked, and is in the log while it grows.
 *
 * What can be checked of a listing is its form and the order of the messages; that the AppView is who it
 * says is the business of https. Whoever must check the votes themselves runs an AppView.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Listing } from '../listing.ts';
import { TableBuilder } from '../table/builder.ts';
import type { Zone } from '../zone.ts';
import { messages } from './connection.ts';
import { feedUrl } from './feed-url.ts';
import { decodeFeedMessage, type FeedMessage, MAX_FRAME_OCTETS } from './frame.ts';
import type { FeedState } from './state.ts';

export type FeedOptions = {
  /** Base URL of the AppView. */
  from: string;
  /** Plain http to another machine is allowed. */
  insecure?: boolean;
  zone: Zone;
  state: FeedState;
  log: Logger;
  count: (what: string, reason?: string) => void;
  now: () => number;
  /** The wait after the first failure; it doubles up to a minute. Default 1 s. */
  firstRetryMs?: number;
  /** Between two saves of what changed. Default a minute; more when saving takes long. */
  saveEveryMs?: number;
  /** A ping that is not answered before the next ends the connection. Default 20 s. */
  pingEveryMs?: number;
  /** After which the save of stop() is given up: the state before it stays. */
  lastSaveMs: number;
};

export type FeedStatus = {
  from: string;
  /** Connected, and everything that the AppView has is in the zone. */
  isCurrent: boolean;
  cursor: number;
  /** Unix ms; undefined before the first state is whole. */
  currentAtMs: number | undefined;
  /** Of what is answered. */
  ageMs: number | undefined;
};

const LONGEST_RETRY_MS = 60_000;
/** While the AppView is gone. */
const SAY_AGE_EVERY_MS = 10 * 60_000;
/** Saving takes at most this part of the time. */
const SAVE_SHARE = 20;

export class Feed {
  readonly #options: FeedOptions;
  readonly #ending = new AbortController();
  readonly #ready = Promise.withResolvers<void>();
  #cursor = 0;
  #currentAtMs: number | undefined;
  #isCurrent = false;
  /** The new state, while it is not whole; the zone keeps the old one. */
  #building: TableBuilder | undefined;
  #isChanged = false;
  #failures = 0;
  #work: Promise<unknown>[] = [];

  constructor(options: FeedOptions) {
    this.#options = options;
    feedUrl(options.from, 0, options.insecure ?? false);
    // Whoever does not wait for it must not be ended by its rejection.
    this.#ready.promise.catch(() => undefined);
  }

  /**
   * Loads the saved state and begins to follow.
   *
   * @param signal gives up the start, or the wait for `ready`
   * @throws Error when the saved state is damaged, or another's; or with what `signal` aborts
   */
  async start(signal?: AbortSignal): Promise<void> {
    const { state, zone, log } = this.#options;
    const saved = await state.load(zone.apex, signal);
    signal?.throwIfAborted();
    signal?.addEventListener('abort', () => this.#ready.reject(signal.reason), { once: true });
    if (saved) {
      zone.adopt(saved.loaded.table);
      this.#cursor = saved.cursor;
      this.#currentAtMs = saved.currentAtMs;
      log.info({ entries: zone.size, cursor: saved.cursor, ...this.#age() }, 'DNS list: saved state loaded');
      this.#ready.resolve();
    } else this.#beginAnew();
    this.#work = [this.#follow(), this.#keepSaving(), this.#keepSayingAge()];
  }

  /** Resolves when there is a whole state to answer from; rejects when stopped before. */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  status(): FeedStatus {
    const { from, now } = this.#options;
    const at = this.#currentAtMs;
    return {
      ...{ from, isCurrent: this.#isCurrent, cursor: this.#cursor, currentAtMs: at },
      ageMs: at === undefined ? undefined : Math.max(0, now() - at),
    };
  }

  /** Resolves when the connection is closed and the last state is saved, or could not be in time. */
  async stop(): Promise<void> {
    this.#ending.abort();
    this.#ready.reject(new Error('stopped'));
    await Promise.all(this.#work);
    await this.#save(AbortSignal.timeout(this.#options.lastSaveMs));
  }

  async #follow(): Promise<void> {
    const { log, count, firstRetryMs = 1_000, from } = this.#options;
    const { signal } = this.#ending;
    while (!signal.aborted) {
      try {
        await this.#readConnection(signal);
        if (!signal.aborted) log.warn({ from, ...this.#age() }, 'DNS list feed interrupted: it was closed');
      } catch (error) {
        if (!signal.aborted) log.warn({ err: error, from, ...this.#age() }, 'DNS list feed interrupted');
      }
      this.#isCurrent = false;
      if (signal.aborted) return;
      count('dns_feed_reconnects');
      this.#failures += 1;
      const longest = Math.min(firstRetryMs * 2 ** Math.min(this.#failures - 1, 16), LONGEST_RETRY_MS);
      await pause(longest * (0.5 + Math.random() / 2), undefined, { signal }).catch(() => undefined);
    }
  }

  async #readConnection(signal: AbortSignal): Promise<void> {
    const { from, insecure = false, count, pingEveryMs = 20_000 } = this.#options;
    const url = feedUrl(from, this.#cursor, insecure);
    const onHeard = () => this.#heard();
    const stream = messages({ url, signal, maxOctets: MAX_FRAME_OCTETS, pingEveryMs, onHeard });
    for await (const octets of stream) {
      const message = decodeFeedMessage(octets);
      if (message) this.#take(message);
      else count('dns_feed_dropped', 'malformed');
      if (message?.kind === 'error') return;
    }
  }

  #take(message: FeedMessage): void {
    const { count, log } = this.#options;
    if (message.kind === 'listings') this.#takeListings(message);
    else if (message.kind === 'unknown') count('dns_feed_dropped', 'unknown');
    else if (message.name === 'UpToDate' && message.kind === 'info') this.#isUpToDate();
    else if (message.name === 'OutdatedCursor' || message.name === 'FutureCursor') {
      log.warn(
        { name: message.name, cursor: this.#cursor },
        'DNS list: the AppView is another, beginning anew',
      );
      this.#beginAnew();
    } else {
      count('dns_feed_notices');
      log.warn({ name: message.name.slice(0, 64), from: this.#options.from }, 'DNS list feed says');
    }
  }

  #takeListings({ seq, listings, malformed }: FeedMessage & { kind: 'listings' }): void {
    const { count } = this.#options;
    const isInOrder = listings.every((listing) => listing.seq <= seq);
    if (seq <= this.#cursor || !isInOrder) {
      count('dns_feed_dropped', 'out_of_order');
      return;
    }
    for (let times = malformed; times > 0; times--) count('dns_feed_dropped', 'malformed_listing');
    for (const listing of listings) this.#apply(listing);
    this.#cursor = seq;
    this.#failures = 0;
  }

  #apply(listing: Listing): void {
    const { zone, count } = this.#options;
    const isListed = this.#building ? this.#building.add(listing) : zone.apply(listing) !== 'unlistable';
    if (!isListed) count('listings_unlistable');
    this.#isChanged = true;
  }

  #beginAnew(): void {
    this.#cursor = 0;
    this.#isCurrent = false;
    this.#building = new TableBuilder({ apex: this.#options.zone.apex, expect: this.#options.zone.size });
  }

  #isUpToDate(): void {
    const { zone, log, from } = this.#options;
    if (this.#building) {
      zone.adopt(this.#building.finish());
      this.#building = undefined;
      this.#isChanged = true;
    }
    this.#isCurrent = true;
    this.#failures = 0;
    this.#heard();
    log.info({ from, entries: zone.size, cursor: this.#cursor, serial: zone.serial }, 'DNS list is current');
    this.#ready.resolve();
  }

  /** A connection that lives, and had brought all there was, brings what changes at once. */
  #heard(): void {
    if (this.#isCurrent) this.#currentAtMs = this.#options.now();
  }

  async #keepSaving(): Promise<void> {
    const { saveEveryMs = 60_000 } = this.#options;
    const { signal } = this.#ending;
    let waitMs = saveEveryMs;
    while (!signal.aborted) {
      await pause(waitMs, undefined, { signal }).catch(() => undefined);
      if (signal.aborted) return;
      const began = performance.now();
      await this.#save(signal);
      waitMs = Math.max(saveEveryMs, (performance.now() - began) * SAVE_SHARE);
    }
  }

  /** Not while a new state comes in: its cursor and the zone do not belong together then. */
  async #save(signal: AbortSignal): Promise<void> {
    const { state, zone, log, count } = this.#options;
    if (this.#building || this.#currentAtMs === undefined) return;
    const wasChanged = this.#isChanged;
    this.#isChanged = false;
    try {
      const point = { cursor: this.#cursor, currentAtMs: this.#currentAtMs };
      if (wasChanged) await state.save(zone, point, signal);
      else await state.touch(point.currentAtMs);
    } catch (error) {
      this.#isChanged ||= wasChanged;
      if (signal.aborted && signal === this.#ending.signal) return;
      count('dns_feed_not_saved');
      log.error({ err: error }, 'DNS list: the state could not be saved, the one before it stays');
    }
  }

  async #keepSayingAge(): Promise<void> {
    const { log, from } = this.#options;
    const { signal } = this.#ending;
    while (!signal.aborted) {
      await pause(SAY_AGE_EVERY_MS, undefined, { signal }).catch(() => undefined);
      if (signal.aborted || this.#isCurrent) continue;
      log.warn({ from, ...this.#age() }, 'DNS list: the AppView is gone, the last state answers');
    }
  }

  #age(): { ageSeconds?: number } {
    const { ageMs } = this.status();
    return ageMs === undefined ? {} : { ageSeconds: Math.round(ageMs / 1000) };
  }
}
