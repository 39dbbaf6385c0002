/** Transfers without a socket: requests as secondaries send them, and answers read by dns-packet. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Answer, decode } from 'dns-packet';
import { pino } from 'pino';
import type { Client } from '../../dnsbl/answer.ts';
import { TYPE } from '../../dnsbl/records.ts';
import { Keyring } from '../../dnsbl/transfer/keys.ts';
import { recordsIn } from '../../dnsbl/transfer/message-records.ts';
import { Transfers, type TransfersOptions, type TsigKey } from '../../dnsbl/transfer/transfers.ts';
import { readTsig, Signer, type Tsig, verify } from '../../dnsbl/transfer/tsig.ts';
import type { Zone } from '../../dnsbl/zone.ts';
import { apex, startMs } from './dnsbl-fixtures.ts';

export const key: TsigKey = { name: 'harbor-secondary', secret: Buffer.alloc(32, 7) };
export const stranger: TsigKey = { name: 'stranger', secret: Buffer.alloc(32, 8) };
export const keyring = new Keyring([key, stranger]);

/** 192.0.2.1 unless another last octet is given. */
export function clientAt(last = 1): Client {
  return { family: 4, address: Uint8Array.of(192, 0, 2, last), port: 5353 };
}

export type Request = {
  name?: string;
  type?: number;
  class?: number;
  /** What the client of an IXFR has; none: no SOA in the authority. */
  serial?: number;
  udpOctets?: number;
};

export function requestOf({
  name = apex,
  type = TYPE.AXFR,
  serial,
  udpOctets,
  ...rest
}: Request = {}): Buffer {
  const head = Buffer.from('123400000001000000000000', 'hex');
  if (serial !== undefined) head.writeUInt16BE(1, 8);
  if (udpOctets !== undefined) head.writeUInt16BE(1, 10);
  const labels = name.split('.').flatMap((label) => [label.length, ...Buffer.from(label)]);
  const question = Buffer.from([...labels, 0, type >> 8, type & 0xff, 0, rest.class ?? 1]);
  return Buffer.concat([head, question, ...soaOf(serial), ...optOf(udpOctets)]);
}

/** As BIND and Knot write it: owner and names compressed. */
function soaOf(serial: number | undefined): Buffer[] {
  if (serial === undefined) return [];
  const data = Buffer.alloc(24);
  data.writeUInt16BE(0xc00c, 0);
  data.writeUInt16BE(0xc00c, 2);
  data.writeUInt32BE(serial, 4);
  return [Buffer.from('c00c000600010000012c0018', 'hex'), data];
}

function optOf(udpOctets: number | undefined): Buffer[] {
  if (udpOctets === undefined) return [];
  return [Buffer.from([0, 0, 41, udpOctets >> 8, udpOctets & 0xff, 0, 0, 0, 0, 0, 0])];
}

export type Signed = { message: Buffer; mac: Buffer };

export function signedBy(with_: TsigKey, message: Buffer, nowMs = startMs): Signed {
  const signer = new Signer(new Keyring([with_]).named(with_.name), undefined, () => nowMs);
  return { message: signer.sign(message), mac: signer.mac! };
}

/**
 * With a TSIG of a key that nobody has, which is small and would be answered at length.
 *
 * @param algorithmOctets of the name of its algorithm, with the root; at most what a datagram holds
 * @param owner default: a pointer to the name in the question
 */
export function oddlySigned(
  message: Buffer,
  algorithmOctets: number,
  owner: Buffer = Buffer.from([0xc0, 12]),
): Buffer {
  const algorithm: Buffer[] = [];
  for (let left = algorithmOctets - 1; left > 0; ) {
    // No octet is left over: a label has two at least.
    const octets = left <= 64 ? left : left === 65 ? 63 : 64;
    algorithm.push(Buffer.concat([Buffer.from([octets - 1]), Buffer.alloc(octets - 1, 'a')]));
    left -= octets;
  }
  const data = Buffer.concat([...algorithm, Buffer.alloc(1 + 16)]);
  const fixed = Buffer.from([0, TYPE.TSIG, 0, 255, 0, 0, 0, 0, data.length >> 8, data.length & 0xff]);
  const signed = Buffer.concat([message, owner, fixed, data]);
  signed.writeUInt16BE(signed.readUInt16BE(10) + 1, 10);
  return signed;
}

export function tsigOf(message: Buffer): Tsig {
  const tsig = readTsig(message, recordsOfAny(message));
  if (typeof tsig === 'string') throw new Error(`the TSIG is ${tsig}`);
  return tsig;
}

/** recordsIn() stops at the few records that a request may have; a transfer's message has many. */
function recordsOfAny(message: Buffer) {
  const records = recordsIn(message, 65_535);
  if (!records) throw new Error('the message is broken');
  return records;
}

/** Verifies a whole stream as a secondary does (RFC 8945 §5.3.1): the first message, then the others. */
export function verdictOn(message: Buffer, requestMac: Buffer, nowMs = startMs): string {
  return verify(message, tsigOf(message), keyring, nowMs, requestMac).kind;
}

export async function all(messages: AsyncIterable<Buffer> | undefined): Promise<Buffer[]> {
  const taken: Buffer[] = [];
  for await (const message of messages ?? []) taken.push(message);
  return taken;
}

/** One line a record, TSIG and OPT left out. */
export function recordsOf(messages: readonly Buffer[]): string[] {
  return messages.flatMap((message) => (decode(message).answers ?? []).map(lineOf));
}

export function rcodeOf(message: Buffer): number {
  return message[3]! & 0xf;
}

function lineOf(record: Answer): string {
  if (record.type === 'SOA') return `${record.name} SOA ${record.data.serial}`;
  if (record.type === 'TXT') return `${record.name} TXT ${[record.data].flat().map(String).join('')}`;
  return `${record.name} ${record.type} ${'data' in record ? String(record.data) : ''}`;
}

export type World = {
  transfers: Transfers;
  counts: Map<string, number>;
  /** Everything for this zone's `allow`. */
  ask: (message: Buffer, client?: Client) => Promise<Buffer[]>;
  folder: string;
  stop: () => Promise<void>;
};

/** Started, and joined with its journal. */
export async function transfersOf(zone: Zone, options: Partial<TransfersOptions> = {}): Promise<World> {
  const counts = new Map<string, number>();
  const folder = options.journalDir ?? mkdtempSync(join(tmpdir(), 'atmos-transfer-'));
  const settled = Promise.withResolvers<void>();
  const count = (what: string, reason?: string) => {
    const name = reason === undefined ? what : `${what} ${reason}`;
    counts.set(name, (counts.get(name) ?? 0) + 1);
    if (name === 'dns_journal begun' || name === 'dns_journal continued') settled.resolve();
  };
  const transfers = new Transfers({
    zones: [zone],
    keys: [key, stranger],
    allow: new Map([[apex, [{ prefix: '192.0.2.0/24' }]]]),
    notify: new Map(),
    journalDir: folder,
    now: () => startMs,
    log: pino({ enabled: false }),
    count,
    ...options,
  });
  zone.onChange = (change) => transfers.changed(apex, change);
  await transfers.start();
  await settled.promise;
  return {
    transfers,
    counts,
    folder,
    ask: (message, client = clientAt()) => all(transfers.handle(message, client)),
    stop: async () => {
      await transfers.stop();
      if (!options.journalDir) rmSync(folder, { recursive: true, force: true });
    },
  };
}
