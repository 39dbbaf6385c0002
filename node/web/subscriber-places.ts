/**
 * Who may hold a WebSocket open: places, counted by the client's address.
 *
 * Promise: one address gets a twentieth of the places, and those who come through a proxy that names nobody half of
 * them together. A subscription that asks who calls takes none of these: until it knows, its callers share a few
 * places of their own for a few seconds each; afterwards it bounds them itself.
 */
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { isLoopback } from '../../appview/identity/address.ts';

const strangerPlaces = 16;
/** A token is judged without asking the network. */
const strangerMs = 3_000;

/** Subscriptions that ask who calls. */
const asking = new WeakSet<object>();
const onKnown = new WeakMap<IncomingMessage, () => void>();

/** @param subscription is to call knowsCaller() once it does */
export function asksWhoCalls(subscription: object): void {
  asking.add(subscription);
}

/** From now on the subscription answers for this caller. */
export function knowsCaller(request: IncomingMessage): void {
  onKnown.get(request)?.();
}

export class SubscriberPlaces {
  readonly #max: number;
  readonly #proxies: ReadonlySet<string>;
  readonly #strangerMs: number;
  readonly #subscribers = new Map<Socket, string>();
  readonly #strangers = new Map<Socket, string>();

  /** @param proxies addresses whose X-Forwarded-For is believed; this machine's always is */
  constructor(max: number, proxies: readonly string[], o: { strangerMs?: number } = {}) {
    this.#max = max;
    this.#proxies = new Set(proxies);
    this.#strangerMs = o.strangerMs ?? strangerMs;
  }

  /** @returns false where there is no room; else the place is taken until the socket closes */
  take(subscription: object, request: IncomingMessage, socket: Socket): boolean {
    const isAsking = asking.has(subscription);
    const taken = isAsking ? this.#strangers : this.#subscribers;
    const address = this.#clientOf(request, socket);
    if (isFull(taken, address, isAsking ? strangerPlaces : this.#max)) return false;
    taken.set(socket, address);
    socket.once('close', () => taken.delete(socket));
    if (isAsking) this.#awaitName(request, socket);
    return true;
  }

  #awaitName(request: IncomingMessage, socket: Socket): void {
    const deadline = setTimeout(() => socket.destroy(), this.#strangerMs);
    socket.once('close', () => clearTimeout(deadline));
    onKnown.set(request, () => {
      clearTimeout(deadline);
      this.#strangers.delete(socket);
    });
  }

  /** The nearest hop that is no proxy of ours, as for requests; '' where a proxy names nobody. */
  #clientOf(request: IncomingMessage, socket: Socket): string {
    const forwarded = String(request.headers['x-forwarded-for'] ?? '').split(',');
    let address = plain(socket.remoteAddress ?? '');
    while (this.#isProxy(address)) address = plain(forwarded.pop() ?? '');
    return address;
  }

  #isProxy(address: string): boolean {
    return address !== '' && (isLoopback(address) || this.#proxies.has(address));
  }
}

/** '' stands for many, so it gets more, and never all. */
function isFull(taken: ReadonlyMap<Socket, string>, address: string, limit: number): boolean {
  if (taken.size >= limit) return true;
  const own = [...taken.values()].filter((other) => other === address).length;
  return own >= Math.ceil(limit / (address === '' ? 2 : 20));
}

function plain(address: string): string {
  return address.trim().replace(/^::ffff:/, '');
}
