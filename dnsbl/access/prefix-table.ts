/**
 * From an address to what the longest prefix around it says; thousands of prefixes, one binary search.
 *
 * Built once, by the owner, as disjoint ranges in shared memory: 6 octets for each end of an IPv4
 * prefix, 18 for IPv6. A lookup allocates nothing.
 */
import type { Client } from '../seams.ts';
import { type Prefix, parsePrefix, word } from './prefix.ts';

/** Structured-cloneable; all threads read the same memory. */
export type PrefixTableShare = { v4: RangesShare; v6: RangesShare };
type RangesShare = { starts: SharedArrayBuffer; values: SharedArrayBuffer };

type Range = { start: bigint; value: number };
type Span = { start: bigint; end: bigint; bits: number; value: number };

/** @param entries prefixes that parsePrefix() reads, and values from 1 to 65,535 */
export function buildPrefixTable(
  entries: Iterable<readonly [prefix: string, value: number]>,
): PrefixTableShare {
  const spans: Record<4 | 6, Span[]> = { 4: [], 6: [] };
  for (const [text, value] of entries) {
    const prefix = parsePrefix(text);
    if (prefix === undefined) throw new RangeError(`${text} is no prefix`);
    spans[prefix.family].push(spanOf(prefix, value));
  }
  return { v4: shareOf(flattened(spans[4], 32n), 1), v6: shareOf(flattened(spans[6], 128n), 4) };
}

function spanOf({ octets, bits }: Prefix, value: number): Span {
  const size = octets.length * 8;
  const start = BigInt(`0x${Buffer.from(octets).toString('hex')}`);
  return { start, end: start + (1n << BigInt(size - bits)), bits, value };
}

/** Inner prefixes cut their outer ones in pieces. */
function flattened(spans: Span[], size: bigint): Range[] {
  const ordered = spans.toSorted((a, b) => compare(a.start, b.start) || a.bits - b.bits);
  const ranges: Range[] = [{ start: 0n, value: 0 }];
  const open: Span[] = [];
  const closeUntil = (start: bigint) => {
    for (let top = open.at(-1); top !== undefined && top.end <= start; top = open.at(-1)) {
      open.pop();
      if (top.end < 1n << size) begin(ranges, top.end, open.at(-1)?.value ?? 0);
    }
  };
  for (const span of ordered) {
    closeUntil(span.start);
    begin(ranges, span.start, span.value);
    open.push(span);
  }
  closeUntil(1n << size);
  return ranges;
}

function begin(ranges: Range[], start: bigint, value: number): void {
  if (ranges.at(-1)!.start === start) ranges.pop();
  if (ranges.at(-1)?.value !== value) ranges.push({ start, value });
}

function compare(a: bigint, b: bigint): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

function shareOf(ranges: Range[], width: 1 | 4): RangesShare {
  const starts = new Uint32Array(new SharedArrayBuffer(ranges.length * width * 4));
  const values = new Uint16Array(new SharedArrayBuffer(ranges.length * 2));
  for (const [index, { start, value }] of ranges.entries()) {
    values[index] = value;
    for (let place = 0; place < width; place++) {
      starts[index * width + place] = Number((start >> BigInt(32 * (width - 1 - place))) & 0xffffffffn);
    }
  }
  return { starts: starts.buffer, values: values.buffer };
}

export class PrefixTable {
  readonly #starts4: Uint32Array;
  readonly #values4: Uint16Array;
  readonly #starts6: Uint32Array;
  readonly #values6: Uint16Array;

  constructor({ v4, v6 }: PrefixTableShare) {
    this.#starts4 = new Uint32Array(v4.starts);
    this.#values4 = new Uint16Array(v4.values);
    this.#starts6 = new Uint32Array(v6.starts);
    this.#values6 = new Uint16Array(v6.values);
  }

  /** @returns 0 where no prefix has it */
  find({ family, address }: Client): number {
    return family === 4 ? this.#find4(address) : this.#find6(address);
  }

  /** The last range that starts at the address or before it; the first starts at 0. */
  #find4(address: Uint8Array): number {
    const starts = this.#starts4;
    const wanted = word(address, 0) >>> 0;
    let low = 0;
    for (let high = starts.length; high - low > 1; ) {
      const middle = (low + high) >>> 1;
      if (starts[middle]! <= wanted) low = middle;
      else high = middle;
    }
    return this.#values4[low]!;
  }

  #find6(address: Uint8Array): number {
    let low = 0;
    for (let high = this.#values6.length; high - low > 1; ) {
      const middle = (low + high) >>> 1;
      if (this.#isAtOrBefore(middle, address)) low = middle;
      else high = middle;
    }
    return this.#values6[low]!;
  }

  #isAtOrBefore(range: number, address: Uint8Array): boolean {
    for (let place = 0; place < 4; place++) {
      const start = this.#starts6[range * 4 + place]!;
      const wanted = word(address, place * 4) >>> 0;
      if (start !== wanted) return start < wanted;
    }
    return true;
  }
}
