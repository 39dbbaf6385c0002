/**
 * Follows one issuer's labels for good.
 *
 * Promise: only labels of this issuer, with a signature that its DID document confirms, reach the store, and none
 * is passed over: while the document cannot be had, or may not be asked for again yet, the stream waits, and so it
 * does where it is faster than its limit. So whatever an issuer does costs the time of its own stream alone. One
 * that misbehaves, or whose stream is behind our cursor, is quarantined: what it said stands, nothing new is read,
 * over restarts too, until a person releases it; then its stream goes on behind the batch that was too much. The
 * cursor is the store's, and never reset without that. Our own stream is never quarantined.
 */
import type { Logger } from 'pino';
import { isCorruption } from '../database.ts';
import { type Frame, type LabelsFrame, parseLabel, type SignedLabel } from './codec.ts';
import { Conduct } from './conduct.ts';
import { Confirmation, clockDriftMs } from './confirmation.ts';
import { Inbox, labelsAtOnce, sizeOf } from './inbox.ts';
import { IssuerKey, type KeyChanged, type LabelIdentities } from './issuer-key.ts';
import type { QuarantineReason } from './issuers.ts';
import { defaultLimits, type Fault, type LabelLimits } from './limits.ts';
import { Reconciliation } from './reconcile.ts';
import { sleepFor } from './sleep.ts';
import type { LabelSource } from './source.ts';
import type { ConsumerState, ConsumerStatus } from './status.ts';
import type { KeyOf, LabelStore, VerifiedFrame } from './store.ts';
import { Upkeep } from './upkeep.ts';
import { type LabelVerifier, VerifyThreads } from './verify-threads.ts';

export type LabelConsumerOptions = {
  /** DID of the issuer. */
  src: string;
  /** Nothing of ours is quarantined: a log that is behind our cursor came back from a backup, and is read anew. */
  isOurs?: boolean;
  source: LabelSource;
  store: LabelStore;
  identities: LabelIdentities;
  /** A `did:key`: the one that the operator was shown; default: the first that we see. */
  firstKey?: string;
  log: Logger;
  count: (what: string, reason?: string) => void;
  now: () => number;
  /** Shared by all consumers. Default: the calling thread. */
  verifier?: LabelVerifier;
  limits?: LabelLimits;
  /** How long the labels of a did:web's new key wait; default 24 h. */
  keyWaitMs?: number;
  /** Between two comparisons with what the issuer serves; default 24 h. */
  reconcileEveryMs?: number;
  /** The operator is to be told. */
  onQuarantine?: (src: string, reason: QuarantineReason, detail?: string) => void;
  onKeyChange?: (src: string, change: KeyChanged) => void;
  /** So many labels are served no more that they are kept: something is wrong at the issuer's. */
  onVanished?: (src: string, missing: number, held: number) => void;
  /** 0 ≤ n < 1: spreads what many consumers do. */
  random?: () => number;
  /** The wait after the first failure; it doubles up to a minute. */
  firstRetryMs?: number;
  /** Resolves after so long; rejects on `signal`. Default: a timer. */
  sleep?: (ms: number, signal: AbortSignal) => Promise<unknown>;
};

const dayMs = 86_400_000;
const longestRetryMs = 60_000;

export class LabelConsumer {
  readonly #options: LabelConsumerOptions;
  readonly #confirmation: Confirmation;
  readonly #key: IssuerKey;
  readonly #upkeep: Upkeep;
  readonly #ending = new AbortController();
  #conduct: Conduct;
  #running: Promise<unknown> | undefined;
  #state: ConsumerState = 'idle';
  /** Ends the connection, the walk and every wait: a quarantine. */
  #reading = new AbortController();
  #released = Promise.withResolvers<void>();
  /** Connections in a row that brought nothing. */
  #failures = 0;
  #lastError: string | undefined;
  #lastLabelAt: number | undefined;
  /** Something of this run carried the present key: what is older was signed with it too, or badly. */
  #hasConfirmed = false;

  constructor(options: LabelConsumerOptions) {
    this.#options = options;
    const { src, source, store, identities, log, count, now, sleep } = options;
    const { keyWaitMs = dayMs, onKeyChange = () => undefined, firstKey } = options;
    this.#conduct = new Conduct(options.limits ?? defaultLimits);
    this.#key = new IssuerKey({
      ...{ src, store, identities, keyWaitMs, log, count, now },
      ...(firstKey !== undefined && { firstKey }),
      onKeyChange: (...change) => {
        onKeyChange(...change);
        this.#upkeep.soon();
      },
    });
    this.#confirmation = new Confirmation({
      ...{
        src,
        log,
        count,
        now,
        key: this.#key,
        verifier: options.verifier ?? new VerifyThreads({ threads: 0 }),
      },
      ...(sleep && { sleep }),
    });
    const reconciliation = new Reconciliation({
      ...{ src, source, store, count, now, confirmation: this.#confirmation },
      pace: (labels, signal) => this.#pace(labels, signal),
    });
    const { reconcileEveryMs, onVanished, random = Math.random } = options;
    this.#upkeep = new Upkeep({
      ...{ src, store, log, count, now, random, key: this.#key },
      ...(source.query && { reconciliation }),
      ...(reconcileEveryMs !== undefined && { reconcileEveryMs }),
      ...(onVanished && { onVanished }),
    });
  }

  get src(): string {
    return this.#options.src;
  }

  get state(): ConsumerState {
    return this.#state;
  }

  status(): ConsumerStatus {
    const { src, store, now } = this.#options;
    const quarantine = store.states.quarantineOf(src);
    const change = store.states.keyChange(src);
    const known = {
      reason: quarantine?.reason,
      detail: quarantine?.detail,
      quarantinedAt: quarantine?.at,
      lastError: this.#lastError,
      cursor: store.cursor(src),
      lastLabelAt: this.#lastLabelAt,
      newKey: change?.key,
      newKeyCountsFrom: change?.countsFrom,
      reconciledAt: store.states.reconciledAt(src),
    };
    return {
      state: this.#state,
      held: store.held(src),
      lagMs: this.#conduct.lagMs(now()),
      refusedToday: this.#conduct.refusedToday(now()),
      ...Object.fromEntries(Object.entries(known).filter(([, value]) => value !== undefined)),
    };
  }

  /** Corrupt state of our own is thrown out of here as an unhandled rejection, to stop the process. */
  start(): void {
    if (this.#options.isOurs) this.release();
    this.#running ??= Promise.all([
      this.#run(),
      this.#upkeep.run(() => this.#reading.signal, this.#ending.signal),
    ]);
  }

  /** Resolves when the connection is closed and the frame in hand is stored. */
  async stop(): Promise<void> {
    if (this.#state !== 'quarantined') this.#state = 'stopped';
    this.#ending.abort();
    this.#reading.abort();
    this.#released.resolve();
    await this.#running;
  }

  /**
   * A person's act: the stream is read again, with a clean sheet. One that was behind our cursor is read from its
   * oldest frame on. What was missed comes by reconciling.
   *
   * @returns false when it is not quarantined
   */
  release(): boolean {
    const { src, store, log, now } = this.#options;
    const quarantine = store.states.quarantineOf(src);
    if (!quarantine || this.#ending.signal.aborted) return false;
    if (quarantine.reason === 'future_cursor') store.forgetCursor(src);
    store.states.release(src);
    store.states.reconcileAt(src, now());
    log.warn({ src, quarantine }, 'label stream released from quarantine');
    this.#conduct = new Conduct(this.#options.limits ?? defaultLimits);
    this.#failures = 0;
    this.#reading = new AbortController();
    this.#released.resolve();
    this.#released = Promise.withResolvers();
    this.#upkeep.soon();
    return true;
  }

  /** What a timer does: a key that changed, a wait that is over, a reconciliation that is due. */
  look(): Promise<void> {
    return this.#upkeep.look(this.#reading.signal);
  }

  async #run(): Promise<void> {
    const { src, store } = this.#options;
    while (!this.#ending.signal.aborted) {
      if (store.states.quarantineOf(src)) {
        this.#state = 'quarantined';
        await this.#released.promise;
      } else await this.#followOnce();
    }
  }

  async #followOnce(): Promise<void> {
    const { signal } = this.#reading;
    this.#state = 'following';
    this.#failures += 1;
    try {
      this.#key.begin();
      await this.#connect(signal);
      this.#lastError = undefined;
    } catch (error) {
      this.#failed(error, signal);
    }
    if (signal.aborted) return;
    this.#state = 'waiting';
    await sleepFor(this.#retryMs(), signal).catch(() => undefined);
  }

  #failed(error: unknown, signal: AbortSignal): void {
    if (isCorruption(error)) throw error;
    if (signal.aborted) return;
    const { src, log, count } = this.#options;
    this.#lastError = (error as Error).message.slice(0, 200);
    count('label_stream_failed');
    log.warn({ src, err: error }, 'label stream failed, connecting again');
  }

  /** Reading and storing go side by side; whichever fails ends the other. */
  async #connect(outer: AbortSignal): Promise<void> {
    const { src, source, store } = this.#options;
    const failing = new AbortController();
    const signal = AbortSignal.any([outer, failing.signal]);
    const inbox = new Inbox();
    const read = source
      .follow(store.cursor(src) ?? 0, (frame) => inbox.put(frame, signal), signal)
      .finally(() => inbox.end());
    const storing = this.#takeAll(inbox, signal)
      .catch((error) => {
        failing.abort(error);
        throw error;
      })
      .finally(() => inbox.end());
    const [stored, ended] = await Promise.allSettled([storing, read]);
    if (stored.status === 'rejected') throw stored.reason;
    if (ended.status === 'rejected') throw ended.reason;
  }

  async #takeAll(inbox: Inbox, signal: AbortSignal): Promise<void> {
    for (let taken = await inbox.take(); taken; taken = await inbox.take()) {
      if (signal.aborted) return;
      if (Array.isArray(taken)) await this.#takeLabels(taken, signal);
      else await this.#takeOther(taken, signal);
      if (!inbox.isFull) this.#conduct.caughtUp();
      else this.#quarantineFor(this.#conduct.isBehind(this.#options.now()));
    }
  }

  async #takeOther(frame: Exclude<Frame, LabelsFrame>, signal: AbortSignal): Promise<void> {
    const { src, store, count, now } = this.#options;
    await this.#pace(1, signal);
    if (frame.kind === 'unknown') count('label_frames_dropped', 'unknown');
    else if (frame.kind === 'broken') {
      count('label_frames_dropped', frame.why);
      this.#quarantineFor(this.#fault(frame.why));
    } else if (frame.kind === 'error' && frame.error === 'FutureCursor') {
      if (this.#options.isOurs) store.forgetCursor(src);
      this.#quarantineFor('future_cursor', frame.message);
    } else {
      const name = frame.kind === 'info' ? frame.name : frame.error;
      this.#takeNotice(name, frame.message);
      // What lies between our cursor and the oldest frame, we shall never read.
      if (name === 'OutdatedCursor') store.states.reconcileAt(src, now());
      this.#upkeep.soon();
    }
  }

  #takeNotice(name: string, message: string | undefined): void {
    const { src, log, count } = this.#options;
    count('label_stream_notices');
    log.warn({ src, name, message }, 'label stream says');
  }

  async #takeLabels(frames: readonly LabelsFrame[], signal: AbortSignal): Promise<void> {
    await this.#pace(
      frames.reduce((sum, frame) => sum + sizeOf(frame), 0),
      signal,
    );
    const faults: (Fault | undefined)[] = [];
    try {
      await this.#judge(frames, faults, signal);
    } finally {
      // After the store: a release goes on behind the batch, and does not meet it again.
      this.#quarantineFor(faults.find((fault) => fault !== undefined));
    }
  }

  /** @param faults gets those that are one too many */
  async #judge(
    frames: readonly LabelsFrame[],
    faults: (Fault | undefined)[],
    signal: AbortSignal,
  ): Promise<void> {
    const { count, now } = this.#options;
    const own = frames.map(({ seq, labels }) => ({
      seq,
      labels: labels.flatMap((value) => this.#own(value, faults) ?? []),
    }));
    const all = own.flatMap(({ labels }) => labels);
    const { keyOf, bad, old } = await this.#confirmation.confirm(all, signal);
    for (const label of bad) faults.push(this.#refuse(!old.has(label) || this.#hasConfirmed));
    if (all.length > bad.size) {
      this.#hasConfirmed = true;
      this.#lastLabelAt = now();
    }
    signal.throwIfAborted();
    const good = own.map(({ seq, labels }) => ({ seq, labels: labels.filter((one) => !bad.has(one)) }));
    const stored = this.#store(good, keyOf);
    // Only now: a frame that we cannot verify or store must not bring the next connection closer.
    this.#failures = 0;
    this.#lastError = undefined;
    for (let n = stored; n < frames.length; n++) count('label_frames_dropped', 'replayed');
    if (stored > 0) for (const _ of good.flatMap(({ labels }) => labels)) count('labels_accepted');
    this.#upkeep.begin();
  }

  /** One commit, but for a frame that is too long for one: its cursor comes with the last part. */
  #store(frames: VerifiedFrame[], keyOf: KeyOf): number {
    const { src, store } = this.#options;
    const last = frames.at(-1)!;
    const isLong = frames.length === 1 && last.seq > (store.cursor(src) ?? -1);
    let from = 0;
    for (; isLong && last.labels.length - from > labelsAtOnce; from += labelsAtOnce) {
      store.apply(src, last.labels.slice(from, from + labelsAtOnce), keyOf);
    }
    if (from === 0) return store.receiveAll(src, frames, keyOf);
    return store.receiveAll(src, [{ seq: last.seq, labels: last.labels.slice(from) }], keyOf);
  }

  #own(value: unknown, faults: (Fault | undefined)[]): SignedLabel | undefined {
    const { src, count, now } = this.#options;
    const label = parseLabel(value);
    if (label?.src !== src) {
      count('labels_refused', label ? 'foreign_src' : 'malformed');
      faults.push(this.#fault(label ? 'foreign_src' : 'malformed'));
      return undefined;
    }
    if (Date.parse(label.cts) > now() + clockDriftMs) {
      count('labels_ahead_of_time');
      faults.push(this.#fault('future_cts'));
    }
    return label;
  }

  /** @param isFault false for one that an older key may have signed, before the present one was ever seen */
  #refuse(isFault: boolean): Fault | undefined {
    const { count, now } = this.#options;
    count('labels_refused', 'bad_signature');
    if (isFault) return this.#fault('bad_signature');
    this.#conduct.refused(now());
    return undefined;
  }

  /** @returns it when it is one too many */
  #fault(kind: Fault): Fault | undefined {
    const at = this.#options.now();
    if (kind !== 'future_cts') this.#conduct.refused(at);
    return this.#conduct.fault(kind, at);
  }

  async #pace(labels: number, signal: AbortSignal): Promise<void> {
    const { sleep = sleepFor, now } = this.#options;
    this.#quarantineFor(this.#conduct.received(labels, now()));
    const waitMs = this.#conduct.paceMs(labels, now());
    if (waitMs > 0) await sleep(waitMs, signal);
    signal.throwIfAborted();
  }

  #quarantineFor(reason: QuarantineReason | undefined, detail?: string): void {
    const { src, isOurs, store, log, count, now, onQuarantine } = this.#options;
    if (!reason || isOurs || this.#reading.signal.aborted) return;
    store.states.quarantine(src, { reason, at: now(), ...(detail !== undefined && { detail }) });
    this.#state = 'quarantined';
    this.#reading.abort();
    count('label_stream_quarantined', reason);
    log.error(
      { src, reason, detail, cursor: store.cursor(src) },
      'label stream quarantined: what it said stands, nothing new is read until it is released',
    );
    onQuarantine?.(src, reason, detail);
  }

  #retryMs(): number {
    const { random = Math.random, firstRetryMs = 250 } = this.#options;
    const ceiling = Math.min(firstRetryMs * 2 ** Math.min(this.#failures - 1, 20), longestRetryMs);
    return ceiling * (0.5 + random() / 2);
  }
}
