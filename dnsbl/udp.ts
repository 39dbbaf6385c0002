/**
 * Queries over UDP through node's own sockets: each packet is answered before the next one is read.
 *
 * Promise: no packet and no send that fails stops the socket. What cannot be sent is dropped. Nothing is
 * allocated for a query beyond what node:dgram does itself, and of that as little as it lets us.
 *
 * Sends that fail are counted while they go on failing: node tells of one only by a callback, which is 3 to
 * 4 % of all that a query costs. So one send in 64 has a callback, and after a failure each for a while.
 *
 * Limit: bound to a wildcard address, answers leave from the address that the kernel picks. The native
 * sockets (udp-batch.ts) answer from the address that was asked.
 */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { isIPv6 } from 'node:net';
import { TextClient } from './client-address.ts';
import { SOCKET, type SocketCounters } from './counters.ts';
import { MAX_UDP_QUERY_OCTETS, UDP_ANSWER_ROOM_OCTETS, UDP_RECEIVE_BUFFER_OCTETS } from './limits.ts';
import type { Responder } from './responder.ts';

export type ListenAddress = { host: string; port: number };

export type UdpOptions = {
  responder: Responder;
  counters: SocketCounters;
  maxUdpSends: number;
  /** Several threads take from one port. */
  reusePort: boolean;
};

/** Sends between two that tell how they went, and how many tell after one that failed. */
const UNTOLD_SENDS = 64;
const TOLD_SENDS = 4096;

export class UdpEndpoint {
  readonly #options: UdpOptions;
  readonly #socket: Socket;
  readonly #address: ListenAddress;
  readonly #client: TextClient;
  /** Where the next answer is written. */
  #room = newRoom();
  /** Those whose answers wait for the kernel, in the order in which they will be sent. */
  readonly #waiting: AnswerRoom[] = [];
  readonly #free: AnswerRoom[] = [];
  /** Sends until one that tells; negative: how many more do. */
  #untilTold = UNTOLD_SENDS;
  #isClosed = false;

  constructor(address: ListenAddress, options: UdpOptions) {
    const family = isIPv6(address.host) ? 6 : 4;
    this.#options = options;
    this.#address = address;
    this.#client = new TextClient(family);
    this.#socket = createSocket({
      type: family === 6 ? 'udp6' : 'udp4',
      // `::` and `0.0.0.0` are two addresses: who wants both lists both.
      ipv6Only: family === 6,
      reusePort: options.reusePort,
      recvBufferSize: UDP_RECEIVE_BUFFER_OCTETS,
      // Peers are always addresses. Without this every send goes through dns.lookup: 10 % of the CPU.
      lookup: (host, _options, callback) => callback(null, host, family),
    });
    this.#socket.on('message', (packet, peer) => this.#receive(packet, peer));
  }

  /** @returns the port. @throws the error of bind(2), with its `code` */
  async listen(): Promise<number> {
    const socket = this.#socket;
    // Before bind(): with a synchronous lookup the event comes before bind() returns.
    const listening = once(socket, 'listening');
    socket.bind(this.#address.port, this.#address.host);
    await listening;
    socket.on('error', () => this.#options.counters.add(SOCKET.socketErrors));
    return socket.address().port;
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const closed = once(this.#socket, 'close');
    this.#socket.close();
    await closed;
  }

  #receive(packet: Buffer, peer: RemoteInfo): void {
    const { responder, counters } = this.#options;
    counters.add(SOCKET.udpQueries);
    const hasRoom = this.#hasRoom();
    if (!hasRoom || peer.port === 0 || packet.length > MAX_UDP_QUERY_OCTETS) {
      // Nothing can be sent to port 0, and node throws on the attempt.
      counters.add(peer.port === 0 ? SOCKET.sourcePortZero : hasRoom ? SOCKET.oversized : SOCKET.overload);
      return;
    }
    responder.refresh();
    const client = this.#client.set(peer.address, peer.port);
    const octets = responder.answer(packet, 0, packet.length, 'udp', client, this.#room.buffer, 0);
    if (octets > 0 && !this.#isClosed) this.#send(octets, peer);
  }

  /** Takes back the rooms whose answers have gone meanwhile. @returns whether one more may wait */
  #hasRoom(): boolean {
    const { maxUdpSends } = this.#options;
    if (this.#waiting.length === 0) return maxUdpSends > 0;
    if (this.#isClosed) return false;
    const waiting = this.#socket.getSendQueueCount();
    this.#free.push(...this.#waiting.splice(0, this.#waiting.length - waiting));
    return waiting < maxUdpSends;
  }

  /** Nearly always the kernel takes an answer at once, and its room is free again. */
  #send(octets: number, { port, address }: RemoteInfo): void {
    const room = this.#room;
    room.views[octets] ??= room.buffer.subarray(0, octets);
    this.#untilTold -= 1;
    if (this.#untilTold > 0) this.#socket.send(room.views[octets], port, address);
    else this.#sendAndTell(room.views[octets], port, address);
    if (this.#socket.getSendQueueCount() === 0) return;
    this.#waiting.push(room);
    this.#room = this.#free.pop() ?? newRoom();
  }

  #sendAndTell(answer: Buffer, port: number, address: string): void {
    if (this.#untilTold === 0 || this.#untilTold < -TOLD_SENDS) this.#untilTold = UNTOLD_SENDS;
    this.#socket.send(answer, port, address, this.#onSent);
  }

  readonly #onSent = (error: Error | null): void => {
    if (!error) return;
    this.#options.counters.add(SOCKET.sendErrors);
    this.#untilTold = -1;
  };
}

/**
 * node reads the buffer until the answer has gone. `views`: the buffer's first octets, by their number,
 * each made once; node would make one for every answer.
 */
type AnswerRoom = { buffer: Buffer; views: Buffer[] };

function newRoom(): AnswerRoom {
  return { buffer: Buffer.allocUnsafeSlow(UDP_ANSWER_ROOM_OCTETS), views: [] };
}
