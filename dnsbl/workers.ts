/**
 * The answering threads, seen from the owner's: all started or none, told of every new table, ended.
 *
 * Promise: a thread that dies is reported, counted and started again, on the same ports. When that happens
 * more than MAX_WORKER_CRASHES times within WORKER_CRASH_WINDOW_MS, each further one waits before it is, longer
 * and longer, and the log says fatal. The process goes on: it may be a mail server too, and whoever can end
 * a thread must not end that. Meanwhile UDP is answered by the threads that live, or by none; TCP always is.
 */
import { Worker } from 'node:worker_threads';
import type { Logger } from 'pino';
import type { AccessShare } from './access/share.ts';
import { SOCKET, type SocketCounters } from './counters.ts';
import {
  MAX_WORKER_CRASHES,
  WORKER_CRASH_WINDOW_MS,
  WORKER_MAX_RESTART_MS,
  WORKER_RESTART_MS,
  WORKER_START_MS,
  WORKER_STOP_MS,
} from './limits.ts';
import type { ZoneShare } from './table/share.ts';
import type { FromWorker, ToWorker, WorkerSetup } from './worker-protocol.ts';

/** What lives for one query is soon gone; more room for it would only be resident. */
const maxYoungGenerationSizeMb = 8;

export type WorkersOptions = {
  /** How thread `index` begins, with the tables of this moment. */
  setupOf: (index: number) => WorkerSetup;
  count: number;
  log: Logger;
  counters: SocketCounters;
};

export class Workers {
  readonly #options: WorkersOptions;
  readonly #threads: (Worker | undefined)[] = [];
  /** When the last of them died. */
  #crashesMs: number[] = [];
  /** For those that are not started again at once. */
  readonly #pauses = new Set<NodeJS.Timeout>();
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
    for (const pause of this.#pauses) clearTimeout(pause);
    this.#pauses.clear();
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
    const { log, counters } = this.#options;
    const now = performance.now();
    this.#crashesMs = [...this.#crashesMs.filter((at) => now - at < WORKER_CRASH_WINDOW_MS), now];
    const crashes = this.#crashesMs.length;
    const againMs = restartMs(crashes);
    counters.add(SOCKET.threadDeaths);
    log[againMs === 0 ? 'error' : 'fatal'](
      { err: error, thread: index, crashes, againMs },
      'DNS thread died',
    );
    if (againMs === 0) this.#restart(index);
    else this.#restartLater(index, againMs);
  }

  #restart(index: number): void {
    this.#start(index).catch((error) => !this.#isStopping && this.#crashed(index, error));
  }

  #restartLater(index: number, againMs: number): void {
    const pause = setTimeout(() => {
      this.#pauses.delete(pause);
      this.#restart(index);
    }, againMs).unref();
    this.#pauses.add(pause);
  }
}

/** @param crashes of late, this one among them */
function restartMs(crashes: number): number {
  if (crashes <= MAX_WORKER_CRASHES) return 0;
  return Math.min(WORKER_MAX_RESTART_MS, WORKER_RESTART_MS * 2 ** (crashes - MAX_WORKER_CRASHES - 1));
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
