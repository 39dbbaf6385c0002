/** Seeded queries and the ways in which strangers break them. */
import { apex, queryPacket } from '../unit/dnsbl-fixtures.ts';
import { key, oddlySigned, requestOf, signedBy, stranger } from '../unit/dnsbl-transfer-fixtures.ts';
import type { Fuzz } from './random.ts';

const edns = { udpPayloadSize: 1232 };
const options = (...all: { code: number; data: Buffer }[]) => ({ ...edns, options: all });
const cookie = (octets: number) => ({ code: 10, data: Buffer.alloc(octets, 0x5a) });
const nsid = { code: 3, data: Buffer.alloc(0) };
const nibbles = `5.2.${'0.'.repeat(22)}8.b.d.0.1.0.0.2`;
const tail = Array(200).fill(Buffer.from([0xc0, 12])) as Buffer[];

/** Well-formed queries, and a few shapes that only an attacker sends. */
export const seeds: Buffer[] = [
  queryPacket(`reef.test.dom.${apex}`, 'A'),
  queryPacket(`reef.test.dom.${apex}`, 'TXT', edns),
  queryPacket(`x.y.wide.test.dom.${apex}`, 'A', edns),
  queryPacket(apex, 'SOA', edns),
  queryPacket(apex, 'ANY'),
  queryPacket(`${'a.'.repeat(100)}dom.${apex}`, 'A'),
  queryPacket('example.org', 'MX', edns),
  queryPacket(`25.2.0.192.ip.${apex}`, 'A'),
  queryPacket(`${nibbles}.ip.${apex}`, 'TXT', edns),
  queryPacket(`reef.test._vouch.${apex}`, 'TXT'),
  // Cookies, with and without the server's part; the server's name; the next version of EDNS.
  queryPacket(`reef.test.dom.${apex}`, 'A', options(cookie(8), nsid)),
  queryPacket(`reef.test.dom.${apex}`, 'A', options(nsid, cookie(24))),
  queryPacket(apex, 'SOA', { ednsVersion: 1 }),
  classOf(queryPacket('version.bind', 'TXT'), 3),
  // What secondaries say: with the serial that they have, signed, and signed by somebody else.
  requestOf({ type: 251, serial: 1, udpOctets: 1232 }),
  signedBy(key, requestOf({ type: 6, udpOctets: 1232 }), Date.now()).message,
  signedBy(stranger, requestOf({ type: 6 })).message,
  // A small question that names much: its key by a pointer, an algorithm as long as names are, and longer.
  oddlySigned(requestOf({ type: 6, name: `${'a.'.repeat(100)}${apex}` }), 255),
  oddlySigned(requestOf({ type: 6, name: `${'a.'.repeat(100)}${apex}`, udpOctets: 1232 }), 255),
  oddlySigned(requestOf({ type: 6 }), 4000),
  opcodeOf(queryPacket(apex, 'SOA'), 4),
  // A chain of pointers in the question, each to the one before.
  Buffer.concat([queryPacket(apex, 'A').subarray(0, 12), ...chain(300), Buffer.from([0, 1, 0, 1])]),
  // Two questions; many records owned by pointers.
  count(Buffer.concat([queryPacket(apex, 'A'), queryPacket(apex, 'NS').subarray(12)]), 4, 2),
  count(Buffer.concat([queryPacket(apex, 'A'), ...tail]), 10, 200),
];

function chain(links: number): Buffer[] {
  return Array.from({ length: links }, (_, index) => {
    const target = index === 0 ? 12 : 12 + 2 * (index - 1);
    return Buffer.from([0xc0 | (target >> 8), target & 0xff]);
  });
}

function classOf(packet: Buffer, recordClass: number): Buffer {
  packet.writeUInt16BE(recordClass, packet.length - 2);
  return packet;
}

function opcodeOf(packet: Buffer, opcode: number): Buffer {
  packet[2] = opcode << 3;
  return packet;
}

function count(packet: Buffer, at: number, value: number): Buffer {
  packet.writeUInt16BE(value, at);
  return packet;
}

/** Octets that mean something somewhere in a packet. */
const telling = [0, 1, 3, 11, 12, 0x29, 0x3f, 0x40, 0x41, 0x5a, 0x7f, 0x80, 0xc0, 0xff];

/** One of the seeds with none to six faults. */
export function mutated(fuzz: Fuzz): Buffer {
  let packet: Buffer = Buffer.from(fuzz.pick(seeds));
  for (let faults = fuzz.below(7); faults > 0; faults--) packet = fuzz.pick(mutations)(packet, fuzz);
  return packet;
}

const mutations: ((packet: Buffer, fuzz: Fuzz) => Buffer)[] = [
  (packet, fuzz) => fuzz.mutate(packet),
  (packet, fuzz) => packet.subarray(0, fuzz.below(packet.length + 1)),
  (packet, fuzz) => Buffer.concat([packet, Buffer.alloc(fuzz.below(40), fuzz.below(256))]),
  (packet, fuzz) => {
    if (packet.length > 0) packet[fuzz.below(packet.length)] = fuzz.pick(telling);
    return packet;
  },
  // Long pieces left out or said twice.
  (packet, fuzz) => {
    const at = fuzz.below(packet.length);
    return Buffer.concat([packet.subarray(0, at), packet.subarray(fuzz.below(packet.length))]);
  },
  // The counts of the header, small.
  (packet, fuzz) => {
    if (packet.length >= 12) packet.writeUInt16BE(fuzz.below(4), 4 + 2 * fuzz.below(4));
    return packet;
  },
];
