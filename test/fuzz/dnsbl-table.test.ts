/**
 * The table and the hot path against the plain reference: after any changes, every answer is the same to
 * the octet, and a zone whose listings have all gone is as empty as it was.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ForeignAnswer, Listing } from '../../dnsbl/listing.ts';
import { addressWords } from '../../dnsbl/name.ts';
import { v6Text } from '../../dnsbl/table/address-text.ts';
import { TableBuilder } from '../../dnsbl/table/builder.ts';
import type { OwnedRecords, Zone, ZoneChange } from '../../dnsbl/zone.ts';
import { answer, apex, emptyZone, queryPacket, vouched } from '../unit/dnsbl-fixtures.ts';
import { mutated } from './dnsbl-packets.ts';
import { ReferenceZone } from './dnsbl-reference.ts';
import { Fuzz } from './random.ts';

const fuzz = new Fuzz('dnsbl-table');

// Few labels, so that names meet: as parents, as wildcards, and as nibbles of addresses.
const labels = ['a', 'b', 'f', 'e', 'reef', 'mail', 'test', '1', '*', '0', '25', '_vouch', 'dom'];
const subtrees = ['dom', 'ip', 'block', '_vouch', 'nothing', 'DOM', '_voucH'];
const types = ['A', 'TXT', 'ANY', 'MX', 'SOA', 'NS'] as const;
const dids = ['did:plc:aaaaaaaaaaaaaaaaaaaaaaaa', 'did:plc:z2345672345672345672345z', 'did:web:reef.test'];
const reasons = ['phishing', 'spam', undefined];
const urls = ['https://harbor.test/listing/', 'https://meadow.test/?of=', 'https://élan.test/%'];
const voucherLists = [[], ['did:web:harbor.test'], ['did:web:harbor.test', 'did:web:meadow.test']];
const manyVouchers = Array.from({ length: 40 }, (_, index) => `did:web:cooperative-${index}.example`);

function name(): string {
  return Array.from({ length: 1 + fuzz.below(4) }, () => fuzz.pick(labels)).join('.');
}

function address(): string {
  const octet = () => fuzz.pick([0, 1, 2, 25, 127, 255]);
  if (fuzz.below(2) === 0) return [octet(), octet(), octet(), octet()].join('.');
  const groups = Array.from({ length: 8 }, () => fuzz.pick(['0', '0', 'f', '1', 'ffff', '2001', 'db8']));
  return fuzz.below(3) === 0 ? `fe::${fuzz.pick(['e', 'f', '0'])}` : groups.join(':');
}

function listing(): Listing {
  const what = fuzz.below(2) === 0 ? { name: name() } : { address: address() };
  const key = 'name' in what ? what.name : what.address;
  const list = fuzz.pick(['vouched', 'blocked'] as const);
  return {
    ...vouched(what),
    list,
    kind: fuzz.pick([2, 3, 4] as const),
    trust: fuzz.pick([0, 1, 2, 3] as const),
    mailTypes: fuzz.pick([[], ['transaction'], ['list'], ['transaction', 'list'], ['list', 'transaction']]),
    coverSubdomains: fuzz.below(2) === 0,
    did: fuzz.pick(dids),
    vouchers: fuzz.below(10) === 0 ? manyVouchers.slice(fuzz.below(40)) : fuzz.pick(voucherLists),
    url: fuzz.pick(urls) + (fuzz.below(4) === 0 ? 'all' : key) + fuzz.pick(['', '#why']),
    ...(list === 'blocked' && { reason: fuzz.pick(reasons) }),
    ...(fuzz.below(3) === 0 && { removed: true }),
    ...(fuzz.below(5) === 0 && { ...canonical(what), foreign: foreign() }),
  };
}

/** As the contract of a listing has it: where a text repeats the address, its spelling shows. */
function canonical(what: { name: string } | { address: string }) {
  const words = 'address' in what && what.address.includes(':') ? addressWords(what.address) : undefined;
  return words === undefined ? what : { address: v6Text(words) };
}

/** What another list's file may say. */
function foreign(): ForeignAnswer {
  const address = fuzz.pick(['127.0.0.2', '127.0.3.1', '127.255.0.255', '127.0.0.0']);
  const text = fuzz.pick([
    undefined,
    '',
    'see $',
    '$$5 for $ and $',
    'https://élan.test/?q=$',
    'a'.repeat(300),
  ]);
  return { address, ...(text !== undefined && { text }) };
}

/** A name that is asked for: a listed one, or near one. */
function question(known: readonly Listing[]): string {
  const near = known.length > 0 && fuzz.below(3) > 0 ? fuzz.pick(known) : listing();
  const base = near.name ?? reversed(near.address!);
  const deeper = fuzz.below(3) === 0 ? `${fuzz.pick(labels)}.${base}` : base;
  const higher = deeper.split('.').slice(fuzz.below(4) === 0 ? fuzz.below(8) : 0);
  return [...higher, fuzz.pick(subtrees), apex].join('.');
}

function reversed(text: string): string {
  if (!text.includes(':')) return text.split('.').reverse().join('.');
  const [head = '', tail] = text.split('::');
  const front = head.split(':');
  const back = tail === undefined ? [] : tail.split(':');
  const all = [...front, ...Array<string>(8 - front.length - back.length).fill('0'), ...back];
  return [...all.map((group) => group.padStart(4, '0')).join('')].reverse().join('.');
}

function same(zone: Zone, reference: ReferenceZone, packet: Buffer): void {
  const transport = fuzz.pick(['udp', 'tcp'] as const);
  reference.serial = zone.serial;
  const reply = answer(packet, transport, [zone]);
  const ours = reply.kind === 'answered' ? reply.message.toString('hex') : undefined;
  assert.equal(ours, reference.answer(packet, transport)?.toString('hex'), packet.toString('latin1'));
}

function ask(zone: Zone, reference: ReferenceZone, known: readonly Listing[]): void {
  const edns = fuzz.pick([undefined, {}, { udpPayloadSize: 700, flags: 0x8000 }, { ednsVersion: 1 }]);
  same(zone, reference, queryPacket(question(known), fuzz.pick(types), edns));
}

test('after any changes every answer is that of the reference', () => {
  for (let worlds = fuzz.rounds(20, 500); worlds > 0; worlds--) {
    const zone = emptyZone();
    const reference = new ReferenceZone(apex);
    const known: Listing[] = [];
    for (let turn = 0; turn < 150; turn++) {
      const change = known.length > 0 && fuzz.below(3) === 0 ? fuzz.pick(known) : listing();
      const next = fuzz.below(3) === 0 ? { ...change, removed: !change.removed } : change;
      assert.equal(zone.apply(next), reference.apply(next), JSON.stringify(next));
      assert.equal(zone.size, reference.size);
      known.push(next);
      for (let asked = 0; asked < 6; asked++) ask(zone, reference, known);
    }
    for (const one of known) {
      zone.apply({ ...one, removed: true });
      reference.apply({ ...one, removed: true });
    }
    assert.equal(zone.size, 0);
    for (let asked = 0; asked < 100; asked++) ask(zone, reference, known);
  }
});

test('a built table answers as one that grew, listing by listing', () => {
  for (let worlds = fuzz.rounds(5, 4_000); worlds > 0; worlds--) {
    const zone = emptyZone();
    const reference = new ReferenceZone(apex);
    const builder = new TableBuilder({ apex });
    const known = Array.from({ length: 400 }, listing);
    for (const one of known) assert.equal(builder.add(one), reference.apply(one) !== 'unlistable');
    zone.adopt(builder.finish());
    assert.equal(zone.size, reference.size);
    for (let asked = 0; asked < 400; asked++) ask(zone, reference, known);
  }
});

test('packets from anyone get the same answer as from the reference', () => {
  const zone = emptyZone();
  const reference = new ReferenceZone(apex);
  for (const one of [
    vouched({ name: 'reef.test' }),
    vouched({ name: 'wide.test' }, { coverSubdomains: true }),
  ]) {
    zone.apply(one);
    reference.apply(one);
  }
  for (let round = fuzz.rounds(20_000); round > 0; round--) same(zone, reference, mutated(fuzz));
});

test('an iteration shows the moment at which it began, whatever changes meanwhile', () => {
  for (let worlds = fuzz.rounds(20, 1_000); worlds > 0; worlds--) {
    const zone = emptyZone();
    // The larger worlds outgrow their table during the iteration.
    const known = Array.from({ length: fuzz.pick([50, 600]) }, listing);
    for (const one of known) zone.apply(one);
    const began = texts(zone.records());
    const { serial } = zone;
    const records = zone.records();
    const seen: OwnedRecords[] = [];
    for (const one of records) {
      seen.push(one);
      for (let changes = fuzz.below(4); changes > 0; changes--) {
        zone.apply(fuzz.below(2) === 0 ? listing() : { ...fuzz.pick(known), removed: fuzz.below(2) === 0 });
      }
    }
    assert.equal(records.serial, serial);
    assert.deepEqual(texts(seen), began);
  }
});

test('the changes told are the difference between the records before and after', () => {
  for (let worlds = fuzz.rounds(20, 1_000); worlds > 0; worlds--) {
    const changes: (ZoneChange | 'replaced')[] = [];
    const zone = emptyZone({ onChange: (change) => changes.push(change) });
    const mirror = new Set(texts(zone.records()));
    const known: Listing[] = [];
    for (let turn = 0; turn < 60; turn++) {
      const before = zone.serial;
      const next = known.length > 0 && fuzz.below(2) === 0 ? fuzz.pick(known) : listing();
      known.push({ ...next, removed: fuzz.below(3) === 0 });
      const isChanged = zone.apply(known.at(-1)!) === 'changed';
      const change = changes.pop();
      assert.equal(change !== undefined, isChanged);
      if (!change) continue;
      assert.ok(change !== 'replaced' && change.from === before && change.to === zone.serial);
      for (const text of texts(change.removed)) assert.ok(mirror.delete(text), text);
      for (const text of texts(change.added)) mirror.add(text);
      assert.deepEqual([...mirror].sort(), texts(zone.records()));
    }
  }
});

/** In an order that does not depend on the table's. */
function texts(records: Iterable<OwnedRecords>): string[] {
  return Array.from(records, ({ owner, set }) => {
    const data = set.rdatas.map((rdata) => rdata.toString('latin1'));
    return JSON.stringify([owner, set.type, set.ttl, ...data]);
  }).sort();
}
