/**
 * One response, written in place behind the question it repeats.
 *
 * A caller opens it, adds what it has to say, and closes it. What does not fit leaves the response with
 * TC and without records (RFC 2181 §9). OPT is there if and only if the query had one (RFC 6891 §6.1.1).
 */
import { MAX_UDP_OCTETS } from './limits.ts';
import type { QueryReader } from './query.ts';
import { TYPE } from './records.ts';
import { COOKIE_OCTETS } from './seams.ts';
import type { EntryText } from './table/text.ts';
import { CLASS_IN } from './wire.ts';
import { serialAt } from './zone-reader.ts';

const HEADER_OCTETS = 12;
const RECORD_OCTETS = 12;
const OPT_OCTETS = 11;
const OPTION_OCTETS = 4;
const STRING_OCTETS = 255;
const MAX_TCP_OCTETS = 65_535;

const RESPONSE = 0x80;
const AUTHORITATIVE = 0x04;
const TRUNCATED = 0x02;
const RECURSION_DESIRED = 0x01;
const DNSSEC_OK = 0x80;
const OPTION = { nsid: 3, cookie: 10 } as const;

/** A header, and an OPT where one was read (RFC 6891 §6.1.1), for what cannot be answered. @returns its octets */
export function writeFault(
  packet: Uint8Array,
  start: number,
  { hasEdns, dnssecOk }: QueryReader,
  rcode: number,
  out: Uint8Array,
  at: number,
): number {
  out[at] = packet[start]!;
  out[at + 1] = packet[start + 1]!;
  // RD and the opcode come back.
  out[at + 2] = RESPONSE | (packet[start + 2]! & 0x79);
  out[at + 3] = rcode;
  for (let index = 4; index < HEADER_OCTETS; index++) out[at + index] = 0;
  if (!hasEdns) return HEADER_OCTETS;
  out[at + 11] = 1;
  writeOpt(out, at + HEADER_OCTETS, rcode, dnssecOk);
  return HEADER_OCTETS + OPT_OCTETS;
}

/** RFC 6891 §6.1.3. DO is copied (RFC 3225 §3), all other flags are ours to clear. */
function writeOpt(out: Uint8Array, at: number, rcode: number, dnssecOk: boolean): void {
  out[at] = 0;
  out[at + 1] = 0;
  out[at + 2] = TYPE.OPT;
  out[at + 3] = MAX_UDP_OCTETS >> 8;
  out[at + 4] = MAX_UDP_OCTETS & 0xff;
  out[at + 5] = rcode >> 4;
  out[at + 6] = 0;
  out[at + 7] = dnssecOk ? DNSSEC_OK : 0;
  out[at + 8] = 0;
  out[at + 9] = 0;
  out[at + 10] = 0;
}

export class ResponseWriter {
  /** A record did not fit. */
  isTruncated = false;
  #out: Uint8Array = new Uint8Array(0);
  #start = 0;
  #at = 0;
  #questionEnd = 0;
  /** Where records may end at most. */
  #limit = 0;
  #answers = 0;
  #authority = 0;
  #sendsNsid = false;
  /** Where the options begin; behind close(). */
  #optDataAt = 0;
  readonly #nsid: Uint8Array;

  constructor(nsid: string) {
    this.#nsid = Buffer.from(nsid);
  }

  /** Repeats the question of the query. */
  open(
    packet: Uint8Array,
    start: number,
    query: QueryReader,
    isTcp: boolean,
    out: Uint8Array,
    at: number,
  ): void {
    this.#out = out;
    this.#start = at;
    out[at] = packet[start]!;
    out[at + 1] = packet[start + 1]!;
    out[at + 2] = packet[start + 2]! & RECURSION_DESIRED;
    const octets = query.questionEnd - start;
    for (let index = HEADER_OCTETS; index < octets; index++) out[at + index] = packet[start + index]!;
    this.#questionEnd = at + octets;
    this.#limit = at + (isTcp ? MAX_TCP_OCTETS : query.maxUdpOctets);
    if (query.hasEdns) this.#keepRoomForOpt(query);
    this.rewind();
  }

  /** As it was after open(). */
  rewind(): void {
    this.#at = this.#questionEnd;
    this.#answers = 0;
    this.#authority = 0;
    this.isTruncated = false;
  }

  /** 127.0.x.y under the name asked. */
  addCode(w: number, x: number, y: number, ttl: number): void {
    if (!this.#fits(RECORD_OCTETS + 4)) return;
    const out = this.#out;
    const at = this.#record(TYPE.A, CLASS_IN, ttl, 4);
    out[at] = 127;
    out[at + 1] = w;
    out[at + 2] = x;
    out[at + 3] = y;
    this.#answers += 1;
  }

  /** The text of an entry, in strings of 255 octets (RFC 1035 §3.3.14). */
  addText(text: EntryText, ttl: number): void {
    const strings = Math.max(1, Math.ceil(text.length / STRING_OCTETS));
    if (!this.#fits(RECORD_OCTETS + text.length + strings)) return;
    const at = this.#record(TYPE.TXT, CLASS_IN, ttl, text.length + strings);
    text.write(this.#out, at + 1);
    // From the last string to the first: each makes way for the length octets before it.
    for (let string = strings - 1; string >= 0; string--) {
      const from = at + 1 + string * STRING_OCTETS;
      const length = Math.min(STRING_OCTETS, text.length - string * STRING_OCTETS);
      if (string > 0) this.#out.copyWithin(from + string, from, from + length);
      this.#out[from + string - 1] = length;
    }
    this.#answers += 1;
  }

  /** At most 255 octets. */
  addString(octets: Uint8Array, recordClass: number, ttl: number): void {
    if (!this.#fits(RECORD_OCTETS + 1 + octets.length)) return;
    const at = this.#record(TYPE.TXT, recordClass, ttl, 1 + octets.length);
    this.#out[at] = octets.length;
    copy(octets, this.#out, at + 1);
    this.#answers += 1;
  }

  /** Records in wire form, all owned by the name asked. */
  addAnswers(records: Uint8Array, count: number): void {
    const at = this.#at;
    if (!this.#fits(records.length)) return;
    copy(records, this.#out, at);
    for (let index = 0, owner = at; index < count; index++) {
      this.#out[owner] = 0xc0;
      this.#out[owner + 1] = HEADER_OCTETS;
      owner += RECORD_OCTETS + ((this.#out[owner + 10]! << 8) | this.#out[owner + 11]!);
    }
    this.#at = at + records.length;
    this.#answers += count;
  }

  /** The SOA among the answers: the name asked owns it. */
  addSoa(soa: Uint8Array, serial: number): void {
    const at = this.#at;
    this.addAnswers(soa, 1);
    if (!this.isTruncated) this.#writeSerial(at + serialAt(soa.length), serial);
  }

  /** RFC 2308 §3. @param apexAt where the apex begins in the name asked */
  addNegativeSoa(soa: Uint8Array, serial: number, apexAt: number): void {
    const at = this.#at;
    if (!this.#fits(soa.length)) return;
    const out = this.#out;
    copy(soa, out, at);
    out[at] = 0xc0 | ((HEADER_OCTETS + apexAt) >> 8);
    out[at + 1] = (HEADER_OCTETS + apexAt) & 0xff;
    this.#writeSerial(at + serialAt(soa.length), serial);
    this.#at = at + soa.length;
    this.#authority += 1;
  }

  /** Leaves nothing but the question, and tells the client to come over TCP. */
  truncate(): void {
    this.rewind();
    this.isTruncated = true;
  }

  /**
   * Writes the header and OPT. RA, AD, CD and Z are never set: we do not recurse, and an authoritative
   * answer clears AD and CD (RFC 4035 §3.1.6).
   *
   * @returns octets so far; a cookie option is to be added behind them by addCookie()
   */
  close(query: QueryReader, rcode: number, isAuthoritative: boolean): number {
    if (this.isTruncated) this.truncate();
    const out = this.#out;
    const at = this.#start;
    const flags = (isAuthoritative ? AUTHORITATIVE : 0) | (this.isTruncated ? TRUNCATED : 0);
    out[at + 2] = (out[at + 2]! & RECURSION_DESIRED) | RESPONSE | flags;
    out[at + 3] = rcode & 0xf;
    out[at + 4] = 0;
    out[at + 5] = 1;
    out[at + 6] = 0;
    out[at + 7] = this.#answers;
    out[at + 8] = 0;
    out[at + 9] = this.#authority;
    out[at + 10] = 0;
    out[at + 11] = query.hasEdns ? 1 : 0;
    if (query.hasEdns) this.#addOpt(rcode, query.dnssecOk);
    return this.#at - at;
  }

  /** Where the data of a cookie option goes, behind a closed response. */
  get cookieDataAt(): number {
    return this.#at + OPTION_OCTETS;
  }

  /** @param octets of the data, already written. @returns octets of the whole response */
  addCookie(octets: number): number {
    this.#addOption(OPTION.cookie, octets);
    return this.#at - this.#start;
  }

  #keepRoomForOpt(query: QueryReader): void {
    this.#limit -= OPT_OCTETS;
    if (query.cookieAt >= 0) this.#limit -= OPTION_OCTETS + COOKIE_OCTETS;
    const octets = OPTION_OCTETS + this.#nsid.length;
    this.#sendsNsid = query.wantsNsid && this.#nsid.length > 0 && this.#questionEnd + octets <= this.#limit;
    if (this.#sendsNsid) this.#limit -= octets;
  }

  #fits(octets: number): boolean {
    if (this.#at + octets > this.#limit) this.isTruncated = true;
    return !this.isTruncated;
  }

  /** All but the data of a record owned by the name asked. @returns where the data goes */
  #record(type: number, recordClass: number, ttl: number, octets: number): number {
    const out = this.#out;
    const at = this.#at;
    out[at] = 0xc0;
    out[at + 1] = HEADER_OCTETS;
    out[at + 2] = 0;
    out[at + 3] = type;
    out[at + 4] = 0;
    out[at + 5] = recordClass;
    out[at + 6] = ttl >>> 24;
    out[at + 7] = (ttl >>> 16) & 0xff;
    out[at + 8] = (ttl >>> 8) & 0xff;
    out[at + 9] = ttl & 0xff;
    out[at + 10] = octets >> 8;
    out[at + 11] = octets & 0xff;
    this.#at = at + RECORD_OCTETS + octets;
    return at + RECORD_OCTETS;
  }

  #writeSerial(at: number, serial: number): void {
    const out = this.#out;
    out[at] = serial >>> 24;
    out[at + 1] = (serial >>> 16) & 0xff;
    out[at + 2] = (serial >>> 8) & 0xff;
    out[at + 3] = serial & 0xff;
  }

  #addOpt(rcode: number, dnssecOk: boolean): void {
    writeOpt(this.#out, this.#at, rcode, dnssecOk);
    this.#at += OPT_OCTETS;
    this.#optDataAt = this.#at;
    if (this.#sendsNsid) this.#writeNsid();
  }

  #writeNsid(): void {
    copy(this.#nsid, this.#out, this.#at + OPTION_OCTETS);
    this.#addOption(OPTION.nsid, this.#nsid.length);
  }

  /** Its head, and the length of all options; its data stands behind the head already, or will. */
  #addOption(code: number, octets: number): void {
    const out = this.#out;
    const at = this.#at;
    out[at] = 0;
    out[at + 1] = code;
    out[at + 2] = octets >> 8;
    out[at + 3] = octets & 0xff;
    this.#at = at + OPTION_OCTETS + octets;
    const all = this.#at - this.#optDataAt;
    out[this.#optDataAt - 2] = all >> 8;
    out[this.#optDataAt - 1] = all & 0xff;
  }
}

function copy(from: Uint8Array, out: Uint8Array, at: number): void {
  for (let index = 0; index < from.length; index++) out[at + index] = from[index]!;
}
