/**
 * One query of n in the log, and who is being limited; the answering threads never wait for it.
 *
 * Promise: a thread writes a sampled query into a ring of fixed size in shared memory; when the ring is
 * full the query is lost and counted. The owner empties all rings about once a second and writes lines by
 * its own logger. A client is cut to its prefix before it enters the ring, so whole addresses are nowhere
 * unless the operator asked for them. A label that could be a subscriber's key is written as `*`
 * (key-labels.ts), whatever the answer was.
 */
import type { Logger } from 'pino';
import type { Clock } from './access/clock.ts';
import { type ClientBits, prefixText } from './access/prefix.ts';
import { keyLabels, labelsOf } from './key-labels.ts';
import type { ThreadMetrics } from './metrics.ts';
import type { QueryReader } from './query.ts';
import { type AnswerClass, type Client, outcomes } from './seams.ts';
import type { Transport } from './wire.ts';

export type QueryLogSettings = {
  /** One query of so many, by chance; 0: none. */
  every: number;
  /** What is kept of a client's address. */
  client: ClientBits;
};

/** Emptied once a second: as many lines a second from each thread at most. */
const RECORDS = 512;

/** Header words: only the thread writes the first, only the owner the rest. */
const HEAD = 0;
const TAIL = 1;
const EVERY = 2;
const BITS4 = 3;
const BITS6 = 4;
const HEADER_OCTETS = 64;

/** Where in a record what stands, in octets; `octets` of an answer, or how many were limited. */
const AT = {
  ms: 0,
  kind: 8,
  family: 9,
  transport: 10,
  outcome: 11,
  zone: 12,
  type: 14,
  octets: 16,
  bits: 20,
};
const ADDRESS = 24;
const NAME_LENGTH = 40;
const NAME = 41;
const RECORD_OCTETS = 296;

const KIND = { query: 0, limited: 1 } as const;
/** Instead of an outcome. */
const NO_ANSWER = 255;
const NO_ZONE = 0xffff;

/** Between two records of one thread about limited answers. */
const LIMITED_INTERVAL_SECONDS = 1;
const answerClasses: readonly AnswerClass[] = ['positive', 'nodata', 'nxdomain', 'error'];

/** For one thread. */
export function newQueryLogMemory(): SharedArrayBuffer {
  return new SharedArrayBuffer(HEADER_OCTETS + RECORDS * RECORD_OCTETS);
}

/** What the log reads of an Answerer behind an answer. */
export interface Answered {
  readonly outcome: number;
  readonly zone: number;
  readonly type: number;
  readonly query: Pick<QueryReader, 'name' | 'nameLength'>;
}

/** In the thread that answers. */
export class ThreadQueryLog {
  readonly #header: Int32Array;
  readonly #octets: Uint8Array;
  readonly #view: DataView;
  readonly #clock: Clock;
  readonly #metrics: Pick<ThreadMetrics, 'logged' | 'logLost'>;
  #until = 1;
  #chance = (Math.random() * 2 ** 32) | 1;
  #limited = 0;
  #limitedAt = 0;

  constructor(memory: SharedArrayBuffer, clock: Clock, metrics: Pick<ThreadMetrics, 'logged' | 'logLost'>) {
    this.#header = new Int32Array(memory, 0, HEADER_OCTETS / 4);
    this.#octets = new Uint8Array(memory, HEADER_OCTETS);
    this.#view = new DataView(memory, HEADER_OCTETS);
    this.#clock = clock;
    this.#metrics = metrics;
  }

  /** Behind every query. @param octets of the answer; 0: there was none */
  see(answered: Answered, client: Client, transport: Transport, octets: number): void {
    const every = this.#header[EVERY]!;
    if (every === 0) return;
    this.#until -= 1;
    if (this.#until > 0) return;
    this.#until = this.#gap(every);
    const at = this.#open(KIND.query, client);
    if (at < 0) return;
    const view = this.#view;
    view.setUint8(at + AT.transport, transport === 'udp' ? 0 : 1);
    view.setUint8(at + AT.outcome, octets === 0 ? NO_ANSWER : answered.outcome);
    view.setUint16(at + AT.zone, answered.zone < 0 ? NO_ZONE : answered.zone);
    view.setUint16(at + AT.type, answered.type);
    view.setUint32(at + AT.octets, octets);
    this.#writeName(at, answered);
    this.#close();
  }

  /** Behind every answer that was limited; writes one record in a second. */
  limited(client: Client, answerClass: AnswerClass): void {
    this.#limited += 1;
    const { seconds } = this.#clock;
    if (seconds - this.#limitedAt < LIMITED_INTERVAL_SECONDS && seconds >= this.#limitedAt) return;
    this.#limitedAt = seconds;
    const at = this.#open(KIND.limited, client);
    if (at < 0) return;
    this.#view.setUint8(at + AT.outcome, answerClasses.indexOf(answerClass));
    this.#view.setUint32(at + AT.octets, this.#limited);
    this.#limited = 0;
    this.#close();
  }

  /** By chance, n in the mean, so that nothing that comes in a rhythm is always met or never. */
  #gap(every: number): number {
    this.#chance ^= this.#chance << 13;
    this.#chance ^= this.#chance >>> 17;
    this.#chance ^= this.#chance << 5;
    return 1 + ((this.#chance >>> 0) % (2 * every - 1));
  }

  /** @returns where the record is to be written, -1 when the ring is full */
  #open(kind: number, { family, address }: Client): number {
    const header = this.#header;
    const head = header[HEAD]!;
    if (((head - Atomics.load(header, TAIL)) | 0) >= RECORDS) {
      this.#metrics.logLost();
      return -1;
    }
    const at = (head & (RECORDS - 1)) * RECORD_OCTETS;
    this.#view.setFloat64(at + AT.ms, this.#clock.ms);
    this.#view.setUint8(at + AT.kind, kind);
    this.#view.setUint8(at + AT.family, family);
    const bits = header[family === 4 ? BITS4 : BITS6]!;
    this.#view.setUint8(at + AT.bits, bits);
    for (let index = 0; index < (family === 4 ? 4 : 16); index++) {
      const kept = Math.max(0, Math.min(8, bits - index * 8));
      this.#octets[at + ADDRESS + index] = address[index]! & (0xff00 >> kept);
    }
    return at;
  }

  #writeName(at: number, { query, type }: Answered): void {
    const octets = this.#octets;
    // A query that could not be read has no type, and its name is another query's.
    const length = type === 0 ? 0 : query.nameLength;
    octets[at + NAME_LENGTH] = length;
    for (let index = 0; index < length; index++) octets[at + NAME + index] = query.name[index]!;
  }

  #close(): void {
    this.#metrics.logged();
    Atomics.store(this.#header, HEAD, (this.#header[HEAD]! + 1) | 0);
  }
}

export type QueryLogOptions = {
  settings: QueryLogSettings;
  log: Pick<Logger, 'info' | 'warn'>;
  /** In the order in which answers are counted. */
  apexes: readonly string[];
};

/** In the owner's thread. */
export class QueryLog {
  readonly #options: QueryLogOptions;
  #settings: QueryLogSettings;
  readonly #memories: SharedArrayBuffer[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(options: QueryLogOptions) {
    this.#options = options;
    this.#settings = options.settings;
  }

  /** For one more thread, or for one that takes the place of another that died. */
  add(): SharedArrayBuffer {
    const memory = newQueryLogMemory();
    this.#memories.push(memory);
    this.#write(memory);
    return memory;
  }

  /** At once, in all threads. */
  replace(settings: QueryLogSettings): void {
    this.#settings = settings;
    for (const memory of this.#memories) this.#write(memory);
  }

  /** Empties the rings once a second. */
  start(): void {
    this.#timer ??= setInterval(() => this.drain(), 1000).unref();
  }

  /** What is in the rings is still written. */
  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.drain();
  }

  /** Writes a line for each record that waits. */
  drain(): void {
    for (const memory of this.#memories) this.#drain(memory);
  }

  #write(memory: SharedArrayBuffer): void {
    const header = new Int32Array(memory, 0, HEADER_OCTETS / 4);
    const { every, client } = this.#settings;
    header[BITS4] = client.ipv4;
    header[BITS6] = client.ipv6;
    Atomics.store(header, EVERY, every);
  }

  #drain(memory: SharedArrayBuffer): void {
    const header = new Int32Array(memory, 0, HEADER_OCTETS / 4);
    const records = Buffer.from(memory, HEADER_OCTETS);
    const head = Atomics.load(header, HEAD);
    for (let tail = header[TAIL]!; tail !== head; tail = (tail + 1) | 0) {
      const at = (tail & (RECORDS - 1)) * RECORD_OCTETS;
      this.#say(records.subarray(at, at + RECORD_OCTETS));
      Atomics.store(header, TAIL, (tail + 1) | 0);
    }
  }

  #say(record: Buffer): void {
    const { log, apexes } = this.#options;
    const family = record[AT.family]!;
    const client = prefixText(family, record, ADDRESS, record[AT.bits]!);
    const at = new Date(record.readDoubleBE(AT.ms)).toISOString();
    if (record[AT.kind] === KIND.limited) {
      const answers = answerClasses[record[AT.outcome]!];
      log.warn({ at, client, answers, limited: record.readUInt32BE(AT.octets) }, 'DNS answers limited');
      return;
    }
    const apex = apexes[record.readUInt16BE(AT.zone)];
    const fields = {
      ...{ at, client, transport: record[AT.transport] === 0 ? 'udp' : 'tcp' },
      name: nameText(record.subarray(NAME, NAME + record[NAME_LENGTH]!), apexes),
      type: record.readUInt16BE(AT.type),
      answer: record[AT.outcome] === NO_ANSWER ? 'none' : outcomes[record[AT.outcome]!],
      zone: apex,
      octets: record.readUInt32BE(AT.octets),
    };
    log.info(fields, 'DNS query');
  }
}

/** In the form of zone files (RFC 1035 §5.1), for a label may hold any octet; without what may be a key. */
function nameText(name: Uint8Array, apexes: readonly string[]): string {
  const labels = labelsOf(name);
  const hidden = keyLabels(labels, apexes);
  const texts = labels.map((label, index) =>
    hidden.includes(index) ? '*' : [...label].map(octetText).join(''),
  );
  return `${texts.join('.')}.`;
}

function octetText(octet: number): string {
  const letter = String.fromCharCode(octet);
  if (/[\w*/-]/.test(letter)) return letter;
  return octet > 0x20 && octet < 0x7f ? `\\${letter}` : `\\${String(octet).padStart(3, '0')}`;
}
