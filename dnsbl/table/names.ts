/**
 * The names below one or more roots, as a tree of labels in shared memory.
 *
 * A node is a label and its parent; a hash over both finds it in one step, so looking a name up costs one
 * step a label, from the top, and ends at the first label that is not there. A node exists for DNS while
 * it is listed or something exists below it (RFC 8020; empty non-terminals, RFC 4592 §2.2.2): `below`
 * counts its children that exist. Names of `dom` stand in `_vouch` too, with a count of their own.
 *
 * Promise to readers in other threads: nodes never go away or change their label, and a change of
 * which names exist takes effect by one store: that of the topmost name that comes or goes. A walk takes
 * several looks, though: who saw that topmost name and then, below it, what is left behind it, has seen
 * neither the state before nor the one after. So `changed` moves between the two (table.ts).
 */
import { maxUsed } from './key-map.ts';
import { changed, publish, STATE } from './state.ts';
import { speaksInVouch } from './values.ts';

/**
 * A node is named by its place in units of two words, and all that a lookup reads of it lies together,
 * which is what counts once a table outgrows the caches: parent, value, two counts, and the label. A leaf
 * is narrow, without the counts; when it gets its first child, a wide node takes its place.
 */
const UNIT_WORDS = 2;
const UNIT_OCTETS = 8;
const PARENT = 0;
const VALUE = 1;
const BELOW = 2;
const BELOW_VOUCH = 3;
const WIDE_LABEL_AT = 16;
const NARROW_LABEL_AT = 8;

/** In the word of the parent. */
const WIDE = 2 ** 30;
const PARENT_MASK = WIDE - 1;

/** A slot holds a node and six bits of its hash, so a look at a wrong node is rare. */
const NODE_BITS = 26;
const NODE_MASK = 2 ** NODE_BITS - 1;

/** Roots; nodes like others, without a label. Their places are fixed. */
export const ROOT = { dom: 1, block: 4 } as const;
const FIRST_NODE = 7;

/** Nodes looked at before they are worked on: see batch.ts. */
const AHEAD = 64;

const MAX_LABELS = 127;
const MAX_NAME_OCTETS = 255;
/** More than one name may need: 127 wide nodes. */
const MAX_NAME_UNITS = 4 * MAX_LABELS;

export class Names {
  readonly nodes: Int32Array<SharedArrayBuffer>;
  /** The same memory, for the labels: each a length octet and its octets. */
  readonly octets: Uint8Array<SharedArrayBuffer>;
  readonly slots: Int32Array<SharedArrayBuffer>;
  readonly #mask: number;
  readonly #seed: number;
  readonly #state: Int32Array;
  /** The nodes of the name in hand, from its root. */
  readonly #path = new Int32Array(MAX_LABELS + 2);
  #depth = 0;
  readonly #starts = new Uint8Array(MAX_LABELS + 1);
  /** Of no use: see batch.ts. */
  #fetched = 0;

  constructor(nodes: SharedArrayBuffer, slots: SharedArrayBuffer, seed: number, state: Int32Array) {
    this.nodes = new Int32Array(nodes);
    this.octets = new Uint8Array(nodes);
    this.slots = new Int32Array(slots);
    this.#mask = this.slots.length - 1;
    this.#seed = seed;
    this.#state = state;
    if (state[STATE.nodeUnits] !== 0) return;
    state[STATE.nodeUnits] = FIRST_NODE;
    for (const root of Object.values(ROOT)) this.nodes[root * UNIT_WORDS + PARENT] = WIDE;
  }

  parent(node: number): number {
    return this.nodes[node * UNIT_WORDS + PARENT]! & PARENT_MASK;
  }

  /** Where the node's label begins in `octets`. */
  label(node: number): number {
    return node * UNIT_OCTETS + (this.#isWide(node) ? WIDE_LABEL_AT : NARROW_LABEL_AT);
  }

  value(node: number): number {
    return this.nodes[node * UNIT_WORDS + VALUE]!;
  }

  /** How many of its children exist: in `dom` or `block`, or in `_vouch`. */
  below(node: number, vouch: boolean): number {
    return this.#isWide(node) ? this.nodes[node * UNIT_WORDS + (vouch ? BELOW_VOUCH : BELOW)]! : 0;
  }

  /**
   * @param at where the label's length octet stands in `name`; lower case
   * @returns 0 when there is no such node; one that there is need not exist for DNS
   */
  child(parent: number, name: Uint8Array, at: number): number {
    const slots = this.slots;
    const mask = this.#mask;
    const hash = this.#hash(parent, name, at);
    for (let index = hash & mask; ; index = (index + 1) & mask) {
      const slot = slots[index]!;
      if (slot === 0) return 0;
      // The upper bits are those of the hash.
      if ((slot ^ hash) >>> NODE_BITS === 0 && this.#isChild(slot & NODE_MASK, parent, name, at)) {
        return slot & NODE_MASK;
      }
    }
  }

  /** @returns the node of a whole name, 0 when there is none. @param name labels, leaf first, `length` octets */
  find(root: number, name: Uint8Array, length: number): number {
    const depth = this.#walk(root, name, length, false);
    return depth === 0 ? 0 : this.#path[depth]!;
  }

  /** Where a look for the last label of a name would begin: index into `slots`. 0 for a name without a parent. */
  slotAhead(root: number, name: Uint8Array, length: number): number {
    const labels = this.#split(name, length);
    let node = root;
    for (let label = labels - 1; label > 0; label--) {
      node = this.child(node, name, this.#starts[label]!);
      if (node === 0) return 0;
    }
    return this.#hash(node, name, 0) & this.#mask;
  }

  /** Takes a name in hand. @returns its value, 0 for none. @param make its nodes; there must be room */
  open(root: number, name: Uint8Array, length: number, make: boolean): number {
    this.#depth = this.#walk(root, name, length, make);
    return this.#depth === 0 ? 0 : this.value(this.#path[this.#depth]!);
  }

  /** Gives the name in hand another value, 0 for none. @returns the value that it had */
  assign(value: number): number {
    const depth = this.#depth;
    const at = this.#path[depth]! * UNIT_WORDS + VALUE;
    const old = this.nodes[at]!;
    const vouched = speaksInVouch(old);
    const vouches = speaksInVouch(value);
    if (old !== 0 && value === 0) this.#retire(depth, BELOW);
    if (vouched && !vouches) this.#retire(depth, BELOW_VOUCH);
    publish(this.#state, this.nodes, at, value);
    if (old === 0 && value !== 0) this.#raise(depth, BELOW);
    if (!vouched && vouches) this.#raise(depth, BELOW_VOUCH);
    changed(this.#state);
    return old;
  }

  /** For one name of any length. */
  get hasRoom(): boolean {
    const units = this.end + MAX_NAME_UNITS;
    return units <= this.capacity && this.#state[STATE.nodes]! + MAX_LABELS <= maxUsed(this.slots.length);
  }

  /** In units. */
  get capacity(): number {
    return this.nodes.length / UNIT_WORDS;
  }

  /** False when another name could be one too many for the width of a slot. */
  get isListable(): boolean {
    return this.end + MAX_NAME_UNITS < NODE_MASK;
  }

  /** The place behind the last node. */
  get end(): number {
    return this.#state[STATE.nodeUnits]!;
  }

  get isMostlyGone(): boolean {
    let live = 0;
    for (let slot = 0; slot < this.slots.length; slot++) {
      const node = this.inSlot(slot);
      if (node !== 0 && (this.value(node) !== 0 || this.below(node, false) !== 0)) live += 1;
    }
    return 2 * live < this.#state[STATE.nodes]!;
  }

  /** Its counts are in the state already. */
  copyFrom(other: Names): void {
    if (other.isMostlyGone) this.#gather(other);
    else this.#copy(other);
  }

  #copy(other: Names): void {
    this.nodes.set(other.nodes.subarray(0, this.end * UNIT_WORDS));
    const { slots } = other;
    for (let start = 0; start < slots.length; start += AHEAD) {
      const end = Math.min(start + AHEAD, slots.length);
      for (let slot = start; slot < end; slot++) this.#fetched ^= this.parent(slots[slot]! & NODE_MASK);
      for (let slot = start; slot < end; slot++)
        if (slots[slot] !== 0) this.#copyNode(slots[slot]! & NODE_MASK);
    }
  }

  #copyNode(node: number): void {
    this.#publish(node, this.#hash(this.parent(node), this.octets, this.label(node)), 0);
  }

  #gather(other: Names): void {
    const name = new Uint8Array(MAX_NAME_OCTETS);
    this.#state[STATE.nodes] = 0;
    this.#state[STATE.nodeUnits] = FIRST_NODE;
    for (let slot = 0; slot < other.slots.length; slot++) {
      const listed = other.inSlot(slot);
      if (listed === 0 || other.value(listed) === 0) continue;
      let length = 0;
      let node = listed;
      for (; other.parent(node) !== 0; node = other.parent(node)) {
        const label = other.label(node);
        const octets = 1 + other.octets[label]!;
        name.set(other.octets.subarray(label, label + octets), length);
        length += octets;
      }
      this.open(node, name, length, true);
      this.assign(other.value(listed));
    }
  }

  /** The node in a slot, 0 for none. A name keeps its slot; its node may be another later. */
  inSlot(slot: number): number {
    return this.slots[slot]! & NODE_MASK;
  }

  /** The slot of a name, which is made if there is none; it then does not exist for DNS yet. */
  slotOf(root: number, name: Uint8Array, length: number): number {
    const node = this.#path[this.#walk(root, name, length, true)]!;
    let slot = this.#hash(this.parent(node), this.octets, this.label(node)) & this.#mask;
    while (this.inSlot(slot) !== node) slot = (slot + 1) & this.#mask;
    return slot;
  }

  /** Fills the path. @returns how many labels deep, 0 when a label is missing and none may be made */
  #walk(root: number, name: Uint8Array, length: number, make: boolean): number {
    const labels = this.#split(name, length);
    this.#path[0] = root;
    for (let depth = 1; depth <= labels; depth++) {
      const parent = this.#path[depth - 1]!;
      const at = this.#starts[labels - depth]!;
      const known = this.child(parent, name, at);
      if (known === 0 && !make) return 0;
      const isWide = make && depth < labels;
      this.#path[depth] =
        known === 0 || (isWide && !this.#isWide(known)) ? this.#make(parent, name, at, isWide, known) : known;
    }
    return labels;
  }

  /** Fills the starts. @returns how many labels */
  #split(name: Uint8Array, length: number): number {
    let labels = 0;
    for (let at = 0; at < length; at += 1 + name[at]!) this.#starts[labels++] = at;
    return labels;
  }

  /** @param known the narrow node whose place it takes, 0 for none */
  #make(parent: number, name: Uint8Array, at: number, isWide: boolean, known: number): number {
    const node = this.end;
    const length = name[at]!;
    this.nodes[node * UNIT_WORDS + PARENT] = parent | (isWide ? WIDE : 0);
    const label = this.label(node);
    for (let index = 0; index <= length; index++) this.octets[label + index] = name[at + index]!;
    this.#state[STATE.nodeUnits] = node + unitsOf(length, isWide);
    if (known === 0) this.#state[STATE.nodes]! += 1;
    else this.nodes[node * UNIT_WORDS + VALUE] = this.value(known);
    this.#publish(node, this.#hash(parent, name, at), known);
    return node;
  }

  /** In the first free slot, or in that of another node. */
  #publish(node: number, hash: number, instead: number): void {
    let index = hash & this.#mask;
    while (this.slots[index] !== 0 && (this.slots[index]! & NODE_MASK) !== instead)
      index = (index + 1) & this.#mask;
    publish(this.#state, this.slots, index, (hash & ~NODE_MASK) | node);
  }

  /** The name at this depth is about to lose its value: what exists only for its sake goes, topmost first. */
  #retire(depth: number, below: number): void {
    if (this.#count(this.#path[depth]!, below) !== 0) return;
    let survivor = depth - 1;
    while (survivor > 0 && this.#existsForChildAlone(this.#path[survivor]!, below)) survivor -= 1;
    for (let index = survivor + 1; index < depth; index++) {
      Atomics.store(this.nodes, this.#path[index]! * UNIT_WORDS + below, 0);
      if (index === survivor + 1) changed(this.#state);
    }
    Atomics.sub(this.nodes, this.#path[survivor]! * UNIT_WORDS + below, 1);
  }

  #existsForChildAlone(node: number, below: number): boolean {
    return this.nodes[node * UNIT_WORDS + below] === 1 && !this.#speaks(node, below);
  }

  #speaks(node: number, below: number): boolean {
    const value = this.value(node);
    return below === BELOW ? value !== 0 : speaksInVouch(value);
  }

  /** The name at this depth has got a value: what is above it exists too, topmost last. */
  #raise(depth: number, below: number): void {
    if (this.#count(this.#path[depth]!, below) !== 0) return;
    for (let index = depth - 1; index >= 0; index--) {
      const node = this.#path[index]!;
      const existed = this.nodes[node * UNIT_WORDS + below] !== 0 || this.#speaks(node, below);
      publish(this.#state, this.nodes, node * UNIT_WORDS + below, this.nodes[node * UNIT_WORDS + below]! + 1);
      if (existed) return;
    }
  }

  #isWide(node: number): boolean {
    return (this.nodes[node * UNIT_WORDS + PARENT]! & WIDE) !== 0;
  }

  #count(node: number, below: number): number {
    return this.#isWide(node) ? this.nodes[node * UNIT_WORDS + below]! : 0;
  }

  #isChild(node: number, parent: number, name: Uint8Array, at: number): boolean {
    const word = this.nodes[node * UNIT_WORDS + PARENT]!;
    if ((word & PARENT_MASK) !== parent) return false;
    const octets = this.octets;
    const label = node * UNIT_OCTETS + ((word & WIDE) !== 0 ? WIDE_LABEL_AT : NARROW_LABEL_AT);
    const length = name[at]!;
    for (let index = 0; index <= length; index++) {
      if (octets[label + index] !== name[at + index]) return false;
    }
    return true;
  }

  #hash(parent: number, octets: Uint8Array, at: number): number {
    const end = at + octets[at]!;
    let hash = this.#seed ^ Math.imul(parent, 0x9e3779b1);
    for (let index = at; index <= end; index++) hash = Math.imul(hash ^ octets[index]!, 0x01000193);
    hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
    return hash ^ (hash >>> 16);
  }
}

/** Of a tree with so many units. */
export const nodeWords = (units: number) => units * UNIT_WORDS;

/** @param labelLength without its length octet */
function unitsOf(labelLength: number, isWide: boolean): number {
  return ((isWide ? WIDE_LABEL_AT : NARROW_LABEL_AT) + labelLength + UNIT_OCTETS) >>> 3;
}

/** Room for so many names of a usual length. */
export function unitsFor(names: number): number {
  return names * unitsOf(TYPICAL_LABEL, false) + FIRST_NODE + 2 * MAX_NAME_UNITS;
}

/** Slots to keep free for one name more. */
export const SPARE_NODES = 2 * MAX_LABELS;

const TYPICAL_LABEL = 15;
