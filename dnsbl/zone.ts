/**
 * One zone: an apex, its SOA and NS, the test points of RFC 5782, and the listings; the owner's side.
 *
 * Promise: every thread that answers for the zone sees a change as soon as apply() has returned, and
 * never half of one; a table that replaces another is announced by onSwap. The serial grows with every
 * change. How entries are stored is table/'s business, how they are answered answer.ts's.
 */
import { type OwnedRecords, recordsOf, without, type ZoneChange } from './difference.ts';
import { testPoints } from './entries.ts';
import type { Listing } from './listing.ts';
import { hostKey, isBelow, MAX_KEY_LENGTH, type NameKey } from './name.ts';
import { nsRecords, type RecordSet } from './records.ts';
import { SERIALS } from './serial.ts';
import { TableBuilder } from './table/builder.ts';
import { listingOf } from './table/decode.ts';
import { letGoLast } from './table/letting-go.ts';
import { Picture } from './table/picture.ts';
import type { Place } from './table/place.ts';
import { HEADER, type TableShare, type ZoneShare } from './table/share.ts';
import { Table } from './table/table.ts';
import { type Applied, Writer } from './table/writer.ts';
import { soaOf } from './zone-reader.ts';

export type { OwnedRecords, ZoneChange } from './difference.ts';
export { ZoneMoved } from './table/picture.ts';

export type ZoneOptions = {
  /** The zone's own name, such as `list.example.org`. */
  apex: string;
  /** Host names outside the zone; the first is the primary. */
  nameservers: string[];
  /** A mailbox as the SOA has it, a dot for the @: `hostmaster.example.org`. */
  hostmaster: string;
  /** TTL of everything positive. Default 300. */
  ttlSeconds?: number;
  /** How long a miss may be remembered. Default 60. */
  negativeTtlSeconds?: number;
  /** The last serial of an earlier run; the zone continues behind it. */
  serial?: number;
  /** Told of each serial before it is handed out: a later run needs the last of them. */
  onSerial?: (serial: number) => void;
  /** Unix ms. */
  now: () => number;
  /** Told of every change right after it, for the journal; 'replaced' when all may be different. */
  onChange?: (change: ZoneChange | 'replaced') => void;
  /** A new table is in force; hand it to every answering thread. */
  onSwap?: (share: ZoneShare) => void;
};

/** What one listing did to the zone. `unlistable`: no name of it can stand in this zone. */
export type Change = Applied;

/**
 * Everything at one serial, whatever changes meanwhile. Iterate once, or close(). Iterating throws
 * ZoneMoved when more changed meanwhile than may be remembered (MAX_REMEMBERED_CHANGES): begin anew.
 */
export type Consistent<T> = Iterable<T> & { readonly serial: number; close(): void };

export class Zone {
  /** Lower case, without a final dot. */
  readonly apex: string;
  /** May be set later; see ZoneOptions. */
  onChange: ((change: ZoneChange | 'replaced') => void) | undefined;
  onSwap: ((share: ZoneShare) => void) | undefined;
  readonly #apexKey: NameKey;
  readonly #nameservers: NameKey[];
  readonly #hostmaster: NameKey;
  readonly #ttl: number;
  readonly #negativeTtl: number;
  readonly #now: () => number;
  readonly #onSerial: (serial: number) => void;
  readonly #header = new Int32Array(new SharedArrayBuffer(HEADER.words * 4));
  readonly #pictures = new Set<Picture>();
  #serial: number;
  #swapSeconds: number | undefined;
  #generation = 0;
  /** The one that is written; readers know it by its share. */
  #table: Table;
  #writer: Writer;
  /** What stood where the change in hand takes place. */
  #was: Listing | undefined;

  /** @throws RangeError when the options make no valid zone */
  constructor(options: ZoneOptions) {
    this.apex = options.apex.toLowerCase();
    this.#apexKey = requiredHost('apex', this.apex);
    this.#nameservers = options.nameservers.map((name) => this.#outsideHost(name));
    if (this.#nameservers.length === 0) throw new RangeError(`zone ${this.apex} needs a name server`);
    this.#hostmaster = requiredHost('hostmaster', options.hostmaster.toLowerCase());
    this.#ttl = requiredTtl('ttlSeconds', options.ttlSeconds ?? 300);
    this.#negativeTtl = requiredTtl('negativeTtlSeconds', options.negativeTtlSeconds ?? 60);
    this.#now = options.now;
    this.#onSerial = options.onSerial ?? (() => undefined);
    this.onChange = options.onChange;
    this.onSwap = options.onSwap;
    this.#table = new Table(new TableBuilder({ apex: this.apex }).finish());
    this.#writer = this.#newWriter(this.#table);
    this.#serial = Math.max(requiredSerial(options.serial ?? 0), this.#unixSeconds());
    this.#handOut(this.#serial);
  }

  /** How many listings are in force. */
  get size(): number {
    return this.#table.size;
  }

  /** Below 2^32. */
  get serial(): number {
    return this.#serial;
  }

  /** Of the last table that took the place of another, until all threads were told. */
  get swapSeconds(): number | undefined {
    return this.#swapSeconds;
  }

  /** Adds, updates or (with `removed`) takes away one listing. */
  apply(listing: Listing): Change {
    this.#was = undefined;
    const change = this.#writer.apply(listing);
    if (this.#writer.table !== this.#table) this.#swap();
    if (change !== 'changed') return change;
    const from = this.#serial;
    this.#advanceSerial();
    if (this.onChange) this.onChange(this.#difference(from, this.#was, listing));
    return change;
  }

  /** Makes these the only listings: one change, whatever their number. Builds in this thread. */
  replace(all: Iterable<Listing>): void {
    const builder = new TableBuilder({ apex: this.apex });
    for (const listing of all) builder.add(listing);
    this.adopt(builder.finish());
  }

  /** A table that a TableBuilder made, here or elsewhere, becomes this zone's: one change. */
  adopt(table: TableShare): void {
    const beganMs = performance.now();
    this.#writer = this.#newWriter(new Table(table));
    // Those who read the old table go on: nothing changes in it any more.
    this.#pictures.clear();
    this.#advanceSerial();
    this.#swap();
    this.#swapSeconds = (performance.now() - beganMs) / 1000;
    this.onChange?.('replaced');
  }

  /** What answering threads need; to be posted to them, and again at each onSwap. */
  share(): ZoneShare {
    return {
      apex: this.apex,
      nameservers: this.#nameservers,
      hostmaster: this.#hostmaster,
      ttl: this.#ttl,
      negativeTtl: this.#negativeTtl,
      header: this.#header.buffer as SharedArrayBuffer,
      generation: this.#generation,
      table: this.#table.share,
    };
  }

  /** The SOA that stands around a transfer, owned by the apex. */
  soa(): RecordSet {
    const zone = {
      nameservers: this.#nameservers,
      hostmaster: this.#hostmaster,
      negativeTtl: this.#negativeTtl,
    };
    return soaOf(zone, this.#serial, this.#ttl);
  }

  /** All listings as the table has them (see table/decode.ts), without the test points. */
  listings(): Consistent<Listing> {
    const picture = new Picture(this.#table, (ended) => this.#pictures.delete(ended));
    this.#pictures.add(picture);
    return Object.assign(picture, { serial: this.#serial });
  }

  /** All records but the SOA, the test points among them, for transfers and exports. */
  records(): Consistent<OwnedRecords> {
    const listings = this.listings();
    const { serial } = listings;
    return { serial, close: () => listings.close(), [Symbol.iterator]: () => this.#recordsOf(listings) };
  }

  *#recordsOf(listings: Iterable<Listing>): Iterator<OwnedRecords> {
    yield { owner: '', set: nsRecords(this.#nameservers, this.#ttl) };
    for (const { owner, records } of testPoints(this.#ttl)) {
      if (owner.length + this.#apexKey.length > MAX_KEY_LENGTH) continue;
      for (const set of records) yield { owner, set };
    }
    for (const listing of listings) yield* recordsOf(listing, this.#apexKey.length, this.#ttl);
  }

  #newWriter(table: Table): Writer {
    return new Writer(table, this.#apexKey.length, (place, value) => this.#remember(place, value));
  }

  #remember(place: Place, value: number): void {
    const { table } = this.#writer;
    // What goes on in other memory leaves the old as it is: those pictures need no more help.
    if (table !== this.#table) this.#pictures.clear();
    if (!this.onChange && this.#pictures.size === 0) return;
    this.#was = value === 0 ? undefined : listingOf(table, place.form, table.refOf(place), value);
    for (const picture of this.#pictures) picture.remember(place, this.#was);
  }

  #difference(from: number, was: Listing | undefined, is: Listing): ZoneChange {
    const before = recordsOf(was, this.#apexKey.length, this.#ttl);
    const after = recordsOf(is, this.#apexKey.length, this.#ttl);
    return { from, to: this.#serial, removed: without(before, after), added: without(after, before) };
  }

  /** Readers keep the old memory until they take the new; nothing is written into it any more. */
  #swap(): void {
    letGoLast(this.#table.size);
    Atomics.store(this.#header, HEADER.letGoSize, this.#table.size);
    this.#table = this.#writer.table;
    this.#generation += 1;
    Atomics.store(this.#header, HEADER.generation, this.#generation);
    this.onSwap?.(this.share());
  }

  /**
   * One step, or up to the present. A burst of changes runs ahead of the clock, so the clock alone does
   * not tell a later run where to continue: `onSerial` and the option `serial` do.
   */
  #advanceSerial(): void {
    this.#handOut(Math.max(this.#serial + 1, this.#unixSeconds()) % SERIALS);
  }

  #handOut(serial: number): void {
    this.#serial = serial;
    this.#onSerial(serial);
    Atomics.store(this.#header, HEADER.serial, serial);
  }

  #unixSeconds(): number {
    return Math.floor(this.#now() / 1000) % SERIALS;
  }

  /** A name server inside would need addresses, and this zone holds none but codes. */
  #outsideHost(name: string): NameKey {
    const key = requiredHost('name server', name.toLowerCase());
    if (isBelow(key, this.#apexKey))
      throw new RangeError(`name server ${name} must not be inside its zone ${this.apex}`);
    return key;
  }
}

function requiredHost(what: string, name: string): NameKey {
  const key = hostKey(name);
  if (key === undefined) throw new RangeError(`${what} ${name} is no host name`);
  return key;
}

/** RFC 2181 §8: 31 bits. */
function requiredTtl(what: string, seconds: number): number {
  if (!Number.isInteger(seconds) || seconds < 0 || seconds >= 2 ** 31)
    throw new RangeError(`${what} ${seconds} is no TTL`);
  return seconds;
}

function requiredSerial(serial: number): number {
  if (!Number.isInteger(serial) || serial < 0 || serial >= SERIALS)
    throw new RangeError(`serial ${serial} is not below 2^32`);
  return serial;
}
