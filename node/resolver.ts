/**
 * DNS questions of the node, asked of configured recursive servers.
 *
 * Promise: an answer is a value and never an exception, and "it does not exist" is never confused with
 * "nobody could say": SERVFAIL, REFUSED, a time-out or an answer that does not decode is `failed`, which
 * callers treat as transient. Every question ends within attempts × timeoutMs (UDP and TCP each).
 * Recursion, CNAMEs across zones, caching and DNSSEC are the recursive server's work.
 *
 * `secure` is the recursive server's word (the AD bit of RFC 4035, asked for as in RFC 6840 §5.7), so it is
 * worth what that server and the way to it are worth: a validating resolver on this machine, or one that the
 * operator chose over a network that nobody else writes into. `validates: false` where that is not so.
 *
 * dns2 writes and reads the messages; the sockets are ours, since its clients set no AD bit, know no TLSA and
 * retry over TCP without a time limit. A message over 16 KiB is refused before decoding, because a chain of
 * compression pointers in a large one costs seconds of CPU.
 */
import { createSocket } from 'node:dgram';
import { connect, isIPv6 } from 'node:net';
import { Packet, type Resource } from 'dns2';

/** What the server said of one name and type. `server` is `host:port` of who was asked last. */
export type Answer<T> = {
  server: string;
  /** The resolver validated it with DNSSEC (the AD bit); absent: it did not, or the answer proves nothing. */
  secure?: true;
  /** How long it may be remembered; absent: not at all. */
  ttlSeconds?: number;
  /** The name that the records stand at, where an alias led there. */
  canonical?: string;
  /** Unix ms, where the answer was remembered. */
  askedAt?: number;
} & (
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

/** RFC 6698 §2.1. */
export type TlsaRecord = { usage: number; selector: number; matching: number; data: Buffer };

/** What delivery asks beyond that. */
export interface TlsaResolver extends Resolver {
  /** `name` with port and protocol: `_25._tcp.mx.harbor.example`. */
  tlsa(name: string): Promise<Answer<TlsaRecord>>;
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
  /** The servers validate DNSSEC and their word is believed. Default true. */
  validates?: boolean;
};

type RecordType = 'TXT' | 'MX' | 'A' | 'AAAA' | 'TLSA';
type Question = { name: string; type: RecordType; code: number };

/** RFC 6698 §7.1; dns2 hands over the content of types that it does not know as it came. */
const tlsaType = 52;

const maxMessageBytes = 16_384;
const maxAliases = 16;

export class DnsResolver implements TlsaResolver {
  readonly #servers: DnsServerAddress[];
  readonly #timeoutMs: number;
  readonly #attempts: number;
  readonly #validates: boolean;

  /** @throws RangeError without a server */
  constructor(options: DnsResolverOptions) {
    if (options.servers.length === 0) throw new RangeError('a resolver needs at least one DNS server');
    this.#servers = options.servers;
    this.#timeoutMs = options.timeoutMs ?? 2_000;
    this.#attempts = options.attempts ?? 2 * options.servers.length;
    this.#validates = options.validates ?? true;
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

  tlsa(name: string): Promise<Answer<TlsaRecord>> {
    return this.#ask(name, 'TLSA', tlsaOf);
  }

  async #ask<T>(name: string, type: RecordType, read: (record: Resource) => T): Promise<Answer<T>> {
    const code = type === 'TLSA' ? tlsaType : Packet.TYPE[type];
    const question = { name: canonical(name), type, code };
    let server = label(this.#servers[0]!);
    // What cannot be written as a name cannot exist; asking would only leak the text.
    if (!isAskable(question.name)) return { kind: 'nxdomain', server };
    let reason = '';
    for (let attempt = 0; attempt < this.#attempts; attempt++) {
      const address = this.#servers[attempt % this.#servers.length]!;
      server = label(address);
      const reply = await exchange(address, question, this.#timeoutMs, this.#validates);
      if (typeof reply !== 'string') {
        const secure = this.#validates && isAuthentic(reply) ? ({ secure: true } as const) : {};
        return { ...interpret(reply, question, read), ...secure, server };
      }
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
  validates: boolean,
): Promise<Packet | string> {
  const query = new Packet();
  query.header = new Packet.Header({ id: Packet.uuid(), rd: 1, ...(validates && authentic) });
  query.questions.push(new Packet.Question(question.name, question.code, Packet.CLASS.IN));
  try {
    let reply = await askUdp(server, query, timeoutMs);
    if (reply.header.tc) reply = await askTcp(server, query, timeoutMs);
    return refusal(reply, question) ?? reply;
  } catch (error) {
    return (error as Error).message;
  }
}

/** The AD bit, which dns2 reads and writes but does not declare. */
const authentic = { ad: 1 };

function isAuthentic({ header }: Packet): boolean {
  return (header as { ad?: number }).ad === 1;
}

/** On a socket and a port of its own, connected: the system drops what others send (RFC 5452 §9). */
async function askUdp(server: DnsServerAddress, query: Packet, timeoutMs: number): Promise<Packet> {
  const socket = createSocket(isIPv6(server.host) ? 'udp6' : 'udp4');
  let deadline: NodeJS.Timeout | undefined;
  try {
    return await new Promise((resolve, reject) => {
      deadline = setTimeout(() => reject(new Error(`DNS query timed out after ${timeoutMs}ms`)), timeoutMs);
      const failed = (error?: Error | null) => error && reject(error);
      // A datagram that is no answer is not the end: the real one may still come.
      socket.on('message', (message) => {
        const reply = replyTo(query, message);
        if (reply instanceof Packet) resolve(reply);
      });
      socket.on('error', reject);
      socket.connect(server.port, server.host, () => socket.send(query.toBuffer(), failed));
    });
  } finally {
    clearTimeout(deadline);
    socket.close();
  }
}

/** RFC 7766: one question on one connection, ended by the deadline whatever the server does. */
async function askTcp(server: DnsServerAddress, query: Packet, timeoutMs: number): Promise<Packet> {
  const socket = connect(server);
  // readStream listens only while it reads; a reset after that must not end the process.
  socket.on('error', () => undefined);
  const deadline = setTimeout(
    () => socket.destroy(new Error(`TCP query timed out after ${timeoutMs}ms`)),
    timeoutMs,
  );
  try {
    socket.write(framed(query.toBuffer()));
    const reply = replyTo(query, await Packet.readStream(socket));
    if (typeof reply === 'string') throw new Error(reply);
    return reply;
  } finally {
    clearTimeout(deadline);
    socket.destroy();
  }
}

/** The decoded message, or why it is no answer to this query. */
function replyTo(query: Packet, message: Buffer): Packet | string {
  if (message.length > maxMessageBytes) return `answer of ${message.length} octets is too large`;
  try {
    const reply = Packet.parse(message);
    return reply.header.id === query.header.id ? reply : 'answer to another question';
  } catch (error) {
    return (error as Error).message;
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
  if (!echoed || canonical(echoed.name) !== question.name || echoed.type !== question.code) {
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

type Said<T> = { ttlSeconds?: number; canonical?: string } & (
  | { kind: 'found'; records: T[] }
  | { kind: 'none' }
  | { kind: 'nxdomain' }
);

function interpret<T>(reply: Packet, question: Question, read: (record: Resource) => T): Said<T> {
  const { owner, records, ttlSeconds } = recordsOf(reply, question);
  if (reply.header.rcode === Packet.RCODE.NXDOMAIN) return { kind: 'nxdomain', ...negativeTtl(reply) };
  if (records.length === 0) return { kind: 'none', ...negativeTtl(reply) };
  const alias = owner === question.name ? {} : { canonical: owner };
  return { kind: 'found', records: records.map(read), ttlSeconds, ...alias };
}

/** RFC 2308 §5: as long as the SOA beside it says; without one not at all. */
function negativeTtl(reply: Packet): { ttlSeconds?: number } {
  const soa = reply.authorities.find(({ type }) => type === Packet.TYPE.SOA);
  return soa ? { ttlSeconds: Math.min(soa.ttl, Number(soa.minimum)) } : {};
}

type Found = { owner: string; records: Resource[]; ttlSeconds: number };

/** The records at the end of the alias chain; others in the section are not about our name. */
function recordsOf(reply: Packet, { name, code }: Question): Found {
  let owner = name;
  let ttlSeconds = Number.POSITIVE_INFINITY;
  for (let hop = 0; hop < maxAliases; hop++) {
    const alias = reply.answers.find(
      (record) => record.type === Packet.TYPE.CNAME && canonical(record.name) === owner,
    );
    if (!alias) break;
    owner = canonical(String(alias.domain));
    ttlSeconds = Math.min(ttlSeconds, alias.ttl);
  }
  const records = reply.answers.filter(
    (record) => record.type === code && record.class === Packet.CLASS.IN && canonical(record.name) === owner,
  );
  return { owner, records, ttlSeconds: Math.min(ttlSeconds, ...records.map(({ ttl }) => ttl)) };
}

/** RFC 6698 §2.1; one that is too short has a usage that nobody knows. */
function tlsaOf({ data }: Resource): TlsaRecord {
  const [usage = 255, selector = 255, matching = 255] = data as Buffer;
  return { usage, selector, matching, data: (data as Buffer).subarray(3) };
}
