/**
 * Where a client's bucket lies: the rounds of HalfSipHash-1-3 over two or three words, under a secret.
 *
 * The secret is of this process; without it nobody can find addresses that share a bucket with somebody
 * else's. One pass gives the places of both buckets that an answer is counted in. Allocates nothing.
 *
 * Names come as QueryReader.nameHash, which has no secret: two names can be found that count as one, for every
 * client. It gains nobody anything: whoever wants a client limited about a name can ask for that name.
 */
import { randomBytes } from 'node:crypto';

/** To be posted to all threads: they must find the same places. */
export type HashKey = readonly [number, number];

export function newHashKey(): HashKey {
  const random = randomBytes(8);
  return [random.readInt32LE(0), random.readInt32LE(4)];
}

const V2 = 0x6c796765;
const V3 = 0x74656462;

export class KeyedHash {
  /** Of the client alone: which set of buckets, and which of them. */
  clientSpot = 0;
  clientTag = 0;
  /** Of the client and what it asked. */
  spot = 0;
  tag = 0;
  readonly #key0: number;
  readonly #key1: number;

  constructor([key0, key1]: HashKey) {
    this.#key0 = key0;
    this.#key1 = key1;
  }

  /** @param domain keeps apart what is counted for different reasons, and IPv4 from IPv6 */
  read(domain: number, high: number, low: number, what: number): void {
    let v0 = this.#key0 ^ domain;
    let v1 = this.#key1;
    let v2 = V2 ^ this.#key0;
    let v3 = V3 ^ this.#key1;

    // Each block below is one word: v3 ^= word, one round, v0 ^= word.
    v3 ^= high;
    v0 = (v0 + v1) | 0;
    v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
    v0 = (v0 << 16) | (v0 >>> 16);
    v2 = (v2 + v3) | 0;
    v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
    v0 = (v0 + v3) | 0;
    v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
    v2 = (v2 + v1) | 0;
    v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
    v2 = (v2 << 16) | (v2 >>> 16);
    v0 ^= high;

    v3 ^= low;
    v0 = (v0 + v1) | 0;
    v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
    v0 = (v0 << 16) | (v0 >>> 16);
    v2 = (v2 + v3) | 0;
    v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
    v0 = (v0 + v3) | 0;
    v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
    v2 = (v2 + v1) | 0;
    v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
    v2 = (v2 << 16) | (v2 >>> 16);
    v0 ^= low;

    this.#finish(v0, v1, v2, v3);
    this.clientSpot = this.spot;
    this.clientTag = this.tag;

    v3 ^= what;
    v0 = (v0 + v1) | 0;
    v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
    v0 = (v0 << 16) | (v0 >>> 16);
    v2 = (v2 + v3) | 0;
    v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
    v0 = (v0 + v3) | 0;
    v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
    v2 = (v2 + v1) | 0;
    v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
    v2 = (v2 << 16) | (v2 >>> 16);
    v0 ^= what;
    // Another ending than that of the client alone, as the length in SipHash's last word gives.
    this.#finish(v0, v1, v2 ^ 1, v3);
  }

  #finish(a: number, b: number, c: number, d: number): void {
    let v0 = a;
    let v1 = b;
    let v2 = c ^ 0xff;
    let v3 = d;
    for (let round = 0; round < 3; round++) {
      v0 = (v0 + v1) | 0;
      v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
      v0 = (v0 << 16) | (v0 >>> 16);
      v2 = (v2 + v3) | 0;
      v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
      v0 = (v0 + v3) | 0;
      v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
      v2 = (v2 + v1) | 0;
      v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
      v2 = (v2 << 16) | (v2 >>> 16);
    }
    this.tag = v1 ^ v3;
    this.spot = v0 ^ v2;
  }
}
