/**
 * Signed bytes as one piece of memory, so that a thread is handed many at the price of one.
 *
 * Each entry: the length of the message (32 bits, little-endian), the message, 64 bytes of signature.
 */
import type { Verifier } from '../identity/curves.ts';

export type Signed = { message: Uint8Array; signature: Uint8Array };

const frameBytes = 4 + 64;

/** @param signed signatures of 64 bytes each */
export function pack(signed: readonly Signed[]): ArrayBuffer {
  const size = signed.reduce((sum, { message }) => sum + message.length + frameBytes, 0);
  const packed = new ArrayBuffer(size);
  const [bytes, view] = [new Uint8Array(packed), new DataView(packed)];
  let at = 0;
  for (const { message, signature } of signed) {
    view.setUint32(at, message.length, true);
    bytes.set(message, at + 4);
    bytes.set(signature, at + 4 + message.length);
    at += message.length + frameBytes;
  }
  return packed;
}

/** One byte for each entry, in order: 1 where the signature holds. */
export function verdictsOn(packed: ArrayBuffer, verifier: Verifier): Uint8Array {
  const [bytes, view] = [new Uint8Array(packed), new DataView(packed)];
  const verdicts: number[] = [];
  for (let at = 0; at < bytes.length; ) {
    const start = at + 4;
    const end = start + view.getUint32(at, true);
    verdicts.push(verifier(bytes.subarray(start, end), bytes.subarray(end, end + 64)) ? 1 : 0);
    at = end + 64;
  }
  return Uint8Array.from(verdicts);
}
