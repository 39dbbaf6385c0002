/**
 * Whose labels we read: one consumer for each followed issuer, added and taken away while the AppView runs.
 *
 * Promise: an issuer that is followed no more leaves nothing behind: its labels, its cursor and the first
 * sights of its labels go, some at a time, also after a restart in between; and it is followed anew only when
 * they are gone. For while nobody looks, no chain of labels is known to be unbroken.
 */
import { setImmediate as breathe } from 'node:timers/promises';
import type { Logger } from 'pino';
import { isCorruption } from './database.ts';
import type { LabelConsumer } from './labels/consumer.ts';
import type { LabelSource } from './labels/source.ts';
import type { LabelStore } from './labels/store.ts';
import type { Ledger } from './listing/ledger.ts';

/** An issuer whose labels we read. */
export type Followed = {
  did: string;
  /** Default: its `#atproto_labeler`, over a WebSocket. */
  source?: LabelSource;
  /** A `did:key`: the one that the operator was shown, trusted where none is yet. Default: the first that we see. */
  labelKey?: string;
};

export type FollowingOptions = {
  consumer: (followed: Followed) => LabelConsumer;
  labels: Pick<LabelStore, 'issuers' | 'drop'>;
  ledger: Pick<Ledger, 'forget'>;
  log: Logger;
};

/** Of each kind in one commit. */
const dropAtOnce = 500;

export class Following {
  readonly #options: FollowingOptions;
  readonly #consumers = new Map<string, LabelConsumer>();
  readonly #dropping = new Map<string, Promise<void>>();
  #state: 'idle' | 'running' | 'stopped' = 'idle';

  constructor(options: FollowingOptions) {
    this.#options = options;
  }

  get consumers(): readonly LabelConsumer[] {
    return [...this.#consumers.values()];
  }

  consumer(did: string): LabelConsumer | undefined {
    return this.#consumers.get(did);
  }

  /** Also drops what is left of issuers that were followed before. */
  start(): void {
    this.#state = 'running';
    for (const did of this.#options.labels.issuers()) if (!this.#consumers.has(did)) this.#drop(did);
    for (const did of this.#consumers.keys()) this.#begin(did);
  }

  /** One that is followed already stays as it is. */
  follow(followed: Followed): void {
    const { did } = followed;
    if (this.#consumers.has(did) || this.#state === 'stopped') return;
    this.#consumers.set(did, this.#options.consumer(followed));
    if (this.#state === 'running') this.#begin(did);
  }

  /** Resolves when its stream is read no more; what is stored of it goes in the background. */
  async unfollow(did: string): Promise<void> {
    const consumer = this.#consumers.get(did);
    if (!consumer) return;
    this.#consumers.delete(did);
    // Dropped after the last frame is stored. Whoever follows it anew meanwhile waits for that too.
    const stopped = consumer.stop();
    this.#drop(did, stopped);
    await stopped;
  }

  /** Resolves when nothing here reads or writes any more. */
  async stop(): Promise<void> {
    this.#state = 'stopped';
    await Promise.all([...this.consumers.map((consumer) => consumer.stop()), ...this.#dropping.values()]);
  }

  #begin(did: string): void {
    const consumer = this.#consumers.get(did);
    const dropping = this.#dropping.get(did);
    if (!dropping) consumer?.start();
    void dropping?.then(() => {
      if (this.#state === 'running' && this.#consumers.get(did) === consumer) this.#begin(did);
    });
  }

  /** Corrupt state of our own is thrown out of here as an unhandled rejection, to stop the process. */
  #drop(did: string, after: Promise<void> = Promise.resolve()): void {
    const before = this.#dropping.get(did) ?? Promise.resolve();
    const dropped = Promise.all([before, after])
      .then(() => this.#dropAll(did))
      .finally(() => {
        if (this.#dropping.get(did) === dropped) this.#dropping.delete(did);
      });
    this.#dropping.set(did, dropped);
  }

  async #dropAll(did: string): Promise<void> {
    const { labels, ledger, log } = this.#options;
    try {
      // The cursor goes with the last label, so a start knows that something is left.
      while (this.#state !== 'stopped' && ledger.forget(did, dropAtOnce)) await breathe();
      while (this.#state !== 'stopped' && labels.drop(did, dropAtOnce)) await breathe();
    } catch (error) {
      if (isCorruption(error)) throw error;
      log.error(
        { err: error, src: did },
        'the labels of a former peer were not all removed; the next start goes on',
      );
    }
  }
}
