/**
 * DNS questions of the node, asked of configured recursive servers.
 *
 * Promise: an answer is a value and never an exception, and "it does not exist" is never confused with
 * "nobody could say": SERVFAIL, REFUSED, a time-out or an answer that does not decode is `failed`, which
 * callers treat as transient. Every question ends within attempts × timeoutMs (UDP and TCP each).
 * Recursion, CNAMEs across zones, caching and DNSSEC are the recursive server's work.
 *
 * dns2 speaks the protocol, with two reins: its own retry over TCP has no time limit, so TCP is asked
 * here; and a message over 16 KiB is refused before decoding, because a chain of compression pointers
 * in a large one costs it seconds of CPU.
 */
import { connect, isIPv6 } from 'node:net';
import { Packet, type Resource, UDPClient } from 'dns2';

/** What the server said of one name and type. `server` is `host:port` of who was asked last. */
export type Answer<T> = { server: string } & (
  | { kind: 'found'; records: T[] }
  /** The name exists, without a record of this type (NODATA). */
  | { kind: 'none' }
  | { kind: 'nxdomain' }
  /** Nobody could say. Transient: never a proof of absence. */
  | { kind: 'failed'; reason: string }
);

/** `exchange` in lower case without the final dot; empty for the null MX of RFC 7505. */
export type MxRecord = { exchange: string; preference: number };

/** The consumer's view, so that tests and the sandbox put any DNS world behind it. Nothing here throws. */
export interface Resolver {
  /** Each record's strings joined without a separator (RFC 7208 §3.3, RFC 6376 §3.6.2.2). */
  txt(name: string): Promise<Answer<string>>;
  /** In the order of the answer, not sorted by preference. */
  mx(name: string): Promise<Answer<MxRecord>>;
  a(name: string): Promise<Answer<string>>;
  aaaa(name: string): Promise<Answer<string>>;
}

/**
 * IPv4 and IPv6 addresses of a host; empty when it has none.
 *
 * @throws Error when nobody could say
 */
export async function addressesOf(name: string, resolver: Resolver): Promise<string[]> {
  const answers = await Promise.all([resolver.a(name), resolver.aaaa(name)]);
  const found = answers.flatMap((answer) => (answer.kind === 'found' ? answer.records : []));
  const failed = answers.find((answer) => answer.kind === 'failed');
  if (found.length === 0 && failed) throw new Error(`no address of ${name}: ${failed.reason}`);
  return found;
}

export type DnsServerAddress = { host: string; port: number };

export type DnsResolverOptions = {
  /** Recursive servers as IP literals, asked in this order. At least one. */
  servers: DnsServerAddress[];
  /** For one question to one server over one transport. Default 2,000. */
  timeoutMs?: number;
  /** Questions sent before giving up, over all servers in turn. Default 2 for each server. */
  attempts?: number;
};

type RecordType = 'TXT' | 'MX' | 'A' | 'AAAA';
type Question = { name: string; type: RecordType };

const maxMessageBytes = 16_384;
const maxAliases = 16;

export class DnsResolver implements Resolver {
  readonly #servers: DnsServerAddress[];
  readonly #timeoutMs: number;
  readonly #attempts: number;

  /** @throws RangeError without a server */
  constructor(options: DnsResolverOptions) {
    if (options.servers.length === 0) throw new RangeError('a resolver needs at least one DNS server');
    this.#servers = options.servers;
    this.#timeoutMs = options.timeoutMs ?? 2_000;
    this.#attempts = options.attempts ?? 2 * options.servers.length;
  }

  txt(name: string): Promise<Answer<string>> {
    return this.#ask(name, 'TXT', (record) => [record.data].flat().join(''));
  }

  mx(name: string): Promise<Answer<MxRecord>> {
    return this.#ask(name, 'MX', (record) => ({
      exchange: canonical(String(record.exchange)),
      preference: Number(record.priority),
    }));
  }

  a(name: string): Promise<Answer<string>> {
    return this.#ask(name, 'A', (record) => String(record.address));
  }

  aaaa(name: string): Promise<Answer<string>> {
    return this.#ask(name, 'AAAA', (record) => String(record.address));
  }

  async #ask<T>(name: string, type: RecordType, read: (record: Resource) => T): Promise<Answer<T>> {
    const question = { name: canonical(name), type };
    let server = label(this.#servers[0]!);
    // What cannot be written as a name cannot exist; asking would only leak the text.
    if (!isAskable(question.name)) return { kind: 'nxdomain', server };
    let reason = '';
    for (let attempt = 0; attempt < this.#attempts; attempt++) {
      const address = this.#servers[attempt % this.#servers.length]!;
      server = label(address);
      const reply = await exchange(address, question, this.#timeoutMs);
      if (typeof reply !== 'string') return { ...interpret(reply, question, read), server };
      reason = reply;
    }
    return { kind: 'failed', reason, server };
  }
}

/** Evidence for a person: where an answer came from. */
function label({ host, port }: DnsServerAddress): string {
  return isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
}

function canonical(name: string): string {
  return name.toLowerCase().replace(/\.$/, '');
}

/** RFC 1035 §2.3.4: labels of 1–63 octets, 253 in all; underscores as in `_dmarc`. */
function isAskable(name: string): boolean {
  return name.length <= 253 && name.split('.').every((part) => /^[a-z0-9_-]{1,63}$/.test(part));
}

/** The usable reply, or the reason why another try is worth it. */
async function exchange(
  server: DnsServerAddress,
  question: Question,
  timeoutMs: number,
): Promise<Packet | string> {
  try {
    let reply = await askUdp(server, question, timeoutMs);
    if (reply.header.tc) reply = await askTcp(server, question, timeoutMs);
    return refusal(reply, question) ?? reply;
  } catch (error) {
    return (error as Error).message;
  }
}

function askUdp(server: DnsServerAddress, { name, type }: Question, timeoutMs: number): Promise<Packet> {
  const ask = UDPClient({
    dns: server.host,
    port: server.port,
    socketType: isIPv6(server.host) ? 'udp6' : 'udp4',
    timeout: timeoutMs,
    retryOverTCP: false,
  });
  return ask(name, type);
}

/** RFC 7766: one question on one connection, ended by the deadline whatever the server does. */
async function askTcp(server: DnsServerAddress, question: Question, timeoutMs: number): Promise<Packet> {
  const query = new Packet();
  query.header = new Packet.Header({ id: Packet.uuid(), rd: 1 });
  query.questions.push(new Packet.Question(question.name, Packet.TYPE[question.type], Packet.CLASS.IN));
  const socket = connect(server);
  // readStream listens only while it reads; a reset after that must not end the process.
  socket.on('error', () => undefined);
  const deadline = setTimeout(
    () => socket.destroy(new Error(`TCP query timed out after ${timeoutMs}ms`)),
    timeoutMs,
  );
  try {
    socket.write(framed(query.toBuffer()));
    const message = await Packet.readStream(socket);
    if (message.length > maxMessageBytes) throw new Error(`answer of ${message.length} octets is too large`);
    const reply = Packet.parse(message);
    if (reply.header.id !== query.header.id) throw new Error('answer to another question');
    return reply;
  } finally {
    clearTimeout(deadline);
    socket.destroy();
  }
}

function framed(message: Buffer): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(message.length);
  return Buffer.concat([length, message]);
}

/** Why a reply says nothing about the name; undefined when it does. */
function refusal(reply: Packet, question: Question): string | undefined {
  const { NOERROR, NXDOMAIN } = Packet.RCODE;
  const { rcode, qr } = reply.header;
  if (qr !== 1) return 'not a response';
  if (rcode !== NOERROR && rcode !== NXDOMAIN) return `the server answered ${rcodeName(rcode)}`;
  const echoed = reply.questions[0];
  if (!echoed || canonical(echoed.name) !== question.name || echoed.type !== Packet.TYPE[question.type]) {
    return 'answer to another question';
  }
  // dns2 leaves out a record that it cannot decode; an answer with a hole in it proves no absence.
  if (reply.errors.length > 0) return `malformed answer: ${reply.errors[0]!.message}`;
  if (reply.header.tc) return 'truncated over TCP too';
  return undefined;
}

function rcodeName(rcode: number): string {
  return Object.entries(Packet.RCODE).find(([, code]) => code === rcode)?.[0] ?? `RCODE ${rcode}`;
}

function interpret<T>(
  reply: Packet,
  question: Question,
  read: (record: Resource) => T,
): { kind: 'found'; records: T[] } | { kind: 'none' } | { kind: 'nxdomain' } {
  if (reply.header.rcode === Packet.RCODE.NXDOMAIN) return { kind: 'nxdomain' };
  const records = recordsOf(reply, question).map(read);
  return records.length > 0 ? { kind: 'found', records } : { kind: 'none' };
}

/** The records at the end of the alias chain; others in the section are not about our name. */
function recordsOf(reply: Packet, { name, type }: Question): Resource[] {
  let owner = name;
  for (let hop = 0; hop < maxAliases; hop++) {
    const alias = reply.answers.find(
      (record) => record.type === Packet.TYPE.CNAME && canonical(record.name) === owner,
    );
    if (!alias) break;
    owner = canonical(String(alias.domain));
  }
  return reply.answers.filter(
    (record) =>
      record.type === Packet.TYPE[type] &&
      record.class === Packet.CLASS.IN &&
      canonical(record.name) === owner,
  );
}
