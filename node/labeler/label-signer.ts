/**
 * Signs labels, as fast as this machine can.
 *
 * Promise: the same signature from either engine: RFC 6979 nonces and low S, as @atproto/crypto makes them,
 * so signing the same label again changes nothing. npm secp256k1 signs ten times as fast; where it does not
 * load, or the key does not give its secret, @atproto/crypto signs.
 */
import { createHash } from 'node:crypto';
import type { Keypair } from '@atproto/crypto';
import { loadSecp256k1 } from '../../appview/identity/curves.ts';

export type LabelSigner = {
  /** `did:key:…` of what it signs with. */
  didKey: string;
  /** @returns 64 octets, r ‖ s, over SHA-256 of `bytes` */
  sign(bytes: Uint8Array): Uint8Array | Promise<Uint8Array>;
};

type Exportable = Keypair & { export(): Promise<Uint8Array> };

export async function labelSigner(key: Keypair, native = loadSecp256k1()): Promise<LabelSigner> {
  const didKey = key.did();
  const secret = native && key.jwtAlg === 'ES256K' ? await secretOf(key) : undefined;
  if (!native || !secret) return { didKey, sign: (bytes) => key.sign(bytes) };
  return {
    didKey,
    sign: (bytes) => native.ecdsaSign(createHash('sha256').update(bytes).digest(), secret).signature,
  };
}

/** Undefined where the key was made to keep it. */
async function secretOf(key: Keypair): Promise<Uint8Array | undefined> {
  if (!('export' in key)) return undefined;
  return (key as Exportable).export().catch(() => undefined);
}
