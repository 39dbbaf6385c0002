import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MAX_REMEMBERED_CHANGES } from '../../dnsbl/limits.ts';
import { TableBuilder } from '../../dnsbl/table/builder.ts';
import { HEADER, type ZoneShare } from '../../dnsbl/table/share.ts';
import { STATE } from '../../dnsbl/table/state.ts';
import { ZoneMoved } from '../../dnsbl/zone.ts';
import { apex, ask, emptyZone, said, startMs, vouched, zoneOf } from './dnsbl-fixtures.ts';

const reef = vouched({ name: 'reef.test' });
const longApex = `${'a'.repeat(63)}.${'b'.repeat(63)}.test`;

test('a listing answers with its code and its explanation', () => {
  const zone = zoneOf(vouched({ name: 'reef.test' }, { kind: 4, trust: 2 }));
  assert.equal(said(zone, 'reef.test.dom'), '127.0.4.2');
  assert.equal(
    said(zone, 'reef.test.dom', 'TXT'),
    'did=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa vouched-by=did:web:harbor.test,did:web:meadow.test url=https://harbor.test/listing/reef.test',
  );
});

test('nothing but the test points is in a zone without listings', () => {
  const zone = emptyZone();
  const answers: [name: string, says: string][] = [
    ['reef.test.dom', 'NXDOMAIN'],
    ['TEST.dom', '127.0.0.2'],
    ['INVALID.dom', 'NXDOMAIN'],
    ['below.TEST.dom', 'NXDOMAIN'],
    ['TEST.block', '127.0.0.2'],
    ['INVALID.block', 'NXDOMAIN'],
    ['2.0.0.127.ip', '127.0.0.2'],
    ['1.0.0.127.ip', 'NXDOMAIN'],
    ['2.0.0.127.block', '127.0.0.2'],
    ['1.0.0.127.block', 'NXDOMAIN'],
    [`2.0.0.0.0.0.f.7.f.f.f.f.${'0.'.repeat(20)}ip`, '127.0.0.2'],
    [`1.0.0.0.0.0.f.7.f.f.f.f.${'0.'.repeat(20)}ip`, 'NXDOMAIN'],
    [`2.0.0.0.0.0.f.7.f.f.f.f.${'0.'.repeat(20)}block`, '127.0.0.2'],
    [`1.0.0.0.0.0.f.7.f.f.f.f.${'0.'.repeat(20)}block`, 'NXDOMAIN'],
    ['test._vouch', 'NXDOMAIN'],
  ];
  for (const [name, says] of answers) assert.equal(said(zone, name), says, name);
  assert.equal(zone.size, 0);
});

test('an address is found reversed, by octets or by nibbles', () => {
  const zone = zoneOf(
    vouched({ address: '192.0.2.25' }, { kind: 2 }),
    vouched({ address: '2001:db8::25' }, { kind: 2 }),
  );
  assert.equal(said(zone, '25.2.0.192.ip'), '127.0.2.1');
  assert.equal(said(zone, `5.2.${'0.'.repeat(22)}8.b.d.0.1.0.0.2.ip`), '127.0.2.1');
  assert.equal(said(zone, '26.2.0.192.ip'), 'NXDOMAIN');
  assert.equal(said(zone, '2.0.192.ip'), 'NODATA', 'an empty non-terminal exists');
});

test('a change shows in the very next answer, and a removal leaves nothing behind', () => {
  const zone = zoneOf(reef);
  assert.equal(zone.apply({ ...reef, trust: 3, seq: 2 }), 'changed');
  assert.equal(said(zone, 'reef.test.dom'), '127.0.3.3');
  assert.equal(zone.apply({ ...reef, seq: 3, removed: true }), 'changed');
  for (const name of ['reef.test.dom', 'reef.test._vouch', '_vouch']) {
    assert.equal(said(zone, name, 'TXT'), 'NXDOMAIN', name);
  }
  assert.equal(said(zone, 'test.dom', 'TXT').startsWith('test entry'), true);
  assert.equal(zone.size, 0);
});

test('RFC 5518: mail types are vouched for from trust 1 on', () => {
  const zone = zoneOf(vouched({ name: 'reef.test' }, { trust: 0, mailTypes: ['transaction', 'list'] }));
  assert.equal(said(zone, 'reef.test._vouch', 'TXT'), 'NXDOMAIN');
  zone.apply(vouched({ name: 'reef.test' }, { trust: 1, mailTypes: ['transaction', 'list'] }));
  assert.equal(said(zone, 'reef.test._vouch', 'TXT'), 'transaction list');
  assert.equal(said(zone, 'reef.test._vouch', 'A'), 'NODATA');
  zone.apply(vouched({ name: 'reef.test' }, { trust: 0 }));
  assert.equal(said(zone, 'reef.test._vouch', 'TXT'), 'NXDOMAIN');
});

test('blocked names and addresses answer under block alone, with their reason', () => {
  const zone = zoneOf(
    vouched({ name: 'spam.test' }, { list: 'blocked', reason: 'phishing' }),
    vouched({ address: '192.0.2.66' }, { list: 'blocked', reason: 'malware' }),
  );
  assert.equal(said(zone, 'spam.test.block'), '127.0.0.2');
  assert.match(said(zone, 'spam.test.block', 'TXT'), /^reason=phishing did=/);
  assert.equal(said(zone, '66.2.0.192.block'), '127.0.0.2');
  assert.equal(said(zone, 'spam.test.dom'), 'NXDOMAIN');
  assert.equal(said(zone, '66.2.0.192.ip'), 'NXDOMAIN');
});

test('RFC 4592: a covering name answers for what no closer name encloses', () => {
  const zone = zoneOf(
    vouched({ name: 'reef.test' }, { kind: 4, coverSubdomains: true }),
    vouched({ name: 'news.reef.test' }, { kind: 3 }),
    vouched({ name: 'a.deep.reef.test' }, { kind: 3 }),
  );
  const answers: [name: string, says: string][] = [
    ['mail.reef.test.dom', '127.0.4.1'],
    ['x.y.z.reef.test.dom', '127.0.4.1'],
    ['*.reef.test.dom', '127.0.4.1'],
    ['x.*.reef.test.dom', 'NXDOMAIN'],
    ['news.reef.test.dom', '127.0.3.1'],
    ['x.news.reef.test.dom', 'NXDOMAIN'],
    ['deep.reef.test.dom', 'NODATA'],
    ['x.deep.reef.test.dom', 'NXDOMAIN'],
    ['areef.test.dom', 'NXDOMAIN'],
    ['mail.reef.test._vouch', 'NODATA'],
  ];
  for (const [name, says] of answers) assert.equal(said(zone, name), says, name);
  assert.equal(said(zone, 'mail.reef.test._vouch', 'TXT'), 'transaction');
  assert.equal(said(zone, 'mail.reef.test.dom', 'AAAA'), 'NODATA');

  zone.apply(vouched({ name: 'reef.test' }, { kind: 4, coverSubdomains: false }));
  assert.equal(said(zone, 'mail.reef.test.dom'), 'NXDOMAIN');
  assert.equal(said(zone, 'reef.test.dom'), '127.0.4.1');
});

test('an empty non-terminal goes with the last name below it', () => {
  const zone = zoneOf(vouched({ name: 'a.b.example' }), vouched({ name: 'c.b.example' }));
  assert.equal(said(zone, 'b.example.dom'), 'NODATA');
  zone.apply(vouched({ name: 'a.b.example' }, { removed: true }));
  assert.equal(said(zone, 'b.example.dom'), 'NODATA');
  zone.apply(vouched({ name: 'c.b.example' }, { removed: true }));
  assert.equal(said(zone, 'b.example.dom'), 'NXDOMAIN');
  assert.equal(said(zone, 'example.dom'), 'NXDOMAIN');
});

const unlistable: [why: string, what: { name: string } | { address: string }][] = [
  ['upper case', { name: 'Reef.test' }],
  ['a final dot', { name: 'reef.test.' }],
  ['nothing', { name: '' }],
  ['an empty label', { name: 'reef..test' }],
  ['a wildcard', { name: '*.test' }],
  ['a U-label', { name: 'bücher.test' }],
  ['a label of 64', { name: `${'a'.repeat(64)}.test` }],
  ['no room for the apex', { name: `${'a.'.repeat(116)}test` }],
  ['the test point', { name: 'test' }],
  ['the name that must not exist', { name: 'invalid' }],
  ['a name that would make it exist', { name: 'reef.invalid' }],
  ['a name that would make 1.0.0.127.block exist', { name: 'x.1.0.0.127' }],
  ['the IPv4 test point', { address: '127.0.0.2' }],
  ['the IPv4 address that must not exist', { address: '127.0.0.1' }],
  ['the IPv6 test point', { address: '::ffff:7f00:2' }],
  ['the IPv6 address that must not exist', { address: '::FFFF:127.0.0.1' }],
  ['a network', { address: '192.0.2.0/24' }],
  ['a zone id', { address: 'fe80::1%eth0' }],
];
for (const [why, what] of unlistable) {
  test(`${why} is unlistable and changes nothing`, () => {
    const zone = emptyZone();
    for (const list of ['vouched', 'blocked'] as const) {
      assert.equal(zone.apply(vouched(what, { list })), 'unlistable');
    }
    assert.equal(zone.size, 0);
    assert.equal(zone.serial, startMs / 1000);
    for (const subtree of ['dom', 'block']) assert.equal(said(zone, `invalid.${subtree}`), 'NXDOMAIN');
  });
}

test('253 octets with the apex are listable, 254 are not', () => {
  const room = 253 - '.dom.'.length - apex.length;
  const name = (octets: number) =>
    `${'a.'.repeat(Math.floor((octets - 4) / 2))}${'b'.repeat(octets % 2 ? 5 : 4)}`;
  assert.equal(name(room).length, room);
  const zone = emptyZone();
  assert.equal(zone.apply(vouched({ name: name(room) }, { coverSubdomains: true })), 'changed');
  assert.equal(said(zone, `${name(room)}.dom`), '127.0.3.1');
  assert.equal(zone.apply(vouched({ name: name(room + 1) })), 'unlistable');
});

test('the serial continues from the larger of the last one and the clock, and grows with each change', () => {
  let nowMs = startMs;
  const now = () => nowMs;
  const seconds = startMs / 1000;
  assert.equal(emptyZone({ now }).serial, seconds);
  assert.equal(emptyZone({ now, serial: seconds - 5 }).serial, seconds);
  const zone = emptyZone({ now, serial: seconds + 5 });
  assert.equal(zone.serial, seconds + 5);
  zone.apply(reef);
  assert.equal(zone.serial, seconds + 6);
  nowMs += 60_000;
  zone.apply({ ...reef, trust: 2 });
  assert.equal(zone.serial, seconds + 60);
  assert.equal(zone.apply({ ...reef, trust: 2, seq: 9 }), 'unchanged');
  assert.equal(zone.serial, seconds + 60);
  zone.replace([reef]);
  assert.equal(zone.serial, seconds + 61);
  const [soa] = ask(zone, '', 'SOA').answers ?? [];
  assert.equal(soa?.type === 'SOA' && soa.data.serial, seconds + 61);
});

test('the serial goes round at 2^32', () => {
  const zone = emptyZone({ serial: 2 ** 32 - 1 });
  zone.apply(reef);
  assert.equal(zone.serial, 0);
});

test('replace leaves exactly the given listings and the test points', () => {
  const zone = zoneOf(reef, vouched({ name: 'old.test' }), vouched({ address: '192.0.2.1' }));
  zone.replace([reef, vouched({ name: 'new.test' }), vouched({ name: 'UNLISTABLE' })]);
  assert.equal(zone.size, 2);
  assert.equal(said(zone, 'reef.test.dom'), '127.0.3.1');
  assert.equal(said(zone, 'new.test.dom'), '127.0.3.1');
  assert.equal(said(zone, 'old.test.dom'), 'NXDOMAIN');
  assert.equal(said(zone, 'test.dom'), '127.0.0.2');
});

test('a long explanation keeps its DID and URL and whole vouchers only', () => {
  const vouchers = Array.from({ length: 64 }, (_, index) => `did:web:cooperative-${index}.example`);
  const zone = zoneOf(vouched({ name: 'reef.test' }, { vouchers }));
  const text = said(zone, 'reef.test.dom', 'TXT');
  assert.ok(text.length <= 900, `${text.length} octets`);
  assert.match(text, /^did=\S+ vouched-by=\S+example url=https:\/\/harbor\.test\/listing\/reef\.test$/);
  const shown = /vouched-by=(\S+)/.exec(text)?.[1]?.split(',') ?? [];
  assert.ok(shown.length > 10);
  assert.deepEqual(shown, vouchers.slice(0, shown.length));
});

test('an explanation without end is unlistable', () => {
  const zone = emptyZone();
  assert.equal(
    zone.apply(vouched({ name: 'reef.test' }, { url: `https://${'x'.repeat(70_000)}` })),
    'unlistable',
  );
});

const unfit: [why: string, options: Parameters<typeof emptyZone>[0]][] = [
  ['an apex that is no name', { apex: 'list harbor' }],
  ['the root as apex', { apex: '' }],
  ['no name server', { nameservers: [] }],
  ['a name server inside the zone, for which it has no address', { nameservers: [`ns.${apex}`] }],
  ['a hostmaster that is no name', { hostmaster: 'hostmaster@harbor.test' }],
  ['a negative TTL', { ttlSeconds: -1 }],
  ['a TTL of 32 bits', { negativeTtlSeconds: 2 ** 31 }],
  ['a serial of 33 bits', { serial: 2 ** 32 }],
];
for (const [why, options] of unfit) {
  test(`a zone with ${why} is refused`, () => {
    assert.throws(() => emptyZone(options), RangeError);
  });
}

test('a label that ends with the octets of the apex, length and all, is outside', () => {
  // A length of 48 is the octet '0'.
  const first = 'a'.repeat(48);
  const zone = emptyZone({ apex: `${first}.test`, nameservers: [`x0${first}.test`] });
  assert.equal(said(zone, `test.dom.${first}.test.`), '127.0.0.2');
  assert.equal(said(zone, `x0${first}.test.`, 'NS'), 'REFUSED');
});

test('under a long apex the test points that do not fit are left out', () => {
  const zone = emptyZone({ apex: longApex });
  assert.equal(said(zone, `test.dom.${longApex}.`), '127.0.0.2');
});

test('in block, addresses that exist keep a wildcard from answering for longer names', () => {
  const zone = zoneOf(
    vouched({ name: 'e.f' }, { list: 'blocked', coverSubdomains: true }),
    vouched({ address: 'fe80::1' }, { list: 'blocked' }),
  );
  const answers: [name: string, says: string][] = [
    ['9.e.f.block', '127.0.0.2'],
    ['8.e.f.block', 'NODATA'],
    ['9.8.e.f.block', 'NXDOMAIN'],
    ['0.8.e.f.block', 'NODATA'],
    ['x.0.8.e.f.block', 'NXDOMAIN'],
    ['x.9.e.f.block', '127.0.0.2'],
    ['e.f.block', '127.0.0.2'],
    ['f.block', 'NODATA'],
  ];
  for (const [name, says] of answers) assert.equal(said(zone, name), says, name);
});

const addresses: [address: string, written: string][] = [
  ['192.0.2.250', '192.0.2.250'],
  ['10.0.0.9', '10.0.0.9'],
  ['2001:db8::25', '2001:db8::25'],
  ['2001:db8:0:1:0:0:0:1', '2001:db8:0:1::1'],
  ['2001:0:0:1:0:0:1:1', '2001::1:0:0:1:1'],
  ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
  ['::', '::'],
  ['::1', '::1'],
  ['fe80::', 'fe80::'],
  ['::ffff:192.0.2.1', '::ffff:c000:201'],
];
for (const [address, written] of addresses) {
  test(`${address} is written ${written} and explained with the URL that it came with`, () => {
    for (const url of [`https://harbor.test/${written}?why`, `https://harbor.test/${address}?why`]) {
      const zone = zoneOf(vouched({ address }, { url }));
      const [listing] = zone.listings();
      assert.deepEqual([listing?.address, listing?.url], [written, url]);
      const name = [...(listing!.address!.includes(':') ? nibbles(address) : address.split('.'))].reverse();
      assert.match(said(zone, `${name.join('.')}.ip`, 'TXT'), new RegExp(`url=${RegExp.escape(url)}$`));
    }
  });
}

function nibbles(address: string): string {
  const dotted = /(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(address);
  const hex = (text: string) => Number(text).toString(16).padStart(2, '0');
  const tail = dotted ? `${dotted.slice(1, 3).map(hex).join('')}:${dotted.slice(3).map(hex).join('')}` : '';
  const [head = '', rest] = (dotted ? address.slice(0, dotted.index) + tail : address).split('::');
  const groups = (text: string) => text.split(':').filter(Boolean);
  const missing = 8 - groups(head).length - groups(rest ?? '').length;
  const all = [
    ...groups(head),
    ...Array<string>(rest === undefined ? 0 : missing).fill('0'),
    ...groups(rest ?? ''),
  ];
  return all.map((group) => group.padStart(4, '0')).join('');
}

test('what no answer shows is no change', () => {
  const vouchers = Array.from({ length: 64 }, (_, index) => `did:web:cooperative-${index}.example`);
  const long = vouched({ name: 'reef.test' }, { vouchers, trust: 0 });
  const blocked = vouched({ name: 'spam.test' }, { list: 'blocked', reason: 'phishing' });
  const zone = zoneOf(long, blocked);
  const same = [
    { ...long, vouchers: [...vouchers, 'did:web:one-more.example'] },
    { ...long, mailTypes: [] },
    { ...blocked, kind: 4 as const, trust: 3 as const, mailTypes: [] },
  ];
  for (const listing of same) assert.equal(zone.apply(listing), 'unchanged');
});

test('memory of replaced values is used again, and answers stay right', () => {
  const zone = zoneOf(reef);
  for (let turn = 0; turn < 5_000; turn++) {
    zone.apply({ ...reef, trust: (turn % 4) as 0, url: `https://harbor.test/${turn % 7}/reef.test` });
    if (turn % 64 === 0) assert.equal(said(zone, 'reef.test.dom'), `127.0.3.${turn % 4}`);
  }
  assert.equal(new Int32Array(zone.share().table.state)[STATE.values]! < 1_000, true);
});

test('a zone grows as it must, and tells of each new table', () => {
  const shares: ZoneShare[] = [];
  const zone = emptyZone({ onSwap: (share) => shares.push(share) });
  const old = zone.share();
  for (let index = 0; index < 5_000; index++)
    zone.apply(vouched({ name: `m${index}.shop${index % 700}.test` }));
  assert.ok(shares.length >= 2 && shares.length < 12, `${shares.length} tables`);
  const newest = Atomics.load(new Int32Array(old.header), HEADER.generation);
  assert.deepEqual([old.generation < newest, shares.at(-1)!.generation], [true, newest]);
  for (const index of [0, 1, 2_500, 4_999]) {
    assert.equal(said(zone, `m${index}.shop${index % 700}.test.dom`), '127.0.3.1');
  }
  assert.equal(said(zone, 'shop699.test.dom'), 'NODATA');
  assert.equal(zone.size, 5_000);
});

test('whoever takes a new table learns how large the one before it was', () => {
  const zone = zoneOf(vouched({ name: 'a.test' }), vouched({ name: 'b.test' }));
  const letGoSize = () => new Int32Array(zone.share().header)[HEADER.letGoSize];
  zone.replace([vouched({ name: 'c.test' })]);
  assert.equal(letGoSize(), 2);
  zone.apply(vouched({ name: 'd.test' }));
  zone.apply(vouched({ name: 'e.test' }));
  assert.equal(letGoSize(), 2, 'changes in place let nothing go');
  zone.replace([]);
  assert.equal(letGoSize(), 3);
});

test('names and addresses that come and go do not make the zone larger', () => {
  const zone = emptyZone();
  const octets = () => {
    const { names, ip, block, values } = zone.share().table;
    const parts = [
      values,
      names.nodes,
      names.slots,
      ip.v4.leaves,
      ip.v4.prefixes,
      ip.v6.leaves,
      block.v6.leaves,
    ];
    return parts.reduce((sum, part) => sum + part.byteLength, 0);
  };
  const turn = (index: number, removed: boolean) => {
    const hex = index.toString(16);
    zone.apply(vouched({ name: `m${index}.shop${index}.test` }, { removed }));
    zone.apply(vouched({ address: `10.${index >> 16}.${(index >> 8) & 255}.${index & 255}` }, { removed }));
    for (const list of ['vouched', 'blocked'] as const) {
      zone.apply(vouched({ address: `2001:db8::${hex}` }, { list, removed }));
    }
  };
  for (let index = 0; index < 300; index++) turn(index, false);
  const before = octets();
  for (let index = 0; index < 20_000; index++) {
    turn(index, true);
    turn(index + 300, false);
  }
  assert.ok(octets() <= 2 * before, `${before} → ${octets()} octets`);
  assert.equal(zone.size, 1_200);
  assert.equal(said(zone, 'm20299.shop20299.test.dom'), '127.0.3.1');
  assert.equal(said(zone, 'shop20299.test.dom'), 'NODATA');
  assert.equal(said(zone, 'shop1.test.dom'), 'NXDOMAIN');
  assert.equal(said(zone, '75.79.0.10.ip'), '127.0.3.1');
  assert.equal(said(zone, '79.0.10.ip'), 'NODATA');
  assert.equal(said(zone, '1.0.10.ip'), 'NXDOMAIN');
  for (let index = 20_000; index < 20_300; index++) turn(index, true);
  assert.equal(zone.size, 0);
  assert.deepEqual([...zone.listings()], []);
});

test('texts that nobody uses any more do not make the zone larger for ever', () => {
  const zone = zoneOf(vouched({ name: 'keep.test' }));
  const before = said(zone, 'keep.test.dom', 'TXT');
  for (let turn = 0; turn < 40_000; turn++) {
    const url = `https://harbor.test/${turn}/${'x'.repeat(1_000)}`;
    zone.apply(vouched({ name: `m${turn % 100}.test` }, { url, vouchers: [] }));
  }
  assert.ok(zone.share().table.texts.octets.byteLength <= 16 * 1024 * 1024);
  assert.equal(said(zone, 'keep.test.dom', 'TXT'), before);
  assert.match(said(zone, 'm99.test.dom', 'TXT'), /39999\/x+$/);
  assert.equal(zone.size, 101);
});

test('an iteration is lost when more changes than may be remembered', () => {
  const zone = emptyZone();
  const builder = new TableBuilder({ apex, expect: 2 * MAX_REMEMBERED_CHANGES });
  for (const name of ['a.test', 'b.test', 'c.test']) builder.add(vouched({ name }));
  zone.adopt(builder.finish());
  const listings = zone.listings()[Symbol.iterator]();
  assert.equal(listings.next().done, false);
  const change = (index: number) =>
    zone.apply(vouched({ address: `10.${index >> 16}.${(index >> 8) & 255}.${index & 255}` }));
  for (let index = 0; index < MAX_REMEMBERED_CHANGES; index++) change(index);
  assert.equal(listings.next().done, false);
  change(MAX_REMEMBERED_CHANGES);
  assert.throws(() => listings.next(), ZoneMoved);
  assert.equal([...zone.listings()].length, zone.size);
});

test('of a foreign entry, an empty explanation and none are two answers', () => {
  const zone = zoneOf(vouched({ name: 'reef.test' }, { foreign: { address: '127.0.0.5' } }));
  assert.equal(said(zone, 'reef.test.dom', 'TXT'), 'NODATA');
  const empty = vouched({ name: 'reef.test' }, { foreign: { address: '127.0.0.5', text: '' } });
  assert.equal(zone.apply(empty), 'changed');
  assert.equal(said(zone, 'reef.test.dom', 'TXT'), '');
  assert.equal(zone.apply(empty), 'unchanged');
});

test('of a foreign entry, another code alone is a change', () => {
  const says = (address: string) => vouched({ name: 'reef.test' }, { foreign: { address, text: 'of $' } });
  const zone = zoneOf(says('127.0.0.5'));
  assert.equal(zone.apply(says('127.0.0.6')), 'changed');
  assert.equal(said(zone, 'reef.test.dom'), '127.0.0.6');
  assert.equal(zone.apply(says('127.0.0.6')), 'unchanged');
});
