/**
 * Which labels of an issuer carry its signature.
 *
 * Promise: none is refused that the issuer's document, read again, would confirm: while it cannot be had, or may
 * not be asked for again yet, the labels wait. The document is read again because of bad signatures once a minute
 * at most. Only a label made before we last read the document is refused at once.
 */
import type { Logger } from 'pino';
import type { SignedLabel } from './codec.ts';
import type { IssuerKey } from './issuer-key.ts';
import { sleepFor } from './sleep.ts';
import type { KeyOf } from './store.ts';
import type { LabelVerifier } from './verify-threads.ts';

/** By how much an issuer's clock may run behind or ahead of ours. */
export const clockDriftMs = 5 * 60_000;
const refreshEveryMs = 60_000;

export type ConfirmationOptions = {
  src: string;
  key: IssuerKey;
  verifier: LabelVerifier;
  log: Logger;
  count: (what: string, reason?: string) => void;
  now: () => number;
  /** Resolves after so long; rejects on `signal`. Default: a timer. */
  sleep?: (ms: number, signal: AbortSignal) => Promise<unknown>;
};

/** `old`: refused, but made before we read the document: an older key may have signed it. */
export type Confirmed = { keyOf: KeyOf; bad: ReadonlySet<SignedLabel>; old: ReadonlySet<SignedLabel> };

export class Confirmation {
  readonly #options: ConfirmationOptions;
  #refreshedAt = Number.NEGATIVE_INFINITY;

  constructor(options: ConfirmationOptions) {
    this.#options = options;
  }

  /** @throws while the issuer's document cannot be had, and on `signal` */
  async confirm(labels: readonly SignedLabel[], signal: AbortSignal): Promise<Confirmed> {
    const { key, now } = this.#options;
    const first = await key.current(signal);
    let bad = await this.#unconfirmed(labels, first);
    let keyOf: KeyOf = () => first;
    // A clock that was set back must not make a label of now look older than our last reading.
    this.#refreshedAt = Math.min(this.#refreshedAt, now());
    if (this.#mayHaveNewKey(bad)) {
      await this.#untilRefreshIsDue(signal);
      const wasTrusted = key.isTrusted(first);
      const second = await key.fresh(signal);
      this.#refreshedAt = now();
      // On the other side of a rotation what the trusted key signed is good. A waiting key that went vouches for nothing.
      const again = new Set(second === first || wasTrusted ? bad : labels);
      keyOf = (label) => (again.has(label) ? second : first);
      bad = await this.#unconfirmed([...again], second);
    }
    return { keyOf, bad, old: new Set([...bad].filter((label) => this.#isOld(label))) };
  }

  /** Without asking for the document again. @throws as confirm() */
  async check(labels: readonly SignedLabel[], signal: AbortSignal): Promise<Confirmed> {
    const didKey = await this.#options.key.current(signal);
    return { keyOf: () => didKey, bad: await this.#unconfirmed(labels, didKey), old: new Set() };
  }

  async #unconfirmed(labels: readonly SignedLabel[], didKey: string): Promise<Set<SignedLabel>> {
    const { verifier, src } = this.#options;
    const verdicts = await verifier.verify(src, labels, didKey);
    return new Set(labels.filter((_, index) => !verdicts[index]));
  }

  /**
   * Whether the document, read again, could still confirm one of these.
   *
   * Made before we last read it, a label was signed with the key that we saw then or with an older one: it
   * is refused at once, or the history of an issuer that changed its key would cost a minute a label.
   */
  #mayHaveNewKey(bad: ReadonlySet<SignedLabel>): boolean {
    if (bad.size === 0 || this.#waitMs() <= 0) return bad.size > 0;
    return [...bad].some((label) => !this.#isOld(label));
  }

  #isOld({ cts }: SignedLabel): boolean {
    return Date.parse(cts) <= this.#refreshedAt - clockDriftMs;
  }

  async #untilRefreshIsDue(signal: AbortSignal): Promise<void> {
    const { src, sleep = sleepFor, log, count } = this.#options;
    const waitMs = this.#waitMs();
    if (waitMs <= 0) return;
    count('label_frames_held');
    log.warn({ src, waitMs }, 'a signature looks bad: its frame waits until the key may be asked for again');
    await sleep(waitMs, signal);
  }

  /** Until the document may be asked for again; never more than the interval, though the clock be set back. */
  #waitMs(): number {
    return Math.min(this.#refreshedAt + refreshEveryMs - this.#options.now(), refreshEveryMs);
  }
}
