/**
 * The DNS of the sandbox: a dns2 server on UDP and TCP that plays every recursive resolver.
 *
 * Promise: it answers from a zone.ts that can be changed while it runs; a name outside the zone is
 * NXDOMAIN, since nothing else exists in this world. Garbage is counted and the process lives.
 * TTL 0 everywhere, so that a change is seen at once. No DNSSEC, no zone transfer.
 */
import { once } from 'node:events';
import type { Server as NetServer, Socket } from 'node:net';
import {
  createTCPServer,
  createUDPServer,
  type DnsHandler,
  Packet,
  type Question,
  type Resource,
  type UDPServer,
} from 'dns2';
import { parseMx, type RecordSet, type RecordType, Zone } from './zone.ts';

const { RCODE, TYPE, CLASS } = Packet;
const maxConnections = 64;
const txtPieceBytes = 255;

export class DnsWorld {
  readonly zone = new Zone();
  readonly #udp: UDPServer;
  readonly #tcp: NetServer;
  readonly #connections = new Set<Socket>();
  #garbage = 0;
  #port = 0;

  private constructor() {
    const answer = this.#answer.bind(this);
    this.#udp = createUDPServer(answer);
    this.#tcp = createTCPServer(answer);
    this.#tcp.maxConnections = maxConnections;
    this.#tcp.on('connection', (socket: Socket) => {
      this.#connections.add(socket);
      socket.once('close', () => this.#connections.delete(socket));
    });
    for (const server of [this.#udp, this.#tcp]) {
      server.on('requestError', () => this.#countGarbage());
      server.on('error', () => this.#countGarbage());
    }
  }

  /**
   * @param port the same for UDP and TCP; 0 takes one that is free on both
   * @throws when the port is taken
   */
  static async start({ port }: { port: number }): Promise<DnsWorld> {
    for (let attempt = 1; ; attempt += 1) {
      const world = new DnsWorld();
      try {
        await world.#listen(port);
        return world;
      } catch (error) {
        await world.stop();
        if (port !== 0 || attempt === 20) throw error;
      }
    }
  }

  get host(): string {
    return '127.0.0.1';
  }

  get port(): number {
    return this.#port;
  }

  /** Messages that were no question to answer. */
  get garbage(): number {
    return this.#garbage;
  }

  /** Replaces a record set; no values takes it away. @throws BadRecord */
  set(name: string, type: RecordType, values: string[]): void {
    this.zone.set(name, type, values);
  }

  async stop(): Promise<void> {
    for (const socket of this.#connections) socket.destroy();
    await Promise.all([
      new Promise<void>((resolve) => this.#udp.close(resolve)),
      new Promise<void>((resolve) => this.#tcp.close(() => resolve())),
    ]);
  }

  async #listen(port: number): Promise<void> {
    this.#udp.bind(port, this.host);
    await once(this.#udp, 'listening');
    this.#port = this.#udp.address().port;
    this.#tcp.listen(this.#port, this.host);
    await once(this.#tcp, 'listening');
  }

  #answer(...[request, send, client]: Parameters<DnsHandler>): void {
    // A response is no question, and nothing can be sent to port 0: Node throws on the attempt.
    if (request.header.qr === 1 || ('port' in client && client.port === 0)) {
      this.#countGarbage();
      // Over TCP the client is a socket, which would wait for an answer.
      if ('destroy' in client) client.destroy();
      return;
    }
    // dns2 gives a promise for UDP and nothing for TCP; a peer that is gone is no fault of ours.
    Promise.resolve(send(this.#respond(request))).catch(() => this.#countGarbage());
  }

  #countGarbage(): void {
    this.#garbage += 1;
  }

  #respond(request: Packet): Packet {
    const [question] = request.questions;
    if (request.header.opcode !== 0) return reply(request, RCODE.NOTIMP);
    if (!question || request.questions.length !== 1 || request.errors.length > 0) {
      this.#countGarbage();
      return reply(request, RCODE.FORMERR);
    }
    if (question.class !== CLASS.IN) return reply(request, RCODE.REFUSED);
    return this.#lookUp(request, question);
  }

  #lookUp(request: Packet, question: Question): Packet {
    const result = this.zone.lookup(question.name, Packet.typeName(question.type));
    const response = reply(request, result.kind === 'nxdomain' ? RCODE.NXDOMAIN : RCODE.NOERROR);
    response.header.aa = 1;
    response.header.ra = 1;
    for (const set of result.sets) response.answers.push(...resourcesOf(set, question.name));
    // RFC 2308 §3: a negative answer carries the SOA.
    if (result.kind !== 'found') response.authorities.push(soa);
    return response;
  }
}

/** A response with that code and no record; with EDNS where the question had it (RFC 6891 §6.1.1). */
function reply(request: Packet, rcode: number): Packet {
  return Packet.createErrorResponseFromRequest(request, rcode);
}

const soa = {
  name: 'test',
  type: TYPE.SOA,
  class: CLASS.IN,
  ttl: 0,
  primary: 'ns.test',
  admin: 'hostmaster.test',
  serial: 1,
  refresh: 3600,
  retry: 600,
  expiration: 86_400,
  minimum: 0,
} as Resource;

/** @param asked the name as the question wrote it, kept where the set stands on it (0x20 case) */
function resourcesOf({ name, type, values }: RecordSet, asked: string): Resource[] {
  const owner = asked.toLowerCase() === name ? asked : name;
  return values.map(
    (value) =>
      ({ name: owner, type: TYPE[type], class: CLASS.IN, ttl: 0, ...rdataOf(type, value) }) as Resource,
  );
}

function rdataOf(type: RecordType, value: string): Partial<Resource> {
  if (type === 'MX') return parseMx(value);
  if (type === 'CNAME') return { domain: value };
  if (type === 'TXT') return { data: piecesOf(value) as unknown as string[] };
  return { address: value };
}

/** Cut by octets, not characters: dns2 takes the buffers as they are. */
function piecesOf(text: string): Buffer[] {
  const bytes = Buffer.from(text);
  const pieces = [];
  for (let at = 0; at === 0 || at < bytes.length; at += txtPieceBytes) {
    pieces.push(bytes.subarray(at, at + txtPieceBytes));
  }
  return pieces;
}
