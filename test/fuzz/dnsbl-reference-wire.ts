/** Responses put together from records, in the plainest way: the oracle of dnsbl/response.ts. */
import { MAX_UDP_OCTETS } from '../../dnsbl/limits.ts';
import { type RecordSet, TYPE } from '../../dnsbl/records.ts';
import { CLASS_IN, type Edns, type Header, type Query, type Transport } from '../../dnsbl/wire.ts';

const HEADER_OCTETS = 12;
/** A pointer as owner, type, class, TTL and the length of the data. */
const RECORD_OCTETS = 12;
const OPT_OCTETS = 11;
const MIN_UDP_OCTETS = 512;
const MAX_MESSAGE_OCTETS = 65_535;
const FLAG = { response: 0x8000, authoritative: 0x0400, truncated: 0x0200, recursion: 0x0100 } as const;
const DNSSEC_OK = 0x8000;

/** A set and its owner, as the offset of a suffix of the question's name: all our owners are such suffixes. */
type OwnedSet = { ownerAt: number; set: RecordSet };

export type Response = {
  rcode: number;
  authoritative: boolean;
  answers: readonly OwnedSet[];
  authority: readonly OwnedSet[];
};

/** The header alone: for packets whose question or records could not be read. */
export function encodeFault(header: Header, rcode: number, edns?: Edns): Buffer {
  const message = Buffer.alloc(HEADER_OCTETS + (edns ? OPT_OCTETS : 0));
  writeHeader(message, header, rcode, 0);
  message.writeUInt16BE(edns ? 1 : 0, 10);
  if (edns) writeOpt(message, HEADER_OCTETS, edns, rcode);
  return message;
}

/**
 * The whole response, or, when it does not fit, one without records and with TC set (RFC 2181 §9).
 * OPT is there if and only if the query had one (RFC 6891 §6.1.1).
 */
export function encodeResponse(query: Query, response: Response, transport: Transport): Buffer {
  const sets = [...response.answers, ...response.authority];
  const bare = HEADER_OCTETS + query.question.octets.length + (query.edns ? OPT_OCTETS : 0);
  const whole = bare + sets.reduce((sum, { set }) => sum + setOctets(set), 0);
  const fits = whole <= maxOctets(query.edns, transport);
  const message = Buffer.allocUnsafe(fits ? whole : bare);
  const flags = (response.authoritative ? FLAG.authoritative : 0) | (fits ? 0 : FLAG.truncated);
  writeHeader(message, query.header, response.rcode & 0xf, flags);
  message.writeUInt16BE(1, 4);
  message.writeUInt16BE(fits ? recordCount(response.answers) : 0, 6);
  message.writeUInt16BE(fits ? recordCount(response.authority) : 0, 8);
  message.writeUInt16BE(query.edns ? 1 : 0, 10);
  let at = HEADER_OCTETS + query.question.octets.copy(message, HEADER_OCTETS);
  if (fits) for (const owned of sets) at = writeSet(message, at, owned);
  if (query.edns) writeOpt(message, at, query.edns, response.rcode);
  return message;
}

/** RFC 6891 §6.2.3: sizes below 512 count as 512. */
function maxOctets(edns: Edns | undefined, transport: Transport): number {
  if (transport === 'tcp') return MAX_MESSAGE_OCTETS;
  return Math.min(Math.max(edns?.udpOctets ?? 0, MIN_UDP_OCTETS), MAX_UDP_OCTETS);
}

function setOctets(set: RecordSet): number {
  return set.rdatas.reduce((sum, rdata) => sum + RECORD_OCTETS + rdata.length, 0);
}

function recordCount(sets: readonly OwnedSet[]): number {
  return sets.reduce((sum, { set }) => sum + set.rdatas.length, 0);
}

/**
 * RD is copied; RA, AD, CD and Z are never set: we do not recurse, and an authoritative answer
 * clears AD and CD (RFC 4035 §3.1.6).
 */
function writeHeader(message: Buffer, header: Header, rcode: number, flags: number): void {
  const recursion = header.recursionDesired ? FLAG.recursion : 0;
  message.writeUInt16BE(header.id, 0);
  message.writeUInt16BE(FLAG.response | (header.opcode << 11) | flags | recursion | rcode, 2);
}

function writeSet(message: Buffer, start: number, { ownerAt, set }: OwnedSet): number {
  let at = start;
  for (const rdata of set.rdatas) {
    at = message.writeUInt16BE(0xc000 | (HEADER_OCTETS + ownerAt), at);
    at = message.writeUInt16BE(set.type, at);
    at = message.writeUInt16BE(CLASS_IN, at);
    at = message.writeUInt32BE(set.ttl, at);
    at = message.writeUInt16BE(rdata.length, at);
    at += rdata.copy(message, at);
  }
  return at;
}

/** RFC 6891 §6.1.3. DO is copied (RFC 3225 §3), all other flags are ours to clear. */
function writeOpt(message: Buffer, start: number, edns: Edns, rcode: number): void {
  let at = message.writeUInt8(0, start);
  at = message.writeUInt16BE(TYPE.OPT, at);
  at = message.writeUInt16BE(MAX_UDP_OCTETS, at);
  at = message.writeUInt8(rcode >> 4, at);
  at = message.writeUInt8(0, at);
  at = message.writeUInt16BE(edns.dnssecOk ? DNSSEC_OK : 0, at);
  message.writeUInt16BE(0, at);
}
