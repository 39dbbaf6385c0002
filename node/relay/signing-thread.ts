/**
 * One signing thread and the memory that it shares with us.
 *
 * Promise: every task given to it is answered once, with a failure when the thread dies; then the next
 * batch starts another thread. A message is copied once, into a slot; two slots, so that the thread has
 * work while we read its answers. It starts with the first task and ends when there were none for a while:
 * most nodes send a few messages an hour, and a thread costs 20 MB.
 */
import { Worker } from 'node:worker_threads';
import type { Logger } from 'pino';
import type { Answer, Done, Job, Order, SigningKey } from './signing-worker.ts';

export type LoadedKey = SigningKey & { number: number };

export type Task = {
  /** Octets that write() needs; at most slotBytes. */
  size: number;
  /** About one for each recipient. */
  weight: number;
  keys: readonly LoadedKey[];
  /** Lays the octets into the slot from `start` on. */
  write(slot: Buffer, start: number): Job;
  done(answer: Answer): void;
};

/** A header of 256 KB, the longest, with some prefixes; or a common message whole. */
export const slotBytes = 512 * 1024;

const slotsPerThread = 2;
/** 5 ms of work: longer batches would make the first of them wait for the last. */
const maxBatchWeight = 8;
/** Of keys in the thread's memory. Three for each domain that sends. */
const maxKeys = 3_000;
/** A thread that died so soon would die again: until then its tasks fail at once. */
const defaultRestartMs = 1_000;
const defaultRestMs = 60_000;

export type ThreadOptions = {
  log: Logger;
  /** Another program for the thread, for tests. */
  script?: URL;
  restartMs?: number;
  /** Without a task for so long, the thread ends until the next one. Default 1 min. */
  restMs?: number;
};

export class SigningThread {
  readonly #slots = Array.from({ length: slotsPerThread }, () => new SharedArrayBuffer(slotBytes));
  readonly #memory = this.#slots.map((slot) => Buffer.from(slot));
  readonly #free = this.#slots.map((_, index) => index);
  readonly #underway = new Map<number, Task[]>();
  readonly #keys = new Set<number>();
  readonly #options: Required<ThreadOptions>;
  readonly #onFree: () => void;
  #worker: Worker | undefined;
  #startedAt = Number.NEGATIVE_INFINITY;
  #hasDied = false;
  #rest: NodeJS.Timeout | undefined;
  #isClosed = false;

  /** @param onFree called when a slot is free again */
  constructor(options: ThreadOptions, onFree: () => void) {
    const script = new URL('./signing-worker.ts', import.meta.url);
    this.#options = { script, restartMs: defaultRestartMs, restMs: defaultRestMs, ...options };
    this.#onFree = onFree;
  }

  get freeSlots(): number {
    return this.#free.length;
  }

  /** False for a short time after its thread died: then take() fails what it is given. */
  get isUsable(): boolean {
    if (this.#worker) return true;
    if (!this.#hasDied) return !this.#isClosed;
    return !this.#isClosed && performance.now() - this.#startedAt >= this.#options.restartMs;
  }

  /** Takes as many tasks from the front as one batch holds. Ask freeSlots first. */
  take(waiting: Task[]): void {
    if (!this.isUsable) {
      for (const task of waiting.splice(0)) task.done({ kind: 'failed', reason: 'no signing thread runs' });
      return;
    }
    if (!this.#worker) this.#start();
    const slot = this.#free.pop()!;
    const order: Order = { slot, jobs: [] };
    if (this.#keys.size >= maxKeys) {
      order.forgetKeys = true;
      this.#keys.clear();
    }
    const batch: Task[] = [];
    let written = 0;
    let weight = 0;
    for (const task of waiting) {
      const fits = written + task.size <= slotBytes && weight + task.weight <= maxBatchWeight;
      if (batch.length > 0 && !fits) break;
      this.#sendKeys(order, task.keys);
      order.jobs.push(task.write(this.#memory[slot]!, written));
      batch.push(task);
      written += task.size;
      weight += task.weight;
    }
    waiting.splice(0, batch.length);
    this.#underway.set(slot, batch);
    this.#worker!.ref();
    this.#worker!.postMessage(order);
  }

  /** What is under way fails. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#rest);
    await this.#worker?.terminate();
  }

  /** A thread in the middle of a long body has none under way for a moment, but never for so long. */
  #restLater(): void {
    this.#rest ??= setTimeout(() => {
      this.#rest = undefined;
      if (this.#underway.size > 0 || !this.#worker) return;
      const worker = this.#worker;
      this.#worker = undefined;
      worker.terminate();
    }, this.#options.restMs).unref();
    this.#rest.refresh();
  }

  #sendKeys(order: Order, keys: readonly LoadedKey[]): void {
    for (const { number, key, algorithm, domain, selector } of keys) {
      if (this.#keys.has(number)) continue;
      order.keys ??= [];
      order.keys.push([number, { key, algorithm, domain, selector }]);
      this.#keys.add(number);
    }
  }

  #start(): void {
    this.#startedAt = performance.now();
    this.#hasDied = false;
    this.#keys.clear();
    const worker = new Worker(this.#options.script, {
      name: 'signing',
      workerData: { slots: this.#slots },
      resourceLimits: { maxYoungGenerationSizeMb: 2, maxOldGenerationSizeMb: 64 },
    });
    worker.on('message', (done: Done) => this.#finish(done));
    worker.on('error', (error) =>
      this.#options.log.error({ error: error.message }, 'a signing thread failed'),
    );
    worker.on('exit', () => this.#died(worker));
    // Idle, it keeps no process alive; a listener for messages would hold it again.
    worker.unref();
    this.#worker = worker;
  }

  #finish({ slot, answers }: Done): void {
    const batch = this.#underway.get(slot)!;
    this.#underway.delete(slot);
    this.#free.push(slot);
    if (this.#underway.size === 0) {
      this.#worker!.unref();
      this.#restLater();
    }
    // First the thread gets more to do, then the answers are read.
    this.#onFree();
    for (const [index, task] of batch.entries()) task.done(answers[index]!);
  }

  #died(worker: Worker): void {
    if (this.#worker !== worker) return;
    this.#worker = undefined;
    this.#hasDied = true;
    const lost = [...this.#underway.values()].flat();
    this.#free.push(...this.#underway.keys());
    this.#underway.clear();
    if (!this.#isClosed) this.#options.log.error({ lost: lost.length }, 'a signing thread died');
    for (const task of lost) task.done({ kind: 'failed', reason: 'the signing thread died' });
    this.#onFree();
  }
}
