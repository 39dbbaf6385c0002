/**
 * Queries over TCP (RFC 7766): many on one connection, answered in their order.
 *
 * Promise: connections, their number per client, the octets held for each and the time between two
 * queries are bounded. A client that does not read its answers is not read either, and is closed when
 * it stays idle. When all places are taken, whoever was idle longest gives way, so slow clients, however
 * many, do not lock others out for long. No connection has more than a few queries answered before
 * UDP and the others have their turn. No state outlives its connection.
 *
 * All connections live in the owner's thread, wherever UDP is answered: transfers read the zones, which
 * are there, the caps count all connections, and what TCP costs never delays the threads that answer UDP.
 *
 * Limit: a transfer keeps the queries behind it on its connection waiting (RFC 7766 §6.2.1.1 would like
 * them answered meanwhile), for answers keep the order of the questions.
 */
import { once } from 'node:events';
import { createServer, isIPv6, type Server, type Socket } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { readAddress } from './client-address.ts';
import { SOCKET, type SocketCounters } from './counters.ts';
import { type ServerLimits, TCP_ANSWER_ROOM_OCTETS } from './limits.ts';
import type { Responder } from './responder.ts';
import type { Client } from './seams.ts';
import { isForTransfer, type Transfer } from './transfer-seam.ts';
import type { ListenAddress } from './udp.ts';

/** Answers go out when so many octets are ready, and node holds so many for each direction. */
const FLUSH_OCTETS = 16_384;

const LENGTH_OCTETS = 2;

/** Room for a message at first, whatever length it announces. */
const USUAL_MESSAGE_OCTETS = 1024;

/** Of an address, that make a client: all four of IPv4, 56 bits of IPv6, the usual size of one site. */
const CLIENT_OCTETS = 7;

export type TcpOptions = {
  responder: Responder;
  counters: SocketCounters;
  limits: ServerLimits;
  transfer?: Transfer;
  /** Ms, of any beginning; by which connections are idle. Default: performance.now. */
  now?: () => number;
};

type Connection = { socket: Socket; client: Client; clientKey: string; activeMs: number };

export class TcpEndpoint {
  readonly #options: TcpOptions;
  readonly #now: () => number;
  readonly #servers: Server[] = [];
  /** Whoever was idle longest comes first. */
  readonly #connections = new Set<Connection>();
  readonly #perClient = new Map<string, number>();
  readonly #out = Buffer.allocUnsafeSlow(FLUSH_OCTETS + LENGTH_OCTETS + TCP_ANSWER_ROOM_OCTETS);
  #idleTimer: NodeJS.Timeout | undefined;

  constructor(options: TcpOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
  }

  /** May be called for several addresses. @returns the port. @throws the error of listen(2), with its `code` */
  async listen({ host, port }: ListenAddress): Promise<number> {
    // Half-open is allowed: who sends FIN behind a query still gets the answer (RFC 7766 §6.2.4).
    const options = { allowHalfOpen: true, noDelay: true, highWaterMark: FLUSH_OCTETS };
    const server = createServer(options, (socket) => this.#accept(socket));
    server.listen({ host, port, ipv6Only: true });
    await once(server, 'listening');
    server.on('error', () => this.#options.counters.add(SOCKET.acceptErrors));
    this.#servers.push(server);
    return (server.address() as { port: number }).port;
  }

  get connections(): number {
    return this.#connections.size;
  }

  async close(): Promise<void> {
    const closed = this.#servers.splice(0).map((server) => once(server.close(), 'close'));
    for (const { socket } of this.#connections) socket.destroy();
    await Promise.all(closed);
  }

  #accept(socket: Socket): void {
    const { counters } = this.#options;
    const connection = connectionOf(socket, this.#now());
    const refusal = connection === undefined ? SOCKET.acceptErrors : this.#refusal(connection);
    if (connection === undefined || refusal !== undefined) {
      counters.add(refusal!);
      // A reset, so that it holds nothing here any more, not even TIME_WAIT.
      socket.on('error', () => socket.destroy()).resetAndDestroy();
      return;
    }
    this.#connections.add(connection);
    this.#countClient(connection.clientKey, 1);
    this.#expectIdle();
    socket.once('close', () => {
      this.#connections.delete(connection);
      this.#countClient(connection.clientKey, -1);
    });
    void this.#serve(connection);
  }

  /** @returns what to count, or undefined where there is a place, be it another's */
  #refusal({ clientKey }: Connection): number | undefined {
    const { limits, counters } = this.#options;
    if ((this.#perClient.get(clientKey) ?? 0) >= limits.maxTcpConnectionsPerClient)
      return SOCKET.tcpClientCap;
    if (this.#connections.size < limits.maxTcpConnections) return undefined;
    const [idlest] = this.#connections;
    if (idlest === undefined || this.#now() - idlest.activeMs < limits.tcpDisplaceMs)
      return SOCKET.tcpAllTaken;
    counters.add(SOCKET.tcpDisplaced);
    this.#cut(idlest);
    return undefined;
  }

  #countClient(key: string, change: number): void {
    const held = (this.#perClient.get(key) ?? 0) + change;
    if (held > 0) this.#perClient.set(key, held);
    else this.#perClient.delete(key);
  }

  #cut(connection: Connection): void {
    this.#connections.delete(connection);
    connection.socket.destroy();
  }

  /** Only a whole query counts as activity: one octet now and then does not keep a connection. */
  #touch(connection: Connection): void {
    if (!this.#connections.delete(connection)) return;
    connection.activeMs = this.#now();
    this.#connections.add(connection);
  }

  /** One timer for all: the first of them is the first that can be over its time. */
  #expectIdle(): void {
    const [idlest] = this.#connections;
    if (this.#idleTimer !== undefined || idlest === undefined) return;
    const leftMs = idlest.activeMs + this.#options.limits.tcpIdleMs - this.#now();
    this.#idleTimer = setTimeout(() => this.#cutIdle(), Math.max(1, leftMs)).unref();
  }

  #cutIdle(): void {
    const { limits, counters } = this.#options;
    this.#idleTimer = undefined;
    for (const connection of this.#connections) {
      if (this.#now() - connection.activeMs < limits.tcpIdleMs) break;
      counters.add(SOCKET.tcpIdle);
      this.#cut(connection);
    }
    this.#expectIdle();
  }

  async #serve(connection: Connection): Promise<void> {
    const { socket } = connection;
    try {
      await pipeline(socket, (chunks) => this.#answers(chunks, connection), socket);
    } catch {
      // Reset by the client, or closed by a cap or by close(): no answer is owed any more.
      socket.destroy();
    }
  }

  /** Goes on only when the client has taken what was yielded, up to FLUSH_OCTETS. */
  async *#answers(chunks: AsyncIterable<Buffer>, connection: Connection): AsyncGenerator<Buffer> {
    const frames = new FrameReader();
    for await (const chunk of chunks) {
      const messages = frames.push(chunk);
      for (;;) {
        const { answers, next } = this.#turn(messages, connection.client);
        if (answers.length > 0) yield answers;
        if (next === 'end') return;
        if (answers.length > 0) this.#touch(connection);
        if (next === 'read') break;
        if (next !== 'more') yield* this.#transferred(next, connection);
        await nextTurn();
      }
    }
  }

  /** Answers messages until it is somebody else's turn; `next` says whose. */
  #turn(messages: Iterator<Buffer>, client: Client): Turn {
    const { responder, counters, limits, transfer } = this.#options;
    const out = this.#out;
    let octets = 0;
    responder.refresh();
    for (let count = 0; count < limits.tcpQueriesPerTurn && octets < FLUSH_OCTETS; count++) {
      const { done, value: message } = messages.next();
      if (done) return { answers: copied(out, octets), next: 'read' };
      counters.add(SOCKET.tcpQueries);
      // Whom the rules keep out is refused or dropped by answer() below, as with any other question.
      const isTransfer = transfer !== undefined && isForTransfer(message) && responder.admits(client);
      const stream = isTransfer ? transfer.handle(message, client) : undefined;
      if (stream) return { answers: copied(out, octets), next: stream };
      const at = octets + LENGTH_OCTETS;
      const length = responder.answer(message, 0, message.length, 'tcp', client, out, at);
      if (length === 0) return { answers: copied(out, octets), next: 'end' };
      out.writeUInt16BE(length, octets);
      octets = at + length;
    }
    return { answers: copied(out, octets), next: 'more' };
  }

  async *#transferred(messages: AsyncIterable<Buffer>, connection: Connection): AsyncGenerator<Buffer> {
    const { counters } = this.#options;
    counters.add(SOCKET.transfers);
    try {
      for await (const message of messages) {
        yield framed(message);
        this.#touch(connection);
      }
    } catch (error) {
      counters.add(SOCKET.transferErrors);
      throw error;
    }
  }
}

/** `read`: all messages are answered; `end`: one that gets no answer; else a transfer comes next. */
type Turn = { answers: Buffer; next: 'more' | 'read' | 'end' | AsyncIterable<Buffer> };

function copied(out: Buffer, octets: number): Buffer {
  return Buffer.from(out.subarray(0, octets));
}

/** Length and message in one write, or they leave in two segments (RFC 7766 §8). */
function framed(message: Buffer): Buffer {
  const length = Buffer.alloc(LENGTH_OCTETS);
  length.writeUInt16BE(message.length);
  return Buffer.concat([length, message]);
}

/** @returns undefined when the client is gone already */
function connectionOf(socket: Socket, activeMs: number): Connection | undefined {
  const text = socket.remoteAddress;
  if (text === undefined) return undefined;
  const family = isIPv6(text) ? 6 : 4;
  const address = new Uint8Array(family === 4 ? 4 : 16);
  readAddress(text, family, address);
  const client: Client = { family, address, port: socket.remotePort ?? 0 };
  const clientKey = Buffer.from(address.subarray(0, CLIENT_OCTETS)).toString('hex');
  return { socket, client, clientKey, activeMs };
}

/**
 * Cuts a stream into messages by their two-octet lengths (RFC 1035 §4.2.2). Who announces much and sends
 * little costs little: the room grows with what has come.
 */
export class FrameReader {
  #part: 'length' | 'message' = 'length';
  #target = Buffer.alloc(LENGTH_OCTETS);
  #wanted = LENGTH_OCTETS;
  #filled = 0;

  /** Yields the messages that this chunk completes. */
  *push(chunk: Buffer): Generator<Buffer> {
    let at = 0;
    for (;;) {
      const copied = chunk.copy(this.#target, this.#filled, at);
      at += copied;
      this.#filled += copied;
      if (this.#filled < this.#target.length) return;
      if (this.#filled < this.#wanted) {
        this.#grow();
        continue;
      }
      const complete = this.#target;
      if (this.#part === 'length') this.#expect('message', complete.readUInt16BE());
      else {
        this.#expect('length', LENGTH_OCTETS);
        yield complete;
      }
    }
  }

  #expect(part: 'length' | 'message', octets: number): void {
    this.#part = part;
    this.#wanted = octets;
    this.#filled = 0;
    this.#target = Buffer.allocUnsafe(Math.min(octets, USUAL_MESSAGE_OCTETS));
  }

  #grow(): void {
    const wider = Buffer.allocUnsafe(Math.min(this.#wanted, this.#target.length * 4));
    this.#target.copy(wider);
    this.#target = wider;
  }
}
