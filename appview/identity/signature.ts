/**
 * Verifies atproto signatures: commits, labels, declarations.
 *
 * Promise: true only for a valid low-S signature of 64 bytes (r, s) over SHA-256 of the message, under a
 * did:key of curve secp256k1 or P-256. Never throws, whatever the bytes. The arithmetic is curves.ts's business.
 */
import { P256_JWT_ALG, parseDidKey } from '@atproto/crypto';
import { type CurvePoint, type Verifier, verifierOf } from './curves.ts';

/** Parsed keys are kept: parsing one costs more than a verification. */
const maxParsedKeys = 10_000;
const parsedKeys = new Map<string, Verifier>();

/**
 * @param didKey `did:key:z…` of a secp256k1 or P-256 key
 * @param message the signed bytes themselves, not their hash
 * @param signature64 compact r ‖ s
 * @returns false for a bad signature, a high S, a wrong length and an unknown kind of key alike
 */
export function verifySignature(didKey: string, message: Uint8Array, signature64: Uint8Array): boolean {
  if (signature64.length !== 64) return false;
  const verifier = verifierFor(didKey);
  return verifier?.(message, signature64) ?? false;
}

/** The point of a `did:key`; undefined for a kind of key that signs nothing here. */
export function pointOf(didKey: string): CurvePoint | undefined {
  try {
    const { jwtAlg, keyBytes } = parseDidKey(didKey);
    return { curve: jwtAlg === P256_JWT_ALG ? 'p256' : 'k256', point: keyBytes };
  } catch {
    return undefined;
  }
}

function verifierFor(didKey: string): Verifier | undefined {
  const known = parsedKeys.get(didKey);
  if (known) return known;
  const verifier = parseKey(didKey);
  if (!verifier) return undefined;
  if (parsedKeys.size >= maxParsedKeys) parsedKeys.delete(parsedKeys.keys().next().value!);
  parsedKeys.set(didKey, verifier);
  return verifier;
}

function parseKey(didKey: string): Verifier | undefined {
  try {
    const point = pointOf(didKey);
    return point && verifierOf(point);
  } catch {
    return undefined;
  }
}
