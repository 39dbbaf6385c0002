/** Files that are not what an operator meant them to be. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { pino } from 'pino';
import { exportZone } from '../../dnsbl/files/export.ts';
import { loadZone } from '../../dnsbl/files/load-zone.ts';
import { readZone } from '../../dnsbl/files/read-zone.ts';
import { parseSource } from '../../dnsbl/files/source.ts';
import { FollowedFiles } from '../../dnsbl/files/zone-files.ts';
import { apex, emptyZone, said, startMs, vouched, zoneOf } from './dnsbl-fixtures.ts';

const folder = mkdtempSync(join(tmpdir(), 'dnsbl-odd-'));
after(() => rmSync(folder, { recursive: true }));

const file = join(folder, 'dom.dnset');
const sources = [parseSource(`dom=${file}`)];

function loaded(written: string | Buffer) {
  writeFileSync(file, written);
  const read = readZone({ apex, sources });
  const zone = emptyZone();
  zone.adopt(read.table);
  return { ...read, zone, whys: read.notTaken.map(({ line, why }) => `${line}: ${why}`) };
}

function fifo(name: string): string {
  const path = join(folder, name);
  assert.equal(spawnSync('mkfifo', [path]).status, 0);
  return path;
}

test('a pipe in place of a zone file is refused, and nothing waits for its other end', async () => {
  const path = fifo('pipe.dnset');
  const pipe = [parseSource(`dom=${path}`)];
  assert.throws(() => readZone({ apex, sources: pipe }), /pipe\.dnset is no regular file/);
  await assert.rejects(loadZone({ apex, sources: pipe }), /pipe\.dnset is no regular file/);
  assert.throws(() => readZone({ apex, sources: [parseSource(`dom=${folder}`)] }), /is no regular file/);
});

test('a zone whose file became a pipe keeps its entries, can be asked again, and stops', async () => {
  writeFileSync(file, 'reef.test :2:\n');
  const options = { apex, sources, pollMs: 0, now: () => startMs, log: pino({ level: 'silent' }) };
  const files = new FollowedFiles({ ...options, count: () => undefined });
  const zone = emptyZone();
  zone.adopt((await files.load()).table);
  files.follow(zone);
  rmSync(file);
  fifo('dom.dnset');
  assert.equal(await files.reload(), false);
  assert.equal(await files.reload(), false);
  assert.equal(said(zone, 'reef.test.dom'), '127.0.0.2');
  await files.stop();
  rmSync(file);
});

test('a load that does not end is given up', async () => {
  writeFileSync(file, 'reef.test\n');
  await assert.rejects(loadZone({ apex, sources }, { maxMs: 1 }), /were not read within 1 ms/);
});

test('a last line without its end may be half of one: it is told, and not taken', () => {
  const { zone, whys } = loaded('reef.test\nbay.test :3');
  assert.deepEqual(whys, ['2: is the last and has no end: half of a line, perhaps']);
  assert.deepEqual([said(zone, 'reef.test.dom'), said(zone, 'bay.test.dom')], ['127.0.0.2', 'NXDOMAIN']);
  assert.deepEqual(loaded('reef.test\n  \t').whys, []);
});

test('a byte order mark costs no line', () => {
  const { zone, whys } = loaded('\ufeffreef.test :3:first\nbay.test\n');
  assert.deepEqual(whys, []);
  assert.equal(said(zone, 'reef.test.dom'), '127.0.0.3');
});

test('a name that is not taken is told as it is written', () => {
  assert.deepEqual(loaded('bücher.test\n').whys, ['1: bücher.test is no host name that may be listed here']);
});

test('a mailbox and name servers that the zone cannot have are told by line, and the rest is kept', () => {
  const { whys, head } = loaded(
    [
      '$SOA 300 ns1.harbor.test host\\.master.harbor.test 77 15m 5m 1w 60',
      `$NS 300 ns1.${apex} ns_1.harbor.test ns2.harbor.test`,
      `$NS 300 ns1.${apex}`,
      'reef.test',
      '',
    ].join('\n'),
  );
  assert.deepEqual(whys, [
    '1: host\\.master.harbor.test is no mailbox that the zone can have: name another with --hostmaster',
    `2: ns1.${apex}, ns_1.harbor.test cannot be name servers: host names outside ${apex} can`,
    `3: ns1.${apex} cannot be name servers: host names outside ${apex} can`,
  ]);
  assert.deepEqual(head, { serial: 77, negativeTtl: 60, nameservers: ['ns2.harbor.test'] });
});

test('a text with a tab is in the export, and reads back', async () => {
  const zone = zoneOf(vouched({ name: 'reef.test' }, { foreign: { address: '127.0.0.9', text: 'a\tb' } }));
  const { leftOut } = await exportZone(zone, { folder, formats: ['rbldnsd'] });
  assert.equal(leftOut, 0);
  const again = loaded(readFileSync(join(folder, `${apex}.dom.dnset`)));
  assert.equal(said(again.zone, 'reef.test.dom', 'TXT'), 'a\tb');
});
