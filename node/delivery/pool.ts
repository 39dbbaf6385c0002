/**
 * Idle sessions that wait for another message to the same place.
 *
 * The same place means: address, port, source address and TLS demand, so a message never travels under
 * less protection than it asks for. A session is closed after its share of messages, after `idleMs`
 * without one (a peer's patience costs it memory), and at a stop. One timer serves all.
 */
import type { Session } from './client.ts';

export type PooledSession = {
  session: Session;
  /** Messages that it carried. */
  served: number;
};

export type PoolOptions = {
  /** Default 3 s. */
  idleMs: number;
  /** Idle sessions in all. */
  max: number;
};

type Idle = PooledSession & { key: string; until: number };

export class SessionPool {
  readonly #options: PoolOptions;
  /** By place; the last one given is the first one taken, so that the others grow old and end. */
  readonly #places = new Map<string, Idle[]>();
  #size = 0;
  #sweeper: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(options: PoolOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#size;
  }

  /** The caller's until it is given back or closed. */
  take(key: string): PooledSession | undefined {
    const place = this.#places.get(key);
    for (let idle = place?.pop(); idle; idle = place?.pop()) {
      this.#size -= 1;
      if (idle.session.isUsable) return { session: idle.session, served: idle.served };
      idle.session.close();
    }
    return undefined;
  }

  give(key: string, { session, served }: PooledSession): void {
    if (this.#isClosed || !session.isUsable) {
      session.close();
      return;
    }
    if (this.#size >= this.#options.max) this.#closeOldest();
    const place = this.#places.get(key);
    const idle = { key, session, served, until: performance.now() + this.#options.idleMs };
    if (place) place.push(idle);
    else this.#places.set(key, [idle]);
    this.#size += 1;
    this.#sweeper ??= setInterval(() => this.#sweep(), this.#options.idleMs / 2);
  }

  /** QUIT for all; what is given later is closed at once. */
  close(): void {
    this.#isClosed = true;
    this.#end(() => true);
    this.#stopSweeping();
  }

  #sweep(): void {
    const now = performance.now();
    this.#end(({ until, session }) => until <= now || !session.isUsable);
    if (this.#size === 0) this.#stopSweeping();
  }

  #end(isOver: (idle: Idle) => boolean): void {
    for (const [key, place] of this.#places) {
      const left = place.filter((idle) => !isOver(idle));
      for (const idle of place) if (isOver(idle)) idle.session.close();
      this.#size -= place.length - left.length;
      if (left.length === 0) this.#places.delete(key);
      else this.#places.set(key, left);
    }
  }

  #closeOldest(): void {
    for (const [key, place] of this.#places) {
      const oldest = place.shift();
      if (place.length === 0) this.#places.delete(key);
      if (!oldest) continue;
      this.#size -= 1;
      oldest.session.close();
      return;
    }
  }

  #stopSweeping(): void {
    clearInterval(this.#sweeper);
    this.#sweeper = undefined;
  }
}
