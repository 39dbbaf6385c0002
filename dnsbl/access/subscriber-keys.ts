/**
 * Keys of subscribers: what is handed out, what is kept, and how a label is found to be one.
 *
 * A key is a DNS label, so it goes over the wire in the clear and through resolvers, as on every keyed
 * list: it counts and limits, and guards no secret. We keep its SHA-256 only. A key is at least 16
 * characters of chance, so no salt is needed: there is no list of likely keys to try.
 *
 * Timing tells nothing: the first words of the digest choose whom to compare with, then all of it is
 * compared, whether it differs or not.
 */
import { hash as digestOf, randomBytes, timingSafeEqual } from 'node:crypto';
import { KEY_HASH } from './settings.ts';
import { SipHash } from './siphash.ts';

/** A label is 63 octets at most. */
export const MIN_KEY_OCTETS = 16;

const ALPHABET = 'abcdefghijklmnopqrstuvwxyz234567';
const NEW_KEY_OCTETS = 26;

/** 130 bits of chance. */
export function newKey(): string {
  return Array.from(randomBytes(NEW_KEY_OCTETS), (octet) => ALPHABET[octet & 31]).join('');
}

/**
 * What stands in the configuration for a key: `sha256:` and 64 hex digits. Letters' case is ignored, as
 * everywhere in DNS.
 *
 * @returns undefined for what is shorter than 16 characters or no label of letters, digits and `-`
 */
export function hashOfKey(key: string): string | undefined {
  const lower = key.toLowerCase();
  if (!/^[a-z0-9][a-z0-9-]{14,61}[a-z0-9]$/.test(lower)) return undefined;
  return `sha256:${digestOf('sha256', lower, 'hex')}`;
}

/** Labels found before, per thread: a subscriber asks again and again. A power of two. */
const REMEMBERED = 1024;
/** Index of the key plus one, and the two words of the label's hash. */
const REMEMBERED_WORDS = 3;

/** The keys of one zone, in one thread. */
export class KeyFinder {
  readonly #digests: readonly Buffer[];
  /** By the first 32 bits of the digest. */
  readonly #byFirst = new Map<number, number[]>();
  readonly #sip = new SipHash(randomBytes(16));
  readonly #remembered = new Int32Array(REMEMBERED * REMEMBERED_WORDS);

  /** @param keyHashes as hashOfKey() writes them */
  constructor(keyHashes: readonly string[]) {
    this.#digests = keyHashes.map((text) => Buffer.from(KEY_HASH.exec(text)?.[1] ?? '', 'hex'));
    for (const [index, digest] of this.#digests.entries()) {
      const first = digest.readInt32BE(0);
      this.#byFirst.set(first, [...(this.#byFirst.get(first) ?? []), index]);
    }
  }

  /** @param octets the label stands there in lower case. @returns -1 when it is no key */
  find(octets: Uint8Array, at: number, length: number): number {
    if (length < MIN_KEY_OCTETS || this.#digests.length === 0) return -1;
    const sip = this.#sip;
    sip.read(octets, at, length);
    const place = (sip.low & (REMEMBERED - 1)) * REMEMBERED_WORDS;
    const remembered = this.#remembered;
    // Under a secret of this thread, 64 bits stand for the label. Both words are always compared.
    const differs = (remembered[place + 1]! ^ sip.low) | (remembered[place + 2]! ^ sip.high);
    if (differs === 0 && remembered[place] !== 0) return remembered[place]! - 1;
    const index = this.#compare(octets.subarray(at, at + length));
    if (index < 0) return -1;
    remembered[place] = index + 1;
    remembered[place + 1] = sip.low;
    remembered[place + 2] = sip.high;
    return index;
  }

  /** Allocates; only for a key's first query in a while, and for what is none. */
  #compare(label: Uint8Array): number {
    const digest = digestOf('sha256', label, 'buffer');
    const candidates = this.#byFirst.get(digest.readInt32BE(0)) ?? [];
    return candidates.find((index) => timingSafeEqual(digest, this.#digests[index]!)) ?? -1;
  }
}
