/**
 * The records of one message, for what transfers look at: the TSIG, and the SOA in an IXFR's authority.
 *
 * Promise: no octets make this throw or loop. Pointers are followed for names that are asked for, and
 * only backwards.
 */
import { MAX_RECORDS_IN_QUERY } from '../limits.ts';
import { MAX_KEY_LENGTH, type NameKey } from '../name.ts';

export const HEADER_OCTETS = 12;
const MAX_LABEL_OCTETS = 63;
const MAX_POINTERS = 16;

export type MessageRecord = {
  section: 'answer' | 'authority' | 'additional';
  /** Where its owner begins. */
  ownerAt: number;
  type: number;
  class: number;
  ttl: number;
  /** Where its data begins. */
  dataAt: number;
  end: number;
};

/** @returns undefined when the message is not well-formed to its last octet, or has too many records */
export function recordsIn(message: Buffer, maxRecords = MAX_RECORDS_IN_QUERY): MessageRecord[] | undefined {
  if (message.length < HEADER_OCTETS) return undefined;
  const questions = message.readUInt16BE(4);
  const [answers, authority, additional] = [6, 8, 10].map((at) => message.readUInt16BE(at)) as [
    number,
    number,
    number,
  ];
  const total = answers + authority + additional;
  if (questions > 1 || total > maxRecords) return undefined;
  let at: number | undefined = HEADER_OCTETS;
  if (questions === 1) at = afterQuestion(message);
  const records: MessageRecord[] = [];
  for (let index = 0; index < total && at !== undefined; index++) {
    const section = index < answers ? 'answer' : index < answers + authority ? 'authority' : 'additional';
    const record = recordAt(message, at, section);
    if (record) records.push(record);
    at = record?.end;
  }
  return at === message.length ? records : undefined;
}

function afterQuestion(message: Buffer): number | undefined {
  const end = afterName(message, HEADER_OCTETS);
  return end !== undefined && end + 4 <= message.length ? end + 4 : undefined;
}

function recordAt(
  message: Buffer,
  ownerAt: number,
  section: MessageRecord['section'],
): MessageRecord | undefined {
  const fixed = afterName(message, ownerAt);
  if (fixed === undefined || fixed + 10 > message.length) return undefined;
  const dataAt = fixed + 10;
  const end = dataAt + message.readUInt16BE(fixed + 8);
  if (end > message.length) return undefined;
  return {
    section,
    ownerAt,
    type: message.readUInt16BE(fixed),
    class: message.readUInt16BE(fixed + 2),
    ttl: message.readUInt32BE(fixed + 4),
    dataAt,
    end,
  };
}

/** Behind the root or a pointer. @returns undefined for what is no name */
export function afterName(message: Buffer, start: number): number | undefined {
  let at = start;
  while (at < message.length && at - start <= MAX_KEY_LENGTH) {
    const length = message[at]!;
    if (length === 0) return at + 1;
    if (length >= 0xc0) return at + 2 <= message.length ? at + 2 : undefined;
    if (length > MAX_LABEL_OCTETS) return undefined;
    at += 1 + length;
  }
  return undefined;
}

/** The name that begins at `start`, in lower case. @returns undefined for what is no name */
export function nameAt(message: Buffer, start: number): NameKey | undefined {
  const parts: string[] = [];
  let octets = 0;
  let at = start;
  let pointers = 0;
  while (at < message.length) {
    const length = message[at]!;
    if (length === 0) return parts.join('').toLowerCase();
    if (length > MAX_LABEL_OCTETS) {
      const target = length >= 0xc0 ? ((length & 0x3f) << 8) | (message[at + 1] ?? 0xff) : at;
      pointers += 1;
      if (target >= at || pointers > MAX_POINTERS) return undefined;
      at = target;
      continue;
    }
    octets += 1 + length;
    if (octets > MAX_KEY_LENGTH || at + 1 + length > message.length) return undefined;
    parts.push(message.toString('latin1', at, at + 1 + length));
    at += 1 + length;
  }
  return undefined;
}

/** RFC 1995 §3: the SOA that an IXFR's client has; its serial is the first of the last five numbers. */
export function clientSerial(
  message: Buffer,
  records: readonly MessageRecord[],
  soa: number,
): number | undefined {
  const record = records.find(({ section, type }) => section === 'authority' && type === soa);
  // Two names of an octet at least, and the numbers.
  if (!record || record.end - record.dataAt < 22) return undefined;
  return message.readUInt32BE(record.end - 20);
}
