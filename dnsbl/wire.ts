/**
 * Queries as objects, in the format of RFC 1035 §4 with EDNS (RFC 6891): for transfers, where speed does
 * not matter. query.ts reads the same, no more and no less, for the answers.
 *
 * Promise: no packet makes this file throw, loop or allocate more than a fixed multiple of its length.
 * Compression pointers in queries are never followed, so no chain of them costs anything.
 */
import { MAX_RECORDS_IN_QUERY } from './limits.ts';
import type { NameKey } from './name.ts';
import { MAX_KEY_LENGTH } from './name.ts';
import { TYPE } from './records.ts';

/** RFC 1035 §4.1.1; those from 16 on need the upper bits that only an OPT record carries. */
export const RCODE = {
  NOERROR: 0,
  FORMERR: 1,
  SERVFAIL: 2,
  NXDOMAIN: 3,
  NOTIMP: 4,
  REFUSED: 5,
  /** RFC 2136 §2.2, RFC 8945 §3. */
  NOTAUTH: 9,
  /** RFC 6891 §9. */
  BADVERS: 16,
  /** RFC 7873 §8. */
  BADCOOKIE: 23,
} as const;

export const CLASS_IN = 1;

const HEADER_OCTETS = 12;
const MAX_LABEL_OCTETS = 63;

const FLAG = { response: 0x8000, opcode: 0x7800, recursion: 0x0100 } as const;
const DNSSEC_OK = 0x8000;

export type Transport = 'udp' | 'tcp';

/** What a response of any kind repeats. */
export type Header = { id: number; opcode: number; recursionDesired: boolean };

export type Question = {
  /** Octets 12… of the packet, as they came: a response repeats the letters' case (0x20). */
  octets: Buffer;
  key: NameKey;
  type: number;
  class: number;
};

export type Edns = { version: number; udpOctets: number; dnssecOk: boolean };

export type Query = { header: Header; question: Question; edns?: Edns };

export type Reading =
  | { kind: 'query'; query: Query }
  /** Understood enough to say so. `edns`: of the first OPT that could be read, which the answer owes one. */
  | { kind: 'faulty'; header: Header; rcode: number; edns?: Edns | undefined }
  /** No answer at all: an answer to a response could start an endless exchange between two servers. */
  | { kind: 'dropped'; reason: 'short' | 'response' };

/** @param packet one message, without TCP's length */
export function readQuery(packet: Buffer): Reading {
  if (packet.length < HEADER_OCTETS) return { kind: 'dropped', reason: 'short' };
  const flags = packet.readUInt16BE(2);
  if (flags & FLAG.response) return { kind: 'dropped', reason: 'response' };
  const header = {
    id: packet.readUInt16BE(0),
    opcode: (flags & FLAG.opcode) >> 11,
    recursionDesired: (flags & FLAG.recursion) !== 0,
  };
  const question = readQuestion(packet);
  const extra = question && readRecords(packet, HEADER_OCTETS + question.octets.length);
  const edns = extra?.edns;
  // The sections of other opcodes have other meanings, so nothing behind the header is judged.
  if (header.opcode !== 0) return { kind: 'faulty', header, rcode: RCODE.NOTIMP, edns };
  if (!question || !extra?.isWell) return { kind: 'faulty', header, rcode: RCODE.FORMERR, edns };
  return { kind: 'query', query: { header, question, edns } };
}

function readQuestion(packet: Buffer): Question | undefined {
  // RFC 9619 §4: exactly one question; one with none would be good for cookies only (RFC 7873 §5.4).
  if (packet.readUInt16BE(4) !== 1) return undefined;
  const root = endOfLabels(packet, HEADER_OCTETS);
  // Nothing stands before the question that a pointer could mean, so a name must end in the root here.
  if (packet[root] !== 0) return undefined;
  const end = root + 5;
  if (root - HEADER_OCTETS > MAX_KEY_LENGTH || end > packet.length) return undefined;
  return {
    octets: packet.subarray(HEADER_OCTETS, end),
    key: lowerCase(packet, HEADER_OCTETS, root),
    type: packet.readUInt16BE(root + 1),
    class: packet.readUInt16BE(root + 3),
  };
}

/** Where plain labels stop: at the root, a pointer, an unknown label type, or beyond a name's or the packet's end. */
function endOfLabels(packet: Buffer, start: number): number {
  let at = start;
  while (at - start <= MAX_KEY_LENGTH) {
    const length = packet[at];
    if (length === undefined || length === 0 || length > MAX_LABEL_OCTETS) break;
    at += 1 + length;
  }
  return at;
}

const lowered = Buffer.alloc(MAX_KEY_LENGTH);

/** Length octets are at most 63 and `A` is 65, so they pass unchanged. At most MAX_KEY_LENGTH octets. */
function lowerCase(packet: Buffer, start: number, end: number): NameKey {
  for (let at = start; at < end; at++) {
    const octet = packet[at] as number;
    lowered[at - start] = octet >= 0x41 && octet <= 0x5a ? octet + 0x20 : octet;
  }
  return lowered.toString('latin1', 0, end - start);
}

/** All behind the question. `isWell`: it is well-formed to the last octet. */
function readRecords(packet: Buffer, start: number): { edns?: Edns | undefined; isWell: boolean } {
  const beforeAdditional = packet.readUInt16BE(6) + packet.readUInt16BE(8);
  const total = beforeAdditional + packet.readUInt16BE(10);
  if (total > MAX_RECORDS_IN_QUERY) return { isWell: false };
  let at = start;
  let edns: Edns | undefined;
  for (let index = 0; index < total; index++) {
    const record = readRecord(packet, at);
    if (!record) return { edns, isWell: false };
    at = record.end;
    if (record.type !== TYPE.OPT) continue;
    // RFC 6891 §6.1.1: one, in the additional section, owned by the root.
    if (edns || index < beforeAdditional || !record.ownedByRoot) return { edns, isWell: false };
    edns = readOpt(packet, record);
    // What the data of another version looks like is unknown; the answer will be BADVERS.
    if (edns.version === 0 && !optionsFit(packet, record.fixed + 10, record.end))
      return { edns, isWell: false };
  }
  return { edns, isWell: at === packet.length };
}

type RawRecord = { ownedByRoot: boolean; type: number; fixed: number; end: number };

/** `fixed` is where type, class, TTL and length stand: ten octets before the data. */
function readRecord(packet: Buffer, start: number): RawRecord | undefined {
  const labelsEnd = endOfLabels(packet, start);
  const last = packet[labelsEnd];
  if (last === undefined || labelsEnd - start > MAX_KEY_LENGTH) return undefined;
  if (last !== 0 && last < 0xc0) return undefined;
  const fixed = labelsEnd + (last === 0 ? 1 : 2);
  if (fixed + 10 > packet.length) return undefined;
  const end = fixed + 10 + packet.readUInt16BE(fixed + 8);
  if (end > packet.length) return undefined;
  return { ownedByRoot: fixed === start + 1, type: packet.readUInt16BE(fixed), fixed, end };
}

function readOpt(packet: Buffer, record: RawRecord): Edns {
  return {
    version: packet[record.fixed + 5] as number,
    udpOctets: packet.readUInt16BE(record.fixed + 2),
    dnssecOk: (packet.readUInt16BE(record.fixed + 6) & DNSSEC_OK) !== 0,
  };
}

/** RFC 6891 §6.1.2: code, length, value. Unknown codes are ignored (§6.1.2), broken lengths are not. */
function optionsFit(packet: Buffer, start: number, end: number): boolean {
  let at = start;
  while (at + 4 <= end) at += 4 + packet.readUInt16BE(at + 2);
  return at === end;
}
