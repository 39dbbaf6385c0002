/**
 * Queries over UDP: each packet is answered before the next one is read.
 *
 * Promise: no packet and no send that fails stops the socket. What cannot be sent is dropped and counted.
 */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { isIPv6 } from 'node:net';
import { type ServerLimits, UDP_RECEIVE_BUFFER_OCTETS } from './limits.ts';

export type UdpOptions = {
  /** @returns undefined to stay silent; must not throw */
  answer: (packet: Buffer) => Buffer | undefined;
  limits: ServerLimits;
  count: (what: string, reason?: string) => void;
};

export class UdpEndpoint {
  readonly #options: UdpOptions;
  #socket: Socket | undefined;
  #sends = 0;

  constructor(options: UdpOptions) {
    this.#options = options;
  }

  /** @returns the port. @throws the error of bind(2), with its `code` */
  async listen(host: string, port: number): Promise<number> {
    const family = isIPv6(host) ? 6 : 4;
    const socket = createSocket({
      type: family === 6 ? 'udp6' : 'udp4',
      recvBufferSize: UDP_RECEIVE_BUFFER_OCTETS,
      // Peers are always addresses. Without this every send goes through dns.lookup: 10 % of the CPU.
      lookup: (address, _options, callback) => callback(null, address, family),
    });
    this.#socket = socket;
    socket.on('message', (packet, peer) => this.#receive(socket, packet, peer));
    // Before bind(): with a synchronous lookup the event comes before bind() returns.
    const listening = once(socket, 'listening');
    socket.bind(port, host);
    await listening;
    socket.on('error', () => this.#options.count('dns_udp_errors', 'socket'));
    return socket.address().port;
  }

  async close(): Promise<void> {
    const socket = this.#socket;
    this.#socket = undefined;
    if (!socket) return;
    const closed = once(socket, 'close');
    socket.close();
    await closed;
  }

  #receive(socket: Socket, packet: Buffer, peer: RemoteInfo): void {
    const unanswerable = this.#unanswerable(peer);
    if (unanswerable) {
      this.#options.count('dns_dropped', unanswerable);
      return;
    }
    const message = this.#options.answer(packet);
    if (message) this.#send(socket, message, peer);
  }

  #unanswerable(peer: RemoteInfo): string | undefined {
    // Nothing can be sent to port 0, and node throws on the attempt.
    if (peer.port === 0) return 'source_port_zero';
    return this.#sends >= this.#options.limits.maxUdpSends ? 'overload' : undefined;
  }

  #send(socket: Socket, message: Buffer, peer: RemoteInfo): void {
    this.#sends += 1;
    socket.send(message, peer.port, peer.address, (error) => {
      this.#sends -= 1;
      if (error) this.#options.count('dns_udp_errors', 'send');
    });
  }
}
