/**
 * Follows the private channels of peers, for as long as they are peers whom we guarantee or endorse.
 *
 * Promise: only signals about which a peer's trusted label key says so are stored, once, with their cursor; what a
 * peer does costs its own stream alone. Faults beyond a limit, a cursor ahead of the peer's log, and the suspension
 * of more than max(5, 2 %) of those it vouches for within 24 h put it in quarantine until a person releases it, and
 * what it said is not answered meanwhile. What would have exceeded the limit on suspensions is not stored, so that
 * the release lets it through; a frame with faults is read but for these, so that the release does not meet it again.
 * A disk that fails for a while is tried again.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { Logger } from 'pino';
import { isCorruption } from '../../appview/database.ts';
import { Conduct } from '../../appview/labels/conduct.ts';
import type { Fault, LabelLimits } from '../../appview/labels/limits.ts';
import { parseSignal, type Signal, type SignalFrame, verifySignal } from '../../appview/labels/signal.ts';
import { didOf, type Signals } from '../../appview/listing/signals.ts';
import type { ReputationChannel } from './channel.ts';

export type SignalReaderOptions = {
  channel: Pick<ReputationChannel, 'follow'>;
  signals: Signals;
  /** The label key under which a peer's words count now; undefined while there is none that does. */
  keyOf: (peer: string) => Promise<string | undefined>;
  /** After a bad signature: the next keyOf() asks the network. */
  forgetKey: (peer: string) => void;
  /** How many domains this peer's labels vouch for now. */
  vouchedBy: (peer: string) => number;
  /** Something was stored. */
  onStored: () => void;
  onQuarantine: (peer: string, reason: string) => void;
  limits?: LabelLimits;
  now: () => number;
  log: Logger;
  count: (what: string, reason?: string) => void;
  /** Without a frame for so long, we have read all that there is. Default 5 s. */
  quietMs?: number;
  /** The wait after the first failure; it doubles up to a minute. Default 250 ms. */
  firstRetryMs?: number;
};

const dayMs = 86_400_000;
const longestRetryMs = 60_000;
const clockDriftMs = 5 * 60_000;
/** So many suspensions a day any peer may have, and this share of those it vouches for. */
const suspensionsADay = 5;
const suspensionShare = 0.02;
const signalsPerFrame = 100;

/** A cooperative of ten thousand members has some signals a day. */
export const signalLimits: LabelLimits = {
  labelsPerSecond: 200,
  labelsPerDay: 50_000,
  maxLagMs: Number.POSITIVE_INFINITY,
  maxStored: 100_000,
  faultsPerHour: { bad_signature: 20, foreign_src: 20, future_cts: 50, malformed: 20, too_large: 3 },
};

/** Ends the reading of one peer. */
class Quarantined extends Error {}

/** `failures`: connections in a row that brought nothing. */
type Course = { conduct: Conduct; failures: number };
type Reading = { ending: AbortController; done: Promise<void> };

export class SignalReader {
  readonly #o: SignalReaderOptions;
  readonly #readings = new Map<string, Reading>();
  #stopped = false;

  constructor(options: SignalReaderOptions) {
    this.#o = options;
  }

  /** Reads these from now on, and nobody else. Of whom is no peer any more nothing stays. */
  follow(peers: readonly string[]): void {
    if (this.#stopped) return;
    const wanted = new Set(peers);
    for (const [peer, { ending, done }] of this.#readings) {
      if (wanted.has(peer)) continue;
      ending.abort();
      this.#readings.delete(peer);
      void done.then(() => this.#forget(peer));
    }
    for (const peer of this.#o.signals.sources())
      if (!wanted.has(peer) && !this.#readings.has(peer)) this.#forget(peer);
    for (const peer of wanted) if (!this.#readings.has(peer)) this.#read(peer);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    const readings = [...this.#readings.values()];
    for (const { ending } of readings) ending.abort();
    await Promise.all(readings.map(({ done }) => done));
  }

  /** A person's act. @returns false where nothing is quarantined */
  release(peer: string): boolean {
    if (!this.#o.signals.release(peer)) return false;
    this.#readings.get(peer)?.ending.abort();
    if (this.#readings.has(peer)) this.#read(peer);
    this.#o.onStored();
    return true;
  }

  /** A peer that came back meanwhile keeps what it says now. */
  #forget(peer: string, failures = 0): void {
    if (this.#readings.has(peer) || this.#stopped) return;
    if (this.#tried(() => this.#o.signals.forget(peer))) return;
    setTimeout(() => this.#forget(peer, failures + 1), this.#retryMs(failures + 1)).unref();
  }

  /** @returns false where our disk failed, for a while */
  #tried(write: () => void): boolean {
    try {
      write();
      return true;
    } catch (error) {
      if (isCorruption(error)) throw error;
      this.#o.count('signals_failed');
      this.#o.log.error({ err: error }, 'what is known of a private channel is not stored; trying again');
      return false;
    }
  }

  #read(peer: string): void {
    const before = this.#readings.get(peer)?.done ?? Promise.resolve();
    const ending = new AbortController();
    const course = { conduct: new Conduct(this.#o.limits ?? signalLimits), failures: 0 };
    // Corrupt state of our own is thrown out of here as an unhandled rejection, to stop the process.
    const done = before.then(() => this.#run(peer, course, ending.signal));
    this.#readings.set(peer, { ending, done });
  }

  async #run(peer: string, course: Course, ending: AbortSignal): Promise<void> {
    while (!ending.aborted) {
      const began = this.#o.now();
      // Until it brings something: also one that takes the connection and hangs up.
      course.failures += 1;
      try {
        if (this.#o.signals.peer(peer).quarantine) return;
        await this.#followOnce(peer, course, ending);
      } catch (error) {
        if (isCorruption(error)) throw error;
        if (error instanceof Quarantined || ending.aborted) return;
        this.#o.count('signal_stream_failed');
        this.#o.log.info({ peer, err: error }, 'the private channel of a peer failed, connecting again');
      }
      // One that stood for a while had no failure at the start.
      if (this.#o.now() - began > 60_000) course.failures = 1;
      const options = { signal: ending, ref: false };
      await pause(this.#retryMs(course.failures), undefined, options).catch(() => undefined);
    }
  }

  #retryMs(failures: number): number {
    const { firstRetryMs = 250 } = this.#o;
    return Math.min(firstRetryMs * 2 ** Math.min(failures, 20), longestRetryMs) * (0.5 + Math.random() / 2);
  }

  async #followOnce(peer: string, course: Course, ending: AbortSignal): Promise<void> {
    const { signals, channel, quietMs = 5_000 } = this.#o;
    if ((await this.#o.keyOf(peer)) === undefined) throw new Error('no label key of this peer counts now');
    let quiet: NodeJS.Timeout | undefined;
    const onOpen = () => {
      quiet ??= setInterval(() => this.#tried(() => signals.caughtUp(peer)), quietMs).unref();
    };
    const onFrame = async (frame: SignalFrame) => {
      await this.#take(peer, frame, course, ending);
      quiet?.refresh();
    };
    try {
      await channel.follow(peer, signals.peer(peer).cursor ?? 0, { onOpen, onFrame }, ending);
    } finally {
      clearInterval(quiet);
      this.#tried(() => signals.saveCaughtUp(peer));
    }
  }

  async #take(peer: string, frame: SignalFrame, course: Course, ending: AbortSignal): Promise<void> {
    const { conduct } = course;
    if (frame.kind === 'error') return this.#notice(peer, frame.error);
    if (frame.kind !== 'signals') {
      if (frame.kind === 'malformed' && this.#isTooMuch('malformed', conduct))
        this.#quarantine(peer, 'malformed');
      return;
    }
    const { seq, signals: values } = frame;
    if (values.length > signalsPerFrame) return this.#store(peer, seq, [], 'too_large');
    await this.#pace(peer, values.length, conduct, ending);
    let tooMuch: Fault | undefined;
    const onFault = (kind: Fault) => {
      if (this.#isTooMuch(kind, conduct)) tooMuch ??= kind;
    };
    const own = values.flatMap((value) => this.#own(peer, value, onFault) ?? []);
    const good = await this.#verified(peer, own, onFault);
    ending.throwIfAborted();
    const isNew = seq > (this.#o.signals.peer(peer).cursor ?? 0);
    this.#store(peer, seq, good, tooMuch);
    if (isNew) course.failures = 0;
  }

  #notice(peer: string, error: string): void {
    if (error === 'FutureCursor') this.#quarantine(peer, 'future_cursor');
    throw new Error(`the peer says: ${error}`);
  }

  async #pace(peer: string, many: number, conduct: Conduct, ending: AbortSignal): Promise<void> {
    const now = this.#o.now();
    if (conduct.received(Math.max(many, 1), now)) this.#quarantine(peer, 'too_many_signals');
    const waitMs = conduct.paceMs(Math.max(many, 1), now);
    if (waitMs > 0) await pause(waitMs, undefined, { signal: ending });
  }

  #own(peer: string, value: unknown, onFault: (kind: Fault) => void): Signal | undefined {
    const signal = parseSignal(value);
    if (signal?.label.src !== peer) {
      onFault(signal ? 'foreign_src' : 'malformed');
      return undefined;
    }
    if (Date.parse(signal.label.cts) > this.#o.now() + clockDriftMs) onFault('future_cts');
    return signal;
  }

  async #verified(
    peer: string,
    signals: readonly Signal[],
    onFault: (kind: Fault) => void,
  ): Promise<Signal[]> {
    const key = await this.#key(peer);
    const bad = signals.filter((signal) => !verifySignal(signal, key));
    if (bad.length === 0) return [...signals];
    // Its key may have changed, perhaps to one that does not count yet: then the stream waits, at the peer.
    this.#o.forgetKey(peer);
    const fresh = await this.#key(peer);
    const worse = fresh === key ? bad : bad.filter((signal) => !verifySignal(signal, fresh));
    for (const _ of worse) onFault('bad_signature');
    return signals.filter((signal) => !worse.includes(signal));
  }

  async #key(peer: string): Promise<string> {
    const key = await this.#o.keyOf(peer);
    if (key === undefined) throw new Error('no label key of this peer counts now');
    return key;
  }

  /** @param quarantine the frame is stored, and the last that is read */
  #store(peer: string, seq: number, good: readonly Signal[], quarantine?: Fault): void {
    const { signals, count, onStored, limits = signalLimits } = this.#o;
    const countedAt = this.#countedAt(peer);
    if (this.#suspendsTooMany(peer, good, countedAt)) this.#quarantine(peer, 'too_many_suspensions');
    const { maxStored } = limits;
    const refused = signals.receive(peer, seq, good, {
      countedAt,
      maxStored,
      ...(quarantine && { quarantine }),
    });
    for (let n = 0; n < refused; n++) count('signals_refused', 'too_many');
    for (const { label } of good) count('signals_received', label.val);
    if (quarantine) this.#quarantined(peer, quarantine);
    if (good.length > 0) onStored();
  }

  /**
   * What was made while we did not listen counts from when it was made; but not from before we last had read all,
   * for then it was not there.
   */
  #countedAt(peer: string): (signal: Signal) => number {
    const { caughtUpAt = 0 } = this.#o.signals.peer(peer);
    const now = this.#o.now();
    return ({ label }) => Math.max(Math.min(Date.parse(label.cts), now), caughtUpAt);
  }

  #suspendsTooMany(peer: string, good: readonly Signal[], countedAt: (signal: Signal) => number): boolean {
    const { signals, now, vouchedBy } = this.#o;
    const since = Math.max(now() - dayMs, signals.peer(peer).releasedAt ?? 0);
    const isNew = (signal: Signal) =>
      !signal.label.neg && ['suspended', 'removed'].includes(signal.label.val) && countedAt(signal) > since;
    const fresh = good.filter(isNew);
    if (fresh.length === 0) return false;
    const suspended = signals.suspendedSince(peer, since);
    for (const { label } of fresh) suspended.add(didOf(label.uri));
    return suspended.size > Math.max(suspensionsADay, Math.floor(suspensionShare * vouchedBy(peer)));
  }

  #isTooMuch(kind: Fault, conduct: Conduct): boolean {
    this.#o.count('signals_refused', kind);
    return conduct.fault(kind, this.#o.now()) !== undefined;
  }

  #quarantine(peer: string, reason: string): never {
    this.#o.signals.quarantine(peer, reason);
    this.#quarantined(peer, reason);
  }

  #quarantined(peer: string, reason: string): never {
    const { log, count, onQuarantine } = this.#o;
    count('signal_stream_quarantined', reason);
    log.error({ peer, reason }, 'the private channel of a peer is quarantined until it is released');
    onQuarantine(peer, reason);
    throw new Quarantined(reason);
  }
}
