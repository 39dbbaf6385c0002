/**
 * Token buckets in shared memory: all threads count together, in memory that never grows.
 *
 * A bucket is two words: whose it is, and when it will be full again (GCRA, the same as a token bucket
 * that fills evenly). Full ones are as good as none, so a newcomer takes the fullest of the four places
 * that its hash gives it: a flood keeps its bucket, however many others come, and what a resolver asked
 * a moment ago costs nothing. When all four are in use the newcomer takes the one nearest to full.
 *
 * Taking from a bucket that is in use is one compare-and-exchange, so a flood over many threads is
 * counted to the last answer. Taking from a full one is a plain store, 15 ns less: a race there loses a
 * count, never an answer.
 */

/** One cache line holds two sets of four buckets. */
const WAYS = 4;
const BUCKET_WORDS = 2;
const SET_WORDS = WAYS * BUCKET_WORDS;

/** Another thread got in between so often: then it is not this answer that makes the flood. */
const MAX_TRIES = 8;

const MICROSECONDS = 1_000_000;

/** How a bucket fills. */
export type Rate = {
  /** What one costs, in microseconds of filling. */
  cost: number;
  /** How far from full it may be, in microseconds, before it gives nothing. */
  depth: number;
};

/** @param burst how many a full bucket gives at once */
export function rateOf(perSecond: number, burst: number = perSecond): Rate {
  const cost = Math.max(1, Math.round(MICROSECONDS / perSecond));
  return { cost, depth: (Math.max(1, burst) - 1) * cost };
}

export function newBucketMemory(buckets: number): SharedArrayBuffer {
  return new SharedArrayBuffer(buckets * BUCKET_WORDS * Int32Array.BYTES_PER_ELEMENT);
}

export class Buckets {
  readonly #words: Int32Array;
  readonly #mask: number;

  constructor(memory: SharedArrayBuffer) {
    this.#words = new Int32Array(memory);
    this.#mask = this.#words.length / SET_WORDS - 1;
  }

  /**
   * @param spot any word; chooses the set
   * @param nowUs microseconds of any clock that all threads share, modulo 2^32, signed
   * @returns whether the bucket had one to give
   */
  take(spot: number, tag: number, rate: Rate, nowUs: number): boolean {
    const words = this.#words;
    const first = (spot & this.#mask) * SET_WORDS;
    let at = first;
    while (words[at] !== tag) {
      at += BUCKET_WORDS;
      if (at === first + SET_WORDS) {
        at = this.#place(first, tag, nowUs);
        break;
      }
    }
    return takeFrom(words, at + 1, rate, nowUs);
  }

  #place(first: number, tag: number, nowUs: number): number {
    const words = this.#words;
    let at = first;
    let least = ahead(words[first + 1]!, nowUs);
    for (let way = first + BUCKET_WORDS; least > 0 && way < first + SET_WORDS; way += BUCKET_WORDS) {
      const next = ahead(words[way + 1]!, nowUs);
      if (next >= least) continue;
      least = next;
      at = way;
    }
    words[at + 1] = nowUs;
    words[at] = tag;
    return at;
  }
}

/** Takes one from the bucket whose time stands at `at`. */
export function takeFrom(words: Int32Array, at: number, { cost, depth }: Rate, nowUs: number): boolean {
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    const fullAt = Atomics.load(words, at);
    const missing = ahead(fullAt, nowUs);
    // More than it can hold: the clock went back, or the bucket was last used 2^32 µs ago. It is full.
    const from = missing > depth + cost ? 0 : missing;
    if (from > depth) return false;
    if (from === 0) {
      words[at] = (nowUs + cost) | 0;
      return true;
    }
    if (Atomics.compareExchange(words, at, fullAt, (nowUs + from + cost) | 0) === fullAt) return true;
  }
  return true;
}

function ahead(fullAt: number, nowUs: number): number {
  const left = (fullAt - nowUs) | 0;
  return left > 0 ? left : 0;
}
