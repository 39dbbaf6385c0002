/** Chance that can be repeated: the same seed gives the same run. */
import { randomInt } from 'node:crypto';

/** Prints the seed. ATMOS_FUZZ_SEED repeats a run; the variable that gives the rounds makes it longer. */
export class Fuzz {
  readonly #name: string;
  readonly #roundsFrom: string;
  readonly #seed: number;
  #state: number;

  /** @param roundsFrom where a round is nothing like a fuzzed input, it has a variable of its own */
  constructor(name: string, roundsFrom: 'ATMOS_FUZZ_ROUNDS' | 'ATMOS_KILL_ROUNDS' = 'ATMOS_FUZZ_ROUNDS') {
    this.#name = name;
    this.#roundsFrom = roundsFrom;
    this.#seed = Number(process.env.ATMOS_FUZZ_SEED ?? randomInt(2 ** 31));
    this.#state = this.#seed;
    console.log(`${name}: seed ${this.#seed} (ATMOS_FUZZ_SEED)`);
  }

  /**
   * Also goes back to the seed, so that a test is repeated by it whether or not others ran before.
   *
   * @param costOfOne how many cheap rounds one of these costs: the long form is that much shorter
   */
  rounds(short: number, costOfOne = 1): number {
    this.#state = this.#seed;
    const long = process.env[this.#roundsFrom];
    const rounds = long === undefined ? short : Math.ceil(Number(long) / costOfOne);
    console.log(`${this.#name}: ${rounds} rounds (${this.#roundsFrom})`);
    return rounds;
  }

  /** A whole number, 0 ≤ n < limit (mulberry32). */
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * limit);
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!;
  }

  /**
   * Near enough to the original to get deep: a few bytes changed, cut, doubled or put in.
   *
   * @param keep how many bytes at the start stay as they are
   */
  mutate(bytes: Uint8Array, keep = 0): Buffer {
    const kept = bytes.subarray(0, keep);
    let out = Buffer.from(bytes.subarray(keep));
    for (let n = 1 + this.below(4); n > 0; n--) {
      const at = this.below(out.length + 1);
      const [before, after] = [out.subarray(0, at), out.subarray(at)];
      const kind = this.below(8);
      if (kind === 0) out = before;
      else if (kind === 1) out = Buffer.concat([before, out.subarray(this.below(at + 1))]);
      else if (kind === 2) out = Buffer.concat([before, Buffer.from([this.below(256)]), after]);
      else if (kind === 3) out = Buffer.concat([before, after.subarray(1 + this.below(8))]);
      else if (at < out.length) out[at] = kind < 6 ? this.below(256) : out[at]! ^ (1 << this.below(8));
    }
    return Buffer.concat([kept, out]);
  }
}
