/**
 * Follows the private channels of peers, for as long as they are peers whom we guarantee or endorse.
 *
 * Promise: only signals about which a peer's trusted label key says so are stored, once, with their cursor; what a
 * peer does costs its own stream alone. Faults beyond a limit, a cursor ahead of the peer's log, and the suspension
 * of more than max(5, 2 %) of those it vouches for within 24 h put it in quarantine until a person releases it: what
 * would have exceeded the limit is not stored, and what it said before is not answered meanwhile.
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

type Reading = { ending: AbortController; done: Promise<void>; conduct: Conduct };

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
  #forget(peer: string): void {
    if (!this.#readings.has(peer) && !this.#stopped) this.#o.signals.forget(peer);
  }

  #read(peer: string): void {
    const before = this.#readings.get(peer)?.done ?? Promise.resolve();
    const ending = new AbortController();
    const conduct = new Conduct(this.#o.limits ?? signalLimits);
    // Corrupt state of our own is thrown out of here as an unhandled rejection, to stop the process.
    const done = before.then(() => this.#run(peer, conduct, ending.signal));
    this.#readings.set(peer, { ending, done, conduct });
  }

  async #run(peer: string, conduct: Conduct, ending: AbortSignal): Promise<void> {
    const { signals, firstRetryMs = 250 } = this.#o;
    let failures = 0;
    while (!ending.aborted && !signals.peer(peer).quarantine) {
      const began = this.#o.now();
      try {
        await this.#followOnce(peer, conduct, ending);
        failures = 0;
      } catch (error) {
        if (isCorruption(error)) throw error;
        if (error instanceof Quarantined || ending.aborted) return;
        // One that stood for a while had no failure at the start.
        failures = this.#o.now() - began > 60_000 ? 1 : failures + 1;
        this.#o.count('signal_stream_failed');
        this.#o.log.info({ peer, err: error }, 'the private channel of a peer failed, connecting again');
      }
      const wait = Math.min(firstRetryMs * 2 ** Math.min(failures, 20), longestRetryMs);
      await pause(wait * (0.5 + Math.random() / 2), undefined, { signal: ending, ref: false }).catch(
        () => undefined,
      );
    }
  }

  async #followOnce(peer: string, conduct: Conduct, ending: AbortSignal): Promise<void> {
    const { signals, channel, quietMs = 5_000 } = this.#o;
    if ((await this.#o.keyOf(peer)) === undefined) throw new Error('no label key of this peer counts now');
    let quiet: NodeJS.Timeout | undefined;
    const onOpen = () => {
      quiet ??= setInterval(() => signals.caughtUp(peer), quietMs).unref();
    };
    const onFrame = async (frame: SignalFrame) => {
      await this.#take(peer, frame, conduct, ending);
      quiet?.refresh();
    };
    try {
      await channel.follow(peer, signals.peer(peer).cursor ?? 0, { onOpen, onFrame }, ending);
    } finally {
      clearInterval(quiet);
    }
  }

  async #take(peer: string, frame: SignalFrame, conduct: Conduct, ending: AbortSignal): Promise<void> {
    if (frame.kind === 'error') return this.#notice(peer, frame.error);
    if (frame.kind !== 'signals') {
      if (frame.kind === 'malformed') this.#fault(peer, 'malformed', conduct);
      return;
    }
    const { seq, signals: values } = frame;
    if (values.length > signalsPerFrame) this.#quarantine(peer, 'too_large');
    await this.#pace(peer, values.length, conduct, ending);
    const own = values.flatMap((value) => this.#own(peer, value, conduct) ?? []);
    const good = await this.#verified(peer, own, conduct);
    ending.throwIfAborted();
    this.#store(peer, seq, good);
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

  #own(peer: string, value: unknown, conduct: Conduct): Signal | undefined {
    const signal = parseSignal(value);
    if (signal?.label.src !== peer) {
      this.#fault(peer, signal ? 'foreign_src' : 'malformed', conduct);
      return undefined;
    }
    if (Date.parse(signal.label.cts) > this.#o.now() + clockDriftMs) this.#fault(peer, 'future_cts', conduct);
    return signal;
  }

  async #verified(peer: string, signals: readonly Signal[], conduct: Conduct): Promise<Signal[]> {
    const key = await this.#key(peer);
    const bad = signals.filter((signal) => !verifySignal(signal, key));
    if (bad.length === 0) return [...signals];
    // Its key may have changed, perhaps to one that does not count yet: then the stream waits, at the peer.
    this.#o.forgetKey(peer);
    const fresh = await this.#key(peer);
    const worse = fresh === key ? bad : bad.filter((signal) => !verifySignal(signal, fresh));
    for (const _ of worse) this.#fault(peer, 'bad_signature', conduct);
    return signals.filter((signal) => !worse.includes(signal));
  }

  async #key(peer: string): Promise<string> {
    const key = await this.#o.keyOf(peer);
    if (key === undefined) throw new Error('no label key of this peer counts now');
    return key;
  }

  #store(peer: string, seq: number, good: readonly Signal[]): void {
    const { signals, count, onStored, limits = signalLimits } = this.#o;
    const countedAt = this.#countedAt(peer);
    if (this.#suspendsTooMany(peer, good, countedAt)) this.#quarantine(peer, 'too_many_suspensions');
    const refused = signals.receive(peer, seq, good, { countedAt, maxStored: limits.maxStored });
    for (let n = 0; n < refused; n++) count('signals_refused', 'too_many');
    for (const { label } of good) count('signals_received', label.val);
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

  #fault(peer: string, kind: Fault, conduct: Conduct): void {
    this.#o.count('signals_refused', kind);
    if (conduct.fault(kind, this.#o.now())) this.#quarantine(peer, kind);
  }

  #quarantine(peer: string, reason: string): never {
    const { signals, log, count, onQuarantine } = this.#o;
    signals.quarantine(peer, reason);
    count('signal_stream_quarantined', reason);
    log.error({ peer, reason }, 'the private channel of a peer is quarantined until it is released');
    onQuarantine(peer, reason);
    throw new Quarantined(reason);
  }
}
