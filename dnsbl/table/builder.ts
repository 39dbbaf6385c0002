/**
 * Builds a table, in whatever thread; a zone then adopts it.
 *
 * Listings may come in any order; of two for the same name or address in the same list the later counts.
 */
import { randomInt } from 'node:crypto';
import type { Listing } from '../listing.ts';
import { hostKey } from '../name.ts';
import type { Place } from './place.ts';
import { emptyShare, roomFor } from './room.ts';
import type { TableShare } from './share.ts';
import { Table } from './table.ts';
import { Writer } from './writer.ts';

const DEFAULT_EXPECT = 1024;

export type TableBuilderOptions = {
  /** Of the zone that will adopt the table: names that do not fit with it are left out. */
  apex: string;
  /** Entries to make room for at once; a good guess saves time, not correctness. */
  expect?: number;
};

export class TableBuilder {
  readonly #writer: Writer;

  constructor({ apex, expect = DEFAULT_EXPECT }: TableBuilderOptions) {
    const share = emptyShare(randomInt(2 ** 31), roomFor(Math.max(expect, DEFAULT_EXPECT)));
    this.#writer = new Writer(new Table(share), apexOctetsOf(apex));
    this.#writer.addTestPoints();
  }

  /** Listings in force so far. */
  get size(): number {
    return this.#writer.table.size;
  }

  /** @returns false when the listing cannot stand in the zone */
  add(listing: Listing): boolean {
    return this.#writer.apply(listing) !== 'unlistable';
  }

  /** What get() and put() are about; filled by read(), or by who reads octets. */
  get place(): Place {
    return this.#writer.place;
  }

  /** The six fields (values.ts) of a listing, and `place` filled. Valid until the next call. */
  read(listing: Listing): Int32Array | undefined {
    return this.#writer.read(listing);
  }

  /** The fields of what stands at `place`. @returns false when nothing does */
  get(fields: Int32Array): boolean {
    const { table } = this.#writer;
    const value = table.open(this.place, false);
    if (value !== 0) table.values.read(value, fields);
    return value !== 0;
  }

  /** @returns false when the table takes no more */
  put(fields: Int32Array): boolean {
    return this.#writer.put(fields);
  }

  /** Takes away what was put there. */
  remove(what: { name?: string; address?: string; list: Listing['list'] }): void {
    this.#writer.apply({ ...gone, ...what });
  }

  /** The builder is of no more use afterwards. */
  finish(): TableShare {
    return this.#writer.table.share;
  }
}

const gone = {
  ...{ kind: 2, trust: 0, mailTypes: [], coverSubdomains: false, did: '', vouchers: [], url: '', seq: 0 },
  removed: true,
} satisfies Omit<Listing, 'list'>;

/** @throws RangeError when the apex is no host name */
function apexOctetsOf(apex: string): number {
  const key = hostKey(apex.toLowerCase());
  if (key === undefined) throw new RangeError(`apex ${apex} is no host name`);
  return key.length;
}
