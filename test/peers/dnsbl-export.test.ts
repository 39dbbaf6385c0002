/** Foreign servers and checkers on what an export writes. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { exportZone } from '../../dnsbl/files/export.ts';
import type { Zone } from '../../dnsbl/zone.ts';
import { addressOf, askDns, textOf } from '../ask-dns.ts';
import { freePort } from '../free-port.ts';
import { needs } from '../peers.ts';
import { apex, emptyZone, said, vouched } from '../unit/dnsbl-fixtures.ts';
import { until } from '../until.ts';

const folder = mkdtempSync(join(tmpdir(), 'dnsbl-export-'));
after(() => rmSync(folder, { recursive: true }));

const zone = emptyZone();
before(async () => {
  fill(zone);
  await exportZone(zone, { folder, formats: ['rbldnsd', 'bind'] });
  // rbldnsd is another user.
  chmodSync(folder, 0o755);
});

function fill(into: Zone): void {
  for (let n = 0; n < 300; n++) {
    into.apply(vouched({ name: `n${n}.test` }, { trust: (n % 4) as 0, did: `did:web:m${n}.test` }));
    into.apply(vouched({ address: `192.0.2.${n % 256}` }, { kind: 2 }));
    into.apply(vouched({ address: `2001:db8::${n.toString(16)}` }, { trust: 2 }));
  }
  into.apply(vouched({ name: 'wide.test' }, { coverSubdomains: true, mailTypes: ['transaction', 'list'] }));
  into.apply(vouched({ name: 'bad.test' }, { list: 'blocked', reason: 'spam' }));
  into.apply(vouched({ address: '198.51.100.9' }, { list: 'blocked', reason: 'spam' }));
  const many = Array.from({ length: 25 }, (_, n) => `did:web:cooperative-number-${n}.test`);
  into.apply(vouched({ name: 'long.test' }, { vouchers: many }));
  into.apply(vouched({ name: 'odd.test' }, { foreign: { address: '127.4.5.6', text: 'a "b" \\ $ $$5 ü' } }));
}

const master = () => join(folder, `${apex}.zone`);

for (const [peer, command, args] of [
  ['named-checkzone', 'named-checkzone', (file: string) => ['-i', 'none', apex, file]],
  ['nsd-checkzone', 'nsd-checkzone', (file: string) => [apex, file]],
  ['ldns-read-zone', 'ldns-read-zone', (file: string) => ['-c', file]],
] as const) {
  test(`${command} takes the master file`, { skip: needs(peer) }, () => {
    const { status, stdout, stderr } = spawnSync(command, args(master()), { encoding: 'utf8' });
    assert.equal(status, 0, stdout + stderr);
  });
}

test('the master file has exactly the records of the zone', { skip: needs('named-checkzone') }, () => {
  const dumped = spawnSync('named-checkzone', ['-i', 'none', '-D', '-o', '-', apex, master()], {
    encoding: 'utf8',
  });
  const records = dumped.stdout
    .split('\n')
    .filter((line) => / IN\s+(A|TXT|NS)\s/.test(line.replaceAll('\t', ' ')));
  const own = [...zone.records()].reduce((sum, { set }) => sum + set.rdatas.length, 0);
  assert.equal(records.length, own);
});

test('rbldnsd answers from the export what we answer', { skip: needs('rbldnsd') }, async () => {
  const port = await freePort();
  const datasets = readdirSync(folder)
    .filter((name) => !name.endsWith('.zone'))
    .map((name) => {
      const [subtree, form] = name.slice(apex.length + 1).split('.');
      return `${subtree}.${apex}:${form}:${join(folder, name)}`;
    });
  const rbldnsd = spawn('rbldnsd', ['-n', '-u', 'nobody', '-b', `127.0.0.1/${port}`, ...datasets], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const printed: string[] = [];
  rbldnsd.stdout.on('data', (text) => printed.push(String(text)));
  rbldnsd.stderr.on('data', (text) => printed.push(String(text)));
  try {
    const theirs = { host: '127.0.0.1', port };
    await until('rbldnsd answers', () => askDns(theirs, `test.dom.${apex}`).catch(() => undefined));
    assert.doesNotMatch(printed.join(''), /invalid|ignored|truncated/);
    for (const name of questions) {
      const asked = `${name}.${apex}`;
      assert.equal(await addressOf(theirs, asked), said(zone, name), asked);
      // rbldnsd cuts a text at 254 octets.
      const text = said(zone, name, 'TXT');
      const cut = text === 'NXDOMAIN' ? undefined : Buffer.from(text).toString('latin1').slice(0, 254);
      const read = await textOf(theirs, asked);
      assert.equal(read === undefined ? undefined : Buffer.from(read).toString('latin1'), cut, asked);
    }
    assert.equal(await textOf(theirs, `a.wide.test._vouch.${apex}`), 'transaction list');
  } finally {
    rbldnsd.kill();
  }
});

const questions = [
  ...['test.dom', 'invalid.dom', 'n0.test.dom', 'n7.test.dom', 'sub.n7.test.dom', 'n299.test.dom'],
  ...[
    'wide.test.dom',
    'a.wide.test.dom',
    'a.b.wide.test.dom',
    'long.test.dom',
    'odd.test.dom',
    'no.test.dom',
  ],
  ...['2.0.0.127.ip', '1.0.0.127.ip', '7.2.0.192.ip', '8.100.51.198.ip'],
  ...['bad.test.block', 'n0.test.block', '9.100.51.198.block', 'test.block', '2.0.0.127.block'],
  `${reversed('20010db80000000000000000000000a7')}.ip`,
  `${reversed('20010db8000000000000000000ffffff')}.ip`,
  `${reversed('00000000000000000000ffff7f000002')}.ip`,
];

function reversed(hex: string): string {
  return [...hex].reverse().join('.');
}
