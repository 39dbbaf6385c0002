/**
 * What a transaction means for those who look at the queue from memory, and for the body files: gathered
 * while it is made, done when it is committed, taken back when it is not.
 */
import type { Bodies } from './bodies.ts';
import type { NewMessage } from './message.ts';
import type { AcceptAnswer } from './protocol.ts';

export type Waiting = { site: string; did: string; seq: number; at: number };

export type Entered = Waiting & {
  /** Somebody would begin this message at once: a claim goes into the answer to its acceptance. */
  wanted?: { message: NewMessage; answer: AcceptAnswer };
};

export class Effects {
  readonly #bodies: Bodies;
  /** Recipients that are due from then on. */
  readonly waiting: Entered[] = [];
  /** Lanes whose order is not what it was. */
  readonly changed: { site: string; did: string }[] = [];
  /** Recipient ids whose claims have ended. */
  readonly landed: string[] = [];
  /** Queue ids whose body files are new, and whose are not needed any more. */
  readonly written: string[] = [];
  readonly finished: string[] = [];

  constructor(bodies: Bodies) {
    this.#bodies = bodies;
  }

  /** Where the transaction stands, for backTo(). */
  get mark(): number[] {
    return this.#lists.map((list) => list.length);
  }

  backTo(mark: readonly number[]): void {
    for (const queueId of this.written.slice(mark[3])) this.#bodies.remove(queueId);
    for (const [index, list] of this.#lists.entries()) list.length = mark[index]!;
  }

  /** Files first: what is forgotten here stays until the sweep of the next start. */
  done(): void {
    for (const queueId of this.finished) this.#bodies.remove(queueId);
    for (const list of this.#lists) list.length = 0;
  }

  get #lists(): unknown[][] {
    return [this.waiting, this.changed, this.landed, this.written, this.finished];
  }
}
