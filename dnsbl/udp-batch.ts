/**
 * Queries over UDP through the native sockets: up to 64 packets taken, answered and sent at once.
 *
 * Promise: the same answers as udp.ts, from the address that was asked. A fault of ours costs one batch its
 * answers, never the thread. Nothing is allocated for a query. Belongs to a thread that does nothing else:
 * it blocks in the kernel while there is nothing to do, but comes back to its event loop after MAX_WAIT_MS
 * at the latest, so messages and timers are seen.
 */
import { isIPv6 } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { getSystemErrorName } from 'node:util';
import { SOCKET, type SocketCounters } from './counters.ts';
import {
  MAX_UDP_OCTETS,
  MAX_UDP_QUERY_OCTETS,
  UDP_ANSWER_ROOM_OCTETS,
  UDP_RECEIVE_BUFFER_OCTETS,
} from './limits.ts';
import {
  ADDRESS_OCTETS,
  BATCH,
  type Batch,
  type BatchAddon,
  PACKET_WORDS,
  SPAN_WORDS,
} from './native/addon.ts';
import type { Responder } from './responder.ts';
import type { Client } from './seams.ts';
import type { ListenAddress } from './udp.ts';

/** In the kernel while idle, and in answering while not, before the event loop has a turn. */
const MAX_WAIT_MS = 40;
const MAX_BUSY_MS = 20;

/** One cache line more than a packet may have, or the rooms of all packets would share a few lines. */
const ROOM_OCTETS = MAX_UDP_QUERY_OCTETS + 64;

export type UdpBatchOptions = {
  addon: BatchAddon;
  responder: Responder;
  counters: SocketCounters;
  reusePort: boolean;
};

export class UdpBatch {
  readonly #options: UdpBatchOptions;
  readonly #batch: Batch;
  readonly #input = new Uint8Array(BATCH * ROOM_OCTETS);
  readonly #output = new Uint8Array(BATCH * MAX_UDP_OCTETS + UDP_ANSWER_ROOM_OCTETS);
  readonly #packets = new Int32Array(BATCH * PACKET_WORDS);
  readonly #spans = new Int32Array(BATCH * SPAN_WORDS);
  readonly #addresses = new Uint8Array(BATCH * ADDRESS_OCTETS);
  readonly #clients: { 4: Client; 6: Client }[];
  #running: Promise<void> | undefined;
  #isStopping = false;

  constructor(options: UdpBatchOptions) {
    this.#options = options;
    this.#batch = options.addon.open();
    this.#clients = Array.from({ length: BATCH }, (_, index) => {
      const at = index * ADDRESS_OCTETS;
      return {
        4: { family: 4, address: this.#addresses.subarray(at, at + 4), port: 0 },
        6: { family: 6, address: this.#addresses.subarray(at, at + ADDRESS_OCTETS), port: 0 },
      };
    });
  }

  /** @throws an error with the `code` of bind(2); nothing listens then */
  listen(addresses: readonly ListenAddress[]): void {
    const { addon, reusePort } = this.#options;
    for (const { host, port } of addresses) {
      const bound = addon.bind(this.#batch, host, port, reusePort, UDP_RECEIVE_BUFFER_OCTETS);
      if (bound >= 0) continue;
      addon.close(this.#batch);
      const code = getSystemErrorName(bound);
      throw Object.assign(new Error(`bind ${code} ${named({ host, port })}`), { code });
    }
  }

  /** Answers until close(). */
  start(): void {
    this.#running = this.#run();
  }

  async close(): Promise<void> {
    this.#isStopping = true;
    await this.#running;
    this.#options.addon.close(this.#batch);
  }

  async #run(): Promise<void> {
    while (!this.#isStopping) {
      const end = performance.now() + MAX_BUSY_MS;
      while (this.#turn() > 0 && performance.now() < end);
      await nextTurn();
    }
  }

  /** One batch. @returns its packets; 0 when there were none for MAX_WAIT_MS, or it failed */
  #turn(): number {
    try {
      return this.#batchOf();
    } catch (error) {
      // A fault of ours costs these answers. It must not cost the thread: a stranger may be able to repeat it.
      this.#options.responder.fault(error);
      return 0;
    }
  }

  #batchOf(): number {
    const { addon, responder, counters } = this.#options;
    const count = addon.receive(this.#batch, this.#input, this.#packets, this.#addresses, MAX_WAIT_MS);
    if (count === 0) return 0;
    counters.add(SOCKET.udpQueries, count);
    responder.refresh();
    for (let index = 0, at = 0; index < count; index++) at = this.#answer(index, at);
    const lost = addon.send(this.#batch, this.#output, this.#spans);
    if (lost > 0) counters.add(SOCKET.sendErrors, lost);
    return count;
  }

  /** @returns where the next answer may begin */
  #answer(index: number, at: number): number {
    const octets = this.#octetsOf(index, at);
    this.#spans[index * SPAN_WORDS] = at;
    this.#spans[index * SPAN_WORDS + 1] = octets;
    return at + octets;
  }

  #octetsOf(index: number, at: number): number {
    const { responder, counters } = this.#options;
    const length = this.#packets[index * PACKET_WORDS]!;
    const client = this.#clients[index]![this.#packets[index * PACKET_WORDS + 1] as 4 | 6];
    client.port = this.#packets[index * PACKET_WORDS + 2]!;
    // Nothing can be sent to port 0.
    if (client.port === 0) counters.add(SOCKET.sourcePortZero);
    else if (length < 0 || length > MAX_UDP_QUERY_OCTETS) counters.add(SOCKET.oversized);
    else
      return this.#fitting(
        responder.answer(this.#input, index * ROOM_OCTETS, length, 'udp', client, this.#output, at),
      );
    return 0;
  }

  /** Since none is longer, each has UDP_ANSWER_ROOM_OCTETS free in `#output`, the last of a full batch too. */
  #fitting(octets: number): number {
    if (octets <= MAX_UDP_OCTETS) return octets;
    this.#options.counters.add(SOCKET.fault);
    return 0;
  }
}

function named({ host, port }: ListenAddress): string {
  return isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
}
