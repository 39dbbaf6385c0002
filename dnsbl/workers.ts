/**
 * The answering threads, seen from the owner's: all started or none, told of every new table, ended.
 *
 * Promise: a thread that dies is reported and started again, on the same ports. When that happens more
 * than MAX_WORKER_CRASHES times within WORKER_CRASH_WINDOW_MS, `onFatal` gets the error and all end: a
 * server that keeps dying is not one that serves.
 */
import { Worker } from 'node:worker_threads';
import type { Logger } from 'pino';
import type { AccessShare } from './access/share.ts';
import { MAX_WORKER_CRASHES, WORKER_CRASH_WINDOW_MS, WORKER_START_MS, WORKER_STOP_MS } from './limits.ts';
import type { ZoneShare } from './table/share.ts';
import type { FromWorker, ToWorker, WorkerSetup } from './worker-protocol.ts';

/** What lives for one query is soon gone; more room for it would only be resident. */
const maxYoungGenerationSizeMb = 8;

export type WorkersOptions = {
  /** How thread `index` begins, with the tables of this moment. */
  setupOf: (index: number) => WorkerSetup;
  count: number;
  log: Logger;
  onFatal: (error: Error) => void;
};

export class Workers {
  readonly #options: WorkersOptions;
  readonly #threads: (Worker | undefined)[] = [];
  /** When the last of them died. */
  #crashesMs: number[] = [];
  #isStopping = false;

  constructor(options: WorkersOptions) {
    this.#options = options;
  }

  /** @throws what the first could not bind, with its `code`; none is left running then */
  async start(): Promise<void> {
    try {
      for (let index = 0; index < this.#options.count; index++) await this.#start(index);
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  swap(share: ZoneShare): void {
    for (const thread of this.#threads) post(thread, { kind: 'zone', share });
  }

  replaceAccess(share: AccessShare): void {
    for (const thread of this.#threads) post(thread, { kind: 'access', share });
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    await Promise.all(this.#threads.map((thread) => thread && ended(thread)));
    this.#threads.length = 0;
  }

  /**
   * @returns when it answers. @throws why it ended before; without a word in time it is ended
   *
   * All listeners are there from the beginning: a thread that ends at once delivers its last messages and
   * its end in one go, with no promise in between.
   */
  async #start(index: number): Promise<void> {
    const thread = new Worker(new URL('./worker.ts', import.meta.url), {
      name: `dns-${index}`,
      workerData: this.#options.setupOf(index),
      resourceLimits: { maxYoungGenerationSizeMb },
    });
    this.#threads[index] = thread;
    const patience = setTimeout(() => void thread.terminate(), WORKER_START_MS);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    let isReady = false;
    let cause: Error | undefined;
    thread.on('error', (error: Error) => {
      cause = error;
    });
    thread.on('message', (message: FromWorker) => {
      if (message.kind === 'fault') this.#report(message, index);
      else if (message.kind === 'unbound')
        cause = Object.assign(new Error(message.message), { code: message.code });
      else {
        isReady = true;
        clearTimeout(patience);
        resolve();
      }
    });
    thread.once('exit', (code) => {
      clearTimeout(patience);
      this.#threads[index] = undefined;
      const error = cause ?? new Error(`the thread ended with ${code}`);
      if (!isReady) reject(error);
      else if (!this.#isStopping) this.#crashed(index, error);
    });
    await promise;
  }

  #report({ error, packetHex }: { error: string; packetHex: string }, index: number): void {
    this.#options.log.error({ err: error, packet: packetHex, thread: index }, 'DNS answer failed');
  }

  #crashed(index: number, error: Error): void {
    const { log, onFatal } = this.#options;
    const now = performance.now();
    this.#crashesMs = [...this.#crashesMs.filter((at) => now - at < WORKER_CRASH_WINDOW_MS), now];
    log.error({ err: error, thread: index, crashes: this.#crashesMs.length }, 'DNS thread died');
    if (this.#crashesMs.length <= MAX_WORKER_CRASHES) {
      this.#start(index).catch((fault) => !this.#isStopping && this.#crashed(index, fault));
      return;
    }
    void this.stop();
    onFatal(new Error(`DNS threads died ${this.#crashesMs.length} times in a minute`, { cause: error }));
  }
}

function post(thread: Worker | undefined, message: ToWorker): void {
  thread?.postMessage(message);
}

/** Asked first, then made to. */
async function ended(thread: Worker): Promise<void> {
  if (thread.threadId === -1) return;
  // Not by once(): a thread that fails on its way out has ended as well.
  const exited = new Promise((resolve) => thread.once('exit', resolve));
  post(thread, { kind: 'stop' });
  const patience = setTimeout(() => void thread.terminate(), WORKER_STOP_MS);
  await exited;
  clearTimeout(patience);
}
