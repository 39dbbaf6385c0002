/**
 * Resource records: sets of equal name and type, with their data in wire form.
 *
 * Callers give valid names and addresses; nothing here looks at input from the network.
 */
import type { NameKey } from './name.ts';

/** RFC 1035 §3.2.2, RFC 6891 §6.1, RFC 8945 §4.2, RFC 1995 §2, RFC 8482. Only those that the code names. */
export const TYPE = {
  A: 1,
  NS: 2,
  SOA: 6,
  TXT: 16,
  OPT: 41,
  TSIG: 250,
  IXFR: 251,
  AXFR: 252,
  MAILB: 253,
  MAILA: 254,
  ANY: 255,
} as const;

export type RecordSet = {
  type: number;
  /** Seconds. */
  ttl: number;
  /** Uncompressed RDATA, at most 65,535 octets each. */
  rdatas: readonly Buffer[];
};

/** @param address dotted IPv4 */
export function aRecord(address: string, ttl: number): RecordSet {
  return { type: TYPE.A, ttl, rdatas: [Buffer.from(address.split('.').map(Number))] };
}

/** One TXT record; what is longer than 255 octets is continued in further strings (RFC 1035 §3.3.14). */
export function txtRecord(text: string, ttl: number): RecordSet {
  const octets = Buffer.from(text);
  const strings: Buffer[] = [];
  for (let at = 0; at === 0 || at < octets.length; at += 255) {
    const string = octets.subarray(at, at + 255);
    strings.push(Buffer.from([string.length]), string);
  }
  return { type: TYPE.TXT, ttl, rdatas: [Buffer.concat(strings)] };
}

export function nsRecords(names: readonly NameKey[], ttl: number): RecordSet {
  return { type: TYPE.NS, ttl, rdatas: names.map(nameOctets) };
}

/** RFC 1035 §3.3.13. Times in seconds. */
export type Soa = {
  primary: NameKey;
  hostmaster: NameKey;
  serial: number;
  refresh: number;
  retry: number;
  expire: number;
  /** How long a resolver may remember that a name is not there (RFC 2308 §4). */
  minimum: number;
};

export function soaRecord(soa: Soa, ttl: number): RecordSet {
  const numbers = Buffer.alloc(20);
  [soa.serial, soa.refresh, soa.retry, soa.expire, soa.minimum].forEach((value, index) => {
    numbers.writeUInt32BE(value, index * 4);
  });
  const rdata = Buffer.concat([nameOctets(soa.primary), nameOctets(soa.hostmaster), numbers]);
  return { type: TYPE.SOA, ttl, rdatas: [rdata] };
}

export function sameRecords(a: readonly RecordSet[], b: readonly RecordSet[]): boolean {
  return a.length === b.length && a.every((set, index) => sameSet(set, b[index]));
}

function sameSet(a: RecordSet, b: RecordSet | undefined): boolean {
  return (
    b !== undefined &&
    a.type === b.type &&
    a.ttl === b.ttl &&
    a.rdatas.length === b.rdatas.length &&
    a.rdatas.every((rdata, index) => rdata.equals(b.rdatas[index] as Buffer))
  );
}

function nameOctets(key: NameKey): Buffer {
  return Buffer.from(`${key}\0`, 'latin1');
}
