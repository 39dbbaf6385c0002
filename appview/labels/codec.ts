/**
 * Labels and the frames that carry them: check, sign, verify, encode, decode.
 *
 * Promise: bytes from outside come back as a value or as a refusal, never as a throw, and a label is
 * verified over exactly the fields that its issuer sent.
 * Whose label it may be, and whether it is in force, is consumer.ts's and store.ts's business.
 *
 * https://atproto.com/specs/label, https://atproto.com/specs/event-stream, com.atproto.label.*
 */
import type { Keypair } from '@atproto/crypto';
import { decode, decodeAll, encode } from '@atproto/lex-cbor';
import { com } from '../../lexicons/index.ts';
import { verifySignature } from '../identity/signature.ts';

/** Everything that is signed. A field that the issuer left out stays out. */
export type UnsignedLabel = {
  ver?: number;
  /** DID of the issuer. */
  src: string;
  /** A bare DID, or an `at://` URI of a record. */
  uri: string;
  /** The version of the record that is meant. */
  cid?: string;
  /** At most 128 bytes, lower-case kebab. */
  val: string;
  neg?: boolean;
  /** RFC 3339. */
  cts: string;
  /** RFC 3339. */
  exp?: string;
};

/** As on the wire: `sig` is optional there. */
export type Label = UnsignedLabel & { sig?: Uint8Array };

/** `sig`: 64 bytes, compact and low-S, over SHA-256 of labelBytes(). */
export type SignedLabel = UnsignedLabel & { sig: Uint8Array };

/**
 * One message of `com.atproto.label.subscribeLabels`.
 *
 * `labels` are as they came and unchecked: parseLabel() says what each is, so that one malformed label
 * costs its neighbours nothing.
 */
export type LabelsFrame = { kind: 'labels'; seq: number; labels: readonly unknown[] };
export type InfoFrame = { kind: 'info'; name: string; message?: string };
/** The server closes the stream after it. */
export type ErrorFrame = { kind: 'error'; error: string; message?: string };
/** A message type of a later protocol; the specification asks clients to pass over it. */
export type UnknownFrame = { kind: 'unknown' };
/** A message that is no frame, or one over maxFrameBytes; a source closes the connection after the latter. */
export type BrokenFrame = { kind: 'broken'; why: 'malformed' | 'too_large' };
export type Frame = LabelsFrame | InfoFrame | ErrorFrame | UnknownFrame | BrokenFrame;

/** Some thousand labels; decoding one frame must not hold the thread for long. */
export const maxFrameBytes = 1024 * 1024;

/** A DID of 2048, a collection of 317 and a record key of 512, with what joins them. */
const maxUriBytes = 2900;
const maxDatetimeBytes = 64;

const signedFields = ['ver', 'src', 'uri', 'cid', 'val', 'neg', 'cts', 'exp'] as const;

/**
 * A label out of decoded CBOR or JSON, with a signature that may or may not hold.
 *
 * Fields outside the specification are left behind: no signature covers them.
 *
 * @returns undefined when the value breaks com.atproto.label.defs#label or has no 64-byte `sig`
 */
export function parseLabel(value: unknown): SignedLabel | undefined {
  if (!com.atproto.label.defs.label.matches(value)) return undefined;
  const label = value as Label;
  if (!isSane(label) || label.sig?.length !== 64) return undefined;
  return { ...unsigned(label), sig: label.sig };
}

/** A label as queryLabels answers it: `sig` is `{ "$bytes": <base64> }` there. @returns as parseLabel() */
export function parseJsonLabel(value: unknown): SignedLabel | undefined {
  if (!isMap(value)) return undefined;
  const { sig, ...fields } = value;
  const base64 = isMap(sig) ? sig.$bytes : undefined;
  // 64 bytes are 88 characters with padding.
  if (typeof base64 !== 'string' || base64.length > 88) return undefined;
  return parseLabel({ ...fields, sig: new Uint8Array(Buffer.from(base64, 'base64')) });
}

function isSane(label: Label): boolean {
  return (
    (label.ver === undefined || label.ver === 1) &&
    /^(did:[a-z]+:|at:\/\/did:[a-z]+:)/.test(label.uri) &&
    Buffer.byteLength(label.uri) <= maxUriBytes &&
    /^!?[a-z0-9][a-z0-9-]*$/.test(label.val) &&
    label.cts.length <= maxDatetimeBytes &&
    (label.exp?.length ?? 0) <= maxDatetimeBytes
  );
}

/** The signed fields that are present, in a plain object: no `sig`, no `$type`, nothing of our own. */
function unsigned(label: Label): UnsignedLabel {
  const present: Record<string, unknown> = {};
  for (const field of signedFields) if (label[field] !== undefined) present[field] = label[field];
  return present as UnsignedLabel;
}

/**
 * The bytes under a label's signature: DAG-CBOR of its fields as received.
 *
 * Some labelers sign `neg: false`, others leave it out; dropping a false field would break the
 * signatures of the first kind.
 */
export function labelBytes(label: Label): Uint8Array {
  return writeLabel(label, undefined);
}

/** @param key of the issuer's `#atproto_label`; @atproto/crypto signs low-S over SHA-256 */
export async function signLabel(label: UnsignedLabel, key: Keypair): Promise<SignedLabel> {
  const fields = unsigned(label);
  return { ...fields, sig: await key.sign(encode(fields)) };
}

/** @param didKey `did:key:…` of the issuer's `#atproto_label` */
export function verifyLabel(label: SignedLabel, didKey: string): boolean {
  return verifySignature(didKey, labelBytes(label), label.sig);
}

/** One label as it is stored: DAG-CBOR with its signature. */
export function encodeLabel(label: SignedLabel): Uint8Array {
  return writeLabel(label, label.sig);
}

/** DAG-CBOR orders keys of one length by their bytes; all of a label's have three letters. */
const writtenFields = ['cid', 'cts', 'exp', 'neg', 'sig', 'src', 'uri', 'val', 'ver'] as const;

/**
 * As lex-cbor's encode(), which is the oracle in the tests, at a fifth of the cost: each label that comes is
 * written twice, to be verified and to be stored.
 */
function writeLabel(label: Label, sig: Uint8Array | undefined): Uint8Array {
  const { cid, cts, exp, neg, src, uri, val, ver } = label;
  const values = [cid, cts, exp, neg, sig, src, uri, val, ver];
  const texts = (cid?.length ?? 0) + cts.length + (exp?.length ?? 0) + src.length + uri.length + val.length;
  // UTF-8 takes at most three bytes for each unit of UTF-16, and a field no more than nine beside its text.
  const bytes = Buffer.allocUnsafe(texts * 3 + 64 + 9 * writtenFields.length + 1);
  let at = 1;
  let fields = 0;
  for (const [index, value] of values.entries()) {
    if (value === undefined) continue;
    fields += 1;
    bytes[at] = 0x63;
    bytes.write(writtenFields[index]!, at + 1, 'latin1');
    at = writeValue(bytes, at + 4, value);
  }
  bytes[0] = 0xa0 + fields;
  return new Uint8Array(bytes.buffer, bytes.byteOffset, at);
}

function writeValue(bytes: Buffer, at: number, value: string | number | boolean | Uint8Array): number {
  if (typeof value === 'string') {
    const length = Buffer.byteLength(value);
    const start = writeHead(bytes, at, 0x60, length);
    bytes.write(value, start, length);
    return start + length;
  }
  if (typeof value === 'boolean') {
    bytes[at] = value ? 0xf5 : 0xf4;
    return at + 1;
  }
  if (typeof value === 'number') return writeHead(bytes, at, 0x00, value);
  const start = writeHead(bytes, at, 0x40, value.length);
  bytes.set(value, start);
  return start + value.length;
}

/** RFC 8949 §3: the shortest form. */
function writeHead(bytes: Buffer, at: number, major: number, argument: number): number {
  if (argument < 24) {
    bytes[at] = major + argument;
    return at + 1;
  }
  if (argument < 0x100) {
    bytes[at] = major + 24;
    bytes[at + 1] = argument;
    return at + 2;
  }
  bytes[at] = major + 25;
  bytes.writeUInt16BE(argument, at + 1);
  return at + 3;
}

/** @returns undefined when the bytes are not what encodeLabel() makes */
export function decodeLabel(bytes: Uint8Array): SignedLabel | undefined {
  try {
    return parseLabel(decode(bytes));
  } catch {
    return undefined;
  }
}

/** @returns undefined for bytes that are not one frame of an event stream, or more than maxFrameBytes */
export function decodeFrame(bytes: Uint8Array): Frame | undefined {
  const parts = framePartsOf(bytes);
  return parts && frameOf(parts.header, parts.body);
}

/** The two maps of a message of an event stream (https://atproto.com/specs/event-stream). @returns as decodeFrame() */
export function framePartsOf(
  bytes: Uint8Array,
): { header: Record<string, unknown>; body: Record<string, unknown> } | undefined {
  if (bytes.length > maxFrameBytes) return undefined;
  try {
    const items = decodeAll(bytes);
    const [header, body] = [items.next().value, items.next().value];
    return items.next().done && isMap(header) && isMap(body) ? { header, body } : undefined;
  } catch {
    return undefined;
  }
}

function frameOf(header: Record<string, unknown>, body: Record<string, unknown>): Frame | undefined {
  if (header.op === -1) return noticeOf('error', body.error, body.message);
  if (header.op !== 1) return undefined;
  if (header.t === '#labels') return labelsOf(body.seq, body.labels);
  if (header.t === '#info') return noticeOf('info', body.name, body.message);
  return { kind: 'unknown' };
}

function labelsOf(seq: unknown, labels: unknown): LabelsFrame | undefined {
  if (!Number.isSafeInteger(seq) || (seq as number) < 0 || !Array.isArray(labels)) return undefined;
  return { kind: 'labels', seq: seq as number, labels };
}

function noticeOf(kind: 'info' | 'error', name: unknown, message: unknown): Frame | undefined {
  if (typeof name !== 'string') return undefined;
  // These go to the log: a peer does not choose how much of it.
  const text = typeof message === 'string' ? { message: message.slice(0, 200) } : {};
  return kind === 'info'
    ? { kind, name: name.slice(0, 64), ...text }
    : { kind, error: name.slice(0, 64), ...text };
}

function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !ArrayBuffer.isView(value);
}
