/** Verifying a k256 signature: labels and commits cost this once each. Beside @atproto/crypto and node:crypto. */
import { randomBytes } from 'node:crypto';
import * as crypto from '@atproto/crypto';
import { nodeVerifier } from '../../appview/identity/curves.ts';
import { verifySignature } from '../../appview/identity/signature.ts';
import { compare, perSecond, type Row } from './compare.ts';

export async function bench(): Promise<Row[]> {
  const key = await crypto.Secp256k1Keypair.create();
  const message = randomBytes(300);
  const signature = await key.sign(message);
  const didKey = key.did();
  const ours = () => perSecond(() => check(verifySignature(didKey, message, signature)));
  const theirs = () => perSecond(async () => check(await crypto.verifySignature(didKey, message, signature)));
  const byNode = nodeVerifier('k256', crypto.parseDidKey(didKey).keyBytes);
  const node = () => perSecond(() => check(byNode(message, signature)));
  return [
    await compare('k256 signature verified / @atproto/crypto', 'per second', ours, theirs),
    await compare('k256 signature verified / node:crypto', 'per second', ours, node),
  ];
}

function check(valid: boolean): void {
  if (!valid) throw new Error('a good signature was refused');
}
