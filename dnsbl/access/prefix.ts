/** Address prefixes: `192.0.2.0/24`, `2001:db8::/32`, or one address alone. */
import { isIP } from 'node:net';
import { readAddress } from '../client-address.ts';
import type { Client } from '../seams.ts';

/** How many leading bits of an address make one client. */
export type ClientBits = { ipv4: number; ipv6: number };

export type Prefix = {
  family: 4 | 6;
  /** 4 or 16. */
  octets: Uint8Array;
  bits: number;
};

/** @returns undefined for other text, and where bits behind the prefix are not zero */
export function parsePrefix(text: string): Prefix | undefined {
  const [address = '', length, more] = text.split('/');
  const family = isIP(address);
  if ((family !== 4 && family !== 6) || more !== undefined || address.includes('%')) return undefined;
  const octets = new Uint8Array(family === 4 ? 4 : 16);
  const most = octets.length * 8;
  if (length !== undefined && !/^(0|[1-9]\d{0,2})$/.test(length)) return undefined;
  const bits = length === undefined ? most : Number(length);
  if (bits > most) return undefined;
  readAddress(address, family, octets);
  return isZeroBehind(octets, bits) ? { family, octets, bits } : undefined;
}

function isZeroBehind(octets: Uint8Array, bits: number): boolean {
  for (let bit = bits; bit < octets.length * 8; bit++) {
    if ((octets[bit >> 3]! & (0x80 >> (bit & 7))) !== 0) return false;
  }
  return true;
}

export function isInPrefix({ family, octets, bits }: Prefix, client: Client): boolean {
  if (family !== client.family) return false;
  const whole = bits >> 3;
  for (let index = 0; index < whole; index++) if (octets[index] !== client.address[index]) return false;
  const rest = 0xff00 >> (bits & 7);
  return whole === octets.length || ((octets[whole]! ^ client.address[whole]!) & rest & 0xff) === 0;
}

/** Reads `bits` leading bits of the octets, as text: `192.0.2.0/24`, `2001:db8:1:200::/56`. */
export function prefixText(family: number, octets: Uint8Array, at: number, bits: number): string {
  const size = family === 4 ? 4 : 16;
  const masked = Array.from({ length: size }, (_, index) => {
    const kept = Math.max(0, Math.min(8, bits - index * 8));
    return octets[at + index]! & (0xff00 >> kept);
  });
  const suffix = bits < size * 8 ? `/${bits}` : '';
  if (family === 4) return `${masked.join('.')}${suffix}`;
  const groups = Array.from({ length: 8 }, (_, index) =>
    ((masked[index * 2]! << 8) | masked[index * 2 + 1]!).toString(16),
  );
  return `${groups.join(':').replace(/(^0)?(:0){2,}$/, '::')}${suffix}`;
}

/**
 * The client of an address in two words, for hashing: all its addresses have the same. An IPv4 and
 * an IPv6 client may have the same words too, so the family is to be hashed with them.
 *
 * Allocates nothing; one object for each thread and each choice of bits.
 */
export class ClientWords {
  high = 0;
  low = 0;
  readonly #mask4: number;
  readonly #maskHigh: number;
  readonly #maskLow: number;

  constructor({ ipv4, ipv6 }: ClientBits) {
    this.#mask4 = maskOf(ipv4);
    this.#maskHigh = maskOf(ipv6);
    this.#maskLow = maskOf(ipv6 - 32);
  }

  read({ family, address }: Client): void {
    if (family === 4) {
      this.high = word(address, 0) & this.#mask4;
      this.low = 0;
      return;
    }
    this.high = word(address, 0) & this.#maskHigh;
    this.low = word(address, 4) & this.#maskLow;
  }
}

function maskOf(bits: number): number {
  if (bits <= 0) return 0;
  return bits >= 32 ? -1 : ~(0xffffffff >>> bits);
}

export function word(octets: Uint8Array, at: number): number {
  return (octets[at]! << 24) | (octets[at + 1]! << 16) | (octets[at + 2]! << 8) | octets[at + 3]!;
}
