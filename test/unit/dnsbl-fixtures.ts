/** A small zone, questions to it encoded by dns-packet, and answers read by two foreign decoders. */
import assert from 'node:assert/strict';
import {
  type Answer,
  type DecodedPacket,
  decode,
  encode,
  RECURSION_DESIRED,
  type RecordType,
} from 'dns-packet';
import dns2 from 'dns2';
import { Answerer, dropReasons, outcomes } from '../../dnsbl/answer.ts';
import type { Listing } from '../../dnsbl/listing.ts';
import type { Transport } from '../../dnsbl/wire.ts';
import { Zone } from '../../dnsbl/zone.ts';

export const apex = 'list.harbor.test';

/** 2026-01-01T00:00:00Z */
export const startMs = Date.UTC(2026, 0, 1);

export function zoneOf(...listings: Listing[]): Zone {
  const zone = emptyZone();
  for (const listing of listings) assert.equal(zone.apply(listing), 'changed', listing.name);
  return zone;
}

export function emptyZone(options: Partial<ConstructorParameters<typeof Zone>[0]> = {}): Zone {
  const fixed = { apex, nameservers: ['ns1.harbor.test', 'ns2.harbor.test'], hostmaster: 'dns.harbor.test' };
  return new Zone({ ...fixed, now: () => startMs, ...options });
}

export function vouched(what: { name: string } | { address: string }, rest: Partial<Listing> = {}): Listing {
  const key = 'name' in what ? what.name : what.address;
  return {
    ...what,
    list: 'vouched',
    kind: 3,
    trust: 1,
    mailTypes: ['transaction'],
    coverSubdomains: false,
    did: 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa',
    vouchers: ['did:web:harbor.test', 'did:web:meadow.test'],
    url: `https://harbor.test/listing/${key}`,
    seq: 1,
    ...rest,
  };
}

export type Edns = { udpPayloadSize?: number; ednsVersion?: number; flags?: number };

export function queryPacket(name: string, type: RecordType | 'ANY', edns?: Edns): Buffer {
  const opt = { type: 'OPT', name: '.', udpPayloadSize: 1232, flags: 0, options: [], ...edns };
  return encode({
    type: 'query',
    id: 0x1234,
    flags: RECURSION_DESIRED,
    questions: [{ name, type: type as RecordType, class: 'IN' }],
    additionals: edns ? [opt as unknown as Answer] : [],
  });
}

/** The types of dns-packet leave out the RCODE's name. */
export type Decoded = DecodedPacket & { rcode: string };

export type Reply =
  | { kind: 'dropped'; reason: string | undefined }
  | { kind: 'answered'; outcome: string | undefined; message: Buffer };

const answerers = new WeakMap<Zone, { answerer: Answerer; zones: readonly Zone[]; reasons: number[] }>();
const client = { family: 4 as const, address: Uint8Array.of(127, 0, 0, 1), port: 4096 };
const out = Buffer.alloc(65_535 + 64);

/** One packet to the zones, without a socket. */
export function answer(packet: Uint8Array, transport: Transport, zones: readonly Zone[]): Reply {
  const { answerer, reasons } = answererOf(zones);
  // Not at the start of either: what is outside the packet and before the answer must not matter.
  const padded = Buffer.concat([Buffer.alloc(3, 0xc0), packet, Buffer.alloc(5, 1)]);
  const octets = answerer.answer(padded, 3, packet.length, transport, client, out, 7);
  if (octets === 0) return { kind: 'dropped', reason: dropReasons[reasons.pop()!] };
  return {
    kind: 'answered',
    outcome: outcomes[answerer.outcome],
    message: Buffer.from(out.subarray(7, 7 + octets)),
  };
}

/** One for each first zone, as a thread keeps it, with the newest tables. */
function answererOf(zones: readonly Zone[]) {
  const known = answerers.get(zones[0]!);
  if (known && known.zones.length === zones.length) {
    if (known.answerer.isBehind()) for (const zone of zones) known.answerer.replace(zone.share());
    return known;
  }
  const reasons: number[] = [];
  const counters = { answered: () => undefined, dropped: (reason: number) => void reasons.push(reason) };
  const answerer = new Answerer({ zones: zones.map((zone) => zone.share()), counters });
  answerers.set(zones[0]!, { answerer, zones, reasons });
  return { answerer, zones, reasons };
}

/** Asks without a socket, as `<name>.<apex>` or, with a final dot, as it is. */
export function ask(
  zone: Zone,
  name: string,
  type: RecordType | 'ANY' = 'A',
  options: { edns?: Edns; transport?: Transport } = {},
): Decoded {
  const full = name.endsWith('.') ? name.slice(0, -1) : name === '' ? apex : `${name}.${apex}`;
  const reply = answer(queryPacket(full, type, options.edns), options.transport ?? 'udp', [zone]);
  assert.equal(reply.kind, 'answered');
  return decoded(reply.message);
}

/** Both decoders must read it whole and see the same records. */
export function decoded(message: Buffer): Decoded {
  const first = decode(message) as Decoded;
  const second = dns2.Packet.parse(message);
  assert.deepEqual(second.errors, []);
  assert.equal(second.answers.length, first.answers?.length);
  assert.equal(second.authorities.length, first.authorities?.length);
  assert.equal(second.additionals.length, first.additionals?.length);
  assert.deepEqual(
    second.answers.map(({ name, ttl }) => [name, ttl]),
    (first.answers ?? []).map((record) => [record.name, 'ttl' in record ? record.ttl : undefined]),
  );
  return first;
}

/** `NXDOMAIN`, `NODATA`, or what the records say: addresses, or the joined strings of a TXT. */
export function said(zone: Zone, name: string, type: RecordType | 'ANY' = 'A'): string {
  const { rcode, answers = [] } = ask(zone, name, type, { transport: 'tcp' });
  if (rcode !== 'NOERROR') return rcode;
  return answers.length === 0 ? 'NODATA' : answers.map(textOf).join(' | ');
}

function textOf(record: Answer): string {
  if (record.type === 'TXT') return [record.data].flat().map(String).join('');
  return 'data' in record && typeof record.data === 'string' ? record.data : record.type;
}
