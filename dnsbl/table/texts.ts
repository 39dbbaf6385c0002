/**
 * Octet strings, each kept once: text templates and the DIDs that are not did:plc.
 *
 * Only ever added to, so a reader may read any that it was told of.
 */
import { maxUsed } from './key-map.ts';
import { STATE } from './state.ts';

/** Octets before a template's pieces: whether the name is in the URL, and four lengths. */
export const TEMPLATE = { named: 0, head: 1, vouchers: 3, prefix: 5, suffix: 7, pieces: 9 } as const;

const LENGTH_OCTETS = 2;
const LARGE_OCTETS = 16 * 1024 * 1024;

export class Texts {
  /** A length of two octets before each; a text is named by the offset of its first octet. */
  readonly octets: Uint8Array<SharedArrayBuffer>;
  readonly slots: Int32Array<SharedArrayBuffer>;
  readonly #seed: number;
  readonly #state: Int32Array;

  constructor(octets: SharedArrayBuffer, slots: SharedArrayBuffer, seed: number, state: Int32Array) {
    this.octets = new Uint8Array(octets);
    this.slots = new Int32Array(slots);
    this.#seed = seed;
    this.#state = state;
  }

  length(text: number): number {
    return this.octets[text - 2]! | (this.octets[text - 1]! << 8);
  }

  /** @param octets up to 65,535 from the start of `from`. There must be room. */
  intern(from: Uint8Array, octets: number): number {
    const mask = this.slots.length - 1;
    let at = this.#hash(from, octets) & mask;
    for (; this.slots[at] !== 0; at = (at + 1) & mask) {
      if (this.#equals(this.slots[at]!, from, octets)) return this.slots[at]!;
    }
    const text = this.#append(from, octets);
    this.slots[at] = text;
    this.#state[STATE.texts]! += 1;
    return text;
  }

  /** For two texts with so many octets together. */
  hasRoom(octets: number): boolean {
    const end = this.#state[STATE.textOctets]! + octets + 2 * LENGTH_OCTETS;
    return end <= this.octets.length && this.#state[STATE.texts]! + 2 <= maxUsed(this.slots.length);
  }

  /** So large that what nobody uses any more is worth looking for. */
  get isLarge(): boolean {
    return this.octets.length >= LARGE_OCTETS;
  }

  get isMostlyUsed(): boolean {
    return 2 * this.#state[STATE.textOctets]! > this.octets.length;
  }

  copyFrom(other: Texts): void {
    this.octets.set(other.octets.subarray(0, this.#state[STATE.textOctets]!));
    const mask = this.slots.length - 1;
    for (const text of other.slots) {
      if (text === 0) continue;
      let at = this.#hash(this.octets.subarray(text), this.length(text)) & mask;
      while (this.slots[at] !== 0) at = (at + 1) & mask;
      this.slots[at] = text;
    }
  }

  #append(from: Uint8Array, length: number): number {
    const text = this.#state[STATE.textOctets]! + LENGTH_OCTETS;
    this.octets[text - 2] = length & 0xff;
    this.octets[text - 1] = length >> 8;
    for (let index = 0; index < length; index++) this.octets[text + index] = from[index]!;
    this.#state[STATE.textOctets] = text + length;
    return text;
  }

  #equals(text: number, from: Uint8Array, length: number): boolean {
    if (this.length(text) !== length) return false;
    for (let index = 0; index < length; index++) {
      if (this.octets[text + index] !== from[index]) return false;
    }
    return true;
  }

  #hash(from: Uint8Array, length: number): number {
    let hash = this.#seed;
    for (let index = 0; index < length; index++) hash = Math.imul(hash ^ from[index]!, 0x01000193);
    hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b);
    return hash ^ (hash >>> 13);
  }
}
