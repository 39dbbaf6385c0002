/**
 * Ranges of addresses and exclusions, one rbldnsd dataset's, as the single addresses that a table holds.
 *
 * As there, whole /24 and /16 stand behind what is finer, and of one level the exclusion wins; then, where
 * rbldnsd answers all, the narrower range, and of equals the later line. A range beyond 65,536 addresses is not
 * taken: each address costs as much as any other entry.
 */
import { addressWords } from '../name.ts';
import { v4Text, v6Text } from '../table/address-text.ts';
import type { TableBuilder } from '../table/builder.ts';

export const MAX_RANGE_ADDRESSES = 65_536;
/** Of all ranges and exclusions of one dataset. */
const MAX_EXPANDED = 8_000_000;

/** `words`: the first 96 bits of IPv6. `from` and `to`: the last 32, inclusive. */
export type Range = { words: readonly [number, number, number] | undefined; from: number; to: number };

type Entry = Range & {
  /** In bits; one line may have entries of two. */
  level: number;
  /** Addresses of the range as it is written. */
  size: number;
  excluded: boolean;
  fields: Int32Array;
  line: number;
  file: string;
};

/**
 * An address, a prefix (`127.0.0`), a range (`127.0.0.1-255`, `127.16-31`) or a CIDR, as rbldnsd reads them.
 *
 * @returns why it is none
 */
export function parseRange(text: string): Range | string {
  return text.includes(':') ? parseV6(text) : parseV4(text);
}

function parseV4(text: string): Range | string {
  const [, first = '', separator = '', last = ''] = /^([\d.]+)(?:([-/])([\d.]+))?$/.exec(text) ?? [];
  const start = prefixOf(first);
  if (start === undefined) return 'is no IPv4 address, prefix or range';
  if (separator === '-') return dashed(start, last);
  const bits = separator === '/' ? Number(last) : start.octets * 8;
  if (separator === '' && start.octets === 1) return 'a bare number is no address: write it with a /8';
  if (!/^\d*$/.test(last) || bits > 32) return 'its prefix length is above 32';
  const size = 2 ** (32 - bits);
  if (start.address % size !== 0) return `does not begin at a boundary of /${bits}`;
  return { words: undefined, from: start.address, to: start.address + size - 1 };
}

/** `a-b`; where `b` is one number, it is the last one of `a`'s. */
function dashed(start: { address: number; octets: number }, last: string): Range | string {
  const end = prefixOf(last);
  const size = 2 ** (32 - 8 * start.octets);
  if (end === undefined || (end.octets !== 1 && end.octets !== start.octets)) return 'is no IPv4 range';
  const isSuffix = end.octets === 1 && start.octets > 1;
  const above = Math.floor(start.address / (size * 256)) * size * 256;
  const to = (isSuffix ? above + (end.address / 2 ** 24) * size : end.address) + size - 1;
  return to < start.address ? 'ends before it begins' : { words: undefined, from: start.address, to };
}

/** One to four octets, with zeros behind. */
function prefixOf(text: string): { address: number; octets: number } | undefined {
  const octets = text.split('.');
  if (octets.length > 4 || !octets.every((octet) => /^\d{1,3}$/.test(octet) && Number(octet) < 256)) {
    return undefined;
  }
  const address = [0, 1, 2, 3].reduce((sum, index) => sum * 256 + Number(octets[index] ?? 0), 0);
  return { address, octets: octets.length };
}

function parseV6(text: string): Range | string {
  const [, written = '', length] = /^([0-9a-f:.]+)(?:\/(\d{1,3}))?$/i.exec(text) ?? [];
  const groups = written.split(':').length;
  // Trailing zeros may be left out: `2001:db8` is 2001:db8::.
  const isShort = !written.includes('::') && groups < 8;
  const words = addressWords(isShort ? `${written}::` : written);
  if (words === undefined) return 'is no IPv6 address';
  const bits = length === undefined ? (isShort ? 16 * groups : 128) : Number(length);
  if (bits > 128) return 'its prefix length is above 128';
  const [a = 0, b = 0, c = 0, d = 0] = words;
  if (bits < 96) return `/${bits} is more than ${MAX_RANGE_ADDRESSES} addresses`;
  const size = 2 ** (128 - bits);
  const from = d >>> 0;
  if (from % size !== 0) return `does not begin at a boundary of /${bits}`;
  return { words: [a, b, c], from, to: from + size - 1 };
}

/** The ranges and exclusions of one dataset; single addresses go into the table without it. */
export class Ranges {
  /** Lines for a range that an earlier line lists already. */
  repeated = 0;
  readonly #entries: Entry[] = [];
  /** Those listed, by first address and size. */
  readonly #listed = new Set<number | string>();
  #expanded = 0;

  /** @returns why it is not taken */
  add(range: Range, excluded: boolean, fields: Int32Array, file: string, line: number): string | undefined {
    const size = range.to - range.from + 1;
    if (size > MAX_RANGE_ADDRESSES) return `is more than ${MAX_RANGE_ADDRESSES} addresses`;
    if (this.#expanded + size > MAX_EXPANDED) return `the ranges have more than ${MAX_EXPANDED} addresses`;
    this.#expanded += size;
    const said = { size, excluded, fields: Int32Array.from(fields), file, line };
    for (const piece of piecesOf(range)) this.#entries.push({ ...piece, ...said });
    if (!excluded) this.#countRepeated(range, size);
    return undefined;
  }

  /** Behind the last line. @param onRefused what may not be listed, such as a test point */
  apply(builder: TableBuilder, onRefused: (file: string, line: number, why: string) => void): void {
    // What is decided is not decided again. Sorting leaves equals as they are: the last line first.
    const inOrder = this.#entries
      .reverse()
      .sort((a, b) => b.level - a.level || Number(b.excluded) - Number(a.excluded) || a.size - b.size);
    const decided = new Set<number | string>();
    for (const entry of inOrder) {
      for (let last = entry.from; last <= entry.to; last++) {
        const id = entry.words === undefined ? last : `${entry.words},${last}`;
        if (entry.excluded) exclude(builder, entry, last, decided.has(id));
        else if (!decided.has(id)) fill(builder, entry, last, onRefused);
        if (entry.excluded) decided.add(id);
      }
    }
  }

  #countRepeated({ words, from }: Range, size: number): void {
    const id = words === undefined ? from * 2 * MAX_RANGE_ADDRESSES + size : `${words},${from},${size}`;
    const before = this.#listed.size;
    if (this.#listed.add(id).size === before) this.repeated += 1;
  }
}

/** rbldnsd keeps IPv4 ranges by whole octets: the /24s in the middle of one apart from its ends. */
function piecesOf(range: Range): (Range & { level: number })[] {
  const { words, from, to } = range;
  const size = to - from + 1;
  if (words !== undefined) return [{ ...range, level: 128 - Math.log2(size) }];
  if (size === 65_536 && from % 65_536 === 0) return [{ ...range, level: 16 }];
  const wholeFrom = Math.ceil(from / 256) * 256;
  const wholeEnd = Math.floor((to + 1) / 256) * 256;
  if (wholeFrom >= wholeEnd) return [{ ...range, level: 32 }];
  const pieces = [
    { words, from, to: wholeFrom - 1, level: 32 },
    { words, from: wholeFrom, to: wholeEnd - 1, level: 24 },
    { words, from: wholeEnd, to, level: 32 },
  ];
  return pieces.filter((piece) => piece.from <= piece.to);
}

/** A wider exclusion leaves what a narrower entry lists. */
function exclude(builder: TableBuilder, entry: Entry, last: number, isDecided: boolean): void {
  const isFinest = entry.level === (entry.words === undefined ? 32 : 128);
  if (isDecided || !isFinest) return;
  const list = builder.place.blocked ? 'blocked' : 'vouched';
  builder.remove({ address: addressText(entry, last), list });
}

function fill(
  builder: TableBuilder,
  entry: Entry,
  last: number,
  onRefused: (file: string, line: number, why: string) => void,
): void {
  const text = addressText(entry, last);
  if (!builder.place.readAddress(text)) {
    const isTestPoint = last === 0x7f000002;
    if (!isTestPoint) onRefused(entry.file, entry.line, `${text} may not be listed`);
  } else if (!builder.get(standing) && !builder.put(entry.fields)) {
    onRefused(entry.file, entry.line, 'the table is full');
  }
}

const standing = new Int32Array(6);

/** The one of a range whose last 32 bits these are. */
export function addressText({ words }: Range, last: number): string {
  return words === undefined ? v4Text(last) : v6Text(Int32Array.of(...words, last));
}

/** One whole IPv4 address, without a string for the usual line. @returns -1 for what is none */
export function readV4(octets: Uint8Array, start: number, end: number): number {
  let address = 0;
  let octet = -1;
  let count = 1;
  for (let at = start; at < end; at++) {
    const digit = octets[at]! - 0x30;
    if (digit >= 0 && digit <= 9) {
      octet = (octet < 0 ? 0 : octet * 10) + digit;
      if (octet > 255) return -1;
    } else if (octets[at] === 0x2e && octet >= 0 && count < 4) {
      address = address * 256 + octet;
      octet = -1;
      count += 1;
    } else return -1;
  }
  return count === 4 && octet >= 0 ? address * 256 + octet : -1;
}
