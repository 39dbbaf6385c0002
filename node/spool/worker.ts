/**
 * The thread that owns spool.db and the body files.
 *
 * Group commit: writes that arrive while one transaction syncs wait, and become the next one together.
 * So the price of a sync is shared by everyone who waits for it, and nobody waits for more than two.
 */
import { chmodSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';
import { CorruptState, type Database, isCorruption, openDatabase } from '../../appview/database.ts';
import { Bodies } from './bodies.ts';
import { Claims } from './claims.ts';
import { crashAt } from './crash.ts';
import { Lookup } from './lookup.ts';
import type { Reply, Request, WorkerOptions } from './protocol.ts';
import { spoolMigrations } from './schema.ts';
import { Store, type Write, type Written } from './store.ts';

type Waiting = { id: number; write: Write };

const port = parentPort!;
const reply = (message: Reply): void => port.postMessage(message);

/** Bounds the memory and the length of one transaction. */
const maxGroup = 1_000;

class SpoolThread {
  readonly #db: Database.Database;
  readonly #store: Store;
  readonly #claims: Claims;
  readonly #lookup: Lookup;
  #waiting: Waiting[] = [];
  #scheduled = false;

  constructor({ dir, retainMs, crashPoint }: WorkerOptions) {
    this.#db = openSpool(join(dir, 'spool.db'));
    const bodies = new Bodies(join(dir, 'spool'));
    recoverBodies(this.#db, bodies);
    this.#store = new Store(this.#db, bodies, retainMs, crashAt(crashPoint));
    this.#claims = new Claims(this.#db);
    this.#lookup = new Lookup(this.#db, bodies);
  }

  handle(request: Request): void {
    const write = asWrite(request);
    if (write) this.#enqueue({ id: request.id, write });
    else this.#answer(request);
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
    for (const [index, { id, write }] of group.entries()) this.#conclude(id, write, results[index]!);
  }

  #commit(writes: Write[]): Written[] {
    try {
      return this.#store.commit(writes);
    } catch (error) {
      if (isCorruption(error)) throw error;
      const reason = (error as Error).message;
      return writes.map(() => ({ kind: 'refused', reason }));
    }
  }

  #conclude(id: number, write: Write, result: Written): void {
    if (result.kind === 'done') {
      if (write.kind === 'settle') this.#claims.release([write.settlement.recipientId]);
      reply({ kind: 'result', id, value: result.value });
    } else if (write.kind === 'accept') {
      reply({ kind: 'result', id, value: { kind: 'failed', reason: result.reason } });
    } else {
      reply({ kind: 'error', id, message: result.reason });
    }
  }

  #answer(request: Request): void {
    try {
      reply({ kind: 'result', id: request.id, value: this.#read(request) });
    } catch (error) {
      if (isCorruption(error)) throw error;
      reply({ kind: 'error', id: request.id, message: (error as Error).message });
    }
  }

  #read(request: Request): unknown {
    switch (request.call) {
      case 'due':
        return this.#claims.take(...request.args);
      case 'release':
        return this.#claims.release(...request.args);
      case 'nextDueAt':
        return this.#claims.nextDueAt(...request.args);
      case 'body':
        return this.#lookup.body(...request.args);
      case 'message':
        return this.#lookup.message(...request.args);
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
}

function asWrite(request: Request): Write | undefined {
  const { at } = request;
  switch (request.call) {
    case 'accept':
      return { kind: 'accept', at, message: request.args[0] };
    case 'settle':
      return { kind: 'settle', at, settlement: request.args[0] };
    case 'forgetEvents':
      return { kind: 'forget-events', at, through: request.args[0] };
    case 'housekeep':
      return { kind: 'housekeep', at };
    default:
      return undefined;
  }
}

/** Two processes on one spool would send everything twice, so the file is locked for as long as we live. */
function openSpool(file: string): Database.Database {
  const existed = existsSync(file);
  try {
    const db = openDatabase(file, spoolMigrations, { synchronous: 'FULL' });
    // It holds mail. SQLite gives the files beside it the same mode.
    chmodSync(file, 0o600);
    db.exec('PRAGMA locking_mode = EXCLUSIVE');
    db.exec('BEGIN IMMEDIATE; COMMIT');
    return db;
  } catch (error) {
    const text = (error as Error).message;
    if (existed && /locked|busy/i.test(text)) throw new Error(`${file} is in use by another process`);
    throw error;
  }
}

/** A crash between a body file and its row leaves the file; a row without its file is damage. */
function recoverBodies(db: Database.Database, bodies: Bodies): void {
  const rows = db.prepare('SELECT queue_id FROM message WHERE in_file = 1 AND open > 0').all();
  const wanted = new Set((rows as { queue_id: string }[]).map((row) => row.queue_id));
  const missing = bodies.sweep(wanted);
  if (missing.length > 0) {
    throw new CorruptState(
      `the spool lost ${missing.length} of its body files (spool/${missing[0]}). Restore it from a backup.`,
    );
  }
}

/** What throws past here is a bug or our own corrupt state: the thread says so and ends, and the process with it. */
function orDie(work: () => void): void {
  try {
    work();
  } catch (error) {
    const { name, message } = error as Error;
    reply({ kind: 'fatal', name: isCorruption(error) ? 'CorruptState' : name, message });
    port.close();
  }
}

orDie(() => {
  const thread = new SpoolThread(workerData as WorkerOptions);
  port.on('message', (request: Request) => {
    orDie(() => thread.handle(request));
    if (request.call === 'close') port.close();
  });
  reply({ kind: 'ready' });
});
