/**
 * Queries over UDP through node's own sockets: each packet is answered before the next one is read.
 *
 * Promise: no packet and no send that fails stops the socket. What cannot be sent is dropped and counted.
 * Nothing is allocated for a query beyond what node:dgram does itself.
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

export class UdpEndpoint {
  readonly #options: UdpOptions;
  readonly #socket: Socket;
  readonly #address: ListenAddress;
  readonly #client: TextClient;
  /** Last in, first out: usually one alone is in use. */
  readonly #free: AnswerRoom[] = [];
  #rooms = 0;
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
    const room = this.#free.pop() ?? this.#newRoom();
    if (room === undefined || peer.port === 0 || packet.length > MAX_UDP_QUERY_OCTETS) {
      this.#drop(room, peer);
      return;
    }
    responder.refresh();
    const client = this.#client.set(peer.address, peer.port);
    const octets = responder.answer(packet, 0, packet.length, 'udp', client, room.buffer, 0);
    if (octets === 0 || this.#isClosed) {
      this.#free.push(room);
      return;
    }
    room.views[octets] ??= room.buffer.subarray(0, octets);
    this.#socket.send(room.views[octets], peer.port, peer.address, room.onSent);
  }

  #drop(room: AnswerRoom | undefined, peer: RemoteInfo): void {
    // Nothing can be sent to port 0, and node throws on the attempt.
    const reason = peer.port === 0 ? SOCKET.sourcePortZero : room ? SOCKET.oversized : SOCKET.overload;
    this.#options.counters.add(reason);
    if (room) this.#free.push(room);
  }

  #newRoom(): AnswerRoom | undefined {
    if (this.#rooms >= this.#options.maxUdpSends) return undefined;
    this.#rooms += 1;
    const room: AnswerRoom = {
      buffer: Buffer.allocUnsafeSlow(UDP_ANSWER_ROOM_OCTETS),
      views: [],
      onSent: (error) => {
        this.#free.push(room);
        if (error) this.#options.counters.add(SOCKET.sendErrors);
      },
    };
    return room;
  }
}

/**
 * node reads the buffer until it has told of the send, so an answer keeps its room that long. `views`:
 * the buffer's first octets, by their number, each made once; node would make one for every answer.
 */
type AnswerRoom = { buffer: Buffer; views: Buffer[]; onSent: (error: Error | null) => void };
