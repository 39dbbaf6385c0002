/**
 * Follows one issuer's label stream for good.
 *
 * Promise: only labels of this issuer, with a signature that its DID document confirms, reach the store,
 * and none is passed over: while the document cannot be had, or may not be asked for again yet, the frame
 * waits and the stream with it. So bad signatures cost the time of the stream that brings them alone.
 * The cursor is the store's. A stream that is behind our cursor has lost or changed its history: it is
 * quarantined for a person to look at, never read again from the start by itself.
 */
import { setImmediate as breathe, setTimeout as pause } from 'node:timers/promises';
import type { Logger } from 'pino';
import { isCorruption } from '../database.ts';
import { type Frame, type LabelsFrame, parseLabel, type SignedLabel, verifyLabel } from './codec.ts';
import type { LabelSource } from './source.ts';
import type { LabelStore } from './store.ts';
import { unlessAborted } from './unless-aborted.ts';

export type LabelConsumerOptions = {
  /** DID of the issuer. */
  src: string;
  source: LabelSource;
  store: Pick<LabelStore, 'cursor' | 'receive'>;
  /** After forget(), resolve() answers from the network or rejects. */
  identities: { resolve(did: string): Promise<{ labelKey?: string }>; forget(did: string): void };
  log: Logger;
  count: (what: string, reason?: string) => void;
  now: () => number;
  /** 0 ≤ n < 1: spreads reconnections. */
  random?: () => number;
  /** The wait after the first failure; it doubles up to a minute. */
  firstRetryMs?: number;
  /** Resolves after so long; rejects on `signal`. Default: a timer. */
  sleep?: (ms: number, signal: AbortSignal) => Promise<unknown>;
};

export type ConsumerState = 'idle' | 'following' | 'waiting' | 'quarantined' | 'stopped';

const longestRetryMs = 60_000;
/** Bad signatures make us ask for the issuer's document again, but not more often than this. */
const refreshEveryMs = 60_000;
/** By how much an issuer's clock may run behind ours. */
const clockDriftMs = 5 * 60_000;
/** A frame may hold thousands of labels; between so many others get their turn. */
const labelsPerTurn = 64;

export class LabelConsumer {
  readonly #options: LabelConsumerOptions;
  readonly #ending = new AbortController();
  #running: Promise<void> | undefined;
  #state: ConsumerState = 'idle';
  #key: string | undefined;
  #refreshedAt = -Infinity;
  /** Connections in a row that brought nothing. */
  #failures = 0;

  constructor(options: LabelConsumerOptions) {
    this.#options = options;
  }

  get src(): string {
    return this.#options.src;
  }

  get state(): ConsumerState {
    return this.#state;
  }

  /** Corrupt state of our own is thrown out of here as an unhandled rejection, to stop the process. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** Resolves when the connection is closed and the frame in hand is stored. */
  async stop(): Promise<void> {
    if (this.#state !== 'quarantined') this.#state = 'stopped';
    this.#ending.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#ending;
    while (!signal.aborted) {
      this.#state = 'following';
      await this.#followOnce(signal);
      if (signal.aborted) return;
      this.#state = 'waiting';
      await pause(this.#retryMs(), undefined, { signal }).catch(() => undefined);
    }
  }

  async #followOnce(signal: AbortSignal): Promise<void> {
    const { src, source, store, log, count } = this.#options;
    this.#failures += 1;
    try {
      await source.follow(store.cursor(src) ?? 0, (frame) => this.#take(frame), signal);
    } catch (error) {
      if (isCorruption(error)) throw error;
      if (signal.aborted) return;
      count('label_stream_failed');
      log.warn({ src, err: error }, 'label stream failed, connecting again');
    }
  }

  #retryMs(): number {
    const { random = Math.random, firstRetryMs = 250 } = this.#options;
    const ceiling = Math.min(firstRetryMs * 2 ** Math.min(this.#failures - 1, 20), longestRetryMs);
    return ceiling * (0.5 + random() / 2);
  }

  async #take(frame: Frame): Promise<void> {
    if (frame.kind === 'labels') await this.#takeLabels(frame);
    else if (frame.kind === 'unknown') this.#options.count('label_frames_dropped', 'unknown');
    else if (frame.kind === 'info') this.#takeNotice(frame.name, frame.message);
    else if (frame.error === 'FutureCursor') this.#quarantine(frame.message);
    else this.#takeNotice(frame.error, frame.message);
  }

  async #takeLabels(frame: LabelsFrame): Promise<void> {
    const { src, store, count } = this.#options;
    const labels = await this.#verified(frame.labels);
    const outcome = store.receive(src, frame.seq, labels);
    // Only now: a frame that we cannot verify or store must not bring the next connection closer.
    this.#failures = 0;
    if (outcome === 'replayed') count('label_frames_dropped', 'replayed');
    else for (const _ of labels) count('labels_accepted');
  }

  #takeNotice(name: string, message: string | undefined): void {
    const { src, log, count } = this.#options;
    count('label_stream_notices');
    log.warn({ src, name, message }, 'label stream says');
  }

  #quarantine(message: string | undefined): void {
    const { src, store, log, count } = this.#options;
    this.#state = 'quarantined';
    this.#ending.abort();
    count('label_stream_quarantined');
    log.error(
      { src, cursor: store.cursor(src), message },
      'label stream quarantined: it is behind our cursor, so its history was lost or replaced. Ask its operator.',
    );
  }

  async #verified(values: readonly unknown[]): Promise<SignedLabel[]> {
    const labels = values.flatMap((value) => this.#own(value) ?? []);
    let bad = await this.#unconfirmed(labels, await this.#currentKey());
    // A clock that was set back must not make a label of now look older than our last reading.
    this.#refreshedAt = Math.min(this.#refreshedAt, this.#options.now());
    if (this.#mayHaveNewKey(bad)) {
      await this.#untilRefreshIsDue();
      bad = await this.#unconfirmed([...bad], await this.#freshKey());
    }
    for (const _ of bad) this.#options.count('labels_refused', 'bad_signature');
    return labels.filter((label) => !bad.has(label));
  }

  #own(value: unknown): SignedLabel | undefined {
    const label = parseLabel(value);
    if (label?.src === this.#options.src) return label;
    this.#options.count('labels_refused', label ? 'foreign_src' : 'malformed');
    return undefined;
  }

  async #unconfirmed(labels: readonly SignedLabel[], key: string): Promise<Set<SignedLabel>> {
    const bad = new Set<SignedLabel>();
    for (const [index, label] of labels.entries()) {
      if (index % labelsPerTurn === labelsPerTurn - 1) await breathe();
      if (!verifyLabel(label, key)) bad.add(label);
    }
    return bad;
  }

  /**
   * Whether the document, read again, could still confirm one of these.
   *
   * Made before we last read it, a label was signed with the key that we saw then or with an older one: it
   * is refused at once, or the history of an issuer that changed its key would cost a minute a label.
   */
  #mayHaveNewKey(bad: ReadonlySet<SignedLabel>): boolean {
    if (bad.size === 0 || this.#waitMs() <= 0) return bad.size > 0;
    return [...bad].some(({ cts }) => Date.parse(cts) > this.#refreshedAt - clockDriftMs);
  }

  async #untilRefreshIsDue(): Promise<void> {
    const { src, sleep = sleepFor, log, count } = this.#options;
    const waitMs = this.#waitMs();
    if (waitMs <= 0) return;
    count('label_frames_held');
    log.warn({ src, waitMs }, 'a signature looks bad: its frame waits until the key may be asked for again');
    await sleep(waitMs, this.#ending.signal);
  }

  /** Until the document may be asked for again; never more than the interval, though the clock be set back. */
  #waitMs(): number {
    return Math.min(this.#refreshedAt + refreshEveryMs - this.#options.now(), refreshEveryMs);
  }

  /**
   * After a rotation the signatures of the new key look bad until the document is read again. Forgotten
   * and not refreshed: an older copy that answers in the document's absence would condemn good labels.
   */
  async #freshKey(): Promise<string> {
    this.#options.identities.forget(this.#options.src);
    const key = await this.#currentKey();
    this.#refreshedAt = this.#options.now();
    return key;
  }

  async #currentKey(): Promise<string> {
    const { src, identities, log, count } = this.#options;
    const { labelKey } = await unlessAborted(identities.resolve(src), this.#ending.signal);
    if (!labelKey) throw new Error(`${src} has no key #atproto_label`);
    if (this.#key !== undefined && this.#key !== labelKey) {
      count('label_key_changed');
      log.warn({ src, before: this.#key, after: labelKey }, 'the issuer has another label key');
    }
    this.#key = labelKey;
    return labelKey;
  }
}

function sleepFor(ms: number, signal: AbortSignal): Promise<unknown> {
  return pause(ms, undefined, { signal });
}
