/** What one change of a listing means in records, for IXFR: those that go and those that come. */
import { entriesOf } from './entries.ts';
import type { Listing } from './listing.ts';
import type { NameKey } from './name.ts';
import { type RecordSet, sameRecords } from './records.ts';

/** Owner relative to the apex: '' is the apex itself. */
export type OwnedRecords = { owner: NameKey; set: RecordSet };

/** One step of the zone. The SOA of either serial is implied. */
export type ZoneChange = { from: number; to: number; removed: OwnedRecords[]; added: OwnedRecords[] };

/** Every record set of a listing, none of undefined. @param apexOctets length of the apex's key */
export function recordsOf(listing: Listing | undefined, apexOctets: number, ttl: number): OwnedRecords[] {
  if (!listing) return [];
  return entriesOf(listing, apexOctets, ttl).flatMap(({ owner, records }) =>
    records.map((set) => ({ owner, set })),
  );
}

/** Those of `a` that are not, just so, in `b`. */
export function without(a: readonly OwnedRecords[], b: readonly OwnedRecords[]): OwnedRecords[] {
  return a.filter(
    ({ owner, set }) => !b.some((other) => other.owner === owner && sameRecords([other.set], [set])),
  );
}
