/**
 * One zone as an answering thread sees it: its table, and the records of its apex in wire form.
 *
 * The records are rendered once; the serial is read from shared memory for every answer that shows it.
 */
import { hostKey, type NameKey } from './name.ts';
import { nsRecords, type RecordSet, type Soa, soaRecord } from './records.ts';
import { HEADER, type ZoneShare } from './table/share.ts';
import { Table } from './table/table.ts';
import { CLASS_IN } from './wire.ts';

/** Seconds; for secondaries, which are told of changes by NOTIFY and ask on their own only seldom. */
export const zoneTimers = { refresh: 900, retry: 300, expire: 604_800 };

/** The five numbers at the end of an SOA; the serial is the first. */
const SOA_NUMBERS = 20;

export class ZoneReader {
  readonly share: ZoneShare;
  readonly table: Table;
  /** In wire form, lower case, without the root octet. */
  readonly apex: Uint8Array;
  readonly apexLabels: number;
  /** Records in wire form, each owned by a pointer that the answer fills in. */
  readonly negativeSoa: Uint8Array;
  readonly apexSoa: Uint8Array;
  readonly nameservers: Uint8Array;
  readonly nameserverCount: number;
  /** Of its A and TXT records. */
  readonly ttl: number;
  readonly #header: Int32Array;

  constructor(share: ZoneShare) {
    const { nameservers, ttl, negativeTtl } = share;
    const key = hostKey(share.apex) ?? '';
    this.share = share;
    this.table = new Table(share.table);
    this.apex = Buffer.from(key, 'latin1');
    this.apexLabels = share.apex.split('.').length;
    this.negativeSoa = rendered(soaOf(share, 0, Math.min(ttl, negativeTtl)));
    this.apexSoa = rendered(soaOf(share, 0, ttl));
    this.nameservers = rendered(nsRecords(nameservers, ttl));
    this.nameserverCount = nameservers.length;
    this.ttl = ttl;
    this.#header = new Int32Array(share.header);
  }

  get serial(): number {
    return Atomics.load(this.#header, HEADER.serial);
  }

  get isBehind(): boolean {
    return Atomics.load(this.#header, HEADER.generation) !== this.share.generation;
  }
}

/** Where the serial stands in a rendered SOA record of so many octets. */
export function serialAt(octets: number): number {
  return octets - SOA_NUMBERS;
}

export function soaOf(
  zone: { nameservers: readonly NameKey[]; hostmaster: NameKey; negativeTtl: number },
  serial: number,
  ttl: number,
): RecordSet {
  const [primary = ''] = zone.nameservers;
  const soa: Soa = { primary, hostmaster: zone.hostmaster, serial, ...zoneTimers, minimum: zone.negativeTtl };
  return soaRecord(soa, ttl);
}

/** Owner (two octets to be filled in), type, class, TTL, length and data of each record. */
function rendered({ type, ttl, rdatas }: RecordSet): Uint8Array {
  const records = rdatas.map((rdata) => {
    const fixed = Buffer.alloc(12);
    fixed.writeUInt16BE(type, 2);
    fixed.writeUInt16BE(CLASS_IN, 4);
    fixed.writeUInt32BE(ttl, 6);
    fixed.writeUInt16BE(rdata.length, 10);
    return Buffer.concat([fixed, rdata]);
  });
  return Uint8Array.from(Buffer.concat(records));
}
