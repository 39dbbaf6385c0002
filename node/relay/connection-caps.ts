/**
 * How many connections one client network, and one member, has open at once, over all listeners.
 *
 * Promise: every entry is given back once, however often its function is called. Nothing is kept of whom
 * has none open.
 */
import { clientNetwork } from '../client-network.ts';

/**
 * `over`: too many sessions of that client. `flood`: twice as many sockets of it, so not even an answer.
 * `close` when the session ends, `leave` when its socket is gone: a client that has said QUIT and connects
 * anew is not one too many, but one that keeps ended sockets open is, in the end.
 */
export type Entry = { kind: 'in' | 'over'; close: () => void; leave: () => void } | { kind: 'flood' };

export class ConnectionCaps {
  readonly #perAddress: number;
  readonly #perMember: number;
  readonly #sessions = new Map<string, number>();
  readonly #sockets = new Map<string, number>();
  readonly #members = new Map<string, number>();

  /** Defaults 50 and 50. */
  constructor(o: { perAddress?: number; perMember?: number } = {}) {
    this.#perAddress = o.perAddress ?? 50;
    this.#perMember = o.perMember ?? 50;
  }

  /** From the first octet on. */
  enterFrom(address: string): Entry {
    const network = clientNetwork(address);
    if ((this.#sockets.get(network) ?? 0) >= 2 * this.#perAddress) return { kind: 'flood' };
    const left = enter(this.#sockets, network);
    if ((this.#sessions.get(network) ?? 0) >= this.#perAddress)
      return { kind: 'over', close: () => undefined, leave: left };
    const close = enter(this.#sessions, network);
    const leave = (): void => {
      close();
      left();
    };
    return { kind: 'in', close, leave };
  }

  /** @returns undefined when the member has as many sessions as it may; then nothing is counted */
  enterMember(did: string): (() => void) | undefined {
    const open = this.#members.get(did) ?? 0;
    return open < this.#perMember ? enter(this.#members, did) : undefined;
  }
}

function enter(counts: Map<string, number>, key: string): () => void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
  let isIn = true;
  return () => {
    if (!isIn) return;
    isIn = false;
    const left = counts.get(key)! - 1;
    if (left > 0) counts.set(key, left);
    else counts.delete(key);
  };
}
