/**
 * Packets from anyone, against the answering code without sockets: never a throw, every answer is
 * well-formed for two foreign decoders, and a query that we accept means the same to dns-packet.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decode } from 'dns-packet';
import type { NameKey } from '../../dnsbl/name.ts';
import { type Query, RCODE, readQuery } from '../../dnsbl/wire.ts';
import { answer, decoded, vouched, zoneOf } from '../unit/dnsbl-fixtures.ts';
import { mutated, seeds } from './dnsbl-packets.ts';
import { Fuzz } from './random.ts';

const fuzz = new Fuzz('dnsbl-answer');
const zone = zoneOf(
  vouched({ name: 'reef.test' }),
  vouched({ name: 'wide.test' }, { kind: 4, coverSubdomains: true }),
);

test('every mutated packet is dropped, or answered in a way that two decoders can read', () => {
  const outcomes = new Map<string, number>();
  for (let i = fuzz.rounds(20_000); i > 0; i--) {
    const packet = mutated(fuzz);
    const outcome = context(packet, () => checked(packet));
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  }
  const seen = [...outcomes.keys()].sort();
  const all = ['badvers', 'dropped', 'formerr', 'nodata', 'noerror', 'notimp', 'nxdomain', 'refused'];
  assert.deepEqual(seen, all, 'the mutations reach every outcome');
});

function checked(packet: Buffer): string {
  const transport = fuzz.below(2) === 0 ? 'udp' : 'tcp';
  const reply = answer(packet, transport, [zone]);
  if (reply.kind === 'dropped') {
    assert.ok(packet.length < 12 || (packet[2] as number) >= 0x80);
    return 'dropped';
  }
  const { message } = reply;
  assert.ok(message.length <= (transport === 'udp' ? 1232 : 65_535));
  assert.deepEqual(message.subarray(0, 2), packet.subarray(0, 2), 'the id');
  assert.equal((message[2] as number) >> 7, 1, 'QR');
  const reading = readQuery(packet);
  if (reading.kind === 'query') checkQuery(packet, reading.query, message);
  else checkFault(packet, message);
  return reply.outcome ?? '';
}

/** No question, and an OPT only for whoever sent one. */
function checkFault(packet: Buffer, message: Buffer): void {
  const { questions, answers, authorities, additionals = [] } = decode(message);
  assert.deepEqual([questions, answers, authorities], [[], [], []]);
  assert.equal(message.length, 12 + 11 * additionals.length);
  if (additionals.length === 0) return;
  assert.deepEqual([additionals.length, additionals[0]!.type], [1, 'OPT']);
  assert.ok(packet.includes(Buffer.of(0, 0, 41)));
}

function checkQuery(packet: Buffer, query: Query, message: Buffer): void {
  const { octets } = query.question;
  assert.deepEqual(message.subarray(12, 12 + octets.length), octets, 'the question, letter by letter');
  const reply = isText(query.question.key) ? decoded(message) : decode(message);
  assert.equal(reply.questions?.length, 1);
  assert.equal(reply.additionals?.length, query.edns ? 1 : 0);
  if (!onlyOpt(packet, query) || !isText(query.question.key)) return;
  const theirs = decode(packet).questions?.[0];
  assert.equal(theirs?.name.toLowerCase() || '.', dotted(query.question.key));
}

/** dns-packet also decodes the data of records, and refuses what we have no reason to look at. */
function onlyOpt(packet: Buffer, query: Query): boolean {
  const records = packet.readUInt16BE(6) + packet.readUInt16BE(8) + packet.readUInt16BE(10);
  return records === 0 || (records === 1 && query.edns?.version === 0);
}

/** No octets that a decoder would turn into other letters, or into dots. */
function isText(key: NameKey): boolean {
  return labels(key).every((label) => /^[a-z0-9_*-]+$/.test(label));
}

function dotted(key: NameKey): string {
  return labels(key).join('.') || '.';
}

function labels(key: NameKey): string[] {
  const found: string[] = [];
  for (let at = 0; at < key.length; at += 1 + key.charCodeAt(at)) {
    found.push(key.slice(at + 1, at + 1 + key.charCodeAt(at)));
  }
  return found;
}

test('octets without any order are survived', () => {
  for (let i = fuzz.rounds(5_000); i > 0; i--) {
    const packet = Buffer.from(Array.from({ length: fuzz.below(80) }, () => fuzz.below(256)));
    context(packet, () => checked(packet));
  }
});

test('64 KB of pointers, labels or records cost no more than a millisecond each', () => {
  const header = Buffer.from([0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
  const fill = (octets: number[]) => Buffer.concat([header, Buffer.alloc(65_535 - 12, Buffer.from(octets))]);
  const announcing = (packet: Buffer) => {
    packet.writeUInt16BE(65_535, 10);
    return packet;
  };
  const monsters = [
    fill([0xc0, 12]),
    fill([1, 0x61]),
    fill([63, ...Array<number>(63).fill(0x41)]),
    fill([0, 0, 1, 0, 1]),
    announcing(Buffer.concat([seeds[0] as Buffer, Buffer.alloc(65_000)])),
  ];
  for (const monster of monsters) {
    const start = process.cpuUsage();
    for (let turn = 0; turn < 100; turn++) {
      const reply = answer(monster, 'tcp', [zone]);
      assert.equal(reply.kind === 'answered' && (reply.message[3] as number) & 0xf, RCODE.FORMERR);
    }
    assert.ok(process.cpuUsage(start).user < 100_000, 'a hundred of them within 100 ms');
  }
});

/** A failure names the packet. */
function context<T>(packet: Buffer, check: () => T): T {
  try {
    return check();
  } catch (error) {
    throw new Error(`packet ${packet.toString('hex')}`, { cause: error });
  }
}
