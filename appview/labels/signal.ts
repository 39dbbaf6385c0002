/**
 * Private signals between cooperatives and the frames that carry them: check, sign, verify, decode.
 *
 * A signal is a label with its reason, the class of its evidence and figures beside it. The label is signed as
 * every label is; a second signature covers all of it, `$type` included, so that what stands beside the label is
 * the issuer's word too, and a signal never passes as a label or a declaration.
 *
 * Promise: bytes from outside come back as a value or as a refusal, never as a throw, and are verified over
 * exactly the fields that came. Who may send one, and what follows, is node/reputation's business.
 *
 * Lexicon: email.atmos.reputation.defs#signal.
 */
import type { Keypair } from '@atproto/crypto';
import { decode, encode } from '@atproto/lex-cbor';
import { email } from '../../lexicons/index.ts';
import { verifySignature } from '../identity/signature.ts';
import {
  framePartsOf,
  parseLabel,
  type SignedLabel,
  signLabel,
  type UnsignedLabel,
  verifyLabel,
} from './codec.ts';

/** From the mildest to the hardest. Of values that a later protocol adds nothing follows. */
export const signalValues = ['warned', 'probation', 'suspended', 'removed'] as const;
export type SignalValue = (typeof signalValues)[number];

export const suspensionReasons = ['spam', 'phishing', 'stolen-key', 'list-quality', 'other'] as const;
export type SuspensionReason = (typeof suspensionReasons)[number];

export const evidenceClasses = ['figures', 'reports', 'review'] as const;
export type EvidenceClass = (typeof evidenceClasses)[number];

/** Counts over one window, of the member as a whole. */
export type SignalFigures = { window: string; sends: number; bounces: number; complaints: number };

/** What stands beside the label; a negation needs none of it. */
export type SignalWords = { reason?: string; evidence?: string; figures?: SignalFigures[] };

export type Signal = SignalWords & { label: SignedLabel; sig: Uint8Array };

/** One message of `email.atmos.reputation.subscribe`; `signals` are unchecked: parseSignal() says what each is. */
export type SignalsFrame = { kind: 'signals'; seq: number; signals: readonly unknown[] };
export type SignalFrame =
  | SignalsFrame
  | { kind: 'info'; name: string }
  | { kind: 'error'; error: string }
  | { kind: 'unknown' }
  | { kind: 'malformed' };

const signalType = 'email.atmos.reputation.defs#signal';
/** A label of the longest URI and eight windows are half of it. */
const maxSignalBytes = 8 * 1024;

/** @param key of the issuer's `#atproto_label` */
export async function signSignal(label: UnsignedLabel, words: SignalWords, key: Keypair): Promise<Signal> {
  const fields = { ...present(words), label: await signLabel(label, key) };
  return { ...fields, sig: await key.sign(encode(signed(fields))) };
}

/** A signal out of decoded CBOR, with signatures that may or may not hold; undefined when it is none. */
export function parseSignal(value: unknown): Signal | undefined {
  const parsed = email.atmos.reputation.defs.signal.safeParse(value);
  if (!parsed.success) return undefined;
  const { sig, reason, evidence, figures } = parsed.value;
  const label = parseLabel(parsed.value.label);
  if (!label || sig.length !== 64) return undefined;
  const words = present({ reason, evidence, ...(figures && { figures: figures.map(countsOf) }) });
  return { ...words, label, sig };
}

/** @param didKey `did:key:…` of the issuer's `#atproto_label` */
export function verifySignal(signal: Signal, didKey: string): boolean {
  const { sig, ...fields } = signal;
  return verifyLabel(signal.label, didKey) && verifySignature(didKey, encode(signed(fields)), sig);
}

/** As it is stored, and as it stands in a frame: the signatures included. */
export function encodeSignal({ sig, ...fields }: Signal): Uint8Array {
  return encode({ ...signed(fields), sig });
}

/** @returns undefined when the bytes are not what encodeSignal() makes */
export function decodeSignal(bytes: Uint8Array): Signal | undefined {
  if (bytes.length > maxSignalBytes) return undefined;
  try {
    return parseSignal(decode(bytes));
  } catch {
    return undefined;
  }
}

export function decodeSignalFrame(bytes: Uint8Array): SignalFrame {
  const parts = framePartsOf(bytes);
  try {
    return parts ? frameOf(parts.header, parts.body) : { kind: 'malformed' };
  } catch {
    // String() of a map that has a field `toString`.
    return { kind: 'malformed' };
  }
}

function frameOf(header: Record<string, unknown>, body: Record<string, unknown>): SignalFrame {
  // These go to the log: a peer does not choose how much of it.
  if (header.op === -1) return { kind: 'error', error: String(body.error).slice(0, 64) };
  if (header.op !== 1) return { kind: 'malformed' };
  if (header.t === '#info') return { kind: 'info', name: String(body.name).slice(0, 64) };
  if (header.t !== '#signals') return { kind: 'unknown' };
  const { seq, signals } = body;
  if (!Number.isSafeInteger(seq) || (seq as number) < 1 || !Array.isArray(signals))
    return { kind: 'malformed' };
  return { kind: 'signals', seq: seq as number, signals };
}

function signed({ label, ...words }: SignalWords & { label: SignedLabel }) {
  return { $type: signalType, ...present(words), label: { ...label } };
}

/** No signature covers what the lexicon does not name. */
function countsOf({ window, sends, bounces, complaints }: SignalFigures): SignalFigures {
  return { window, sends, bounces, complaints };
}

function present({
  reason,
  evidence,
  figures,
}: { [K in keyof SignalWords]?: SignalWords[K] | undefined }): SignalWords {
  return {
    ...(reason !== undefined && { reason }),
    ...(evidence !== undefined && { evidence }),
    ...(figures !== undefined && { figures }),
  };
}
