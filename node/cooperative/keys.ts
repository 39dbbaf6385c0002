/**
 * The cooperative's own keys, one file each in `state/keys/`.
 *
 * Promise: a key that exists is never overwritten, not even by two programs that start at once; a key
 * file that others may read, or that does not parse, stops the process with a message that names the
 * file and never its content.
 * Members' DKIM keys live in node.db, sealed with `seal`; they are not here.
 */
import { createPrivateKey, createPublicKey, generateKeyPair, randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Secp256k1Keypair } from '@atproto/crypto';
import { CorruptState } from '../../appview/database.ts';
import { dkimRecord } from '../members/dkim-keys.ts';

export type CooperativeKeys = {
  /** `#atproto_label` in the DID document: signs labels and declarations. `label.did()` is its did:key. */
  label: Secp256k1Keypair;
  /** Signs all mail as the pool domain. */
  pool: PoolDkimKey;
  /** 32 bytes: seals secrets in node.db. Lost, they are lost. */
  seal: Buffer;
  /** 32 bytes: authenticates our return paths. Lost, bounces of mail under way are not recognised. */
  verp: Buffer;
};

export type PoolDkimKey = {
  /** RSA, PKCS #8 in PEM. */
  privateKey: string;
  /** What the TXT record under `<selector>._domainkey.<pool domain>` says. */
  dnsRecord: string;
};

const files = {
  label: 'label.key',
  pool: 'pool-dkim.pem',
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
  await createIfMissing(join(dir, files.pool), rsaPem);
  await createIfMissing(join(dir, files.seal), async () => secret());
  await createIfMissing(join(dir, files.verp), async () => secret());
  return readKeys(dir);
}

/** @throws CorruptState when a key is missing, is no such key, or is readable by group or others */
export async function readKeys(dir: string): Promise<CooperativeKeys> {
  const label = readHexKey(join(dir, files.label));
  return {
    label: await parsed(join(dir, files.label), () => Secp256k1Keypair.import(label)),
    pool: await parsed(join(dir, files.pool), async () => poolKey(readPrivate(join(dir, files.pool)))),
    seal: readHexKey(join(dir, files.seal)),
    verp: readHexKey(join(dir, files.verp)),
  };
}

/**
 * Writes a new file of mode 0600, whole or not at all; an existing one stays as it is.
 *
 * A hard link is the one operation that is both atomic and refuses to replace.
 */
export async function createIfMissing(file: string, content: () => Promise<string>): Promise<void> {
  if (existsSync(file)) return;
  const draft = `${file}.${randomBytes(6).toString('hex')}.new`;
  try {
    writeDurably(draft, await content());
    linkSync(draft, file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    rmSync(draft, { force: true });
  }
}

/** @throws CorruptState when the file is missing or others may read it */
export function readPrivate(file: string): string {
  if (!existsSync(file)) {
    throw new CorruptState(
      `${file} is missing. Restore it from a backup: a new one would be another identity.`,
    );
  }
  if ((statSync(file).mode & 0o077) !== 0) {
    throw new CorruptState(`${file} can be read by other users of this machine. Run: chmod 600 ${file}`);
  }
  return readFileSync(file, 'utf8');
}

function writeDurably(file: string, content: string): void {
  const descriptor = openSync(file, 'wx', 0o600);
  try {
    writeSync(descriptor, content);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
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

async function rsaPem(): Promise<string> {
  // RFC 8301 §3.2: signers use at least 2048 bits; more does not fit one UDP answer.
  const { privateKey } = await promisify(generateKeyPair)('rsa', { modulusLength: 2048 });
  return privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
}

function poolKey(pem: string): PoolDkimKey {
  const key = createPrivateKey(pem);
  if (key.asymmetricKeyType !== 'rsa') throw new Error('not RSA');
  // RFC 6376 §3.6.1: `p=` is the SubjectPublicKeyInfo.
  const publicKey = createPublicKey(key).export({ type: 'spki', format: 'der' });
  return { privateKey: pem, dnsRecord: dkimRecord('rsa', publicKey.toString('base64')) };
}
