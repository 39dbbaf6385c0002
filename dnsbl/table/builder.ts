/**
 * Builds a table, in whatever thread; a zone then adopts it.
 *
 * Listings may come in any order; of two for the same name or address in the same list the later counts.
 */
import { randomInt } from 'node:crypto';
import type { Listing } from '../listing.ts';
import { hostKey } from '../name.ts';
import { Batch } from './batch.ts';
import type { Place } from './place.ts';
import { type Expected, emptyShare, roomFor } from './room.ts';
import type { TableShare } from './share.ts';
import { Table } from './table.ts';
import { Writer } from './writer.ts';

const DEFAULT_EXPECT = 1024;

export type TableBuilderOptions = {
  /** Of the zone that will adopt the table: names that do not fit with it are left out. */
  apex: string;
  /** Entries to make room for at once; a good guess saves time, not correctness. */
  expect?: number | Expected;
  /** One for tables that will be joined; otherwise at random. */
  seed?: number;
};

/** Of a table's hashes: nobody must know it. */
export function newSeed(): number {
  return randomInt(2 ** 31);
}

export class TableBuilder {
  /** What queue() brought for a place that was taken. */
  repeated = 0;
  /**
   * Told of what put() and queue() leave out: a name alone, where the name with its subdomains stands and says
   * something else. A wildcard without its name is nothing that a table has.
   */
  onNarrower: ((line: number) => void) | undefined;
  readonly #writer: Writer;
  readonly #batch: Batch;
  #fetched = 0;

  constructor({ apex, expect = DEFAULT_EXPECT, seed = newSeed() }: TableBuilderOptions) {
    const expected = typeof expect === 'number' ? { names: expect, v4: expect, v6: expect } : expect;
    const apexOctets = apexOctetsOf(apex);
    const table = new Table(emptyShare(seed, roomFor(expected)));
    table.build();
    this.#writer = new Writer(table, apexOctets);
    this.#writer.addTestPoints();
    this.#batch = new Batch(apexOctets);
  }

  /** Listings in force so far. */
  get size(): number {
    this.flush();
    return this.#writer.table.size;
  }

  /** @returns false when the listing cannot stand in the zone */
  add(listing: Listing): boolean {
    this.flush();
    return this.#writer.apply(listing) !== 'unlistable';
  }

  /** What get() and put() are about; filled by read(), or by who reads octets. */
  get place(): Place {
    return this.#writer.place;
  }

  /** The six fields (values.ts) of a listing, and `place` filled. Valid until the next call. */
  read(listing: Listing): Int32Array | undefined {
    this.flush();
    return this.#writer.read(listing);
  }

  /** The fields of what stands at `place`. @returns false when nothing does */
  get(fields: Int32Array): boolean {
    this.flush();
    const { table } = this.#writer;
    const value = table.open(this.place, false);
    if (value !== 0) table.values.read(value, fields);
    return value !== 0;
  }

  /** @param line for onNarrower() @returns false when the table takes no more */
  put(fields: Int32Array, line = 0): boolean {
    this.flush();
    return this.#put(fields, this.place, line);
  }

  /** What queue() is about, to be filled before each call. */
  get nextPlace(): Place {
    return this.#batch.next;
  }

  /** As put(), at `nextPlace`, faster and perhaps later; all of one file's go the same way. @returns as put() */
  queue(fields: Int32Array, line: number): boolean {
    return this.#batch.add(fields, line) || this.flush();
  }

  /** Puts what waits. @returns false when the table did not take all of it */
  flush(): boolean {
    const { count } = this.#batch;
    if (count === 0) return true;
    this.#fetched ^= this.#batch.fetch(this.#writer.table);
    let isTaken = true;
    const before = this.#writer.table.size;
    for (let index = 0; index < count; index++) {
      const place = this.#batch.place(index);
      isTaken = this.#put(this.#batch.fields(index), place, this.#batch.line(index)) && isTaken;
    }
    this.repeated += count - (this.#writer.table.size - before);
    this.#batch.count = 0;
    return isTaken;
  }

  #put(fields: Int32Array, place: Place, line: number): boolean {
    const put = this.#writer.put(fields, place);
    if (put === 'narrower') {
      // Who counts what is repeated sees only that the table did not grow.
      this.repeated -= 1;
      this.onNarrower?.(line);
    }
    return put !== 'unlistable';
  }

  /** Takes away what was put there. */
  remove(what: { name?: string; address?: string; list: Listing['list'] }): void {
    this.flush();
    this.#writer.apply({ ...gone, ...what });
  }

  /** The builder is of no more use afterwards. */
  finish(): TableShare {
    this.flush();
    this.#writer.table.built();
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
