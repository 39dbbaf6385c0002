/**
 * One packet, read where it lies: RFC 1035 §4, EDNS by RFC 6891.
 *
 * Promise: nothing throws, loops or allocates, whatever the octets. One object reads every packet of its
 * thread, so its fields hold until the next. Compression pointers are never followed. What is refused
 * here is exactly what wire.ts refuses, which says the same in a longer and plainer way; a fuzz test
 * holds the two together.
 */
import { MAX_RECORDS_IN_QUERY, MAX_UDP_OCTETS } from './limits.ts';
import { MAX_KEY_LENGTH } from './name.ts';
import { TYPE } from './records.ts';

export const READ = { query: 0, short: 1, response: 2, notimp: 3, formerr: 4 } as const;

/** RFC 5001, RFC 7873. */
const OPTION = { nsid: 3, cookie: 10 } as const;

const HEADER_OCTETS = 12;
const MIN_UDP_OCTETS = 512;
const MAX_LABEL_OCTETS = 63;
const DNSSEC_OK = 0x80;

const lowerCase = Uint8Array.from({ length: 256 }, (_, octet) =>
  octet >= 0x41 && octet <= 0x5a ? octet + 0x20 : octet,
);

export class QueryReader {
  /** The name in lower case, as it stands in the packet but without the root octet. */
  readonly name = new Uint8Array(256);
  nameLength = 0;
  /** Where each label begins in `name`. */
  readonly starts = new Uint8Array(128);
  labels = 0;
  type = 0;
  class = 0;
  /** Where the question ends in the packet. */
  questionEnd = 0;

  /** Also of what cannot be answered, where an OPT was read in it. */
  hasEdns = false;
  version = 0;
  udpOctets = 0;
  dnssecOk = false;
  wantsNsid = false;
  /** Where the cookie option's data stands; -1 without one. */
  cookieAt = -1;
  cookieLength = 0;
  /** There is a TSIG among the records: not yet that it is right. */
  isSigned = false;
  #fixed = 0;
  #ownedByRoot = false;

  /** @returns one of READ */
  read(packet: Uint8Array, start: number, end: number): number {
    this.isSigned = false;
    this.hasEdns = false;
    if (end - start < HEADER_OCTETS) return READ.short;
    const flags = packet[start + 2]!;
    if ((flags & 0x80) !== 0) return READ.response;
    if ((flags & 0x78) !== 0) {
      this.#lookForEdns(packet, start, end);
      return READ.notimp;
    }
    if (!this.#readQuestion(packet, start, end) || !this.#readRecords(packet, start, end))
      return READ.formerr;
    return READ.query;
  }

  /** RFC 6891 §6.2.3: sizes below 512 count as 512. */
  get maxUdpOctets(): number {
    if (!this.hasEdns || this.udpOctets < MIN_UDP_OCTETS) return MIN_UDP_OCTETS;
    return this.udpOctets < MAX_UDP_OCTETS ? this.udpOctets : MAX_UDP_OCTETS;
  }

  /** Of the name in lower case, 32 bits, signed. */
  nameHash(): number {
    const { name, nameLength } = this;
    let hash = nameLength;
    let at = 0;
    // Four octets in one step: multiplications that wait for each other are what it costs.
    for (; at + 4 <= nameLength; at += 4) {
      const octets = name[at]! | (name[at + 1]! << 8) | (name[at + 2]! << 16) | (name[at + 3]! << 24);
      hash = Math.imul(hash ^ octets, 0x9e3779b1);
      hash = (hash << 15) | (hash >>> 17);
    }
    for (; at < nameLength; at++) hash = Math.imul(hash ^ name[at]!, 0x01000193);
    return hash ^ (hash >>> 16);
  }

  /** The sections of other opcodes have other meanings, so nothing behind the header is judged. */
  #lookForEdns(packet: Uint8Array, start: number, end: number): void {
    if (this.#readQuestion(packet, start, end)) this.#readRecords(packet, start, end);
    this.isSigned = false;
  }

  #readQuestion(packet: Uint8Array, start: number, end: number): boolean {
    // RFC 9619 §4: exactly one question; one with none would be good for cookies only (RFC 7873 §5.4).
    if (packet[start + 4] !== 0 || packet[start + 5] !== 1) return false;
    const { name, starts } = this;
    let labels = 0;
    let at = start + HEADER_OCTETS;
    let to = 0;
    for (;;) {
      if (at >= end) return false;
      const length = packet[at]!;
      if (length === 0) break;
      // Nothing stands before the question that a pointer could mean.
      if (length > MAX_LABEL_OCTETS || to + 1 + length > MAX_KEY_LENGTH || at + length >= end) return false;
      starts[labels++] = to;
      name[to++] = length;
      for (const last = at + length; at < last; ) name[to++] = lowerCase[packet[++at]!]!;
      at += 1;
    }
    if (at + 5 > end) return false;
    this.labels = labels;
    this.nameLength = to;
    this.type = (packet[at + 1]! << 8) | packet[at + 2]!;
    this.class = (packet[at + 3]! << 8) | packet[at + 4]!;
    this.questionEnd = at + 5;
    return true;
  }

  /** All behind the question must be well-formed to the last octet. */
  #readRecords(packet: Uint8Array, start: number, end: number): boolean {
    this.wantsNsid = false;
    this.cookieAt = -1;
    const before = u16(packet, start + 6) + u16(packet, start + 8);
    const total = before + u16(packet, start + 10);
    if (total > MAX_RECORDS_IN_QUERY) return false;
    let at = this.questionEnd;
    for (let index = 0; index < total; index++) {
      const next = this.#readRecord(packet, at, end);
      if (next < 0) return false;
      at = next;
      const type = u16(packet, this.#fixed);
      if (type === TYPE.TSIG) this.isSigned = true;
      if (type !== TYPE.OPT) continue;
      // RFC 6891 §6.1.1: one, in the additional section, owned by the root.
      if (this.hasEdns || index < before || !this.#ownedByRoot) return false;
      if (!this.#readOpt(packet, this.#fixed, at)) return false;
    }
    return at === end;
  }

  /** @returns where the record ends, -1 when it is broken */
  #readRecord(packet: Uint8Array, start: number, end: number): number {
    let at = start;
    while (at < end && packet[at] !== 0 && packet[at]! <= MAX_LABEL_OCTETS) {
      at += 1 + packet[at]!;
      if (at - start > MAX_KEY_LENGTH) return -1;
    }
    if (at >= end) return -1;
    const last = packet[at]!;
    if (last !== 0 && last < 0xc0) return -1;
    const fixed = at + (last === 0 ? 1 : 2);
    if (fixed + 10 > end) return -1;
    const recordEnd = fixed + 10 + u16(packet, fixed + 8);
    this.#fixed = fixed;
    this.#ownedByRoot = fixed === start + 1;
    return recordEnd > end ? -1 : recordEnd;
  }

  #readOpt(packet: Uint8Array, fixed: number, end: number): boolean {
    this.hasEdns = true;
    this.udpOctets = u16(packet, fixed + 2);
    this.version = packet[fixed + 5]!;
    this.dnssecOk = (packet[fixed + 6]! & DNSSEC_OK) !== 0;
    // What the data of another version looks like is unknown; the answer will be BADVERS.
    return this.version !== 0 || this.#readOptions(packet, fixed + 10, end);
  }

  /** RFC 6891 §6.1.2: unknown codes are ignored, broken lengths are not. */
  #readOptions(packet: Uint8Array, start: number, end: number): boolean {
    let at = start;
    while (at + 4 <= end) {
      const code = u16(packet, at);
      const length = u16(packet, at + 2);
      if (code === OPTION.nsid) this.wantsNsid = true;
      if (code === OPTION.cookie && this.cookieAt < 0) {
        this.cookieAt = at + 4;
        this.cookieLength = length;
      }
      at += 4 + length;
    }
    return at === end;
  }
}

function u16(octets: Uint8Array, at: number): number {
  return (octets[at]! << 8) | octets[at + 1]!;
}
