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
import { Secp256k1Keypair } from '@atproto/crypto';
import { CorruptState } from '../../appview/database.ts';
import { createIfMissing, readPrivate } from './key-files.ts';
import { ensurePoolKey, type PoolDkimKey, readPoolKey } from './pool-keys.ts';

export type CooperativeKeys = {
  /** `#atproto_label` in the DID document: signs labels and declarations. `label.did()` is its did:key. */
  label: Secp256k1Keypair;
  /** The one that signs all mail as the pool domain; it changes while the node runs (pool-keys.ts). */
  pool: PoolDkimKey;
  /** 32 bytes: seals secrets in node.db. Lost, they are lost. */
  seal: Buffer;
  /** 32 bytes: authenticates our return paths. Lost, bounces of mail under way are not recognised. */
  verp: Buffer;
};

const files = {
  label: 'label.key',
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
  // Hex, because that is how the labeler before this one kept its signing key.
  const secret = () => `${randomBytes(32).toString('hex')}\n`;
  await createIfMissing(join(dir, files.label), async () => {
    const keypair = await Secp256k1Keypair.create({ exportable: true });
    return `${Buffer.from(await keypair.export()).toString('hex')}\n`;
  });
  await ensurePoolKey(dir);
  await createIfMissing(join(dir, files.seal), async () => secret());
  await createIfMissing(join(dir, files.verp), async () => secret());
  return readKeys(dir);
}

/** @throws CorruptState when a key is missing, is no such key, or is readable by group or others */
export async function readKeys(dir: string): Promise<CooperativeKeys> {
  const label = readHexKey(join(dir, files.label));
  return {
    label: await parsed(join(dir, files.label), () => Secp256k1Keypair.import(label)),
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

async function parsed<T>(file: string, parse: () => Promise<T>): Promise<T> {
  try {
    return await parse();
  } catch (error) {
    if (error instanceof CorruptState) throw error;
    // The cause is left out: parsers like to quote what they were given.
    throw new CorruptState(`${file} is not a usable key. Restore it from a backup.`);
  }
}
