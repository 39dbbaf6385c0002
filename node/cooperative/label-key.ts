/**
 * The label key and how it changes, in `state/keys/`.
 *
 * `label.key` signs. A new one waits as `label-next.key` until the DID document may name it; the one before stays
 * as `label-old.<end of its did:key>.key` until no label that stands was signed with it. An imported one is that of
 * another labeler, which wrote the same hex. Promise: activating is one rename, after the old key has its
 * second name: at every moment some file holds each key. No key file is overwritten.
 *
 * Who signs labels again is labeler/issued-labels.ts; what the DID document says, did-document.ts.
 */
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Secp256k1Keypair } from '@atproto/crypto';
import { CorruptState } from '../../appview/database.ts';
import { createIfMissing, readPrivate, renameDurably } from './key-files.ts';

const signing = 'label.key';
const next = 'label-next.key';
const oldFile = /^label-old\.([1-9A-HJ-NP-Za-km-z]{12})\.key$/;

/** Makes the first key where there is none. */
export function ensureLabelKey(dir: string): Promise<void> {
  return createIfMissing(join(dir, signing), newHexKey);
}

/** @throws CorruptState when it is missing, no k256 key in hex, or readable by others */
export function readLabelKey(dir: string): Promise<Secp256k1Keypair> {
  return readKey(join(dir, signing));
}

/**
 * A command changed the key: from now on it signs, and our did:web names it.
 *
 * @param useKey signs labels with it from now on; where it throws, everything is as before
 * @throws CorruptState as readLabelKey()
 */
export async function takeUpLabelKey(o: {
  dir: string;
  keys: { label: Secp256k1Keypair };
  useKey: (key: Secp256k1Keypair) => void;
  log: { info(fields: object, text: string): void };
}): Promise<{ labelKey: string }> {
  const label = await readLabelKey(o.dir);
  const labelKey = label.did();
  if (labelKey !== o.keys.label.did()) {
    o.useKey(label);
    o.keys.label = label;
    o.log.info({ labelKey }, 'another label key signs');
  }
  return { labelKey };
}

/**
 * Puts the key of another labeler where there is none; the same key again changes nothing.
 *
 * @param hex 32 bytes, as the labeler before this one kept them
 * @throws RangeError for what is no such key (never quoting it), or where another key signs already
 */
export async function importLabelKey(dir: string, hex: string): Promise<Secp256k1Keypair> {
  const key = await keyOf(hex).catch(() => undefined);
  if (!key) throw new RangeError('this is no label key: 32 bytes in hex, which are a key of k256');
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  await createIfMissing(join(dir, signing), async () => `${hex.trim().toLowerCase()}\n`);
  const there = await readLabelKey(dir);
  if (there.did() === key.did()) return there;
  throw new RangeError(
    `another key is there and stays: ${join(dir, signing)} is ${there.did()}. A key changes by \`atmos keys rotate label\`.`,
  );
}

/** The key that is to sign next, if one waits. @throws CorruptState */
export async function waitingLabelKey(dir: string): Promise<Secp256k1Keypair | undefined> {
  return existsSync(join(dir, next)) ? readKey(join(dir, next)) : undefined;
}

/** Makes a key that does not sign yet, or finds the one that a call before made. @throws CorruptState */
export async function newLabelKey(dir: string): Promise<Secp256k1Keypair> {
  await createIfMissing(join(dir, next), newHexKey);
  return readKey(join(dir, next));
}

/** From now on the waiting key signs. @throws RangeError where none waits; CorruptState */
export async function activateLabelKey(dir: string): Promise<Secp256k1Keypair> {
  if (!existsSync(join(dir, next))) throw new RangeError('no label key waits');
  const key = await readKey(join(dir, next));
  const before = (await readLabelKey(dir)).did();
  const hex = readPrivate(join(dir, signing));
  await createIfMissing(join(dir, `label-old.${before.slice(-12)}.key`), async () => hex);
  renameDurably(join(dir, next), join(dir, signing));
  return key;
}

/** did:keys of those that signed before. @throws CorruptState */
export async function oldLabelKeys(dir: string): Promise<string[]> {
  const names = readdirSync(dir).filter((name) => oldFile.test(name));
  const keys = await Promise.all(names.map((name) => readKey(join(dir, name))));
  return keys.map((key) => key.did()).sort();
}

/** @param did did:key of one that signs no more */
export function dropOldLabelKey(dir: string, did: string): void {
  rmSync(join(dir, `label-old.${did.slice(-12)}.key`), { force: true });
}

// Hex, because that is how the labeler before this one kept its signing key.
async function newHexKey(): Promise<string> {
  const keypair = await Secp256k1Keypair.create({ exportable: true });
  return `${Buffer.from(await keypair.export()).toString('hex')}\n`;
}

async function readKey(file: string): Promise<Secp256k1Keypair> {
  const hex = readPrivate(file);
  const key = await keyOf(hex).catch(() => undefined);
  // The cause is left out: parsers like to quote what they were given.
  if (!key) throw new CorruptState(`${file} is not a k256 key in hex. Restore it from a backup.`);
  return key;
}

/** Exportable: the native signer wants the secret (labeler/label-signer.ts). */
async function keyOf(hex: string): Promise<Secp256k1Keypair> {
  const text = hex.trim();
  if (!/^[0-9a-f]{64}$/i.test(text)) throw new RangeError('not 32 bytes in hex');
  return Secp256k1Keypair.import(Buffer.from(text, 'hex'), { exportable: true });
}
