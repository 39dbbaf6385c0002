/**
 * IPv6 addresses as a binary trie without chains: a branch stands only where two addresses part.
 *
 * One walk of at most 128 steps finds an address, or tells whether anything is listed below a prefix
 * (reversed nibbles make every prefix a name). Each branch counts the addresses in force below it.
 *
 * Promise to readers in other threads: leaves and branches never go away, and one comes by one store.
 */
import { ADDRESSES, changed } from './state.ts';

const LEAF_WORDS = 5;
const VALUE = 4;
const BRANCH_WORDS = 4;
const BIT = 0;
const CHILD = 1;
const LIVE = 3;
/** No branch is the first; its place holds the link from which every walk begins. */
const ROOT = 0;

/** A link is a branch (positive), a leaf (negative), or nothing. */
export class Trie6 {
  readonly leaves: Int32Array<SharedArrayBuffer>;
  readonly branches: Int32Array<SharedArrayBuffer>;
  readonly #state: Int32Array;
  readonly #leafCount: number;
  readonly #branchCount: number;

  /** @param base where this subtree's ADDRESSES words begin in `state` */
  constructor(leaves: SharedArrayBuffer, branches: SharedArrayBuffer, state: Int32Array, base: number) {
    this.leaves = new Int32Array(leaves);
    this.branches = new Int32Array(branches);
    this.#state = state;
    this.#leafCount = base + ADDRESSES.leaves6;
    this.#branchCount = base + ADDRESSES.branches6;
  }

  /** @param key four words. @returns the leaf, 0 when there is none */
  find(key: Int32Array): number {
    const leaf = this.#nearest(key);
    return leaf !== 0 && this.firstDifference(leaf, key) === 128 ? leaf : 0;
  }

  /** @returns 0 for an address that is not in force */
  valueOf(key: Int32Array): number {
    const leaf = this.find(key);
    return leaf === 0 ? 0 : this.value(leaf);
  }

  value(leaf: number): number {
    return this.leaves[leaf * LEAF_WORDS + VALUE]!;
  }

  word(leaf: number, index: number): number {
    return this.leaves[leaf * LEAF_WORDS + index]!;
  }

  get last(): number {
    return this.#state[this.#leafCount]!;
  }

  /** Is any address in force that begins with the first `bits` of the key? */
  hasPrefix(key: Int32Array, bits: number): boolean {
    const branches = this.branches;
    let link = this.branches[ROOT]!;
    while (link > 0 && branches[link * BRANCH_WORDS + BIT]! < bits) link = this.#next(link, key);
    if (link === 0) return false;
    if (link > 0 ? branches[link * BRANCH_WORDS + LIVE] === 0 : this.value(-link) === 0) return false;
    while (link > 0) link = branches[link * BRANCH_WORDS + CHILD]!;
    return this.firstDifference(-link, key) >= bits;
  }

  /** The number of leading bits in which the leaf and the key agree. */
  firstDifference(leaf: number, key: Int32Array): number {
    for (let index = 0; index < 4; index++) {
      const difference = this.leaves[leaf * LEAF_WORDS + index]! ^ key[index]!;
      if (difference !== 0) return index * 32 + Math.clz32(difference);
    }
    return 128;
  }

  /** Makes a leaf, not in force, where there is none. */
  leafOf(key: Int32Array): number {
    return this.find(key) || this.#insert(key);
  }

  /** There must be room; the order is that of Addresses.set4. @returns the value that the address had */
  set(key: Int32Array, value: number): number {
    const leaf = value === 0 ? this.find(key) : this.leafOf(key);
    if (leaf === 0) return 0;
    const old = this.value(leaf);
    const growth = Number(value !== 0) - Number(old !== 0);
    if (growth < 0) this.#count(key, growth);
    Atomics.store(this.leaves, leaf * LEAF_WORDS + VALUE, value);
    changed(this.#state);
    if (growth > 0) this.#count(key, growth);
    return old;
  }

  /** Makes all values larger. */
  moveValues(by: number): void {
    for (let leaf = 1; leaf <= this.last; leaf++) {
      if (this.value(leaf) !== 0) this.leaves[leaf * LEAF_WORDS + VALUE]! += by;
    }
  }

  get hasRoom(): boolean {
    return this.last + 2 < this.capacity;
  }

  get capacity(): number {
    return this.leaves.length / LEAF_WORDS;
  }

  get isMostlyGone(): boolean {
    let live = 0;
    for (let leaf = 1; leaf <= this.last; leaf++) if (this.value(leaf) !== 0) live += 1;
    return 2 * live < this.last;
  }

  /** Its counts are in the state already. */
  copyFrom(other: Trie6): void {
    if (other.isMostlyGone) {
      this.#gather(other);
      return;
    }
    this.leaves.set(other.leaves.subarray(0, (this.last + 1) * LEAF_WORDS));
    this.branches.set(other.branches.subarray(0, (this.last + 1) * BRANCH_WORDS));
  }

  #gather(other: Trie6): void {
    const { last } = other;
    const key = new Int32Array(4);
    this.#state[this.#leafCount] = 0;
    this.#state[this.#branchCount] = 0;
    for (let leaf = 1; leaf <= last; leaf++) {
      for (let index = 0; index < 4; index++) key[index] = other.word(leaf, index);
      if (other.value(leaf) !== 0) this.set(key, other.value(leaf));
    }
  }

  #nearest(key: Int32Array): number {
    let link = this.branches[ROOT]!;
    while (link > 0) link = this.#next(link, key);
    return -link;
  }

  #next(branch: number, key: Int32Array): number {
    const at = branch * BRANCH_WORDS;
    return this.branches[at + CHILD + bitOf(key, this.branches[at + BIT]!)]!;
  }

  /** A leaf without a value; nothing exists that did not before. */
  #insert(key: Int32Array): number {
    const leaf = ++this.#state[this.#leafCount]!;
    for (let index = 0; index < 4; index++) this.leaves[leaf * LEAF_WORDS + index] = key[index]!;
    const nearest = this.#nearest(key);
    if (nearest === 0) Atomics.store(this.branches, ROOT, -leaf);
    else this.#part(leaf, key, this.firstDifference(nearest, key));
    return leaf;
  }

  /** Puts a branch where the new leaf leaves the others. */
  #part(leaf: number, key: Int32Array, bit: number): void {
    const branches = this.branches;
    let holder = 0;
    let link = this.branches[ROOT]!;
    while (link > 0 && branches[link * BRANCH_WORDS + BIT]! < bit) {
      holder = link;
      link = this.#next(link, key);
    }
    const branch = ++this.#state[this.#branchCount]!;
    const at = branch * BRANCH_WORDS;
    const side = bitOf(key, bit);
    branches[at + BIT] = bit;
    branches[at + CHILD + side] = -leaf;
    branches[at + CHILD + 1 - side] = link;
    branches[at + LIVE] = link > 0 ? branches[link * BRANCH_WORDS + LIVE]! : Number(this.value(-link) !== 0);
    if (holder === 0) Atomics.store(this.branches, ROOT, branch);
    else {
      const place = holder * BRANCH_WORDS + CHILD + bitOf(key, branches[holder * BRANCH_WORDS + BIT]!);
      Atomics.store(branches, place, branch);
    }
  }

  #count(key: Int32Array, growth: number): void {
    let link = this.branches[ROOT]!;
    while (link > 0) {
      Atomics.add(this.branches, link * BRANCH_WORDS + LIVE, growth);
      link = this.#next(link, key);
    }
    changed(this.#state);
  }
}

export const leafWords = (leaves: number) => leaves * LEAF_WORDS;
export const branchWords = (leaves: number) => leaves * BRANCH_WORDS;

function bitOf(key: Int32Array, bit: number): number {
  return (key[bit >>> 5]! >>> (31 - (bit & 31))) & 1;
}
