/**
 * Queries over TCP (RFC 7766): many on one connection, answered in their order.
 *
 * Promise: connections, their number per client, the octets held for each and the time between two
 * queries are bounded. A client that does not read its answers is not read either, and is closed when
 * it stays idle. No state outlives its connection.
 */
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { pipeline } from 'node:stream/promises';
import type { ServerLimits } from './limits.ts';

export type TcpOptions = {
  /** @returns undefined to end the connection; must not throw */
  answer: (message: Buffer) => Buffer | undefined;
  limits: ServerLimits;
  count: (what: string, reason?: string) => void;
};

export class TcpEndpoint {
  readonly #options: TcpOptions;
  readonly #connections = new Set<Socket>();
  #server: Server | undefined;

  constructor(options: TcpOptions) {
    this.#options = options;
  }

  /** @throws the error of listen(2), with its `code` */
  async listen(host: string, port: number): Promise<void> {
    // Half-open is allowed: who sends FIN behind a query still gets the answer (RFC 7766 §6.2.4).
    const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.#accept(socket));
    server.maxConnections = this.#options.limits.maxTcpConnections;
    server.on('drop', () => this.#options.count('dns_tcp_refused', 'all_taken'));
    this.#server = server;
    server.listen(port, host);
    await once(server, 'listening');
    server.on('error', () => this.#options.count('dns_tcp_errors', 'accept'));
  }

  async close(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (!server?.listening) return;
    const closed = once(server, 'close');
    server.close();
    for (const socket of this.#connections) socket.destroy();
    await closed;
  }

  #accept(socket: Socket): void {
    const { limits, count } = this.#options;
    if (this.#connectionsOf(socket.remoteAddress) >= limits.maxTcpConnectionsPerClient) {
      count('dns_tcp_refused', 'client');
      socket.destroy();
      return;
    }
    this.#connections.add(socket);
    socket.once('close', () => this.#connections.delete(socket));
    void this.#serve(socket);
  }

  /** At most maxTcpConnections steps, on a connection and not on a query. */
  #connectionsOf(address: string | undefined): number {
    let connections = 0;
    for (const socket of this.#connections) if (socket.remoteAddress === address) connections += 1;
    return connections;
  }

  async #serve(socket: Socket): Promise<void> {
    const { limits, count } = this.#options;
    // Only a whole query counts as activity: one octet now and then does not keep a connection.
    const idle = setTimeout(() => {
      count('dns_tcp_closed', 'idle');
      socket.destroy();
    }, limits.tcpIdleMs);
    try {
      await pipeline(socket, (chunks) => this.#answers(chunks, idle), socket);
    } catch {
      // Reset by the client, or closed by the timer or by close(): no answer is owed any more.
      socket.destroy();
    } finally {
      clearTimeout(idle);
    }
  }

  async *#answers(chunks: AsyncIterable<Buffer>, idle: NodeJS.Timeout): AsyncGenerator<Buffer> {
    const frames = new FrameReader();
    for await (const chunk of chunks) {
      for (const message of frames.push(chunk)) {
        const reply = this.#options.answer(message);
        if (!reply) return;
        yield framed(reply);
        idle.refresh();
      }
    }
  }
}

/** Length and message in one write, or they leave in two segments (RFC 7766 §8). */
function framed(message: Buffer): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(message.length);
  return Buffer.concat([length, message]);
}

/** Cuts a stream into messages by their two-octet lengths (RFC 1035 §4.2.2), copying each octet once. */
export class FrameReader {
  #part: 'length' | 'message' = 'length';
  #target = Buffer.alloc(2);
  #filled = 0;

  /** Yields the messages that this chunk completes. */
  *push(chunk: Buffer): Generator<Buffer> {
    let at = 0;
    for (;;) {
      const copied = chunk.copy(this.#target, this.#filled, at);
      at += copied;
      this.#filled += copied;
      if (this.#filled < this.#target.length) return;
      const complete = this.#target;
      this.#filled = 0;
      if (this.#part === 'length') {
        this.#part = 'message';
        this.#target = Buffer.allocUnsafe(complete.readUInt16BE());
      } else {
        this.#part = 'length';
        this.#target = Buffer.alloc(2);
        yield complete;
      }
    }
  }
}
