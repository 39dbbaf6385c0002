/** Chance that can be repeated: the same seed gives the same run. */
import { randomInt } from 'node:crypto';

/** Prints the seed. ATMOS_FUZZ_SEED repeats a run, ATMOS_FUZZ_ROUNDS makes it longer. */
export class Fuzz {
  readonly #name: string;
  #state: number;

  constructor(name: string) {
    this.#name = name;
    this.#state = Number(process.env.ATMOS_FUZZ_SEED ?? randomInt(2 ** 31));
    console.log(`${name}: seed ${this.#state} (ATMOS_FUZZ_SEED)`);
  }

  /** @param costOfOne how many cheap rounds one of these costs: the long form is that much shorter */
  rounds(short: number, costOfOne = 1): number {
    const long = process.env.ATMOS_FUZZ_ROUNDS;
    const rounds = long === undefined ? short : Math.ceil(Number(long) / costOfOne);
    console.log(`${this.#name}: ${rounds} rounds (ATMOS_FUZZ_ROUNDS)`);
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

  /** Near enough to the original to get deep: a few bytes changed, cut, doubled or put in. */
  mutate(bytes: Uint8Array): Buffer {
    let out = Buffer.from(bytes);
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
    return out;
  }
}
