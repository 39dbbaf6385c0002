/**
 * Octets of request bodies count against the byte budget as they come, until the work on them is done.
 *
 * Promise: a length that is only declared takes nothing from anybody, one member takes no more than its share,
 * and it has a bounded number of requests at once.
 */
import { type Readable, Transform } from 'node:stream';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { problem } from '../../errors.ts';
import { principalOf } from '../../http/authenticated.ts';
import { Refusal, refuse } from '../../http/refusal.ts';
import type { ByteBudget, Octets } from '../byte-budget.ts';

export class HeldBodies {
  readonly #budget: ByteBudget;
  readonly #perMember: number;
  readonly #requests = new Map<string, number>();
  readonly #holds = new WeakMap<FastifyRequest, Hold>();

  /** @param o.perMember requests at once. Default 50 */
  constructor(o: { budget: ByteBudget; perMember?: number }) {
    this.#budget = o.budget;
    this.#perMember = o.perMember ?? 50;
  }

  /** Every body of the plugin's routes, which are behind the door; else QUEUE_FULL or TOO_MANY_CONNECTIONS. */
  guard(app: FastifyInstance): void {
    app.addHook('preParsing', async (req, reply, payload) => {
      const hold = this.#enter(principalOf(req).did, reply);
      this.#holds.set(req, hold);
      return counted(payload as Readable, hold);
    });
  }

  /** A client that went away leaves its message in memory until the work on it has ended. */
  async whileHeld<T>(req: FastifyRequest, work: () => Promise<T>): Promise<T> {
    const hold = this.#holds.get(req)!;
    hold.isWorking = true;
    try {
      return await work();
    } finally {
      hold.release();
    }
  }

  /** @throws Refusal */
  #enter(did: string, reply: FastifyReply): Hold {
    const open = this.#requests.get(did) ?? 0;
    if (open >= this.#perMember)
      return refuse('TOO_MANY_CONNECTIONS', `The limit is ${this.#perMember} requests at once.`);
    this.#requests.set(did, open + 1);
    const hold = new Hold(this.#budget.of(did), () => this.#leave(did));
    // A body that does not parse and a client that goes away never reach the handler.
    reply.raw.once('close', () => {
      if (!hold.isWorking) hold.release();
    });
    return hold;
  }

  #leave(did: string): void {
    const left = this.#requests.get(did)! - 1;
    if (left > 0) this.#requests.set(did, left);
    else this.#requests.delete(did);
  }
}

class Hold {
  readonly #octets: Octets;
  readonly #leave: () => void;
  #held = 0;
  #isOver = false;
  isWorking = false;

  constructor(octets: Octets, leave: () => void) {
    this.#octets = octets;
    this.#leave = leave;
  }

  take(octets: number): boolean {
    if (this.#isOver || !this.#octets.take(octets)) return false;
    this.#held += octets;
    return true;
  }

  /** Once, however often called. */
  release(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#octets.release(this.#held);
    this.#leave();
  }
}

function counted(payload: Readable, hold: Hold): Readable {
  const counter = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      if (hold.take(chunk.length)) done(null, chunk);
      else done(new Refusal(problem('QUEUE_FULL')));
    },
  });
  // Once the request is answered nobody listens any more, and an error unheard ends the process.
  counter.on('error', () => undefined);
  // pipe() and not pipeline(): a refusal must leave the connection for its answer.
  payload.once('close', () => {
    if (!payload.readableEnded) counter.destroy(new Error('the request was broken off'));
  });
  return payload.pipe(counter);
}
