/**
 * Verifies labels beside the main loop, for all issuers.
 *
 * Promise: verdicts come in the order of the labels; issuers take turns, so one with a backlog delays another by
 * one batch; a thread that dies costs its batches nothing but time, for they are verified here. Threads start with
 * the first batch that is worth one and end after a while without: a peer usually sends a few labels an hour, and
 * a thread costs some 10 MB.
 */
import { availableParallelism } from 'node:os';
import { setImmediate as breathe } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import type { CurvePoint } from '../identity/curves.ts';
import { pointOf, verifySignature } from '../identity/signature.ts';
import { labelBytes, type SignedLabel } from './codec.ts';
import { pack, type Signed } from './signed-batch.ts';
import type { VerifyAnswer, VerifyOrder } from './verify-worker.ts';

/** Whether the signature of each holds. */
export interface LabelVerifier {
  /** @param owner whose turn it is: the issuer. @param didKey `did:key:…`. Never rejects. */
  verify(owner: string, labels: readonly SignedLabel[], didKey: string): Promise<boolean[]>;
}

export type VerifyThreadsOptions = {
  /** 0: all is verified on the calling thread. Default: 1, or none on a machine with one core. */
  threads?: number;
  /** Another program for the threads, for tests. */
  script?: URL;
  /** Without a batch for so long, a thread ends until the next one. Default 1 min. */
  restMs?: number;
};

type Batch = {
  owner: string;
  signed: Signed[];
  key: CurvePoint;
  didKey: string;
  done: (verdicts: boolean[]) => void;
};

/** 3 ms of a thread's time: so long another issuer may wait. */
const labelsPerBatch = 64;
/** The main loop does fewer at once by itself: measured, a thread's messages cost about two verifications. */
const labelsWorthThread = 8;
/** Between so many, verified here, others get their turn. */
const labelsPerTurn = 16;
/** So that a thread has work while its answer is on the way. */
const underwayPerThread = 2;
const afterFailureMs = 60_000;

export class VerifyThreads implements LabelVerifier {
  readonly #options: Required<VerifyThreadsOptions>;
  readonly #threads: (Thread | undefined)[];
  /** By owner, in the order of their turns. */
  readonly #waiting = new Map<string, Batch[]>();
  /** By performance.now(): a thread that failed would fail again. */
  #withoutUntil = Number.NEGATIVE_INFINITY;
  #isClosed = false;

  constructor(options: VerifyThreadsOptions = {}) {
    const script = new URL('./verify-worker.ts', import.meta.url);
    const threads = Math.min(1, availableParallelism() - 1);
    this.#options = { threads, script, restMs: 60_000, ...options };
    this.#threads = Array.from({ length: this.#options.threads }, () => undefined);
  }

  async verify(owner: string, labels: readonly SignedLabel[], didKey: string): Promise<boolean[]> {
    const signed = labels.map((label) => ({ message: labelBytes(label), signature: label.sig }));
    const key = pointOf(didKey);
    if (!key) return labels.map(() => false);
    if (!this.#hasThreads() || labels.length < labelsWorthThread) return verifyHere(signed, didKey);
    const batches: Promise<boolean[]>[] = [];
    for (let from = 0; from < signed.length; from += labelsPerBatch) {
      const part = signed.slice(from, from + labelsPerBatch);
      batches.push(new Promise((done) => this.#enqueue({ owner, signed: part, key, didKey, done })));
    }
    return (await Promise.all(batches)).flat();
  }

  /** What waits is verified on the calling thread. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.all(this.#threads.map((thread) => thread?.end()));
    this.#pump();
  }

  #hasThreads(): boolean {
    return !this.#isClosed && this.#threads.length > 0 && performance.now() >= this.#withoutUntil;
  }

  #enqueue(batch: Batch): void {
    const own = this.#waiting.get(batch.owner);
    if (own) own.push(batch);
    else this.#waiting.set(batch.owner, [batch]);
    this.#pump();
  }

  #pump(): void {
    if (!this.#hasThreads()) {
      for (let batch = this.#next(); batch; batch = this.#next()) verifyBatchHere(batch);
      return;
    }
    for (const index of this.#threads.keys()) {
      while (this.#waiting.size > 0 && (this.#threads[index]?.underway ?? 0) < underwayPerThread) {
        this.#threads[index] ??= this.#start(index);
        this.#threads[index].take(this.#next()!);
      }
    }
  }

  /** Whoever was served goes behind the others. */
  #next(): Batch | undefined {
    const [owner, batches] = this.#waiting.entries().next().value ?? [];
    if (owner === undefined || !batches) return undefined;
    const batch = batches.shift();
    this.#waiting.delete(owner);
    if (batches.length > 0) this.#waiting.set(owner, batches);
    return batch;
  }

  #start(index: number): Thread {
    const thread: Thread = new Thread(this.#options, {
      onFree: () => this.#pump(),
      onEnd: (hasFailed) => {
        if (hasFailed) this.#withoutUntil = performance.now() + afterFailureMs;
        if (this.#threads[index] === thread) this.#threads[index] = undefined;
        this.#pump();
      },
    });
    return thread;
  }
}

class Thread {
  readonly #worker: Worker;
  readonly #underway = new Map<number, Batch>();
  readonly #rest: NodeJS.Timeout;
  readonly #onFree: () => void;
  #lastId = 0;

  constructor(
    { script, restMs }: Required<VerifyThreadsOptions>,
    { onFree, onEnd }: { onFree: () => void; onEnd: (hasFailed: boolean) => void },
  ) {
    this.#onFree = onFree;
    this.#worker = new Worker(script, {
      name: 'labels',
      resourceLimits: { maxYoungGenerationSizeMb: 2, maxOldGenerationSizeMb: 64 },
    });
    this.#worker.on('message', (answer: VerifyAnswer) => this.#finish(answer));
    let hasFailed = false;
    this.#worker.on('error', () => {
      hasFailed = true;
    });
    this.#worker.on('exit', () => {
      clearTimeout(this.#rest);
      for (const batch of this.#underway.values()) verifyBatchHere(batch);
      this.#underway.clear();
      onEnd(hasFailed);
    });
    this.#worker.unref();
    this.#rest = setTimeout(() => this.#restNow(), restMs).unref();
  }

  get underway(): number {
    return this.#underway.size;
  }

  take(batch: Batch): void {
    this.#lastId += 1;
    this.#underway.set(this.#lastId, batch);
    const order: VerifyOrder = { id: this.#lastId, key: batch.key, packed: pack(batch.signed) };
    this.#worker.ref();
    this.#worker.postMessage(order, [order.packed]);
  }

  async end(): Promise<void> {
    await this.#worker.terminate();
  }

  #restNow(): void {
    if (this.#underway.size === 0) this.#worker.terminate();
    else this.#rest.refresh();
  }

  #finish({ id, verdicts }: VerifyAnswer): void {
    const batch = this.#underway.get(id);
    this.#underway.delete(id);
    if (this.#underway.size === 0) this.#worker.unref();
    this.#rest.refresh();
    // First the thread gets more to do, then the answer is read.
    this.#onFree();
    batch?.done([...verdicts].map((verdict) => verdict === 1));
  }
}

function verifyBatchHere({ signed, didKey, done }: Batch): void {
  verifyHere(signed, didKey).then(done);
}

async function verifyHere(signed: readonly Signed[], didKey: string): Promise<boolean[]> {
  const verdicts: boolean[] = [];
  for (const { message, signature } of signed) {
    if (verdicts.length % labelsPerTurn === labelsPerTurn - 1) await breathe();
    verdicts.push(verifySignature(didKey, message, signature));
  }
  return verdicts;
}
