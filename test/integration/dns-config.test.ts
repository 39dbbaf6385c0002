/** `atmos dns --config`: several zones in one process, each from its source, with all that a node has. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { addressOf, askDns } from '../ask-dns.ts';
import { AtmosProcess, atmos, killAll } from '../atmos-process.ts';
import { readExposition } from '../exposition.ts';
import { freePort } from '../free-port.ts';
import { needs } from '../peers.ts';
import { AppView } from '../unit/dnsbl-appview.ts';
import { until } from '../until.ts';

const folder = mkdtempSync(join(tmpdir(), 'dns-config-'));
const file = join(folder, 'dns.jsonc');
const secret = Buffer.alloc(32, 7).toString('base64');
const subscriber = JSON.parse(atmos('dns', 'key', '--json').out) as { key: string; keyHash: string };
const ports = { dns: await freePort(), metrics: await freePort() };
const server = { host: '127.0.0.1', port: ports.dns };
after(() => {
  killAll();
  rmSync(folder, { recursive: true, force: true });
});

function write(from: string, dns: Record<string, unknown> = {}): void {
  const written = {
    listen: { dns: `127.0.0.1:${ports.dns}`, metrics: `127.0.0.1:${ports.metrics}` },
    dns: {
      limit: { mode: 'off' },
      transfer: { keys: 'tsig.keys', allow: [{ key: 'harbor-secondary' }] },
      zones: [
        { apex: 'open.test', from, nameservers: ['ns1.harbor.test'] },
        {
          ...{ apex: 'paid.test', files: ['dom=paid.dnset'], nameservers: ['ns1.harbor.test'] },
          ...{ unkeyed: 'closed', keys: [{ name: 'reef', keyHash: subscriber.keyHash }] },
          transfer: { allow: [] },
        },
      ],
      ...dns,
    },
  };
  writeFileSync(file, `// A list server\n${JSON.stringify(written)}`);
}

test('two zones, one from an AppView and one from files; each keeps its own rules', async () => {
  const appview = new AppView();
  appview.list('reef.test');
  const from = await appview.start();
  after(() => appview.stop());
  writeFileSync(join(folder, 'paid.dnset'), 'tide.test :127.0.3.2:\n');
  writeFileSync(join(folder, 'tsig.keys'), `hmac-sha256:harbor-secondary:${secret}\n`);
  write(from);
  const dns = new AtmosProcess(['dns', '--config', file]);
  await dns.logged('ready');
  assert.equal(await addressOf(server, 'reef.test.dom.open.test'), '127.0.3.1');
  assert.equal(await addressOf(server, 'tide.test.dom.paid.test'), 'REFUSED');
  assert.equal(await addressOf(server, `tide.test.dom.${subscriber.key}.paid.test`), '127.0.3.2');
  assert.equal((await askDns(server, 'tide.test.dom.other.test')).rcode, 'REFUSED');

  if (needs('kdig') === false) {
    const take = (apex: string) =>
      spawnSync(
        'kdig',
        ['@127.0.0.1', '-p', String(ports.dns), '-y', `hmac-sha256:harbor-secondary:${secret}`, apex, 'AXFR'],
        { encoding: 'utf8' },
      ).stdout;
    assert.match(take('open.test'), /^reef\.test\.dom\.open\.test\..*A\s+127\.0\.3\.1$/m);
    assert.doesNotMatch(take('paid.test'), /\sA\s/);
  }

  await appview.stop();
  const status = atmos('dns', 'status', '--config', file).out;
  assert.match(status, /^open\.test: 1 entries, serial \d+, \d+ s old\n/);
  assert.match(status, /^paid\.test: 1 entries, serial \d+, \d+ s old$/m);
  const waits = () => /WAITS FOR http.*, cursor 1001/.test(atmos('dns', 'status', '--config', file).out);
  await until('it notices that the AppView is gone', waits);
  assert.equal(await addressOf(server, 'reef.test.dom.open.test'), '127.0.3.1');

  const text = await (await fetch(`http://127.0.0.1:${ports.metrics}/metrics`)).text();
  const values = readExposition(text);
  assert.equal(values.get('atmos_dns_feed_current{zone="open.test"}'), 0);
  assert.ok(values.get('atmos_dns_list_age_seconds{zone="open.test"}')! >= 0);
  assert.equal(values.get('atmos_dns_zone_entries{zone="paid.test"}'), 1);
  assert.equal(values.get('atmos_dns_answers_total{zone="paid.test",type="A",answer="noerror"}'), 1);

  write(from, { access: { refuse: ['127.0.0.0/8'] } });
  assert.match(atmos('dns', 'reload', '--config', file).out, /were read again/);
  const isRefused = async () => (await askDns(server, 'reef.test.dom.open.test')).rcode === 'REFUSED';
  await until('the new settings', isRefused, 2000);
  assert.equal(await dns.end(), 0);
});

const faults: [name: string, zones: unknown[], dns: Record<string, unknown>, says: RegExp][] = [
  ['a zone without a source', [{ apex: 'a.test' }], {}, /:1:\d+: a\.test: give "files", or "from"/],
  [
    'a zone with two sources',
    [{ apex: 'a.test', files: ['dom=x'], from: 'https://b.test' }],
    {},
    /give "files", or "from"/,
  ],
  [
    'a zone twice',
    [
      { apex: 'a.test', files: ['dom=x'] },
      { apex: 'A.test', files: ['dom=y'] },
    ],
    {},
    /a\.test is named twice\. Keep one/,
  ],
  ['a file of no subtree', [{ apex: 'a.test', files: ['dim=x'] }], {}, /dim=x: write it as dom=FILE/],
  ['an unknown key', [{ apex: 'a.test', form: 'x' }], {}, /unknown key "form"\. Did you mean "from"\?/],
  [
    'a key in place of its hash',
    [{ apex: 'a.test', files: ['dom=x'], keys: [{ name: 'reef', keyHash: subscriber.key }] }],
    {},
    /"dns\.zones\.0\.keys\.0\.keyHash": what stands here is not the hash of a key\. It is what `atmos dns key`/,
  ],
  [
    'a subscriber twice',
    [
      {
        apex: 'a.test',
        files: ['dom=x'],
        keys: [1, 2].map(() => ({ name: 'reef', keyHash: subscriber.keyHash })),
      },
    ],
    {},
    /keys of a\.test: reef stands there twice\. Keep one/,
  ],
  [
    'a secondary whose key stands nowhere',
    [{ apex: 'a.test', files: ['dom=x'], transfer: { notify: [{ host: '192.0.2.1', key: 'k' }] } }],
    {},
    /the TSIG key k stands nowhere\. Name the file/,
  ],
  [
    'a rule for everybody',
    [{ apex: 'a.test', files: ['dom=x'] }],
    { transfer: { allow: [{}] } },
    /names neither a prefix nor a key\. It is who may have the whole zone/,
  ],
  ...['host_master@b.test', '-a@b.test', 'a@b..test', 'a@..', `${'a'.repeat(63)}@${'b.'.repeat(95)}b`].map(
    (hostmaster): (typeof faults)[number] => [
      `the mailbox ${hostmaster.slice(0, 20)}`,
      [{ apex: 'a.test', files: ['dom=x'], hostmaster }],
      {},
      /"dns\.zones\.0\.hostmaster": .* is not a mail address that an SOA record can hold/,
    ],
  ),
  [
    'an AppView that is none',
    [{ apex: 'a.test', from: 'http://b.test' }],
    {},
    /http:\/\/b\.test is not encrypted/,
  ],
  [
    'a prefix that is none',
    [{ apex: 'a.test', files: ['dom=x'] }],
    { access: { refuse: ['192.0.2.1/24'] } },
    /"dns\.access\.refuse\.0": "192\.0\.2\.1\/24" is no address and no prefix\. It is clients that get REFUSED/,
  ],
];

for (const [name, zones, dns, says] of faults) {
  test(`${name} is refused at its place, with what would be right`, async () => {
    const { checkAloneConfig } = await import('../../node/dns/alone-config.ts');
    const text = JSON.stringify({ listen: { dns: '127.0.0.1:53' }, dns: { ...dns, zones } });
    assert.throws(
      () => checkAloneConfig(text, '/etc/dns.jsonc'),
      (error: Error) => {
        assert.match(error.message, says);
        assert.match(error.message, /^\/etc\/dns\.jsonc:1:\d+: /);
        assert.ok(!error.message.includes(subscriber.key));
        return true;
      },
    );
  });
}
