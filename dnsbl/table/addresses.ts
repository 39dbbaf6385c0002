/**
 * The listed addresses of one subtree, and which of their prefixes exist as names.
 *
 * IPv4 in a map by the address, with counts of what exists below each /8, /16 and /24; IPv6 in a trie. Prefixes exist as empty non-terminals: `2.0.192.ip` when something of 192.0.2.0/24 is listed.
 */
import { KeyMap, slotsFor } from './key-map.ts';
import type { AddressesShare } from './share.ts';
import { ADDRESSES, changed, STATE, sharedWords } from './state.ts';
import { Trie6 } from './trie6.ts';

export class Addresses {
  readonly v4: KeyMap;
  /** Keys are a one and then the prefix's bits; the numbers count what exists one octet below. */
  prefixes: KeyMap;
  readonly v6: Trie6;
  readonly #seed: number;
  readonly #state: Int32Array;
  readonly #base: number;
  readonly #live: number;

  constructor(share: AddressesShare, seed: number, state: Int32Array, base: number) {
    this.v4 = new KeyMap(share.v4.leaves, seed, state, base + ADDRESSES.leaves4);
    this.prefixes = new KeyMap(share.v4.prefixes, seed, state, base + ADDRESSES.prefixes4);
    this.v6 = new Trie6(share.v6.leaves, share.v6.branches, state, base);
    this.#seed = seed;
    this.#state = state;
    this.#base = base;
    this.#live = base + ADDRESSES.live;
  }

  get share(): AddressesShare {
    return {
      v4: { leaves: this.v4.slots.buffer, prefixes: this.prefixes.slots.buffer },
      v6: { leaves: this.v6.leaves.buffer, branches: this.v6.branches.buffer },
    };
  }

  /** Is anything listed at all? */
  exists(): boolean {
    return this.#state[this.#live] !== 0;
  }

  /** @param octets 1 to 3, the prefix in the low bits of `prefix` */
  hasPrefix4(prefix: number, octets: number): boolean {
    return this.prefixes.get(prefixKey(prefix, octets)) !== 0;
  }

  /**
   * There must be room. @returns the value that the address had
   *
   * Who does not find an address may go on to ask what begins like it (lookup.ts, `block`): so it comes
   * before its prefixes do, and goes after them.
   */
  set4(address: number, value: number): number {
    const old = this.v4.get(address);
    const growth = Number(value !== 0) - Number(old !== 0);
    if (growth < 0) this.#count4(address, growth);
    this.v4.set(address, value);
    changed(this.#state);
    if (growth > 0) this.#count4(address, growth);
    return old;
  }

  set6(key: Int32Array, value: number): number {
    const old = this.v6.set(key, value);
    this.#state[this.#live]! += Number(value !== 0) - Number(old !== 0);
    changed(this.#state);
    return old;
  }

  /** For one address. */
  get hasRoom(): boolean {
    return this.v4.hasRoom(1) && this.prefixes.hasRoom(3) && this.v6.hasRoom;
  }

  /**
   * Counts the prefixes of all IPv4 addresses at once: what building leaves for the end, since in order of
   * address each prefix is met once, and one by one each address is a search far outside the caches.
   */
  countAll(): void {
    const addresses = inOrder(this.v4.keys());
    const prefixes = [1, 2, 3].map((octets) => prefixesOf(addresses, octets));
    const all = prefixes.reduce((sum, { length }) => sum + length / 2, 0);
    this.#state[this.#base + ADDRESSES.prefixes4] = 0;
    const slots = sharedWords(2 * slotsFor(Math.max(all + (all >>> 2), MIN_PREFIXES)));
    this.prefixes = new KeyMap(slots.buffer, this.#seed, this.#state, this.#base + ADDRESSES.prefixes4);
    for (const counted of prefixes) this.prefixes.addAll(counted);
  }

  copyFrom(other: Addresses): void {
    this.v4.copyFrom(other.v4);
    this.prefixes.copyFrom(other.prefixes);
    this.v6.copyFrom(other.v6);
  }

  #count4(address: number, growth: number): void {
    this.#state[this.#live]! += growth;
    if (this.#state[STATE.building] !== 0) return;
    for (let octets = 3; octets >= 1; octets--) {
      const count = this.prefixes.add(prefixKey(address >>> (32 - 8 * octets), octets), growth);
      // It was there before, or still is: nothing changes further up.
      if (count !== (growth > 0 ? 1 : 0)) break;
    }
    changed(this.#state);
  }
}

/** @param prefix 1 to 3 octets, in the low bits */
export function prefixKey(prefix: number, octets: number): number {
  return (1 << (8 * octets)) | prefix;
}

/** Room for prefixes that come later. */
const MIN_PREFIXES = 4096;

/** A radix sort: the addresses as unsigned numbers, in 11, 11 and 10 bits. */
function inOrder(addresses: Uint32Array<ArrayBuffer>): Uint32Array {
  let from = addresses;
  let to = new Uint32Array(from.length);
  for (let shift = 0; shift < 32; shift += 11) {
    const ends = new Uint32Array(2048);
    for (let index = 0; index < from.length; index++) ends[(from[index]! >>> shift) & 2047]! += 1;
    for (let digit = 1; digit < 2048; digit++) ends[digit]! += ends[digit - 1]!;
    for (let index = from.length - 1; index >= 0; index--) {
      const address = from[index]!;
      to[--ends[(address >>> shift) & 2047]!] = address;
    }
    [from, to] = [to, from];
  }
  return from;
}

/** Pairs: the key of each prefix, and how many different ones of one octet more there are. */
function prefixesOf(addresses: Uint32Array, octets: number): Int32Array {
  const shift = 32 - 8 * octets;
  const pairs = new Int32Array(2 * distinct(addresses, shift));
  let end = 0;
  let last = -1;
  let lastBelow = -1;
  for (let index = 0; index < addresses.length; index++) {
    const address = addresses[index]!;
    const below = address >>> (shift - 8);
    if (below === lastBelow) continue;
    lastBelow = below;
    const prefix = address >>> shift;
    if (prefix !== last) {
      pairs[end] = prefixKey(prefix, octets);
      end += 2;
      last = prefix;
    }
    pairs[end - 1]! += 1;
  }
  return pairs;
}

function distinct(addresses: Uint32Array, shift: number): number {
  let count = 0;
  let last = -1;
  for (let index = 0; index < addresses.length; index++) {
    const prefix = addresses[index]! >>> shift;
    if (prefix !== last) count += 1;
    last = prefix;
  }
  return count;
}
