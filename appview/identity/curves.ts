/**
 * ECDSA over secp256k1 and P-256, of points and bytes alone: for signature.ts, and for threads that verify.
 *
 * Promise: true only for a valid low-S signature of 64 bytes (r, s) over SHA-256 of the message. Never throws,
 * once a verifier is made. Nothing else is loaded here, so a thread costs little memory.
 *
 * npm secp256k1 verifies six to ten times as fast as node:crypto, which takes over where the native module does
 * not load. @atproto/crypto is the oracle in the tests.
 */
import { createHash, createPublicKey, type KeyObject, verify } from 'node:crypto';
import { createRequire } from 'node:module';

export type Curve = 'k256' | 'p256';
/** `point` uncompressed, as did:key's parser gives it. */
export type CurvePoint = { curve: Curve; point: Uint8Array };
export type Verifier = (message: Uint8Array, signature64: Uint8Array) => boolean;

export type Secp256k1 = typeof import('secp256k1');

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

/** The fastest that this machine has. @throws when the point is none of the curve */
export function verifierOf({ curve, point }: CurvePoint): Verifier {
  return curve === 'k256' && native ? nativeVerifier(native, point) : nodeVerifier(curve, point);
}

/** Exported so that a test can hold both engines against the oracle on one machine. */
export function nodeVerifier(curve: Curve, point: Uint8Array): Verifier {
  const key: KeyObject = createPublicKey({
    key: Buffer.concat([spkiPrefix[curve], point]),
    format: 'der',
    type: 'spki',
  });
  return (message, signature) =>
    signature.length === 64 &&
    isLowS(curve, signature) &&
    verify('sha256', message, { key, dsaEncoding: 'ieee-p1363' }, signature);
}

function nativeVerifier(engine: Secp256k1, point: Uint8Array): Verifier {
  return (message, signature) => {
    try {
      // libsecp256k1 takes low-S alone by itself.
      return engine.ecdsaVerify(signature, createHash('sha256').update(message).digest(), point);
    } catch {
      return false; // r or s outside the field, or a wrong length: libsecp256k1 refuses to parse it
    }
  };
}

// atproto takes low-S alone (https://atproto.com/specs/cryptography), so that nobody can make a second
// valid signature from a first. node:crypto takes both.
function isLowS(curve: Curve, signature: Uint8Array): boolean {
  return BigInt(`0x${Buffer.from(signature.subarray(32)).toString('hex')}`) <= halfOrder[curve];
}

// The package's own entry falls back to a slow implementation in JavaScript; we have a better one.
export function loadSecp256k1(): Secp256k1 | undefined {
  try {
    return createRequire(import.meta.url)('secp256k1/bindings.js') as Secp256k1;
  } catch {
    return undefined;
  }
}
