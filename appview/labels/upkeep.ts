/**
 * What an issuer needs beside its stream, from time to time: whether its key has changed, whether a wait is over,
 * whether what we hold is to be compared with what it serves.
 *
 * Promise: looked at every ten minutes or so, and at once when somebody calls soon(); one look at a time. What
 * fails is tried again in an hour, or at the next look where even that could not be noted.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { Logger } from 'pino';
import { isCorruption } from '../database.ts';
import type { IssuerKey } from './issuer-key.ts';
import type { Reconciliation } from './reconcile.ts';
import type { LabelStore } from './store.ts';

export type UpkeepOptions = {
  src: string;
  store: LabelStore;
  key: IssuerKey;
  /** Absent: the stream cannot lose anything. */
  reconciliation?: Reconciliation;
  /** Default 24 h. */
  reconcileEveryMs?: number;
  /** So many labels are served no more that they are kept: something is wrong at the issuer's. */
  onVanished?: (src: string, missing: number, held: number) => void;
  log: Logger;
  count: (what: string, reason?: string) => void;
  now: () => number;
  random: () => number;
};

const lookEveryMs = 10 * 60_000;
const dayMs = 86_400_000;
/** After the first frame, and after a walk that failed. */
const reconcileSoonMs = 3_600_000;

export class Upkeep {
  readonly #options: UpkeepOptions;
  #looking: Promise<void> = Promise.resolve();
  #wake = Promise.withResolvers<void>();

  constructor(options: UpkeepOptions) {
    this.#options = options;
  }

  /** @param reading what ends a look: a quarantine, which may come and go. Resolves on `ending`. */
  async run(reading: () => AbortSignal, ending: AbortSignal): Promise<void> {
    ending.addEventListener('abort', () => this.soon());
    while (!ending.aborted) {
      const waking = new AbortController();
      const everyMs = lookEveryMs * (0.75 + this.#options.random() / 2);
      const waited = pause(everyMs, undefined, { signal: waking.signal, ref: false });
      await Promise.race([waited, this.#wake.promise]);
      waking.abort();
      await waited.catch(() => undefined);
      this.#wake = Promise.withResolvers();
      if (!ending.aborted) await this.look(reading());
    }
    await this.#looking;
  }

  soon(): void {
    this.#wake.resolve();
  }

  /** The first frame is here: from now on there is something to compare. */
  begin(): void {
    const { src, store, now } = this.#options;
    if (store.states.reconcileDueAt(src) === undefined) {
      store.states.reconcileAt(src, now() + reconcileSoonMs);
    }
  }

  look(signal: AbortSignal): Promise<void> {
    // A look that failed is its caller's to hear of, and no reason not to look again.
    this.#looking = this.#looking.catch(() => undefined).then(() => this.#look(signal));
    return this.#looking;
  }

  async #look(signal: AbortSignal): Promise<void> {
    const { src, store, key, log, count, now } = this.#options;
    try {
      await store.countWaiting(src);
      // Before the first frame there is nothing to compare, and no key to see changing.
      if (signal.aborted || store.states.trustedKey(src) === undefined) return;
      await key.current(signal);
      if ((store.states.reconcileDueAt(src) ?? Infinity) <= now()) await this.#reconcile(signal);
    } catch (error) {
      if (isCorruption(error)) throw error;
      if (signal.aborted) return;
      count('label_reconcile_failed');
      log.warn({ src, err: error }, 'labels not compared with what their issuer serves, trying again');
      this.#postpone();
    }
  }

  #postpone(): void {
    const { src, store, log, now } = this.#options;
    try {
      store.states.reconcileAt(src, now() + reconcileSoonMs);
    } catch (error) {
      if (isCorruption(error)) throw error;
      log.warn({ src, err: error }, 'the next comparison is not put off');
    }
  }

  async #reconcile(signal: AbortSignal): Promise<void> {
    const { src, store, reconciliation, log, count, now, random, onVanished } = this.#options;
    if (!reconciliation) return;
    const { reconcileEveryMs = dayMs } = this.#options;
    const next = () => Math.round(now() + reconcileEveryMs * (0.9 + random() / 5));
    const outcome = await reconciliation.run(signal);
    count('label_reconciliations', outcome.kind);
    if (outcome.kind === 'complete') return store.states.reconciled(src, now(), next());
    store.states.reconcileAt(src, outcome.kind === 'vanished' ? next() : now() + reconcileSoonMs);
    log.warn({ src, ...outcome }, 'labels compared with what their issuer serves: nothing was withdrawn');
    if (outcome.kind === 'vanished') onVanished?.(src, outcome.missing, outcome.held);
  }
}
