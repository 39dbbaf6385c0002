/**
 * From 32-bit keys to positive numbers, by open addressing in shared memory.
 *
 * Promise to readers in other threads: a key is there or not by one store. A key taken away keeps its
 * slot (GONE) for its own return, so no probe sequence ever changes under a reader; a copy leaves those out.
 */
import { publish } from './state.ts';

const GONE = -1;
const MIN_SLOTS = 16;
const PART_BITS = 10;

export class KeyMap {
  /** Pairs: key, number. A number of 0 is a slot never used. */
  readonly slots: Int32Array<SharedArrayBuffer>;
  readonly #mask: number;
  readonly #seed: number;
  readonly #state: Int32Array;
  readonly #used: number;

  /** @param used the word of `state` that counts slots in use */
  constructor(slots: SharedArrayBuffer, seed: number, state: Int32Array, used: number) {
    this.slots = new Int32Array(slots);
    this.#mask = this.slots.length / 2 - 1;
    this.#seed = seed;
    this.#state = state;
    this.#used = used;
  }

  /** @returns 0 for a key that is not there */
  get(key: number): number {
    const slots = this.slots;
    const mask = this.#mask;
    for (let at = scattered(key, this.#seed) & mask; ; at = (at + 1) & mask) {
      const number = slots[2 * at + 1]!;
      if (number === 0) return 0;
      if (slots[2 * at] === key) return number > 0 ? number : 0;
    }
  }

  /** Where a look for the key would begin: index into `slots`. */
  slotAhead(key: number): number {
    return 2 * (scattered(key, this.#seed) & this.#mask) + 1;
  }

  /** @param number at least 1, or 0 to take the key away. There must be room. @returns the one before */
  set(key: number, number: number): number {
    const at = this.#slot(key);
    const old = this.slots[2 * at + 1]!;
    this.#store(at, key, number);
    return old > 0 ? old : 0;
  }

  /** @returns the sum, with 0 for a key that was not there. There must be room. */
  add(key: number, growth: number): number {
    const at = this.#slot(key);
    const sum = Math.max(0, this.slots[2 * at + 1]!) + growth;
    this.#store(at, key, sum);
    return sum;
  }

  /** Those that are there, in no order, as unsigned numbers. */
  keys(): Uint32Array<ArrayBuffer> {
    const keys = new Uint32Array(this.#state[this.#used]!);
    let count = 0;
    for (let at = 1; at < this.slots.length; at += 2)
      if (this.slots[at]! > 0) keys[count++] = this.slots[at - 1]!;
    return keys.subarray(0, count);
  }

  /** Makes all numbers larger. */
  moveNumbers(by: number): void {
    for (let at = 1; at < this.slots.length; at += 2) if (this.slots[at]! > 0) this.slots[at]! += by;
  }

  /** @param pairs keys and numbers, each key once */
  addAll(pairs: Int32Array): void {
    const near = this.#bySlot(pairs);
    for (let at = 0; at < near.length; at += 2) this.add(near[at]!, near[at + 1]!);
  }

  /** The same in parts of neighbouring slots, so that the slots in use at one time are few and in the caches. */
  #bySlot(pairs: Int32Array): Int32Array {
    const shift = Math.max(0, 31 - Math.clz32(this.capacity) - PART_BITS);
    const starts = new Int32Array(2 ** PART_BITS + 1);
    const partOf = (key: number) => (scattered(key, this.#seed) & this.#mask) >>> shift;
    for (let at = 0; at < pairs.length; at += 2) starts[partOf(pairs[at]!) + 1]! += 2;
    for (let part = 1; part < starts.length; part++) starts[part]! += starts[part - 1]!;
    const near = new Int32Array(pairs.length);
    for (let at = 0; at < pairs.length; at += 2) {
      const part = partOf(pairs[at]!);
      const to = starts[part]!;
      near[to] = pairs[at]!;
      near[to + 1] = pairs[at + 1]!;
      starts[part] = to + 2;
    }
    return near;
  }

  /** That of the key, or a free one where it may stand. */
  #slot(key: number): number {
    const slots = this.slots;
    let at = scattered(key, this.#seed) & this.#mask;
    while (slots[2 * at + 1] !== 0 && slots[2 * at] !== key) at = (at + 1) & this.#mask;
    return at;
  }

  #store(at: number, key: number, number: number): void {
    if (this.slots[2 * at + 1] === 0) {
      if (number === 0) return;
      this.#state[this.#used]! += 1;
      this.slots[2 * at] = key;
    }
    publish(this.#state, this.slots, 2 * at + 1, number === 0 ? GONE : number);
  }

  hasRoom(more: number): boolean {
    return this.#state[this.#used]! + more <= maxUsed(this.capacity);
  }

  get capacity(): number {
    return this.slots.length / 2;
  }

  get isMostlyGone(): boolean {
    let live = 0;
    for (let at = 1; at < this.slots.length; at += 2) if (this.slots[at]! > 0) live += 1;
    return 2 * live < this.#state[this.#used]!;
  }

  /** Takes the keys of another map, but those that went. */
  copyFrom({ slots }: KeyMap): void {
    const pairs = new Int32Array(2 * this.#state[this.#used]!);
    let end = 0;
    for (let at = 1; at < slots.length; at += 2) {
      if (slots[at]! <= 0) continue;
      pairs[end++] = slots[at - 1]!;
      pairs[end++] = slots[at]!;
    }
    this.#state[this.#used] = 0;
    this.addAll(pairs.subarray(0, end));
  }
}

/** Slots, a power of two, for so many keys. */
export function slotsFor(keys: number): number {
  let slots = MIN_SLOTS;
  while (maxUsed(slots) < keys) slots *= 2;
  return slots;
}

/** Probes stay short, and some slot is always free: that ends every search. */
export function maxUsed(slots: number): number {
  return slots - (slots >>> 2);
}

function scattered(key: number, seed: number): number {
  let hash = Math.imul(key ^ seed, 0x9e3779b1);
  hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b);
  return hash ^ (hash >>> 13);
}
