/**
 * The signing threads: who waits, and which thread takes it.
 *
 * Promise: each task is answered, in memory that does not grow with it; a message longer than a slot is
 * hashed in pieces, so it neither blocks the loop nor stands in memory a second time.
 */
import { type LoadedKey, SigningThread, slotBytes, type Task, type ThreadOptions } from './signing-thread.ts';
import type { Answer, Job, Stretch } from './signing-worker.ts';

export type Signing = {
  /** Header and body; the header ends at `headerEnd`, the body begins at `bodyStart`. */
  message: Buffer;
  headerEnd: number;
  bodyStart: number;
  prefixes: readonly Buffer[];
  signers: readonly LoadedKey[];
  /** Unix seconds. */
  at: number;
  expiresAt: number;
};

export type SignedAll = { kind: 'signed'; signatures: Buffer[] } | { kind: 'failed'; reason: string };

/** Messages of many recipients let others in between. */
const prefixesPerTask = 8;
const pieceBytes = 256 * 1024;
/** Of tasks that wait; sessions and their limits keep far below it. */
const maxWaiting = 10_000;

export class SigningThreads {
  readonly #threads: SigningThread[];
  readonly #waiting: Task[] = [];
  /** Pieces of one body go to one thread. */
  readonly #waitingFor = new Map<SigningThread, Task[]>();
  #lastStream = 0;
  #isClosed = false;
  #underway = 0;
  #onIdle: (() => void) | undefined;

  constructor({ threads, ...options }: ThreadOptions & { threads: number }) {
    this.#threads = Array.from({ length: threads }, () => new SigningThread(options, () => this.#pump()));
    for (const thread of this.#threads) this.#waitingFor.set(thread, []);
  }

  /** One signature of each signer for each prefix, in their order. Never rejects. */
  async sign(o: Signing): Promise<SignedAll> {
    if (this.#isClosed) return { kind: 'failed', reason: 'signing has stopped' };
    this.#underway += 1;
    const signed = await this.#sign(o);
    this.#underway -= 1;
    if (this.#underway === 0) this.#onIdle?.();
    return signed;
  }

  /** What was asked for before is still done. */
  async close(): Promise<void> {
    this.#isClosed = true;
    if (this.#underway > 0) await new Promise<void>((resolve) => (this.#onIdle = resolve));
    await Promise.all(this.#threads.map((thread) => thread.close()));
  }

  async #sign(o: Signing): Promise<SignedAll> {
    const signatures: Buffer[] = [];
    let body: string | undefined;
    if (sizeOf(o, o.prefixes.slice(0, prefixesPerTask), true) > slotBytes) {
      const hashed = await this.#hashInPieces(o);
      if (hashed.kind !== 'hashed') return failed(hashed);
      body = hashed.bodyHash;
    }
    for (let from = 0; from < o.prefixes.length; from += prefixesPerTask) {
      const answer = await this.#run(signTask(o, o.prefixes.slice(from, from + prefixesPerTask), body));
      if (answer.kind !== 'signed') return failed(answer);
      body = answer.bodyHash;
      for (const text of answer.signatures) signatures.push(Buffer.from(text, 'latin1'));
    }
    return { kind: 'signed', signatures };
  }

  async #hashInPieces({ message, bodyStart }: Signing): Promise<Answer> {
    const stream = ++this.#lastStream;
    const thread = this.#freest();
    for (let from = bodyStart; ; from += pieceBytes) {
      const isLast = from + pieceBytes >= message.length;
      const piece = message.subarray(from, from + pieceBytes);
      const answer = await this.#run(
        pieceTask({ stream, isFirst: from === bodyStart, isLast }, piece),
        thread,
      );
      if (isLast || answer.kind === 'failed') return answer;
    }
  }

  #run(task: Omit<Task, 'done'>, thread?: SigningThread): Promise<Answer> {
    const queue = thread ? this.#waitingFor.get(thread)! : this.#waiting;
    const refusal = this.#refusal(task, queue);
    if (refusal) return Promise.resolve({ kind: 'failed', reason: refusal });
    return new Promise((done) => {
      queue.push({ ...task, done });
      this.#pump();
    });
  }

  #refusal({ size }: Omit<Task, 'done'>, { length }: Task[]): string | undefined {
    if (size > slotBytes) return `a header of ${size} octets is too long to sign`;
    return length >= maxWaiting ? 'too many messages wait to be signed' : undefined;
  }

  #pump(): void {
    for (const [thread, own] of this.#waitingFor)
      if (own.length > 0 && thread.freeSlots > 0) thread.take(own);
    while (this.#waiting.length > 0) {
      const thread = this.#freest();
      if (thread.isUsable && thread.freeSlots === 0) return;
      thread.take(this.#waiting);
    }
  }

  /** One that cannot be used only when none can. */
  #freest(): SigningThread {
    const rank = (thread: SigningThread): number => (thread.isUsable ? 1 + thread.freeSlots : 0);
    return this.#threads.reduce((best, thread) => (rank(thread) > rank(best) ? thread : best));
  }
}

function failed(answer: Answer): SignedAll {
  return { kind: 'failed', reason: answer.kind === 'failed' ? answer.reason : 'a thread answered nonsense' };
}

function sizeOf({ message, headerEnd, bodyStart }: Signing, prefixes: readonly Buffer[], withBody: boolean) {
  const own = headerEnd + (withBody ? message.length - bodyStart : 0);
  return prefixes.reduce((sum, { length }) => sum + length, own);
}

/** @param body its hash, once it is known */
function signTask(o: Signing, prefixes: readonly Buffer[], body: string | undefined): Omit<Task, 'done'> {
  const { message, headerEnd, bodyStart, signers, at, expiresAt } = o;
  const numbers = signers.map(({ number }) => number);
  return {
    size: sizeOf(o, prefixes, body === undefined),
    weight: prefixes.length,
    keys: signers,
    write(slot, start): Job {
      let end = start;
      const lay = (from: Buffer, first: number, last: number): Stretch => {
        const stretch = { start: end, end: end + last - first };
        from.copy(slot, end, first, last);
        end = stretch.end;
        return stretch;
      };
      return {
        kind: 'sign',
        header: lay(message, 0, headerEnd),
        body: body ?? lay(message, bodyStart, message.length),
        prefixes: prefixes.map((prefix) => lay(prefix, 0, prefix.length)),
        ...{ signers: numbers, at, expiresAt },
      };
    },
  };
}

function pieceTask(
  o: { stream: number; isFirst: boolean; isLast: boolean },
  piece: Buffer,
): Omit<Task, 'done'> {
  return {
    size: piece.length,
    weight: 1,
    keys: [],
    write(slot, start): Job {
      piece.copy(slot, start);
      return { kind: 'piece', ...o, piece: { start, end: start + piece.length } };
    },
  };
}
