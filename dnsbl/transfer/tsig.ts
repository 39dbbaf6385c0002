/**
 * Messages signed with a shared key (RFC 8945), hmac-sha256 only.
 *
 * Promise: a message counts as signed by a key only when its whole MAC is right and its time is near
 * ours; MACs are compared in constant time. Every message of a stream that we sign carries its own TSIG
 * (RFC 8945 §5.3.1 would allow one in a hundred), so nothing of it is ever taken unproved.
 *
 * Limit: a request may be repeated within its five minutes (RFC 8945 §10 leaves that to the time alone).
 * All that it gains is the same zone for whoever stands at an allowed address. A fudge above those five minutes
 * counts as five minutes, so that no signature is good for longer.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import { keyOfLabels, MAX_KEY_LENGTH, type NameKey } from '../name.ts';
import { TYPE } from '../records.ts';
import type { Keyring, RingKey } from './keys.ts';
import { type MessageRecord, nameAt } from './message-records.ts';

const CLASS_ANY = 255;

/** RFC 8945 §10: recommended. Seconds. */
export const FUDGE_SECONDS = 300;
const MAC_OCTETS = 32;
/** RFC 8945 §5.2.2.1: less than half of the digest is no MAC at all. */
const MIN_MAC_OCTETS = MAC_OCTETS / 2;

const algorithm = keyOfLabels(['hmac-sha256']);

/** RFC 8945 §3: the error field, beside RCODE 9 (NOTAUTH). */
export const TSIG_ERROR = { none: 0, badsig: 16, badkey: 17, badtime: 18, badtrunc: 22 } as const;

export type Tsig = {
  /** Where the record begins, and what was signed ends. */
  at: number;
  key: NameKey;
  algorithm: NameKey;
  /** Unix seconds. */
  time: number;
  fudge: number;
  mac: Buffer;
  originalId: number;
  error: number;
  other: Buffer;
};

/** @returns 'none' of an unsigned message, 'broken' where RFC 8945 §5.2 asks for FORMERR */
export function readTsig(
  message: Buffer,
  records: readonly MessageRecord[] | undefined,
): Tsig | 'none' | 'broken' {
  if (!records) return 'broken';
  const first = records.findIndex(({ type }) => type === TYPE.TSIG);
  if (first < 0) return 'none';
  const record = records[first]!;
  // RFC 8945 §5.1: one, the last record of the additional section, of class ANY and TTL 0.
  const isWell =
    first === records.length - 1 &&
    record.section === 'additional' &&
    record.class === CLASS_ANY &&
    record.ttl === 0;
  return (isWell ? readData(message, record) : undefined) ?? 'broken';
}

function readData(message: Buffer, record: MessageRecord): Tsig | undefined {
  const key = nameAt(message, record.ownerAt);
  const data = message.subarray(record.dataAt, record.end);
  const rootAt = endOfPlainName(data);
  if (key === undefined || rootAt === undefined || rootAt + 1 + 16 > data.length) return undefined;
  const fixed = rootAt + 1;
  const macEnd = fixed + 10 + data.readUInt16BE(fixed + 8);
  if (macEnd + 6 > data.length || macEnd + 6 + data.readUInt16BE(macEnd + 4) !== data.length)
    return undefined;
  return {
    at: record.ownerAt,
    key,
    algorithm: data.toString('latin1', 0, rootAt).toLowerCase(),
    time: data.readUIntBE(fixed, 6),
    fudge: data.readUInt16BE(fixed + 6),
    mac: data.subarray(fixed + 10, macEnd),
    originalId: data.readUInt16BE(macEnd),
    error: data.readUInt16BE(macEnd + 2),
    other: data.subarray(macEnd + 6),
  };
}

/**
 * RFC 8945 §4.2: the algorithm's name is never compressed. It comes back in the answer, so what is longer
 * than a name may be must not pass.
 *
 * @returns where its root stands
 */
function endOfPlainName(data: Buffer): number | undefined {
  let at = 0;
  while (at < data.length && at <= MAX_KEY_LENGTH && data[at] !== 0) {
    if (data[at]! > 63) return undefined;
    at += 1 + data[at]!;
  }
  return at < data.length && at <= MAX_KEY_LENGTH ? at : undefined;
}

export type Verdict =
  | { kind: 'valid'; key: RingKey }
  /** No MAC of ours may answer these: we share no key, or whoever asks does not have it. */
  | { kind: 'badkey' | 'badsig' }
  /** Right but for its time or its length: the answer is signed. */
  | { kind: 'badtime' | 'badtrunc'; key: RingKey }
  | { kind: 'formerr' };

/**
 * In the order of RFC 8945 §5.2: key, MAC, time, truncation.
 *
 * @param requestMac of the question, when the message is an answer to one
 */
export function verify(
  message: Buffer,
  tsig: Tsig,
  keyring: Keyring,
  nowMs: number,
  requestMac?: Buffer,
): Verdict {
  const key = keyring.find(tsig.key);
  if (!key || tsig.algorithm !== algorithm) return { kind: 'badkey' };
  if (tsig.mac.length > MAC_OCTETS) return { kind: 'formerr' };
  if (tsig.mac.length < MIN_MAC_OCTETS) return { kind: tsig.mac.length === 0 ? 'badsig' : 'formerr' };
  const mac = macOf(key, [...lengthAndMac(requestMac), unsigned(message, tsig), variables(key, tsig)]);
  if (!timingSafeEqual(mac.subarray(0, tsig.mac.length), tsig.mac)) return { kind: 'badsig' };
  if (Math.abs(Math.floor(nowMs / 1000) - tsig.time) > Math.min(tsig.fudge, FUDGE_SECONDS))
    return { kind: 'badtime', key };
  // Our policy (RFC 8945 §5.2.4): no truncation.
  return tsig.mac.length < MAC_OCTETS ? { kind: 'badtrunc', key } : { kind: 'valid', key };
}

/** The message as it was before it was signed: without the TSIG, with the id that it had then. */
export function unsigned(message: Buffer, tsig: Tsig): Buffer {
  const bare = Buffer.from(message.subarray(0, tsig.at));
  bare.writeUInt16BE(tsig.originalId, 0);
  bare.writeUInt16BE(bare.readUInt16BE(10) - 1, 10);
  return bare;
}

/** Signs the messages of one answer, in their order. */
export class Signer {
  readonly #key: RingKey;
  readonly #now: () => number;
  /** Of the request, then of the last message. */
  #before: Buffer | undefined;
  #isFirst = true;

  /** @param requestMac undefined for a request of our own */
  constructor(key: RingKey, requestMac: Buffer | undefined, now: () => number) {
    this.#key = key;
    this.#before = requestMac;
    this.#now = now;
  }

  /** The MAC of the last message: what an answer to it is signed over. */
  get mac(): Buffer | undefined {
    return this.#isFirst ? undefined : this.#before;
  }

  sign(message: Buffer): Buffer {
    const fields = timeFields(Math.floor(this.#now() / 1000));
    // RFC 8945 §5.3.1: behind the first message of a stream only the timers are signed.
    const last = this.#isFirst ? variables(this.#key, fields) : timers(fields);
    const mac = macOf(this.#key, [...lengthAndMac(this.#before), message, last]);
    this.#before = mac;
    this.#isFirst = false;
    return withTsig(message, this.#key.name, { ...fields, mac });
  }
}

/** How much longer a message becomes that is signed with this key. */
export function tsigOctets(key: RingKey): number {
  return key.name.length + 1 + 10 + algorithm.length + 1 + 16 + MAC_OCTETS;
}

/**
 * RFC 8945 §5.3.2: what went wrong, in an answer with RCODE 9; with a MAC where that helps nobody else.
 *
 * @param answer header and question, with the RCODE already
 */
export function withTsigError(answer: Buffer, request: Tsig, verdict: Verdict, nowMs: number): Buffer {
  const now = Math.floor(nowMs / 1000);
  if (verdict.kind === 'badkey' || verdict.kind === 'badsig') {
    return withTsig(answer, request.key, {
      ...{ ...timeFields(now), error: TSIG_ERROR[verdict.kind], mac: Buffer.alloc(0) },
      algorithm: request.algorithm,
    });
  }
  if (verdict.kind !== 'badtime' && verdict.kind !== 'badtrunc') return answer;
  const isTime = verdict.kind === 'badtime';
  const fields = {
    // RFC 8945 §5.2.3: the client's time again, and ours beside it.
    ...timeFields(isTime ? request.time : now),
    error: TSIG_ERROR[verdict.kind],
    other: isTime ? uint48(now) : Buffer.alloc(0),
  };
  const mac = macOf(verdict.key, [...lengthAndMac(request.mac), answer, variables(verdict.key, fields)]);
  return withTsig(answer, verdict.key.name, { ...fields, mac });
}

type Fields = Pick<Tsig, 'time' | 'fudge' | 'error' | 'other'>;

function timeFields(time: number): Fields {
  return { time, fudge: FUDGE_SECONDS, error: TSIG_ERROR.none, other: Buffer.alloc(0) };
}

function macOf(key: RingKey, parts: readonly Buffer[]): Buffer {
  const hmac = createHmac('sha256', key.secret);
  for (const part of parts) hmac.update(part);
  return hmac.digest();
}

function lengthAndMac(mac: Buffer | undefined): Buffer[] {
  return mac ? [uint16(mac.length), mac] : [];
}

/** RFC 8945 §4.3.3. */
function variables(key: RingKey, fields: Fields): Buffer {
  return Buffer.concat([
    nameOctets(key.name),
    Buffer.from([0, CLASS_ANY, 0, 0, 0, 0]),
    nameOctets(algorithm),
    timers(fields),
    uint16(fields.error),
    uint16(fields.other.length),
    fields.other,
  ]);
}

function timers({ time, fudge }: Fields): Buffer {
  return Buffer.concat([uint48(time), uint16(fudge)]);
}

/** A copy with the record behind it, and the header counting it. */
function withTsig(
  message: Buffer,
  keyName: NameKey,
  tsig: Fields & { mac: Buffer; algorithm?: NameKey },
): Buffer {
  const data = Buffer.concat([
    nameOctets(tsig.algorithm ?? algorithm),
    timers(tsig),
    uint16(tsig.mac.length),
    tsig.mac,
    message.subarray(0, 2),
    uint16(tsig.error),
    uint16(tsig.other.length),
    tsig.other,
  ]);
  const fixed = Buffer.from([0, TYPE.TSIG, 0, CLASS_ANY, 0, 0, 0, 0, data.length >> 8, data.length & 0xff]);
  const signed = Buffer.concat([message, nameOctets(keyName), fixed, data]);
  signed.writeUInt16BE(signed.readUInt16BE(10) + 1, 10);
  return signed;
}

function nameOctets(name: NameKey): Buffer {
  return Buffer.from(`${name}\0`, 'latin1');
}

function uint16(value: number): Buffer {
  return Buffer.from([value >> 8, value & 0xff]);
}

function uint48(value: number): Buffer {
  const octets = Buffer.alloc(6);
  octets.writeUIntBE(value, 0, 6);
  return octets;
}
