/**
 * Verifies atproto signatures: commits, labels, declarations.
 *
 * Promise: true only for a valid low-S signature of 64 bytes (r, s) over SHA-256 of the message, under a
 * did:key of curve secp256k1 or P-256. Never throws, whatever the bytes.
 *
 * Signature work is the cost of reading a firehose: npm secp256k1 verifies six to ten times as fast as
 * node:crypto, which takes over where the native module does not load. @atproto/crypto is the oracle in
 * the tests.
 */
import { createHash, createPublicKey, type KeyObject, verify } from 'node:crypto';
import { createRequire } from 'node:module';
import { P256_JWT_ALG, parseDidKey } from '@atproto/crypto';

type Secp256k1 = typeof import('secp256k1');
type Verifier = (message: Uint8Array, signature: Uint8Array) => boolean;

/** Parsed keys are kept: parsing one costs more than a verification. */
const maxParsedKeys = 10_000;
const parsedKeys = new Map<string, Verifier>();

const halfOrder = {
  k256: 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0n,
  p256: 0x7fffffff800000007fffffffffffffffde737d56d38bcf4279dce5617e3192a8n,
};

// SubjectPublicKeyInfo up to the uncompressed point (RFC 5480 §2.1.1).
const spkiPrefix = {
  k256: Buffer.from('3056301006072a8648ce3d020106052b8104000a034200', 'hex'),
  p256: Buffer.from('3059301306072a8648ce3d020106082a8648ce3d030107034200', 'hex'),
};

const native = loadSecp256k1();

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
    const { jwtAlg, keyBytes } = parseDidKey(didKey);
    if (jwtAlg === P256_JWT_ALG) return nodeVerifier('p256', keyBytes);
    return native ? nativeVerifier(native, keyBytes) : nodeVerifier('k256', keyBytes);
  } catch {
    return undefined;
  }
}

/** Exported so that a test can hold both engines against the oracle on one machine. */
export function nodeVerifier(curve: 'k256' | 'p256', point: Uint8Array): Verifier {
  const key: KeyObject = createPublicKey({
    key: Buffer.concat([spkiPrefix[curve], point]),
    format: 'der',
    type: 'spki',
  });
  return (message, signature) =>
    isLowS(curve, signature) && verify('sha256', message, { key, dsaEncoding: 'ieee-p1363' }, signature);
}

function nativeVerifier(engine: Secp256k1, point: Uint8Array): Verifier {
  return (message, signature) => {
    try {
      // libsecp256k1 takes low-S alone by itself.
      return engine.ecdsaVerify(signature, createHash('sha256').update(message).digest(), point);
    } catch {
      return false; // r or s outside the field: libsecp256k1 refuses to parse it
    }
  };
}

// atproto takes low-S alone (https://atproto.com/specs/cryptography), so that nobody can make a second
// valid signature from a first. node:crypto takes both.
function isLowS(curve: 'k256' | 'p256', signature: Uint8Array): boolean {
  return BigInt(`0x${Buffer.from(signature.subarray(32)).toString('hex')}`) <= halfOrder[curve];
}

// The package's own entry falls back to a slow implementation in JavaScript; we have a better one.
function loadSecp256k1(): Secp256k1 | undefined {
  try {
    return createRequire(import.meta.url)('secp256k1/bindings.js') as Secp256k1;
  } catch {
    return undefined;
  }
}
