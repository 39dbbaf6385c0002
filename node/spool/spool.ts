/**
 * Durable queue of accepted messages: the face of it on the main thread.
 *
 * Promise: once accept() answers `committed`, the message survives a crash or power loss, and every one
 * of its recipients is handed out by due() until settle() has made it terminal. Nothing else forgets it.
 * One commit carries body, recipients, usage and event; another carries an attempt with its outcome,
 * its event and its DSN.
 *
 * All work is done in the thread of worker.ts. When to retry is delivery/schedule.ts's business; this
 * folder only remembers.
 */
import { Worker } from 'node:worker_threads';
import type { Logger } from 'pino';
import { CorruptState } from '../../appview/database.ts';
import type { Event } from '../enforcement/events.ts';
import type { CrashPoint } from './crash.ts';
import type { Accepted, Claim, MessageStatus, NewMessage, Settled, Settlement } from './message.ts';
import type { CallName, Calls, Reply, Request, WorkerOptions } from './protocol.ts';

export type {
  Accepted,
  AttemptRecord,
  Cap,
  Claim,
  MessageKind,
  MessageStatus,
  NewMessage,
  NewRecipient,
  NextState,
  RecipientStatus,
  Settled,
  Settlement,
} from './message.ts';

export type SpoolOptions = {
  /** Holds `spool.db` and the folder `spool/`; made when missing. */
  dir: string;
  log: Logger;
  now?: () => number;
  /** How long the history of a finished message is kept. Default 30 days. */
  retainMs?: number;
  /** Tests only: the process is killed there. */
  crashPoint?: CrashPoint;
  /** The thread died of corrupt state or a bug. Default: throw, which stops the process. */
  onFatal?: (error: Error) => void;
};

type Pending = { resolve: (value: never) => void; reject: (error: Error) => void };

const thirtyDaysMs = 30 * 24 * 60 * 60_000;
/** Commits clean up by themselves; this is for a spool without any. */
const housekeepingEveryMs = 60_000;

export class Spool {
  readonly #worker: Worker;
  readonly #log: Logger;
  readonly #now: () => number;
  readonly #onFatal: (error: Error) => void;
  readonly #pending = new Map<number, Pending>();
  readonly #listeners = new Set<() => void>();
  readonly #housekeeping: NodeJS.Timeout;
  #lastId = 0;
  /** Why nothing more is taken; undefined while the thread serves. */
  #ended: Error | undefined;

  private constructor(worker: Worker, { log, now, onFatal }: SpoolOptions) {
    this.#worker = worker;
    this.#log = log;
    this.#now = now ?? Date.now;
    this.#onFatal = onFatal ?? throwLater;
    worker.on('message', (reply: Reply) => this.#receive(reply));
    worker.on('error', (error: Error) => this.#die(error));
    worker.on('exit', () => this.#die(new Error('the spool thread ended')));
    this.#housekeeping = setInterval(() => this.#housekeep(), housekeepingEveryMs);
    this.#housekeeping.unref();
  }

  /**
   * Opens or makes the spool and recovers everything in it.
   *
   * @throws CorruptState when the database is damaged or a body is missing; Error when another process has it
   */
  static async open(options: SpoolOptions): Promise<Spool> {
    const workerData: WorkerOptions = { dir: options.dir, retainMs: options.retainMs ?? thirtyDaysMs };
    if (options.crashPoint) workerData.crashPoint = options.crashPoint;
    const worker = new Worker(new URL('./worker.ts', import.meta.url), { name: 'spool', workerData });
    await ready(worker);
    return new Spool(worker, options);
  }

  /** Never rejects. `committed` means on disk; with the other two nothing is stored. */
  async accept(message: NewMessage): Promise<Accepted> {
    try {
      const sent = packed(message);
      const accepted = await this.#call('accept', [sent], buffersOf(sent));
      if (accepted.kind === 'failed')
        this.#log.error({ reason: accepted.reason }, 'spool: message not stored');
      if (accepted.kind === 'committed') this.#announce();
      return accepted;
    } catch (error) {
      return { kind: 'failed', reason: (error as Error).message };
    }
  }

  /**
   * Claims up to `limit` recipients whose time has come, longest due first.
   *
   * @param exceptDomains recipient domains in lower case that have no room for another try now
   */
  async due(limit: number, now: number, exceptDomains: readonly string[] = []): Promise<Claim[]> {
    const claims = await this.#call('due', [limit, now, exceptDomains]);
    return claims.map((claim) => ({
      ...claim,
      signatures: asBuffer(claim.signatures),
      prefix: asBuffer(claim.prefix),
    }));
  }

  /** Unix ms at which due() has something to give, past or future; undefined when it never will. */
  nextDueAt(exceptDomains: readonly string[] = []): Promise<number | undefined> {
    return this.#call('nextDueAt', [exceptDomains]);
  }

  /** The message without the prepended lines; undefined when its last recipient is terminal. */
  async body(queueId: string): Promise<Buffer | undefined> {
    const bytes = await this.#call('body', [queueId]);
    return bytes && asBuffer(bytes);
  }

  /**
   * Ends a claim with its outcome, on disk when resolved with `settled`.
   *
   * `not-open`: nothing was stored and never will be, the DSN neither; the claim is gone.
   * Rejects when it could not be committed: the claim then stands, and the caller offers it again.
   */
  async settle(settlement: Settlement): Promise<Settled> {
    const { dsn, ...rest } = settlement;
    if (!dsn) return this.#call('settle', [rest]);
    const sent = packed(dsn);
    const settled = await this.#call('settle', [{ ...rest, dsn: sent }], buffersOf(sent));
    if (settled === 'settled') this.#announce();
    return settled;
  }

  /** Gives claims back untried; they are due again at once. */
  async release(recipientIds: readonly string[]): Promise<void> {
    await this.#call('release', [recipientIds]);
  }

  /** The message with the timeline of each recipient; undefined when unknown or past its retention. */
  message(queueId: string): Promise<MessageStatus | undefined> {
    return this.#call('message', [queueId]);
  }

  /** Oldest first. @param id '0' for the beginning */
  eventsAfter(id: string, limit: number): Promise<Event[]> {
    return this.#call('eventsAfter', [id, limit]);
  }

  /** Drops events up to and including `through`, once they are copied. */
  async forgetEvents(through: string): Promise<void> {
    await this.#call('forgetEvents', [through]);
  }

  /** Calls back after each commit that may have made a recipient due. @returns the way to stop it */
  onCommitted(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Commits what waits, then ends the thread. Claims that are open are due again at the next start. */
  async close(): Promise<void> {
    if (this.#ended) return;
    clearInterval(this.#housekeeping);
    const exited = new Promise((resolve) => this.#worker.once('exit', resolve));
    const closed = this.#call('close', []);
    this.#ended = new Error('the spool is closed');
    await closed;
    await exited;
  }

  #call<Name extends CallName>(
    call: Name,
    args: Parameters<Calls[Name]>,
    transfer: ArrayBuffer[] = [],
  ): Promise<ReturnType<Calls[Name]>> {
    if (this.#ended) return Promise.reject(this.#ended);
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
      this.#worker.postMessage({ id, at: this.#now(), call, args } as Request, transfer);
    });
  }

  #receive(reply: Reply): void {
    if (reply.kind === 'fatal') {
      this.#die(revived(reply));
    } else if (reply.kind !== 'ready') {
      const pending = this.#pending.get(reply.id);
      this.#pending.delete(reply.id);
      if (reply.kind === 'error') pending?.reject(new Error(reply.message));
      else pending?.resolve(reply.value as never);
    }
  }

  /** After close() it is only the expected end. */
  #die(error: Error): void {
    clearInterval(this.#housekeeping);
    const expected = this.#ended !== undefined;
    this.#ended ??= error;
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
    if (expected) return;
    this.#log.fatal({ err: error }, 'spool: stopped');
    this.#onFatal(error);
  }

  /** What could not be removed now is removed a minute later. */
  #housekeep(): void {
    this.#call('housekeep', []).catch((error: Error) =>
      this.#log.warn({ err: error }, 'spool: old history not removed'),
    );
  }

  #announce(): void {
    for (const listener of this.#listeners) listener();
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

function throwLater(error: Error): void {
  setImmediate(() => {
    throw error;
  });
}

/**
 * Copies of the exact bytes, to be moved to the worker: a Buffer is often a view into a larger pool,
 * and posting it would clone all of that.
 */
function packed(message: NewMessage): NewMessage {
  const recipients = message.recipients.map((r) => ({
    ...r,
    signatures: exact(r.signatures),
    prefix: exact(r.prefix),
  }));
  return { ...message, body: exact(message.body), recipients };
}

function exact(bytes: Buffer): Buffer {
  return Buffer.from(new Uint8Array(bytes).buffer);
}

function buffersOf(message: NewMessage): ArrayBuffer[] {
  return [message.body, ...message.recipients.flatMap((r) => [r.signatures, r.prefix])].map(
    (bytes) => bytes.buffer as ArrayBuffer,
  );
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
