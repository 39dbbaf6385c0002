/**
 * The main thread's end of the spool's thread: asks, and hands each answer to who asked.
 *
 * What is asked in one turn of the event loop goes over together: to wake a thread costs more than most
 * questions.
 *
 * When the thread dies, everything that waits is rejected, and so is all that comes after.
 */
import { Worker } from 'node:worker_threads';
import { CorruptState } from '../../appview/database.ts';
import type { CallName, Calls, Reply, Request, WorkerOptions } from './protocol.ts';

type Pending = { resolve: (value: never) => void; reject: (error: Error) => void };

/** What lives for one message is soon gone; more room for it would only be resident. */
const maxYoungGenerationSizeMb = 8;

export class Link {
  readonly #worker: Worker;
  readonly #now: () => number;
  readonly #onDeath: (error: Error) => void;
  readonly #pending = new Map<number, Pending>();
  #lastId = 0;
  /** Of this turn. */
  #asked: Request[] = [];
  #transfers: ArrayBuffer[] = [];
  /** Why nothing more is taken; undefined while the thread serves. */
  #ended: Error | undefined;

  private constructor(worker: Worker, now: () => number, onDeath: (error: Error) => void) {
    this.#worker = worker;
    this.#now = now;
    this.#onDeath = onDeath;
    worker.on('message', (reply: Reply) => this.#receive(reply));
    worker.on('error', (error: Error) => this.#die(error));
    worker.on('exit', () => this.#die(new Error('the spool thread ended')));
  }

  /**
   * @param onDeath called once when the thread ends and nobody had asked it to
   * @throws what the thread could not open
   */
  static async start(
    workerData: WorkerOptions,
    now: () => number,
    onDeath: (error: Error) => void,
  ): Promise<Link> {
    const worker = new Worker(new URL('./worker.ts', import.meta.url), {
      name: 'spool',
      workerData,
      resourceLimits: { maxYoungGenerationSizeMb },
    });
    await ready(worker);
    return new Link(worker, now, onDeath);
  }

  /** It was closed, or died. */
  get isOver(): boolean {
    return this.#ended !== undefined;
  }

  call<Name extends CallName>(
    call: Name,
    args: Parameters<Calls[Name]>,
    transfer: ArrayBuffer[] = [],
  ): Promise<ReturnType<Calls[Name]>> {
    if (this.#ended) return Promise.reject(this.#ended);
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
      if (this.#asked.length === 0) setImmediate(() => this.#post());
      this.#asked.push({ id, at: this.#now(), call, args } as Request);
      this.#transfers.push(...transfer);
    });
  }

  /** Commits what waits, then ends the thread. */
  async close(): Promise<void> {
    if (this.#ended) return;
    const exited = new Promise((resolve) => this.#worker.once('exit', resolve));
    const closed = this.call('close', []);
    this.#ended = new Error('the spool is closed');
    await closed;
    await exited;
  }

  #post(): void {
    const [asked, transfers] = [this.#asked, this.#transfers];
    this.#asked = [];
    this.#transfers = [];
    this.#worker.postMessage(asked, transfers);
  }

  #receive(reply: Reply): void {
    if (reply.kind === 'fatal') {
      this.#die(revived(reply));
    } else if (reply.kind === 'results') {
      for (const result of reply.results) {
        const pending = this.#pending.get(result.id);
        this.#pending.delete(result.id);
        if ('error' in result) pending?.reject(new Error(result.error));
        else pending?.resolve(result.value as never);
      }
    }
  }

  /** After close() it is only the expected end. */
  #die(error: Error): void {
    const expected = this.#ended !== undefined;
    this.#ended ??= error;
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
    if (!expected) this.#onDeath(error);
  }
}

function ready(worker: Worker): Promise<void> {
  return new Promise((resolve, reject) => {
    const settled = () => {
      worker.off('message', onMessage);
      worker.off('error', onError);
    };
    const onMessage = (reply: Reply) => {
      settled();
      if (reply.kind === 'fatal') reject(revived(reply));
      else resolve();
    };
    const onError = (error: Error) => {
      settled();
      reject(error);
    };
    worker.on('message', onMessage);
    worker.on('error', onError);
  });
}

/** An error loses its class between threads. */
function revived({ name, message }: { name: string; message: string }): Error {
  return name === 'CorruptState' ? new CorruptState(message) : new Error(message);
}
