/**
 * One step of the zone as octets, for the journal.
 *
 * Serials, the digest of the content behind it, then the sets that go and those that come: owner, type,
 * TTL, and the data as the DNS has it.
 */
import type { OwnedRecords, ZoneChange } from '../difference.ts';
import type { RecordSet } from '../records.ts';
import { DIGEST_OCTETS } from './digest.ts';

const HEAD_OCTETS = 4 + 4 + DIGEST_OCTETS + 4 + 4;

/** @param digest of the content after it */
export function encodeStep(change: ZoneChange, digest: Buffer): Buffer {
  const { removed, added } = change;
  const octets = Buffer.allocUnsafe(HEAD_OCTETS + octetsOf(removed) + octetsOf(added));
  let at = octets.writeUInt32BE(change.from, 0);
  at = octets.writeUInt32BE(change.to, at);
  at += digest.copy(octets, at);
  at = octets.writeUInt32BE(removed.length, at);
  at = octets.writeUInt32BE(added.length, at);
  for (const records of removed) at = writeSet(octets, at, records);
  for (const records of added) at = writeSet(octets, at, records);
  return octets;
}

function octetsOf(records: readonly OwnedRecords[]): number {
  let octets = 0;
  for (const { owner, set } of records) {
    octets += 1 + owner.length + 8;
    for (const rdata of set.rdatas) octets += 2 + rdata.length;
  }
  return octets;
}

function writeSet(octets: Buffer, start: number, { owner, set }: OwnedRecords): number {
  let at = octets.writeUInt8(owner.length, start);
  at += octets.write(owner, at, 'latin1');
  at = octets.writeUInt16BE(set.type, at);
  at = octets.writeUInt32BE(set.ttl, at);
  at = octets.writeUInt16BE(set.rdatas.length, at);
  for (const rdata of set.rdatas) {
    at = octets.writeUInt16BE(rdata.length, at);
    at += rdata.copy(octets, at);
  }
  return at;
}

export type StepHead = { from: number; to: number; digest: Buffer };

/** @returns undefined for what encodeStep() did not write */
export function decodeHead(octets: Buffer): StepHead | undefined {
  if (octets.length < HEAD_OCTETS) return undefined;
  return {
    from: octets.readUInt32BE(0),
    to: octets.readUInt32BE(4),
    digest: octets.subarray(8, 8 + DIGEST_OCTETS),
  };
}

/** @throws RangeError for what encodeStep() did not write */
export function decodeStep(octets: Buffer): ZoneChange {
  const [from, to] = [octets.readUInt32BE(0), octets.readUInt32BE(4)];
  const reader = new SetReader(octets, HEAD_OCTETS);
  const removed = reader.sets(octets.readUInt32BE(HEAD_OCTETS - 8));
  const added = reader.sets(octets.readUInt32BE(HEAD_OCTETS - 4));
  if (!reader.isAtEnd) throw new RangeError('a step has more octets than it tells');
  return { from, to, removed, added };
}

/** Buffer's own readers throw a RangeError at the end of the octets. */
class SetReader {
  readonly #octets: Buffer;
  #at: number;

  constructor(octets: Buffer, at: number) {
    this.#octets = octets;
    this.#at = at;
  }

  get isAtEnd(): boolean {
    return this.#at === this.#octets.length;
  }

  sets(count: number): OwnedRecords[] {
    const sets: OwnedRecords[] = [];
    for (let index = 0; index < count; index++) sets.push(this.#set());
    return sets;
  }

  #set(): OwnedRecords {
    const owner = this.#take(this.#number(1)).toString('latin1');
    const set: RecordSet & { rdatas: Buffer[] } = { type: this.#number(2), ttl: this.#number(4), rdatas: [] };
    const rdatas = this.#number(2);
    for (let index = 0; index < rdatas; index++) set.rdatas.push(this.#take(this.#number(2)));
    return { owner, set };
  }

  #number(octets: 1 | 2 | 4): number {
    return this.#take(octets).readUIntBE(0, octets);
  }

  #take(octets: number): Buffer {
    const taken = this.#octets.subarray(this.#at, this.#at + octets);
    if (taken.length < octets) throw new RangeError('a step ends too early');
    this.#at += octets;
    return taken;
  }
}
