/**
 * From one listing to the names and records that it means in a zone.
 *
 * Pure: the same listing gives the same entries. Every name that a listing *could* own is in the
 * result, with no records where it owns none, so that applying the result also takes away what an
 * earlier state of the same listing left. All owners are relative to the apex.
 */
import { MAX_TEXT_OCTETS, TEXT_BUDGET_OCTETS } from './limits.ts';
import type { ForeignAnswer, Listing } from './listing.ts';
import { hostKey, keyOfLabels, MAX_KEY_LENGTH, type NameKey, reversedAddressKey } from './name.ts';
import { aRecord, type RecordSet, txtRecord } from './records.ts';

export type Entry = { owner: NameKey; records: readonly RecordSet[] };

const dom = keyOfLabels(['dom']);
const ip = keyOfLabels(['ip']);
const block = keyOfLabels(['block']);
const vouch = keyOfLabels(['_vouch']);
const wildcard = keyOfLabels(['*']);

const testName = keyOfLabels(['test']);
const neverName = keyOfLabels(['invalid']);
const testAddresses = ['127.0.0.2', '::ffff:127.0.0.2'].map(addressKey);
const neverAddresses = ['127.0.0.1', '::ffff:127.0.0.1'].map(addressKey);

/**
 * RFC 5782 §5: entries by which a client sees that the list works and does not list everything.
 * The names that must *not* be listed are simply absent; baseOf() keeps them so.
 */
export function testPoints(ttl: number): Entry[] {
  const records = [aRecord('127.0.0.2', ttl), txtRecord('test entry of RFC 5782, always listed', ttl)];
  const owners = [
    testName + dom,
    testName + block,
    ...testAddresses.flatMap((address) => [address + ip, address + block]),
  ];
  return owners.map((owner) => ({ owner, records }));
}

/**
 * The first entry is the listing itself: it has records exactly while the listing is in force.
 *
 * @param apexOctets length of the apex's key: names that do not fit with it are left out
 * @returns none when the listing cannot stand in a DNS zone, whatever it says
 */
export function entriesOf(listing: Listing, apexOctets: number, ttl: number): Entry[] {
  const base = baseOf(listing);
  const text = textOf(listing);
  if (base === undefined || Buffer.byteLength(text) > MAX_TEXT_OCTETS) return [];
  const fits = (entry: Entry) => entry.owner.length + apexOctets <= MAX_KEY_LENGTH;
  const [main, ...others] = possibleEntries(listing, base, text, ttl);
  return fits(main) ? [main, ...others.filter(fits)] : [];
}

function possibleEntries(listing: Listing, base: NameKey, text: string, ttl: number): [Entry, ...Entry[]] {
  const inForce = (condition: boolean, ...records: RecordSet[]) =>
    condition && !listing.removed ? records : [];
  const hasText = listing.foreign === undefined || listing.foreign.text !== undefined;
  const codes = [aRecord(codeOf(listing), ttl), ...(hasText ? [txtRecord(text, ttl)] : [])];
  const main = { owner: base + subtreeOf(listing), records: inForce(true, ...codes) };
  if (listing.name === undefined) return [main];
  // RFC 4592: the wildcard stands beside the name and holds the same.
  const covered = { owner: wildcard + main.owner, records: inForce(listing.coverSubdomains, ...codes) };
  if (listing.list === 'blocked') return [main, covered];
  const mailTypes = txtRecord(listing.mailTypes.join(' '), ttl);
  const vouched = (listing.foreign !== undefined || listing.trust >= 1) && listing.mailTypes.length > 0;
  return [
    main,
    covered,
    { owner: base + vouch, records: inForce(vouched, mailTypes) },
    { owner: wildcard + base + vouch, records: inForce(vouched && listing.coverSubdomains, mailTypes) },
  ];
}

function subtreeOf(listing: Listing): NameKey {
  if (listing.list === 'blocked') return block;
  return listing.name === undefined ? ip : dom;
}

/** The listed name or reversed address, unless it is none or would move a test point. */
function baseOf(listing: Listing): NameKey | undefined {
  if (listing.name !== undefined) return listableName(listing.name);
  const key = listing.address === undefined ? undefined : reversedAddressKey(listing.address);
  return key !== undefined && !testAddresses.includes(key) && !neverAddresses.includes(key) ? key : undefined;
}

/**
 * Under `invalid` nothing may be listed, or INVALID would exist as an empty name instead of NXDOMAIN.
 * No top-level domain is a number (RFC 3696 §2), and a name under one could touch reversed addresses.
 */
function listableName(name: string): NameKey | undefined {
  const key = hostKey(name);
  const top = name.slice(name.lastIndexOf('.') + 1);
  if (key === testName || hostKey(top) === neverName || /^\d+$/.test(top)) return undefined;
  return key;
}

function addressKey(address: string): NameKey {
  return reversedAddressKey(address) as NameKey;
}

/** The scale of dnswl.org for the vouched, the customary 127.0.0.2 for the blocked. */
export function codeOf(listing: Listing): string {
  if (listing.foreign) return listing.foreign.address;
  return listing.list === 'blocked' ? '127.0.0.2' : `127.0.${listing.kind}.${listing.trust}`;
}

/** The explanation of an entry, as its TXT says it. */
export function textOf(listing: Listing): string {
  if (listing.foreign) return foreignText(listing.foreign, listing.name ?? listing.address ?? '');
  const reason = listing.list === 'blocked' ? [`reason=${listing.reason ?? 'unspecified'}`] : [];
  const before = [...reason, `did=${listing.did}`].join(' ');
  const after = `url=${listing.url}`;
  const room = TEXT_BUDGET_OCTETS - Buffer.byteLength(`${before} vouched-by= ${after}`);
  const vouchers = fittingVouchers(listing.vouchers, room);
  return vouchers === '' ? `${before} ${after}` : `${before} vouched-by=${vouchers} ${after}`;
}

function foreignText({ text = '' }: ForeignAnswer, name: string): string {
  return text.replaceAll(/\$\$?/g, (written) => (written === '$$' ? '$' : name));
}

/** Vouchers from the front, whole ones, with commas between. The page at the URL has all of them. */
function fittingVouchers(vouchers: readonly string[], octets: number): string {
  let text = '';
  for (const voucher of vouchers) {
    const longer = text === '' ? voucher : `${text},${voucher}`;
    if (Buffer.byteLength(longer) > octets) break;
    text = longer;
  }
  return text;
}
