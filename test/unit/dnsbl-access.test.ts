import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { AccessSettingsError } from '../../dnsbl/access/access.ts';
import { prefixText } from '../../dnsbl/access/prefix.ts';
import { buildPrefixTable, PrefixTable } from '../../dnsbl/access/prefix-table.ts';
import { accessFaults, defaultAccess, type ZoneAccess } from '../../dnsbl/access/settings.ts';
import { hashOfKey, newKey } from '../../dnsbl/access/subscriber-keys.ts';
import type { ZoneKeys } from '../../dnsbl/seams.ts';
import { accessWorld, clientAt, settingsWith } from './dnsbl-access-fixtures.ts';
import { apex } from './dnsbl-fixtures.ts';

const reader = clientAt('192.0.2.7');
const stranger = clientAt('198.51.100.9');
const dayMs = 86_400_000;

test('the defaults are settings that can be used', () => {
  assert.deepEqual(accessFaults(defaultAccess), []);
});

test('every fault of the settings is named, and the old ones stay', () => {
  const { access, thread } = accessWorld({ settings: settingsWith({ rules: { refuse: ['192.0.2.0/24'] } }) });
  const wrong = settingsWith({
    limit: { perName: 0, slip: 101, buckets: 5000, client: { ipv4: 33, ipv6: 8 } },
    rules: { allow: ['192.0.2.1/24', 'reef.test'], refuse: ['10.0.0.0/8', '10.0.0.0/8'] },
    zones: [
      { apex, unkeyed: 'open', subscribers: [{ name: 'reef', keyHash: 'plain', prefixes: ['::/129'] }] },
    ],
  });
  const faults = accessFaults(wrong);
  assert.throws(() => access.replace(wrong), new AccessSettingsError(faults));
  for (const named of [
    'perName',
    'slip',
    'buckets',
    'ipv4',
    'ipv6',
    '192.0.2.1/24',
    'reef.test',
    'sha256',
    '::/129',
  ]) {
    assert.ok(
      faults.some((fault) => fault.includes(named)),
      `${named} in ${faults}`,
    );
  }
  assert.ok(faults.some((fault) => fault.includes('twice')));
  assert.equal(thread.gate.admit(reader, 'udp'), 'refuse');
});

test('the longest prefix around an address decides, in both families', () => {
  const table = new PrefixTable(
    buildPrefixTable([
      ['10.0.0.0/8', 1],
      ['10.1.0.0/16', 2],
      ['10.1.2.0/24', 3],
      ['10.1.2.3', 4],
      ['11.0.0.0/16', 10],
      ['11.0.0.0/8', 11],
      ['255.255.255.255', 5],
      ['2001:db8::/32', 6],
      ['2001:db8:1::/48', 7],
      ['::/0', 8],
      ['ffff::/16', 9],
    ]),
  );
  const cases: [string, number][] = [
    ['9.255.255.255', 0],
    ['10.0.0.0', 1],
    ['10.1.0.0', 2],
    ['10.1.2.2', 3],
    ['10.1.2.3', 4],
    ['10.1.2.4', 3],
    ['10.1.3.0', 2],
    ['10.2.0.0', 1],
    ['11.0.255.255', 10],
    ['11.1.0.0', 11],
    ['12.0.0.0', 0],
    ['255.255.255.254', 0],
    ['255.255.255.255', 5],
    ['::', 8],
    ['2001:db8::1', 6],
    ['2001:db8:1:ffff::', 7],
    ['2001:db8:2::', 6],
    ['2001:db9::', 8],
    ['ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 9],
  ];
  for (const [address, value] of cases) assert.equal(table.find(clientAt(address)), value, address);
});

test('prefixes are written so that they can be read again', () => {
  const text = (address: string, bits: number) => {
    const { family, address: octets } = clientAt(address);
    return prefixText(family, octets, 0, bits);
  };
  assert.equal(text('192.0.2.77', 24), '192.0.2.0/24');
  assert.equal(text('192.0.2.77', 32), '192.0.2.77');
  assert.equal(text('2001:db8:1:2ff::9', 56), '2001:db8:1:200::/56');
  assert.equal(text('::1', 48), '::/48');
});

test('who is refused is told so, who is dropped hears nothing, and new rules count at once', () => {
  const rules = { refuse: ['192.0.2.0/24'], drop: ['192.0.2.128/25'], allow: ['192.0.2.200'] };
  const { access, thread, counted } = accessWorld({ settings: settingsWith({ rules }) });
  assert.equal(thread.gate.admit(reader, 'udp'), 'refuse');
  assert.equal(thread.gate.admit(clientAt('192.0.2.199'), 'tcp'), 'drop');
  assert.equal(thread.gate.admit(clientAt('192.0.2.200'), 'udp'), 'ok');
  assert.equal(thread.gate.admit(stranger, 'udp'), 'ok');
  assert.deepEqual([counted('ruleRefuse'), counted('ruleDrop')], [1, 1]);
  access.replace(settingsWith({ rules: { others: 'refuse', allow: ['192.0.2.0/24'] } }));
  assert.equal(thread.gate.admit(reader, 'udp'), 'ok');
  assert.equal(thread.gate.admit(stranger, 'udp'), 'refuse');
});

function keysOf(world: ReturnType<typeof accessWorld>): ZoneKeys {
  return world.thread.keys.get(apex)!;
}

test('a quota by the day counts in all threads together, and begins anew at midnight', () => {
  const world = accessWorld({ settings: settingsWith({ quota: { perDay: 5 } }) }, 2);
  const [one, other] = world.threads.map((thread) => thread.keys.get(apex)!);
  const ask = () => [one!.admit(-1, reader, 'udp'), other!.admit(-1, clientAt('192.0.2.250'), 'udp')];
  assert.deepEqual([ask(), ask(), ask()].flat(), ['ok', 'ok', 'ok', 'ok', 'ok', 'refuse']);
  assert.equal(one!.admit(-1, stranger, 'udp'), 'ok', 'another client has its own');
  assert.equal(world.counted('clientQuota'), 1);
  world.pass(dayMs);
  assert.deepEqual([ask(), ask(), ask()].flat(), ['ok', 'ok', 'ok', 'ok', 'ok', 'refuse']);
});

test('a quota by the second fills again', () => {
  const world = accessWorld({ settings: settingsWith({ quota: { perSecond: 10 } }) });
  const admitted = () => {
    let count = 0;
    for (let n = 0; n < 50; n++) if (keysOf(world).admit(-1, reader, 'udp') === 'ok') count += 1;
    return count;
  };
  assert.equal(admitted(), 10);
  world.pass(300);
  assert.equal(admitted(), 3);
  world.pass(60_000);
  assert.equal(admitted(), 10);
});

test('the unlimited have no quota', () => {
  const quota = { perDay: 1, unlimited: ['192.0.2.0/28'] };
  const world = accessWorld({ settings: settingsWith({ quota }) });
  for (let n = 0; n < 5; n++) assert.equal(keysOf(world).admit(-1, reader, 'udp'), 'ok');
  assert.equal(keysOf(world).admit(-1, clientAt('192.0.2.99'), 'udp'), 'refuse', 'counted with its prefix');
});

const key = 'k3ysofharbor-2026';
const label = Buffer.from(`xx${key}yy`, 'latin1');

function zoneWith(rest: Partial<ZoneAccess>): ZoneAccess {
  return { apex, unkeyed: 'open', subscribers: [{ name: 'reef', keyHash: hashOfKey(key)! }], ...rest };
}

test('a new key has 130 bits, and its hash is of its lower case', () => {
  const one = newKey();
  assert.match(one, /^[a-z2-7]{26}$/);
  assert.notEqual(one, newKey());
  assert.equal(hashOfKey(one.toUpperCase()), hashOfKey(one));
  assert.equal(hashOfKey('fifteen-letters'), undefined);
  assert.equal(hashOfKey('sixteen-letters_'), undefined);
  assert.equal(hashOfKey('a'.repeat(64)), undefined);
});

test('a key is found as often as it is asked for, and nothing else is', () => {
  const keys = keysOf(accessWorld({ settings: settingsWith({ zones: [zoneWith({})] }) }));
  assert.equal(keys.find(label, 2, key.length), 0);
  assert.equal(keys.find(label, 2, key.length), 0);
  assert.equal(keys.find(label, 2, key.length - 1), -1);
  assert.equal(keys.find(label, 1, key.length), -1);
  assert.equal(keys.find(label, 2, 15), -1);
});

test('a key that is too short is none, even where its hash is configured', () => {
  const keyHash = `sha256:${createHash('sha256').update('short').digest('hex')}`;
  const zones = [zoneWith({ subscribers: [{ name: 'reef', keyHash }] })];
  assert.equal(
    keysOf(accessWorld({ settings: settingsWith({ zones }) })).find(Buffer.from('short'), 0, 5),
    -1,
  );
});

test('a closed zone answers its subscribers alone', () => {
  const world = accessWorld({ settings: settingsWith({ zones: [zoneWith({ unkeyed: 'closed' })] }) });
  assert.equal(keysOf(world).admit(-1, reader, 'udp'), 'refuse');
  assert.equal(keysOf(world).admit(0, reader, 'udp'), 'ok');
  assert.equal(world.counted('unkeyedClosed'), 1);
});

test('a subscriber has its own quota and may be held to its own addresses', () => {
  const subscribers = [
    { name: 'reef', keyHash: hashOfKey(key)!, quota: { perDay: 3 }, prefixes: ['192.0.2.0/24'] },
  ];
  const world = accessWorld({
    settings: settingsWith({ quota: { perDay: 1 }, zones: [zoneWith({ subscribers })] }),
  });
  const keys = keysOf(world);
  assert.equal(keys.admit(0, stranger, 'udp'), 'refuse');
  for (let n = 0; n < 3; n++) assert.equal(keys.admit(0, reader, 'udp'), 'ok');
  assert.equal(keys.admit(0, reader, 'udp'), 'refuse');
  assert.deepEqual([world.counted('keyPrefix'), world.counted('keyQuota')], [1, 1]);
  assert.equal(keys.admit(-1, reader, 'udp'), 'ok', 'without its key it is a client like others');
  assert.deepEqual(world.access.subscribers(), [{ apex, name: 'reef', queriesToday: 3 }]);
});

test('new settings keep the counts of the keys that stay, and forget those that go', () => {
  const reef = { name: 'reef', keyHash: hashOfKey(key)!, quota: { perDay: 2 } };
  const shoal = { name: 'shoal', keyHash: hashOfKey(newKey())!, quota: { perDay: 2 } };
  const zones = (...subscribers: (typeof reef)[]) => settingsWith({ zones: [zoneWith({ subscribers })] });
  const world = accessWorld({ settings: zones(shoal, reef) });
  const keys = keysOf(world);
  const counts = () => world.access.subscribers().map(({ name, queriesToday }) => [name, queriesToday]);
  assert.equal(keys.find(label, 2, key.length), 1);
  keys.admit(0, reader, 'udp');
  keys.admit(1, reader, 'udp');
  keys.admit(1, reader, 'udp');
  world.access.replace(zones(reef));
  assert.equal(keys.find(label, 2, key.length), 0);
  assert.equal(keys.admit(0, reader, 'udp'), 'refuse');
  assert.deepEqual(counts(), [['reef', 2]]);
  world.access.replace(zones(reef, shoal));
  assert.deepEqual(counts(), [
    ['reef', 2],
    ['shoal', 0],
  ]);
});
