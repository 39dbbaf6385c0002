/**
 * Which entry answers for a name: RFC 1034 §4.3.2 step 3 with RFC 4592 §3.3.1, over a table.
 *
 * A name exists when it is listed or when something below it is (RFC 8020). In `block`, names, IPv4 and
 * IPv6 addresses stand side by side: what one of them does not have, another may. No call allocates.
 *
 * What is found is what there was at one moment, whatever changes meanwhile (table.ts).
 */
import type { Addresses } from './addresses.ts';
import { ROOT } from './names.ts';
import { FORM, type Form } from './place.ts';
import { STATE } from './state.ts';
import type { Table } from './table.ts';
import { coversBelow, speaksInVouch } from './values.ts';

/** What a name is, from the least to the most. */
export const FOUND = {
  nothing: 0,
  /** It exists and has no records. */
  empty: 1,
  /** Listed: A and TXT. */
  code: 2,
  /** Vouched for: TXT alone. */
  mailTypes: 3,
} as const;

export const SUBTREE = { none: 0, dom: 1, ip: 2, block: 3, vouch: 4 } as const;

const STAR = 0x2a;
const ZERO = 0x30;
const LETTER_A = 0x61;

export class Lookup {
  /** Of the entry found. */
  value = 0;
  form: Form = FORM.name;
  ref = 0;
  /** The label at which the walk from the top ended, counted from the leaf; -1: it did not. */
  #missing = 0;
  #name!: Uint8Array;
  #starts!: Uint8Array;
  readonly #key = new Int32Array(4);
  readonly #fence = new Int32Array(1);

  /**
   * @param name labels in lower case, leaf first, each behind its length
   * @param starts where each label begins
   * @param labels how many of them stand below the subtree
   */
  find(table: Table, subtree: number, name: Uint8Array, starts: Uint8Array, labels: number): number {
    this.#name = name;
    this.#starts = starts;
    for (;;) {
      const changed = Atomics.load(table.state, STATE.changed);
      const found = this.#find(table, subtree, labels);
      // Listed under this very name: that was seen in one look.
      if (found >= FOUND.code && this.#missing < 0) return found;
      // A store before the load keeps the reads above it in front of it, on weakly ordered machines too.
      Atomics.store(this.#fence, 0, 0);
      if (Atomics.load(table.state, STATE.changed) === changed) return found;
    }
  }

  #find(table: Table, subtree: number, labels: number): number {
    this.#missing = -1;
    if (subtree === SUBTREE.dom) return this.#names(table, ROOT.dom, labels, false);
    if (subtree === SUBTREE.ip) return this.#addresses(table.ip, 0, labels);
    if (subtree === SUBTREE.vouch) return this.#names(table, ROOT.dom, labels, true);
    return this.#blocked(table, labels);
  }

  /** Each value is read once, so whatever changes meanwhile, what is said of a name holds together. */
  #names(table: Table, root: number, labels: number, vouch: boolean): number {
    const { names } = table;
    let node = root;
    let value = 0;
    if (names.below(root, vouch) === 0) return FOUND.nothing;
    for (let label = labels - 1; label >= 0; label--) {
      const child = names.child(node, this.#name, this.#starts[label]!);
      const listed = child === 0 ? 0 : names.value(child);
      const speaks = vouch ? speaksInVouch(listed) : listed !== 0;
      if (child === 0 || !(speaks || names.below(child, vouch) !== 0)) {
        this.#missing = label;
        const covers = coversBelow(value) && (!vouch || speaksInVouch(value));
        return covers && this.#mayBeCovered(label) ? this.#entry(node, value, vouch) : FOUND.nothing;
      }
      node = child;
      value = listed;
    }
    this.#missing = -1;
    const speaks = vouch ? speaksInVouch(value) : value !== 0;
    return speaks ? this.#entry(node, value, vouch) : FOUND.empty;
  }

  #entry(node: number, value: number, vouch: boolean): number {
    this.value = value;
    this.form = FORM.name;
    this.ref = node;
    return vouch ? FOUND.mailTypes : FOUND.code;
  }

  /** RFC 4592 §2.2.1: below `*.<name>` nothing exists, and no other wildcard is nearer. */
  #mayBeCovered(label: number): boolean {
    const at = this.#starts[label]!;
    return label === 0 || this.#name[at] !== 1 || this.#name[at + 1] !== STAR;
  }

  #blocked(table: Table, labels: number): number {
    const named = this.#names(table, ROOT.block, labels, false);
    if (named === FOUND.code && this.#missing < 0) return named;
    const { value, ref } = this;
    const missing = this.#missing;
    const addressed = this.#addresses(table.block, 0, labels);
    if (addressed !== FOUND.nothing) return addressed;
    if (named !== FOUND.code) return named;
    // A wildcard answers only where no longer part of the name exists among the addresses.
    if (this.#addresses(table.block, missing, labels) !== FOUND.nothing) return FOUND.nothing;
    return this.#entry(ref, value, false);
  }

  /** The labels from `first` on, as a reversed address or the beginning of one. */
  #addresses(addresses: Addresses, first: number, labels: number): number {
    const length = labels - first;
    if (length === 0) return addresses.exists() ? FOUND.empty : FOUND.nothing;
    if (length > 32) return FOUND.nothing;
    const found = length <= 4 ? this.#v4(addresses, first, labels) : FOUND.nothing;
    return found === FOUND.nothing ? this.#v6(addresses, first, labels) : found;
  }

  #v4(addresses: Addresses, first: number, labels: number): number {
    let address = 0;
    for (let label = labels - 1; label >= first; label--) {
      const octet = this.#decimal(this.#starts[label]!);
      if (octet < 0) return FOUND.nothing;
      address = (address << 8) | octet;
    }
    if (labels - first < 4) {
      return addresses.hasPrefix4(address, labels - first) ? FOUND.empty : FOUND.nothing;
    }
    this.value = addresses.v4.get(address);
    this.form = FORM.v4;
    this.ref = address;
    return this.value === 0 ? FOUND.nothing : FOUND.code;
  }

  /** @returns -1 for a label that is no number below 256 as we write it */
  #decimal(at: number): number {
    const name = this.#name;
    const length = name[at]!;
    if (length > 3 || (length > 1 && name[at + 1] === ZERO)) return -1;
    let number = 0;
    for (let index = 1; index <= length; index++) {
      const digit = name[at + index]! - ZERO;
      if (digit < 0 || digit > 9) return -1;
      number = number * 10 + digit;
    }
    return number < 256 ? number : -1;
  }

  #v6(addresses: Addresses, first: number, labels: number): number {
    const key = this.#key;
    key[0] = 0;
    key[1] = 0;
    key[2] = 0;
    key[3] = 0;
    for (let nibble = 0; nibble < labels - first; nibble++) {
      const digit = this.#hexDigit(this.#starts[labels - 1 - nibble]!);
      if (digit < 0) return FOUND.nothing;
      key[nibble >> 3]! |= digit << (28 - 4 * (nibble & 7));
    }
    if (labels - first < 32) {
      return addresses.v6.hasPrefix(key, 4 * (labels - first)) ? FOUND.empty : FOUND.nothing;
    }
    this.ref = addresses.v6.find(key);
    this.form = FORM.v6;
    this.value = this.ref === 0 ? 0 : addresses.v6.value(this.ref);
    return this.value === 0 ? FOUND.nothing : FOUND.code;
  }

  #hexDigit(at: number): number {
    if (this.#name[at] !== 1) return -1;
    const letter = this.#name[at + 1]!;
    if (letter >= ZERO && letter <= ZERO + 9) return letter - ZERO;
    return letter >= LETTER_A && letter < LETTER_A + 6 ? letter - LETTER_A + 10 : -1;
  }
}

/** @param at where a label in lower case begins */
export function subtreeOf(name: Uint8Array, at: number): number {
  const length = name[at]!;
  if (length === 3) return isText(name, at + 1, 'dom') ? SUBTREE.dom : SUBTREE.none;
  if (length === 2) return isText(name, at + 1, 'ip') ? SUBTREE.ip : SUBTREE.none;
  if (length === 5) return isText(name, at + 1, 'block') ? SUBTREE.block : SUBTREE.none;
  return length === 6 && isText(name, at + 1, '_vouch') ? SUBTREE.vouch : SUBTREE.none;
}

function isText(name: Uint8Array, at: number, text: string): boolean {
  for (let index = 0; index < text.length; index++) {
    if (name[at + index] !== text.charCodeAt(index)) return false;
  }
  return true;
}
