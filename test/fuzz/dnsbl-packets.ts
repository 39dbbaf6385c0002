/** Seeded queries and the ways in which strangers break them. */
import { randomInt } from 'node:crypto';
import { apex, queryPacket } from '../unit/dnsbl-fixtures.ts';

/** As given, or the short form for `npm test`. */
export function fuzzRounds(short: number): number {
  return Number(process.env.ATMOS_FUZZ_ROUNDS ?? short);
}

/** Printed, and repeated with ATMOS_FUZZ_SEED. */
export function fuzzSeed(name: string, rounds: number): number {
  const seed = Number(process.env.ATMOS_FUZZ_SEED ?? randomInt(2 ** 31));
  console.log(`${name}: seed ${seed}, ${rounds} rounds (ATMOS_FUZZ_SEED, ATMOS_FUZZ_ROUNDS)`);
  return seed;
}

/** mulberry32: integers from 0 to below `end`, the same for the same seed. */
export function integersFrom(seed: number): (end: number) => number {
  let state = seed;
  return (end) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * end);
  };
}

const edns = { udpPayloadSize: 1232 };
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

function count(packet: Buffer, at: number, value: number): Buffer {
  packet.writeUInt16BE(value, at);
  return packet;
}

/** Octets that mean something somewhere in a packet. */
const telling = [0, 1, 3, 11, 12, 0x29, 0x3f, 0x40, 0x41, 0x5a, 0x7f, 0x80, 0xc0, 0xff];

/** One of the seeds with none to six faults. */
export function mutated(integer: (end: number) => number): Buffer {
  let packet: Buffer = Buffer.from(seeds[integer(seeds.length)] as Buffer);
  for (let faults = integer(7); faults > 0; faults--)
    packet = mutations[integer(mutations.length)]!(packet, integer);
  return packet;
}

const mutations: ((packet: Buffer, integer: (end: number) => number) => Buffer)[] = [
  (packet, integer) => packet.subarray(0, integer(packet.length + 1)),
  (packet, integer) => Buffer.concat([packet, Buffer.alloc(integer(40), integer(256))]),
  (packet, integer) => replaced(packet, integer, integer(256)),
  (packet, integer) => replaced(packet, integer, telling[integer(telling.length)] as number),
  (packet, integer) => {
    const at = integer(packet.length);
    return Buffer.concat([packet.subarray(0, at), packet.subarray(integer(packet.length))]);
  },
  // The counts of the header, small.
  (packet, integer) => {
    if (packet.length >= 12) packet.writeUInt16BE(integer(4), 4 + 2 * integer(4));
    return packet;
  },
];

function replaced(packet: Buffer, integer: (end: number) => number, octet: number): Buffer {
  if (packet.length > 0) packet[integer(packet.length)] = octet;
  return packet;
}
