import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { exportZone } from '../../dnsbl/files/export.ts';
import { loadZone } from '../../dnsbl/files/load-zone.ts';
import { readZone } from '../../dnsbl/files/read-zone.ts';
import { parseSource, type ZoneSource } from '../../dnsbl/files/source.ts';
import type { Listing } from '../../dnsbl/listing.ts';
import type { Zone } from '../../dnsbl/zone.ts';
import { Fuzz } from '../fuzz/random.ts';
import { apex, emptyZone, said, vouched, zoneOf } from './dnsbl-fixtures.ts';

const folder = mkdtempSync(join(tmpdir(), 'dnsbl-files-'));
after(() => rmSync(folder, { recursive: true }));

let written = 0;
function source(spec: string, ...lines: string[]): ZoneSource {
  const file = join(folder, `${written++}.txt`);
  writeFileSync(file, `${lines.join('\n')}\n`);
  return parseSource(spec.replace('FILE', file));
}

function loaded(...sources: ZoneSource[]): { zone: Zone } & ReturnType<typeof readZone> {
  const read = readZone({ apex, sources });
  const zone = emptyZone();
  zone.adopt(read.table);
  return { zone, ...read };
}

const whys = ({ notTaken }: { notTaken: { line: number; why: string }[] }) =>
  notTaken.map(({ line, why }) => `${line}: ${why}`);

test('the value forms of rbldnsd are answered as rbldnsd answers them', () => {
  const { zone, notTaken } = loaded(
    source(
      'ip=ip4set:FILE',
      '# a comment',
      '; another',
      '192.0.2.1',
      ':127.0.0.3:IP address $ is listed',
      '192.0.2.4',
      '192.0.2.5 :5',
      '192.0.2.6 :6:',
      '192.0.2.7 IP address $ running an open relay',
      '192.0.2.8 ; only a comment',
      '192.0.2.9 :127.1.2.3:costs $$5',
      '$1 See http://list.example/bl',
      '192.0.2.10 $1/spammer/$',
    ),
  );
  assert.deepEqual(notTaken, []);
  const both = (last: number) => [said(zone, `${last}.2.0.192.ip`), said(zone, `${last}.2.0.192.ip`, 'TXT')];
  assert.deepEqual(both(1), ['127.0.0.2', 'NODATA']);
  assert.deepEqual(both(4), ['127.0.0.3', 'IP address 192.0.2.4 is listed']);
  assert.deepEqual(both(5), ['127.0.0.5', 'IP address 192.0.2.5 is listed']);
  assert.deepEqual(both(6), ['127.0.0.6', 'NODATA']);
  assert.deepEqual(both(7), ['127.0.0.3', 'IP address 192.0.2.7 running an open relay']);
  assert.deepEqual(both(8), ['127.0.0.3', 'IP address 192.0.2.8 is listed']);
  assert.deepEqual(both(9), ['127.1.2.3', 'costs $5']);
  assert.deepEqual(both(10), ['127.0.0.3', 'See http://list.example/bl/spammer/192.0.2.10']);
});

test('names: wildcards, a final dot, capitals; a default ends with its file', () => {
  const { zone, notTaken } = loaded(
    source('dom=FILE', ':4:from the first file', 'Reef.Test.', '.orchard.test', 'star.test', '*.star.test'),
    source('dom=FILE', 'second.test'),
  );
  assert.deepEqual(notTaken, []);
  assert.equal(said(zone, 'reef.test.dom', 'TXT'), 'from the first file');
  assert.equal(said(zone, 'sub.reef.test.dom'), 'NXDOMAIN');
  assert.equal(said(zone, 'a.b.orchard.test.dom'), '127.0.0.4');
  assert.equal(said(zone, 'orchard.test.dom'), '127.0.0.4');
  assert.equal(said(zone, 'a.star.test.dom'), '127.0.0.4');
  assert.equal(said(zone, 'second.test.dom'), '127.0.0.2');
});

test('prefixes and ranges become single addresses; the narrower entry and the exclusion win', () => {
  const { zone, entries, notTaken } = loaded(
    source(
      'ip=ip4set:FILE',
      '10.1.2',
      '10.2.0.0/30 :3:',
      '10.3.0.250-10.3.1.2 :4:',
      '10.4.0.1-3',
      '!10.1.2.7',
      '!10.4.0.0/24',
      '10.1.2.9 :9:',
    ),
    source('ip=ip6trie:FILE', '::1 # first', '2001:db8::10/126 :6:', '!2001:db8::11'),
  );
  assert.deepEqual(notTaken, []);
  const of = (address: string) => said(zone, `${address.split('.').reverse().join('.')}.ip`);
  assert.deepEqual(['10.1.2.0', '10.1.2.7', '10.1.2.9', '10.1.2.255'].map(of), [
    '127.0.0.2',
    'NXDOMAIN',
    '127.0.0.9',
    '127.0.0.2',
  ]);
  assert.deepEqual(['10.2.0.3', '10.2.0.4', '10.3.0.249', '10.3.1.2'].map(of), [
    '127.0.0.3',
    'NXDOMAIN',
    'NXDOMAIN',
    '127.0.0.4',
  ]);
  // A wider exclusion leaves what is listed one by one.
  assert.equal(of('10.4.0.2'), '127.0.0.2');
  assert.equal(entries, 255 + 4 + 9 + 3 + 1 + 3);
});

test('what is not taken is told by line, and costs its neighbours nothing', () => {
  const names = loaded(
    source(
      'dom=FILE',
      'good.test',
      'bad name.test_',
      '$INCLUDE other.txt',
      '*.lonely.test',
      'under_score.test',
      'invalid',
      '.wide.test',
      '!hole.wide.test',
      'a.test :10.0.0.1:no code',
      'b.test $7 is nothing',
      'test :127.0.0.2:Test',
      '!good.test',
      'last.test',
    ),
  );
  assert.deepEqual(whys(names), [
    '3: $INCLUDE is not read: give the file as a --zone of its own',
    '5: under_score.test is no host name that may be listed here',
    '6: invalid is no host name that may be listed here',
    '9: its A value is no address in 127.0.0.0/8',
    '10: $7 is not defined above it',
    '4: *.lonely.test without lonely.test, or with another value, is not kept: write .lonely.test',
    '8: !hole.wide.test would be a hole below a wildcard, which this list does not keep',
  ]);
  assert.deepEqual(
    ['good', 'last', 'wide'].map((name) => said(names.zone, `${name}.test.dom`)),
    ['NXDOMAIN', '127.0.0.2', '127.0.0.2'],
  );
  const addresses = loaded(
    source('ip=ip4set:FILE', '10/8', '10.0.0.1/24', '300.1.1.1', '127.0.0.1', '2001:db8::1', '192.0.2.1'),
  );
  assert.deepEqual(whys(addresses), [
    '1: is more than 65536 addresses',
    '2: 10.0.0.1/24 does not begin at a boundary of /24',
    '3: 300.1.1.1 is no IPv4 address, prefix or range',
    '5: 2001:db8::1 is not for ip4set',
    '4: 127.0.0.1 may not be listed',
  ]);
  assert.equal(addresses.entries, 1);
  assert.match(whys(loaded(source('ip=ip6trie:FILE', '2001:db8::/64')))[0]!, /\/64 is more than 65536/);
});

test('what a file says of the zone itself: TTL, name servers, SOA', () => {
  const { head } = loaded(
    source('dom=FILE', '$TTL 5m', '$NS 1d ns1.harbor.test. -old.test ns2.harbor.test', '#$TTL 9'),
    source('ip=FILE', '$SOA 300 ns1.harbor.test hostmaster.harbor.test 77 15m 5m 1w 60', '$NS 0 other.test'),
  );
  assert.deepEqual(head, {
    ttl: 300,
    nameservers: ['ns1.harbor.test', 'ns2.harbor.test'],
    hostmaster: 'hostmaster.harbor.test',
    serial: 77,
    negativeTtl: 60,
  });
});

test('a compressed file, one that is not there, $DATASET and $= are refused by name', () => {
  const gzip = source('dom=FILE', '');
  writeFileSync(gzip.file, Buffer.from([0x1f, 0x8b, 8, 0]));
  assert.throws(() => loaded(gzip), /is compressed: unpack it first/);
  assert.throws(() => loaded({ ...gzip, file: join(folder, 'nowhere') }), /ENOENT/);
  assert.throws(() => loaded(source('dom=FILE', '$DATASET dnset:x @')), /\$DATASET is not read/);
  assert.throws(() => loaded(source('dom=FILE', '$= base $=')), /\$= is not read/);
});

const did = (letter: string) => `did:plc:${letter.repeat(24)}`;

test('our own texts become listings of ours again, mail types included', () => {
  const { zone, notTaken } = loaded(
    source(
      'dom=FILE',
      '$1 vouched-by=did:web:harbor.test url=https://harbor.test/listing/',
      `.reef.test :127.0.4.1:did=${did('a')} $1$`,
      `bay.test :127.0.3.2:did=${did('b')} $1$`,
      'web.test :127.0.3.0:did=did:web:web.test url=https://harbor.test/a$$b',
    ),
    source('_vouch=FILE', '.reef.test :127.0.0.2:transaction', 'bay.test :2:transaction list', 'no.test x'),
    source('block=dnset:FILE', `bad.test :127.0.0.2:reason=spam did=${did('c')} url=https://harbor.test/$`),
  );
  assert.deepEqual(
    notTaken.map(({ why }) => why),
    ['"x" is none of transaction, list, transaction list, list transaction'],
  );
  const listings = [...zone.listings()];
  assert.deepEqual(
    listings.map(({ name, foreign, did, kind, trust }) => [name, foreign, did, kind, trust]).sort(),
    [
      ['bad.test', undefined, did('c'), 2, 0],
      ['bay.test', undefined, did('b'), 3, 2],
      ['reef.test', undefined, did('a'), 4, 1],
      ['web.test', undefined, 'did:web:web.test', 3, 0],
    ],
  );
  assert.equal(said(zone, 'x.reef.test._vouch', 'TXT'), 'transaction');
  assert.equal(said(zone, 'bay.test._vouch', 'TXT'), 'transaction list');
  assert.equal(said(zone, 'web.test.dom', 'TXT'), 'did=did:web:web.test url=https://harbor.test/a$b');
});

/** Everything that a zone answers, whatever the order. */
function contents(zone: Zone): string[] {
  const records = [...zone.records()].flatMap(({ owner, set }) =>
    set.rdatas.map(
      (rdata) =>
        `${Buffer.from(owner, 'latin1').toString('hex')} ${set.type} ${set.ttl} ${rdata.toString('hex')}`,
    ),
  );
  return records.sort();
}

test('names and addresses read by a thread each are the same zone as in one', async () => {
  const entry = (key: string, code: string, text: string) => `${key} :127.0.${code}:${text}`;
  const plc = (letter: string) =>
    `did=${did(letter)} vouched-by=did:web:harbor.test url=https://harbor.test/$`;
  const names = source(
    'dom=FILE',
    '$TTL 600',
    entry('.reef.test', '3.2', plc('a')),
    entry('deep.bay.test', '4.1', 'did=did:web:bay.test url=https://harbor.test/all'),
    'foreign.test another list says so of $',
  );
  const addresses = source(
    'ip=ip4set:FILE',
    '$TTL 60',
    entry('192.0.2.1', '3.2', plc('b')),
    entry('192.0.2.2', '2.1', 'did=did:web:bay.test url=https://meadow.test/$'),
    '192.0.2.3 another list says so of $',
    '192.0.2.4',
    '192.0.2.1 :127.0.4.3:the later line',
    '192.0.2.0/99',
  );
  const others = [
    source('ip=ip6trie:FILE', entry('2001:db8::1', '3.1', plc('c')), entry('2001:db8::2', '3.1', 'of $')),
    source('block=ip4set:FILE', '198.51.100.7 reason=spam of $'),
    source('block=dnset:FILE', entry('bad.test', '0.2', `reason=spam ${plc('d')}`)),
    source('_vouch=FILE', '.reef.test :2:transaction'),
  ];
  const sources = [addresses, names, ...others];
  const [one, two] = [
    await loadZone({ apex, sources }),
    await loadZone({ apex, sources }, { minHalfOctets: 1 }),
  ];
  const zones = [one, two].map(({ table }) => {
    const zone = emptyZone();
    zone.adopt(table);
    return zone;
  });
  assert.deepEqual(contents(zones[1]!), contents(zones[0]!));
  const facts = ({ table, ...rest }: typeof one) => rest;
  assert.deepEqual(facts(two), facts(one));
  assert.deepEqual([two.head.ttl, two.entries, two.repeated, two.notTakenCount], [60, 11, 1, 1]);
  for (const zone of zones) {
    assert.equal(zone.apply(vouched({ address: '192.0.2.4' }, { removed: true })), 'changed');
    assert.equal(zone.apply(vouched({ address: '192.0.2.5' })), 'changed');
    assert.equal(zone.apply(vouched({ name: 'new.bay.test' })), 'changed');
  }
  assert.deepEqual(contents(zones[1]!), contents(zones[0]!));
});

test('when one of two threads cannot read its files, the load rejects', async () => {
  const sources = [source('dom=FILE', 'reef.test'), source('ip=ip4set:FILE', '$DATASET no')];
  await assert.rejects(loadZone({ apex, sources }, { minHalfOctets: 1 }), /DATASET/);
});

test('many lines, taken a few dozen at a time, are the zone that they make one by one', () => {
  const fuzz = new Fuzz('dnsbl-files: many lines');
  const tops = ['test', 'b.test', 'a.b.test', 'example', 'mail.example'];
  const one = emptyZone();
  const lines = { dom: [] as string[], ip: [] as string[] };
  const covering = new Set<string>();
  let repeated = 0;
  for (let index = 0; index < 3000; index++) {
    const isName = fuzz.below(2) === 0;
    const key = isName
      ? `${fuzz.pick(['', 'x.', 'x.y.'])}n${fuzz.below(400)}.${fuzz.pick(tops)}`
      : `192.${fuzz.below(3)}.${fuzz.below(40)}.${1 + fuzz.below(9)}`;
    const digits = Array.from({ length: 24 }, () => fuzz.pick([...'abcdefghijklmnopqrstuvwxyz234567'])).join(
      '',
    );
    const [kind, trust] = [fuzz.pick([2, 3, 4] as const), fuzz.pick([0, 1, 2, 3] as const)];
    // The same for all lines of a name: one that no longer covers what it did is not taken.
    const coverSubdomains = isName && key.length % 4 === 0;
    const rest = { kind, trust, coverSubdomains, did: `did:plc:${digits}`, mailTypes: [], vouchers: [] };
    const url = fuzz.pick([`https://harbor.test/${key}`, 'https://meadow.test/all']);
    const before = one.size;
    // A name that covers its subdomains stays as it is when a line does not: that is told, and another test's.
    if (coverSubdomains) covering.add(key);
    else if (covering.has(key)) continue;
    assert.equal(one.apply(vouched(isName ? { name: key } : { address: key }, { ...rest, url })), 'changed');
    repeated += Number(one.size === before);
    const text = `did=${rest.did} url=${url.replace(key, '$')}`;
    const line = `${coverSubdomains ? '.' : ''}${key} :127.0.${kind}.${trust}:${text}`;
    lines[isName ? 'dom' : 'ip'].push(line, ...(fuzz.below(50) === 0 ? ['# between'] : []));
  }
  const all = loaded(source('dom=FILE', ...lines.dom), source('ip=FILE', ...lines.ip));
  assert.deepEqual([all.notTaken, all.repeated, all.entries], [[], repeated, one.size]);
  assert.deepEqual(contents(all.zone), contents(one));
  for (const prefix of ['192', '0.192', '7.1.192', '39.2.192', '40.2.192'])
    assert.equal(said(all.zone, `${prefix}.ip`), said(one, `${prefix}.ip`), prefix);
});

async function reread(zone: Zone) {
  const into = mkdtempSync(join(folder, 'export-'));
  const made = await exportZone(zone, { folder: into, formats: ['rbldnsd', 'bind'] });
  const sources = made.files
    .filter(({ name }) => !name.endsWith('.zone'))
    .map(({ name }) => {
      const [subtree, form] = name.slice(apex.length + 1).split('.');
      return parseSource(`${subtree}=${form}:${join(into, name)}`);
    });
  return { into, made, sources, ...loaded(...sources) };
}

test('what an export writes is read back as the same zone', async () => {
  const fuzz = new Fuzz('zone files round trip');
  for (let round = fuzz.rounds(12, 100); round > 0; round--) {
    const zone = emptyZone();
    for (let count = fuzz.below(60); count > 0; count--) zone.apply(anyListing(fuzz));
    const { made, notTaken, repeated, zone: again, into } = await reread(zone);
    assert.equal(made.entries, zone.size);
    if (made.leftOut > 0) continue;
    assert.deepEqual(notTaken, []);
    assert.equal(repeated, 0);
    assert.deepEqual(contents(again), contents(zone));
    assert.deepEqual(readdirSync(into).sort(), made.files.map(({ name }) => name).sort());
  }
});

function anyListing(fuzz: Fuzz): Listing {
  const number = fuzz.below(30);
  const what = fuzz.pick([
    { name: `${fuzz.pick(['reef', 'a-b', 'x1'])}${number}.test` },
    { name: `sub.reef${number}.test` },
    { address: `192.0.2.${number}` },
    { address: `2001:db8::${number.toString(16)}` },
  ]);
  const key = 'name' in what ? what.name : what.address;
  const foreign = fuzz.pick([undefined, undefined, { address: '127.0.0.9' }, anyForeign(fuzz)]);
  return vouched(what, {
    list: fuzz.pick(['vouched', 'vouched', 'blocked']),
    kind: fuzz.pick([2, 3, 4]),
    trust: fuzz.pick([0, 1, 2, 3]),
    mailTypes: fuzz.pick([[], ['transaction'], ['transaction', 'list']]),
    reason: fuzz.pick(['spam', 'a reason of $5']),
    coverSubdomains: fuzz.below(2) === 0,
    did: fuzz.pick([did('a'), did('z'), 'did:web:harbor.test']),
    vouchers: fuzz.pick([
      [],
      ['did:web:harbor.test'],
      Array.from({ length: 40 }, (_, n) => did('b').slice(0, 30) + 'ab'[n % 2] + 'cd'[n % 2]),
    ]),
    url: fuzz.pick([
      `https://h.test/${key}`,
      'https://h.test/',
      `https://${key}/${key}5`,
      `https://h.test/$${key}$$1?ü`,
    ]),
    ...(foreign && { foreign }),
  });
}

function anyForeign(fuzz: Fuzz) {
  const pieces = ['Listed: $', ' see ', '$$', 'x', ' "quoted" \\ ', 'ü', ':', '; no comment', '#'];
  const text = Array.from({ length: 1 + fuzz.below(6) }, () => fuzz.pick(pieces)).join('');
  return { address: '127.3.2.1', text: `T${text.replaceAll('$$$', '$')}.` };
}

test('an export that fails leaves what was there, and nothing beside it', async () => {
  const into = mkdtempSync(join(folder, 'export-'));
  const zone = zoneOf(vouched({ name: 'reef.test' }));
  await exportZone(zone, { folder: into, formats: ['rbldnsd'] });
  const before = readdirSync(into);
  const many = emptyZone();
  many.replace(Array.from({ length: 5000 }, (_, n) => vouched({ name: `n${n}.test` })));
  const signal = AbortSignal.abort(new Error('stop'));
  // A slice of the export ends before its five thousand entries do.
  await assert.rejects(exportZone(many, { folder: into, formats: ['rbldnsd', 'bind'], signal }), /stop/);
  assert.deepEqual(readdirSync(into), before);
  const files = parseSource(`dom=dnset:${join(into, `${apex}.dom.dnset`)}`);
  assert.equal(loaded(files).entries, 1);
});

test('a change during an export is not in it, and its serial is of the beginning', async () => {
  const zone = emptyZone();
  zone.replace(Array.from({ length: 3000 }, (_, n) => vouched({ name: `n${n}.test` })));
  const { serial } = zone;
  const into = mkdtempSync(join(folder, 'export-'));
  const exporting = exportZone(zone, { folder: into, formats: ['rbldnsd'] });
  for (let n = 0; n < 3000; n += 7) zone.apply(vouched({ name: `n${n}.test` }, { removed: true }));
  zone.apply(vouched({ name: 'late.test' }));
  const made = await exporting;
  assert.deepEqual([made.serial, made.entries], [serial, 3000]);
});

test('a zone is loaded in a thread, and a file that is damaged there rejects', async () => {
  const good = source('dom=FILE', 'reef.test');
  const zone = emptyZone();
  zone.adopt((await loadZone({ apex, sources: [good] })).table);
  assert.equal(said(zone, 'reef.test.dom'), '127.0.0.2');
  await assert.rejects(loadZone({ apex, sources: [{ ...good, file: '/nowhere/zone' }] }), /ENOENT/);
});

test('what an export that was killed left behind is gone after the next', async () => {
  const target = mkdtempSync(join(folder, 'killed-'));
  const module = new URL('../../dnsbl/files/atomic-file.ts', import.meta.url).href;
  const code = `
    const { AtomicFile } = await import(${JSON.stringify(module)});
    await AtomicFile.open(${JSON.stringify(target)}, '${apex}.zone');
    process.kill(process.pid, 'SIGKILL');`;
  const { signal } = spawnSync(process.execPath, ['--input-type=module', '-e', code]);
  assert.equal(signal, 'SIGKILL');
  assert.equal(readdirSync(target).length, 1);
  await exportZone(zoneOf(vouched({ name: 'reef.test' })), { folder: target, formats: ['bind'] });
  assert.deepEqual(readdirSync(target), [`${apex}.zone`]);
});
