/**
 * The cooperative's own keys, one file each in `state/keys/`.
 *
 * Promise: a key that exists is never overwritten, not even by two programs that start at once; a key
 * file that others may read, or that does not parse, stops the process with a message that names the
 * file and never its content.
 * Members' DKIM keys live in node.db, sealed with `seal`; they are not here.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Secp256k1Keypair } from '@atproto/crypto';
import { CorruptState } from '../../appview/database.ts';
import { createIfMissing, readPrivate } from './key-files.ts';
import { ensureLabelKey, readLabelKey } from './label-key.ts';
import { ensurePoolKey, type PoolDkimKey, readPoolKey } from './pool-keys.ts';

export type CooperativeKeys = {
  /** `#atproto_label` in the DID document: signs labels and declarations; it may change (label-key.ts). */
  label: Secp256k1Keypair;
  /** The one that signs all mail as the pool domain; it changes while the node runs (pool-keys.ts). */
  pool: PoolDkimKey;
  /** 32 bytes: seals secrets in node.db. Lost, they are lost. */
  seal: Buffer;
  /** 32 bytes: authenticates our return paths. Lost, bounces of mail under way are not recognised. */
  verp: Buffer;
};

const files = {
  seal: 'seal.key',
  verp: 'verp.key',
} as const;

/**
 * Makes the keys that are missing, then reads all.
 *
 * @param dir made with mode 0700 when it is missing
 * @throws CorruptState as readKeys does
 */
export async function ensureKeys(dir: string): Promise<CooperativeKeys> {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const secret = () => `${randomBytes(32).toString('hex')}\n`;
  await ensureLabelKey(dir);
  await ensurePoolKey(dir);
  await createIfMissing(join(dir, files.seal), async () => secret());
  await createIfMissing(join(dir, files.verp), async () => secret());
  return readKeys(dir);
}

/** @throws CorruptState when a key is missing, is no such key, or is readable by group or others */
export async function readKeys(dir: string): Promise<CooperativeKeys> {
  return {
    label: await readLabelKey(dir),
    pool: readPoolKey(dir),
    seal: readHexKey(join(dir, files.seal)),
    verp: readHexKey(join(dir, files.verp)),
  };
}

function readHexKey(file: string): Buffer {
  const text = readPrivate(file).trim();
  if (!/^[0-9a-f]{64}$/i.test(text)) {
    throw new CorruptState(`${file} does not hold 32 bytes in hex. Restore it from a backup.`);
  }
  return Buffer.from(text, 'hex');
}
