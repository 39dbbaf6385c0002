/**
 * The listed addresses of one subtree, and which of their prefixes exist as names.
 *
 * IPv4 in a map by the address, with counts of what exists below each /8, /16 and /24; IPv6 in a trie. Prefixes exist as empty non-terminals: `2.0.192.ip` when something of 192.0.2.0/24 is listed.
 */
import { KeyMap } from './key-map.ts';
import type { AddressesShare } from './share.ts';
import { ADDRESSES } from './state.ts';
import { Trie6 } from './trie6.ts';

export class Addresses {
  readonly v4: KeyMap;
  /** Keys are a one and then the prefix's bits; the numbers count what exists one octet below. */
  readonly prefixes: KeyMap;
  readonly v6: Trie6;
  readonly #state: Int32Array;
  readonly #live: number;

  constructor(share: AddressesShare, seed: number, state: Int32Array, base: number) {
    this.v4 = new KeyMap(share.v4.leaves, seed, state, base + ADDRESSES.leaves4);
    this.prefixes = new KeyMap(share.v4.prefixes, seed, state, base + ADDRESSES.prefixes4);
    this.v6 = new Trie6(share.v6.leaves, share.v6.branches, state, base);
    this.#state = state;
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

  /** There must be room. @returns the value that the address had */
  set4(address: number, value: number): number {
    const old = this.v4.set(address, value);
    const growth = Number(value !== 0) - Number(old !== 0);
    if (growth !== 0) this.#count4(address, growth);
    return old;
  }

  set6(key: Int32Array, value: number): number {
    const old = this.v6.set(key, value);
    this.#state[this.#live]! += Number(value !== 0) - Number(old !== 0);
    return old;
  }

  /** For one address. */
  get hasRoom(): boolean {
    return this.v4.hasRoom(1) && this.prefixes.hasRoom(3) && this.v6.hasRoom;
  }

  copyFrom(other: Addresses): void {
    this.v4.copyFrom(other.v4);
    this.prefixes.copyFrom(other.prefixes);
    this.v6.copyFrom(other.v6);
  }

  #count4(address: number, growth: number): void {
    for (let octets = 3; octets >= 1; octets--) {
      const count = this.prefixes.add(prefixKey(address >>> (32 - 8 * octets), octets), growth);
      // It was there before, or still is: nothing changes further up.
      if (count !== (growth > 0 ? 1 : 0)) break;
    }
    this.#state[this.#live]! += growth;
  }
}

function prefixKey(prefix: number, octets: number): number {
  return (1 << (8 * octets)) | prefix;
}
