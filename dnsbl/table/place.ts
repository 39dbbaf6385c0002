/**
 * Where a listing stands: the subtree and the name or address, ready to be looked up in a table.
 *
 * What cannot be listed has no place: no host name, a name without room for the apex, not one plain
 * address, or anything that would move a test point of RFC 5782.
 */
import type { Listing } from '../listing.ts';
import { addressWords, MAX_KEY_LENGTH } from '../name.ts';

export const FORM = { name: 0, v4: 1, v6: 2 } as const;
export type Form = (typeof FORM)[keyof typeof FORM];

const MAX_LABEL_OCTETS = 63;
const MAX_V4_TEXT = 15;
const MIN_V4_TEXT = 7;
/** The octets of the labels: `dom` and `block` differ by two. */
const DOM_OCTETS = 4;
const BLOCK_OCTETS = 6;
const VOUCH_OCTETS = 7;
const IP_OCTETS = 3;
const V6_OCTETS = 64;

/** One, used again for each listing. */
export class Place {
  form: Form = FORM.name;
  blocked = false;
  /** The name's labels, leaf first. */
  readonly name = new Uint8Array(256);
  nameLength = 0;
  v4 = 0;
  readonly v6 = new Int32Array(4);
  readonly #room: number;
  /** Where the last label of the name begins. */
  #top = 0;

  /** @param apexOctets length of the apex's key */
  constructor(apexOctets: number) {
    this.#room = MAX_KEY_LENGTH - apexOctets;
  }

  /** @returns false when the listing cannot stand in the zone */
  read(listing: Listing): boolean {
    this.blocked = listing.list === 'blocked';
    if (listing.name !== undefined) return this.readName(listing.name);
    return listing.address !== undefined && this.readAddress(listing.address);
  }

  readName(name: string): boolean {
    this.form = FORM.name;
    return this.#readLabels(name) && this.fits && !this.#isReservedName();
  }

  readAddress(address: string): boolean {
    if (this.#readV4(address)) return this.fits && this.v4 !== testV4 && this.v4 !== neverV4;
    const words = addressWords(address);
    if (words === undefined) return false;
    this.setV6(words);
    return this.fits && !isReservedV6(this.v6);
  }

  setV4(address: number): void {
    this.form = FORM.v4;
    this.v4 = address;
  }

  setV6(words: Int32Array): void {
    this.form = FORM.v6;
    this.v6.set(words);
  }

  /** There is room for it in its subtree under the apex. */
  get fits(): boolean {
    if (this.form === FORM.name)
      return this.nameLength + (this.blocked ? BLOCK_OCTETS : DOM_OCTETS) <= this.#room;
    const octets = this.form === FORM.v4 ? addressOctets(this.v4) : V6_OCTETS;
    return octets + (this.blocked ? BLOCK_OCTETS : IP_OCTETS) <= this.#room;
  }

  /** A name stands in `_vouch` too if there is room for the longer label. */
  get fitsVouch(): boolean {
    return this.nameLength + VOUCH_OCTETS <= this.#room;
  }

  // RFC 1123 §2.1: letters, digits, hyphens not at an end. `*` above all must not reach the table.
  #readLabels(name: string): boolean {
    if (name.length === 0 || name.length >= MAX_KEY_LENGTH) return false;
    let start = 0;
    for (let at = 0; at <= name.length; at++) {
      const letter = at < name.length ? name.charCodeAt(at) : DOT;
      if (letter !== DOT) {
        if (!isHostLetter(letter)) return false;
        this.name[at + 1] = letter;
        continue;
      }
      const length = at - start;
      const isLabel = length > 0 && length <= MAX_LABEL_OCTETS;
      if (!isLabel || this.name[start + 1] === HYPHEN || this.name[at] === HYPHEN) return false;
      this.name[start] = length;
      this.#top = start;
      start = at + 1;
    }
    this.nameLength = name.length + 1;
    return true;
  }

  /**
   * Under `invalid` nothing may be listed, or INVALID would exist as an empty name instead of NXDOMAIN.
   * No top-level domain is a number (RFC 3696 §2), and a name under one could touch reversed addresses.
   */
  #isReservedName(): boolean {
    const { name, nameLength } = this;
    const top = this.#top;
    if (top === 0 && isLabel(name, top, testLabel)) return true;
    if (isLabel(name, top, neverLabel)) return true;
    for (let at = top + 1; at < nameLength; at++) if (name[at]! > NINE || name[at]! < ZERO) return false;
    return true;
  }

  /** Four decimal numbers below 256 without leading zeros. */
  #readV4(address: string): boolean {
    if (address.length < MIN_V4_TEXT || address.length > MAX_V4_TEXT) return false;
    let value = 0;
    let octet = -1;
    let octets = 0;
    for (let at = 0; at <= address.length; at++) {
      const letter = at < address.length ? address.charCodeAt(at) : DOT;
      if (letter === DOT) {
        if (octet < 0) return false;
        value = (value << 8) | octet;
        octets += 1;
        octet = -1;
      } else {
        const digit = letter - ZERO;
        if (digit < 0 || digit > 9 || octet === 0) return false;
        octet = octet < 0 ? digit : octet * 10 + digit;
        if (octet > 255) return false;
      }
    }
    this.setV4(value);
    return octets === 4;
  }
}

const DOT = 0x2e;
const HYPHEN = 0x2d;
const ZERO = 0x30;
const NINE = 0x39;

function isHostLetter(letter: number): boolean {
  return (letter >= 0x61 && letter <= 0x7a) || (letter >= 0x30 && letter <= 0x39) || letter === HYPHEN;
}

/** Of the name `25.2.0.192` before its subtree, with the length octets. */
function addressOctets(v4: number): number {
  let octets = 8;
  for (let shift = 0; shift < 32; shift += 8) {
    const octet = (v4 >>> shift) & 0xff;
    octets += Number(octet > 9) + Number(octet > 99);
  }
  return octets;
}

/** Test points of RFC 5782 §5: listed, and never listed. */
export const testName = 'test';
export const testV4 = 0x7f000002;
export const testV6 = Int32Array.of(0, 0, 0xffff, 0x7f000002);
const testLabel = Uint8Array.from(Buffer.from(`\x04${testName}`));
const neverLabel = Uint8Array.from(Buffer.from('\x07invalid'));
const neverV4 = 0x7f000001;

function isReservedV6(v6: Int32Array): boolean {
  const isMapped = v6[0] === 0 && v6[1] === 0 && v6[2] === 0xffff;
  return isMapped && (v6[3] === testV4 || v6[3] === neverV4);
}

/** @param at where a label begins in the name; the expected one comes with its length, too */
function isLabel(name: Uint8Array, at: number, expected: Uint8Array): boolean {
  for (let index = 0; index < expected.length; index++)
    if (name[at + index] !== expected[index]) return false;
  return true;
}
