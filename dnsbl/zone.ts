/**
 * One zone: an apex, its SOA and NS, the test points of RFC 5782, and the listings.
 *
 * Promise: find() sees a change as soon as apply() or replace() has returned, and never half of one.
 * The serial grows with every change. How the names are stored is hidden here; a server and its
 * answers know find(), negativeSoa() and `apex`, nothing else.
 */
import { type Entry, entriesOf, testPoints } from './entries.ts';
import type { Listing } from './listing.ts';
import { hostKey, MAX_KEY_LENGTH, type NameKey } from './name.ts';
import { nsRecords, type RecordSet, soaRecord } from './records.ts';
import { NameTree } from './tree.ts';

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
};

/** What one listing did to the zone. `unlistable`: no name of it can stand in this zone. */
export type Change = 'changed' | 'unchanged' | 'unlistable';

export type Found = {
  /** Where the apex begins in the name asked, in octets. */
  apexAt: number;
  /** None: the name exists without records. Undefined: no such name (NXDOMAIN). */
  records: readonly RecordSet[] | undefined;
};

/** Seconds; for secondaries, which are told of changes by NOTIFY and ask on their own only seldom. */
const timers = { refresh: 900, retry: 300, expire: 604_800 };

/** RFC 1982: serials are 32 bits and go round. */
const SERIALS = 2 ** 32;

export class Zone {
  /** Lower case, without a final dot. */
  readonly apex: string;
  readonly #apexKey: NameKey;
  readonly #nameservers: NameKey[];
  readonly #hostmaster: NameKey;
  readonly #ttl: number;
  readonly #negativeTtl: number;
  readonly #now: () => number;
  readonly #onSerial: (serial: number) => void;
  #serial: number;
  #size = 0;
  #tree: NameTree;

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
    this.#serial = Math.max(requiredSerial(options.serial ?? 0), this.#unixSeconds());
    this.#onSerial(this.#serial);
    this.#tree = this.#emptyTree();
  }

  /** How many listings are in force. */
  get size(): number {
    return this.#size;
  }

  /** Below 2^32. */
  get serial(): number {
    return this.#serial;
  }

  /** Adds, updates or (with `removed`) takes away one listing. */
  apply(listing: Listing): Change {
    const entries = this.#entriesOf(listing);
    if (entries.length === 0) return 'unlistable';
    this.#size += growth(this.#tree, entries);
    const changes = entries.filter(({ owner, records }) => this.#tree.set(owner, records));
    if (changes.length === 0) return 'unchanged';
    this.#advanceSerial();
    return 'changed';
  }

  /** Makes these the only listings: one change, whatever their number. */
  replace(all: Iterable<Listing>): void {
    const tree = this.#emptyTree();
    let size = 0;
    for (const listing of all) {
      const entries = this.#entriesOf(listing);
      size += growth(tree, entries);
      for (const { owner, records } of entries) tree.set(owner, records);
    }
    this.#tree = tree;
    this.#size = size;
    this.#advanceSerial();
  }

  /** @returns undefined when the name is not in this zone */
  find(name: NameKey): Found | undefined {
    const apexAt = name.length - this.#apexKey.length;
    if (!name.endsWith(this.#apexKey) || !isLabelBoundary(name, apexAt)) return undefined;
    return { apexAt, records: this.#tree.find(name.slice(0, apexAt)) };
  }

  /** RFC 2308 §3, §5: the SOA of a negative answer, owned by the apex, with the lesser of the two TTLs. */
  negativeSoa(): RecordSet {
    return this.#soa(Math.min(this.#ttl, this.#negativeTtl));
  }

  #entriesOf(listing: Listing): Entry[] {
    return entriesOf(listing, this.#apexKey.length, this.#ttl);
  }

  #emptyTree(): NameTree {
    const tree = new NameTree();
    tree.set('', this.#apexRecords());
    for (const { owner, records } of testPoints(this.#ttl)) {
      if (owner.length + this.#apexKey.length <= MAX_KEY_LENGTH) tree.set(owner, records);
    }
    return tree;
  }

  #apexRecords(): RecordSet[] {
    return [this.#soa(this.#ttl), nsRecords(this.#nameservers, this.#ttl)];
  }

  #soa(ttl: number): RecordSet {
    const [primary = ''] = this.#nameservers;
    const { refresh, retry, expire } = timers;
    const soa = { primary, hostmaster: this.#hostmaster, serial: this.#serial, refresh, retry, expire };
    return soaRecord({ ...soa, minimum: this.#negativeTtl }, ttl);
  }

  /**
   * One step, or up to the present. A burst of changes runs ahead of the clock, so the clock alone does
   * not tell a later run where to continue: `onSerial` and the option `serial` do.
   */
  #advanceSerial(): void {
    this.#serial = Math.max(this.#serial + 1, this.#unixSeconds()) % SERIALS;
    this.#onSerial(this.#serial);
    this.#tree.set('', this.#apexRecords());
  }

  #unixSeconds(): number {
    return Math.floor(this.#now() / 1000) % SERIALS;
  }

  /** A name server inside would need addresses, and this zone holds none but codes. */
  #outsideHost(name: string): NameKey {
    const key = requiredHost('name server', name.toLowerCase());
    const inside = key.endsWith(this.#apexKey) && isLabelBoundary(key, key.length - this.#apexKey.length);
    if (inside) throw new RangeError(`name server ${name} must not be inside its zone ${this.apex}`);
    return key;
  }
}

/** By how much the number of listings in force grows with these entries: −1, 0 or 1. */
function growth(tree: NameTree, entries: readonly Entry[]): number {
  const [main] = entries;
  return main ? Number(main.records.length > 0) - Number(tree.holds(main.owner)) : 0;
}

/** False inside a label: one that ends with the octets of the apex is not below the apex. */
function isLabelBoundary(key: NameKey, offset: number): boolean {
  let at = 0;
  while (at < offset) at += 1 + key.charCodeAt(at);
  return at === offset;
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
