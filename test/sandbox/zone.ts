/**
 * The names of the DNS world: records in memory, looked up as RFC 1034 §4.3.2 and RFC 4592 say.
 *
 * Promise: a name that exists without the asked type is `none`, a name between existing ones exists, a
 * wildcard answers only below its own parent, aliases are followed inside the world. Bounded: at most
 * `maxNames` names with at most `maxValues` values a set.
 */
import { isIPv4, isIPv6 } from 'node:net';

export const recordTypes = ['A', 'AAAA', 'CNAME', 'MX', 'TXT'] as const;
export type RecordType = (typeof recordTypes)[number];

/**
 * One record set as people write it: values are `127.0.0.1` (A), `::1` (AAAA), `name` (CNAME),
 * `10 name` (MX), or the whole text, of which the wire carries pieces of 255 octets (TXT).
 */
export type RecordSet = { name: string; type: RecordType; values: string[] };

export type Lookup =
  | { kind: 'found'; sets: RecordSet[] }
  | { kind: 'none'; sets: RecordSet[] }
  | { kind: 'nxdomain'; sets: RecordSet[] };

/** A record that DNS could not carry; `message` says what would be right. */
export class BadRecord extends Error {
  override name = 'BadRecord';
}

export const maxNames = 10_000;
const maxValues = 32;
const maxAliases = 8;

export class Zone {
  readonly #names = new Map<string, Map<RecordType, string[]>>();
  /** How many names stand at or below each name: a parent of a name exists too. */
  readonly #below = new Map<string, number>();

  /**
   * Replaces the record set of that name and type; no values takes it away.
   *
   * @throws BadRecord
   */
  set(name: string, type: RecordType, values: string[]): void {
    const key = canonicalName(name);
    if (values.length > maxValues) throw new BadRecord(`at most ${maxValues} values in a set`);
    for (const value of values) check(type, value);
    if (values.length === 0) {
      this.remove(key, type);
      return;
    }
    if (type === 'CNAME' && values.length > 1) throw new BadRecord('an alias (CNAME) has one target');
    if (!this.#names.has(key)) this.#addName(key);
    const sets = this.#names.get(key)!;
    if (sets.size > 0 && (type === 'CNAME') !== sets.has('CNAME')) {
      throw new BadRecord(`${key}: an alias (CNAME) stands alone (RFC 1034 §3.6.2)`);
    }
    sets.set(type, [...values]);
  }

  /** Without `type` the whole name goes. What is not there is no error. */
  remove(name: string, type?: RecordType): void {
    const key = canonicalName(name);
    const sets = this.#names.get(key);
    if (!sets) return;
    if (type) sets.delete(type);
    if (type && sets.size > 0) return;
    this.#names.delete(key);
    for (const parent of lineage(key)) {
      const left = this.#below.get(parent)! - 1;
      if (left > 0) this.#below.set(parent, left);
      else this.#below.delete(parent);
    }
  }

  all(): RecordSet[] {
    return [...this.#names].flatMap(([name, sets]) =>
      [...sets].map(([type, values]) => ({ name, type, values: [...values] })),
    );
  }

  /** `sets` begins with the aliases that were followed. A type that no record has (SRV, …) is `none`. */
  lookup(name: string, type: string): Lookup {
    const sets: RecordSet[] = [];
    let key = name.toLowerCase().replace(/\.$/, '');
    for (let hops = 0; hops <= maxAliases; hops += 1) {
      const here = this.#at(key);
      if (!here) return { kind: 'nxdomain', sets };
      const values = here.get(type as RecordType);
      if (values) return { kind: 'found', sets: [...sets, { name: key, type: type as RecordType, values }] };
      const [target] = here.get('CNAME') ?? [];
      if (!target) return { kind: 'none', sets };
      sets.push({ name: key, type: 'CNAME', values: [target] });
      key = canonicalName(target);
    }
    return { kind: 'none', sets };
  }

  #addName(key: string): void {
    if (this.#names.size >= maxNames) throw new BadRecord(`this world holds at most ${maxNames} names`);
    this.#names.set(key, new Map());
    for (const name of lineage(key)) this.#below.set(name, (this.#below.get(name) ?? 0) + 1);
  }

  /** The record sets at a name: its own, none for an empty non-terminal, or its wildcard's. */
  #at(key: string): Map<RecordType, string[]> | undefined {
    if (this.#below.has(key)) return this.#names.get(key) ?? new Map();
    for (const ancestor of lineage(key).slice(1)) {
      // RFC 4592 §3.3.1: only the closest encloser's wildcard counts.
      if (this.#below.has(ancestor)) return this.#names.get(`*.${ancestor}`);
    }
    return undefined;
  }
}

/** `a.b.test` → `a.b.test`, `b.test`, `test`. */
function lineage(name: string): string[] {
  const labels = name.split('.');
  return labels.map((_, i) => labels.slice(i).join('.'));
}

function check(type: RecordType, value: string): void {
  if (type === 'A' && !isIPv4(value)) throw new BadRecord(`"${value}" is not an IPv4 address`);
  if (type === 'AAAA' && !isIPv6(value)) throw new BadRecord(`"${value}" is not an IPv6 address`);
  if (type === 'CNAME') canonicalName(value);
  if (type === 'MX') parseMx(value);
  if (type === 'TXT' && Buffer.byteLength(value) > 4096)
    throw new BadRecord('a TXT value has at most 4,096 octets');
}

/**
 * `.` alone is the null MX of RFC 7505; its exchange is the empty name.
 *
 * @throws BadRecord
 */
export function parseMx(value: string): { priority: number; exchange: string } {
  const match = /^(\d{1,5}) (\S+)$/.exec(value);
  if (!match || Number(match[1]) > 65_535)
    throw new BadRecord(`"${value}" is not "PREFERENCE HOST", like "10 mx.inbox.test"`);
  return { priority: Number(match[1]), exchange: match[2] === '.' ? '' : canonicalName(match[2]!) };
}

/**
 * Lower case, without the final dot.
 *
 * @throws BadRecord for what is no name in A-label form
 */
export function canonicalName(name: string): string {
  const key = name.toLowerCase().replace(/\.$/, '');
  const isName = key.length <= 253 && key.split('.').every((label) => /^(\*|[a-z0-9_-]{1,63})$/.test(label));
  if (!isName) throw new BadRecord(`"${name}" is not a DNS name in A-label form`);
  return key;
}
