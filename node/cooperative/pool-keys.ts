/**
 * The pool domain's DKIM keys: one signs, others wait for their record to be published, or for it to be taken away.
 *
 * `pool-dkim.pem` has the selector `pool`; each later key is `pool-dkim.<selector>.pem`, and `pool-selector` names
 * the one that signs, since its file was written. `pool-last` keeps the newest selector that ever was: none is used
 * twice. Promise: changing it is one rename, seen by the running node within a second; a key file
 * is never overwritten, so that signatures under way stay verifiable for as long as the records stay.
 */
import { createPrivateKey, createPublicKey, generateKeyPair } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { CorruptState } from '../../appview/database.ts';
import { dkimRecord } from '../members/dkim-keys.ts';
import { createIfMissing, readPrivate, replaceDurably } from './key-files.ts';

export type PoolDkimKey = {
  selector: string;
  /** RSA, PKCS #8 in PEM. */
  privateKey: string;
  /** What the TXT record under `<selector>._domainkey.<pool domain>` says. */
  dnsRecord: string;
};

const firstSelector = 'pool';
const selectorFile = 'pool-selector';
const lastFile = 'pool-last';
const keyFile = /^pool-dkim(?:\.(pool[1-9]\d{0,5}))?\.pem$/;

/** Makes the first key where there is none. */
export async function ensurePoolKey(dir: string): Promise<void> {
  await createIfMissing(fileOf(dir, firstSelector), rsaPem);
}

/** The key that signs. @throws CorruptState when it is missing, no RSA key, or readable by others */
export function readPoolKey(dir: string): PoolDkimKey {
  return readKey(dir, signingSelector(dir));
}

/** All keys whose records are to be published, the first one first. @throws CorruptState as readPoolKey does */
export function poolKeys(dir: string): (PoolDkimKey & { signs: boolean })[] {
  const signing = signingSelector(dir);
  return selectorsIn(dir).map((selector) => ({ ...readKey(dir, selector), signs: selector === signing }));
}

/** Makes a key that does not sign yet, or finds the one that a call before made. */
export async function newPoolKey(dir: string): Promise<PoolDkimKey> {
  const signing = numberOf(signingSelector(dir));
  const newest = Math.max(...selectorsIn(dir).map(numberOf));
  const next = Math.max(newest, lastDropped(dir)) + 1;
  const selector = `${firstSelector}${newest > signing ? newest : next}`;
  await createIfMissing(fileOf(dir, selector), rsaPem);
  return readKey(dir, selector);
}

/** From now on this key signs. @throws CorruptState when there is no such key */
export function usePoolKey(dir: string, selector: string): void {
  readKey(dir, selector);
  replaceDurably(join(dir, selectorFile), `${selector}\n`);
}

/** Removes a key that does not sign; its record may go too. @throws Error for the one that signs */
export function dropPoolKey(dir: string, selector: string): void {
  if (selector === signingSelector(dir)) throw new Error(`${selector} signs now`);
  if (!selectorsIn(dir).includes(selector)) throw new Error(`there is no pool key ${selector}`);
  if (numberOf(selector) > lastDropped(dir)) replaceDurably(join(dir, lastFile), `${selector}\n`);
  rmSync(fileOf(dir, selector));
}

/** Unix ms until which signatures made with that key may still be looked at; 0 for one that never signed. */
export function neededUntil(dir: string, selector: string, overlapMs: number): number {
  if (numberOf(selector) > numberOf(signingSelector(dir))) return 0;
  return statSync(join(dir, selectorFile)).mtimeMs + overlapMs;
}

/** The keys as the running node sees them: looked for again once a second at most. */
export class LivePoolKeys {
  readonly #dir: string;
  readonly #now: () => number;
  #lookedAt = Number.NEGATIVE_INFINITY;
  #stamp = '';
  #signing: PoolDkimKey;
  #published: ReadonlySet<string>;

  constructor(dir: string, now: () => number) {
    this.#dir = dir;
    this.#now = now;
    this.#signing = readPoolKey(dir);
    this.#published = new Set(selectorsIn(dir));
  }

  signing(): PoolDkimKey {
    this.#look();
    return this.#signing;
  }

  isPublished(selector: string): boolean {
    this.#look();
    return this.#published.has(selector);
  }

  #look(): void {
    const now = this.#now();
    if (Math.abs(now - this.#lookedAt) < 1000) return;
    this.#lookedAt = now;
    // Every change makes, renames or removes a file of this folder.
    const stamp = String(statSync(this.#dir).mtimeMs);
    if (stamp === this.#stamp) return;
    this.#signing = readPoolKey(this.#dir);
    this.#published = new Set(selectorsIn(this.#dir));
    this.#stamp = stamp;
  }
}

function signingSelector(dir: string): string {
  const file = join(dir, selectorFile);
  if (!existsSync(file)) return firstSelector;
  const selector = readFileSync(file, 'utf8').trim();
  if (!/^pool\d{0,6}$/.test(selector)) throw new CorruptState(`${file} does not name a pool key.`);
  return selector;
}

/** The number of the newest selector that was dropped; 0 when none was. */
function lastDropped(dir: string): number {
  const file = join(dir, lastFile);
  return existsSync(file) ? numberOf(readFileSync(file, 'utf8').trim()) : 0;
}

/** In the order in which they were made. */
function selectorsIn(dir: string): string[] {
  return readdirSync(dir)
    .flatMap((name) => {
      const match = keyFile.exec(name);
      return match ? [match[1] ?? firstSelector] : [];
    })
    .sort((a, b) => numberOf(a) - numberOf(b));
}

function numberOf(selector: string): number {
  return Number(selector.slice(firstSelector.length) || '1');
}

function fileOf(dir: string, selector: string): string {
  return join(dir, selector === firstSelector ? 'pool-dkim.pem' : `pool-dkim.${selector}.pem`);
}

function readKey(dir: string, selector: string): PoolDkimKey {
  const file = fileOf(dir, selector);
  const privateKey = readPrivate(file);
  try {
    const key = createPrivateKey(privateKey);
    if (key.asymmetricKeyType !== 'rsa') throw new Error('not RSA');
    // RFC 6376 §3.6.1: `p=` is the SubjectPublicKeyInfo.
    const publicKey = createPublicKey(key).export({ type: 'spki', format: 'der' });
    return { selector, privateKey, dnsRecord: dkimRecord('rsa', publicKey.toString('base64')) };
  } catch {
    // The cause is left out: parsers like to quote what they were given.
    throw new CorruptState(`${file} is not a usable key. Restore it from a backup.`);
  }
}

async function rsaPem(): Promise<string> {
  // RFC 8301 §3.2: signers use at least 2048 bits; more does not fit one UDP answer.
  const { privateKey } = await promisify(generateKeyPair)('rsa', { modulusLength: 2048 });
  return privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
}
