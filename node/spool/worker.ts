/**
 * The thread that owns spool.db and the body files.
 *
 * Group commit: writes that arrive while one transaction syncs wait, and become the next one together.
 * So the price of a sync is shared by everyone who waits for it, and nobody waits for more than two.
 */
import { join } from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';
import { type Database, isCorruption } from '../../appview/database.ts';
import { Bodies } from './bodies.ts';
import { Claims } from './claims.ts';
import { crashAt } from './crash.ts';
import { Fresh } from './fresh.ts';
import { Lookup } from './lookup.ts';
import type { Claim, NewMessage } from './message.ts';
import { checkFiles, openSpool } from './open.ts';
import { freePacked } from './packing.ts';
import type { AcceptAnswer, Reply, Request, Result, WorkerOptions } from './protocol.ts';
import { QueuePages } from './queue-page.ts';
import { backwardsMs } from './schema.ts';
import { Store, type Write, type Written, writes } from './store.ts';

type Waiting = { id: number; write: Write };
type Committed = Extract<AcceptAnswer, { kind: 'committed' }>;

const port = parentPort!;

/** Bounds the memory and the length of one transaction. */
const maxGroup = 1_000;
/** Of writes that nobody waits for. */
const unasked = 0;

class SpoolThread {
  readonly #db: Database.Database;
  readonly #store: Store;
  readonly #claims: Claims;
  readonly #lookup: Lookup;
  readonly #pages: QueuePages;
  #waiting: Waiting[] = [];
  #scheduled = false;
  /** The latest time that was seen. */
  #clock: number;
  /** The disk refused what nobody asked for, so nobody asks again. */
  #owesCancelled = false;

  constructor({ dir, retainMs, quotas, crashPoint }: WorkerOptions) {
    this.#db = openSpool(join(dir, 'spool.db'));
    const bodies = new Bodies(join(dir, 'spool'));
    this.#lookup = new Lookup(this.#db, bodies);
    checkFiles(this.#lookup, bodies);
    const fresh = new Fresh();
    this.#claims = new Claims(this.#db, fresh);
    const shared = { db: this.#db, bodies, claims: this.#claims, fresh };
    this.#store = new Store({ ...shared, retainMs, quotas, reached: crashAt(crashPoint) });
    this.#pages = new QueuePages(this.#db, this.#store.scan, (seq) => this.#claims.isFlying(seq));
    this.#clock = this.#lookup.newestAt();
    this.#finishCancelled(this.#clock);
    this.#sweep(bodies.sweep((queueId) => this.#lookup.isFileWanted(queueId)));
  }

  handle(request: Request): void {
    this.#watchClock(request.at);
    if (isWrite(request)) this.#enqueue({ id: request.id, write: request });
    else this.#answer(request);
  }

  /** Without committing what waits. */
  abandon(): void {
    this.#waiting = [];
    this.#db.close();
  }

  #enqueue(waiting: Waiting): void {
    this.#waiting.push(waiting);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    // After the messages that are already here: they join the group.
    setImmediate(() => orDie(() => this.#db.open && this.#flush()));
  }

  #flush(): void {
    this.#scheduled = false;
    do this.#commitGroup();
    while (this.#waiting.length > 0);
    // A turn later, so that old history is removed between the writes and not before them.
    if (this.#store.isBehind) this.#schedule();
  }

  /** Without a write in it, it still cleans up. */
  #commitGroup(): void {
    const group = this.#waiting.splice(0, maxGroup);
    const results = this.#commit(group.map(({ write }) => write));
    const asked = group.flatMap(({ id, write }, index) =>
      id === unasked ? [] : [resultOf(id, write, results[index]!)],
    );
    reply({ kind: 'results', results: asked }, asked.flatMap(buffersOfClaimed));
    for (const { write } of group) for (const message of broughtBy(write)) freePacked(message);
    if (this.#owesCancelled && results.some(({ kind }) => kind === 'done')) {
      this.#owesCancelled = false;
      this.#finishCancelled(this.#clock);
    }
    this.#owesCancelled ||= group.some(({ id }, index) => id === unasked && isRefused(results[index]!));
  }

  #commit(group: Write[]): Written[] {
    try {
      return this.#store.commit(group);
    } catch (error) {
      if (isCorruption(error)) throw error;
      const reason = (error as Error).message;
      return group.map(() => ({ kind: 'refused', reason }));
    }
  }

  #answer(request: Request): void {
    const { id } = request;
    try {
      const value = this.#read(request);
      reply({ kind: 'results', results: [{ id, value }] }, buffersOf(value));
    } catch (error) {
      if (isCorruption(error)) throw error;
      reply({ kind: 'results', results: [{ id, error: (error as Error).message }] });
    }
  }

  #read(request: Request): unknown {
    switch (request.call) {
      case 'due':
        return this.#claims.take(...request.args);
      case 'release':
        if (this.#claims.release(...request.args)) this.#finishCancelled(request.at);
        return undefined;
      case 'nextDueAt':
        return this.#claims.nextDueAt(...request.args);
      case 'body':
        return this.#lookup.body(...request.args);
      case 'message':
        return this.#lookup.message(...request.args, request.at);
      case 'messages':
        return this.#lookup.messages(...request.args, request.at);
      case 'list':
        return this.#pages.page(...request.args);
      case 'summary':
        return { ...this.#store.scan.sum(...request.args), ...this.#store.quotas.total };
      case 'answerTo':
        return this.#store.answers.find(...request.args, request.at);
      case 'budget':
        return this.#store.usage.budget(...request.args);
      case 'sourceUse':
        return this.#store.sources.list();
      case 'eventsAfter':
        return this.#lookup.eventsAfter(...request.args);
      case 'close':
        if (this.#waiting.length > 0) this.#flush();
        this.#db.close();
        return undefined;
      default:
        throw new Error(`the spool has no ${request.call}`);
    }
  }

  /** What waited for a later hour by a clock that was ahead would wait for it still. */
  #watchClock(at: number): void {
    const back = this.#clock - at;
    if (back > backwardsMs) {
      const [moved] = this.#commit([{ call: 'turnBack', at, args: [back] }]);
      // The disk refuses: the next call tries again.
      if (isRefused(moved!)) return;
      this.#claims.load();
    }
    if (back < 0 || back > backwardsMs) this.#clock = at;
  }

  #finishCancelled(at: number): void {
    const seqs = this.#claims.cancelling();
    if (seqs.length > 0) this.#enqueue({ id: unasked, write: { call: 'finishCancelled', at, args: [seqs] } });
  }

  #sweep(sweeping: Generator<void>): void {
    setImmediate(() => orDie(() => this.#db.open && !sweeping.next().done && this.#sweep(sweeping)));
  }
}

function isWrite(request: Request): request is Request & Write {
  return writes.has(request.call);
}

function isRefused({ kind }: Written): boolean {
  return kind === 'refused';
}

function reply(message: Reply, transfer: ArrayBuffer[] = []): void {
  port.postMessage(message, transfer);
}

function resultOf(id: number, { call }: Write, result: Written): Result {
  if (result.kind === 'done') return { id, value: result.value };
  if (call !== 'accept' && call !== 'acceptBatch') return { id, error: result.reason };
  return { id, value: { kind: 'failed', reason: result.reason } };
}

/** Messages that came with it; of a DSN that was not stored, the caller has its own. */
function broughtBy(write: Write): NewMessage[] {
  switch (write.call) {
    case 'accept':
      return [write.args[0]];
    case 'acceptBatch':
      return write.args[0].items.flatMap((item) => ('message' in item ? [item.message] : []));
    case 'settle':
      return write.args[0].dsn ? [write.args[0].dsn] : [];
    default:
      return [];
  }
}

function buffersOfClaimed(result: Result): ArrayBuffer[] {
  const { claimed } = ('value' in result && (result.value as Partial<Committed> | undefined)) || {};
  return claimed ? [claimed.bytes.buffer as ArrayBuffer] : [];
}

/** What is moved to the main thread instead of copied: a body, or what claims carry. */
function buffersOf(value: unknown): ArrayBuffer[] {
  if (value instanceof Uint8Array) return [value.buffer as ArrayBuffer];
  if (!Array.isArray(value)) return [];
  const bytes = (value as Partial<Claim>[]).flatMap(({ prefix, body }) => [prefix, body]);
  return [...new Set(bytes.flatMap((one) => (one ? [one.buffer as ArrayBuffer] : [])))];
}

let thread: SpoolThread | undefined;
let isDying = false;

/**
 * What throws past here is a bug or our own corrupt state: the thread says so and ends, and the process with it.
 * What still waits is rejected on the other side, so nothing more may be committed.
 */
function orDie(work: () => void): void {
  if (isDying) return;
  try {
    work();
  } catch (error) {
    isDying = true;
    const { name, message } = error as Error;
    reply({ kind: 'fatal', name: isCorruption(error) ? 'CorruptState' : name, message });
    port.close();
    thread?.abandon();
  }
}

orDie(() => {
  const opened = new SpoolThread(workerData as WorkerOptions);
  thread = opened;
  port.on('message', (requests: Request[]) => {
    for (const request of requests) {
      orDie(() => opened.handle(request));
      if (request.call === 'close') port.close();
    }
  });
  reply({ kind: 'ready' });
});
