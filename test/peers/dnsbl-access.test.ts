/** Access, limits and cookies as dig and kdig meet them: over UDP and TCP, from addresses that differ. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { type TestContext, test } from 'node:test';
import { promisify } from 'node:util';
import { pino } from 'pino';
import { Access } from '../../dnsbl/access/access.ts';
import { CookieSecrets } from '../../dnsbl/access/cookie-secrets.ts';
import type { AccessSettings } from '../../dnsbl/access/settings.ts';
import { hashOfKey } from '../../dnsbl/access/subscriber-keys.ts';
import { DnsServer, type DnsServerOptions } from '../../dnsbl/server.ts';
import { needsNativeDns } from '../native-dns.ts';
import { needs } from '../peers.ts';
import { settingsWith } from '../unit/dnsbl-access-fixtures.ts';
import { apex, vouched, zoneOf } from '../unit/dnsbl-fixtures.ts';

const run = promisify(execFile);
const listed = `reef.test.dom.${apex}`;
const key = 'k3ysofharbor-2026';

async function running(t: TestContext, settings: AccessSettings, options: Partial<DnsServerOptions> = {}) {
  const server = new DnsServer({
    zones: [zoneOf(vouched({ name: 'reef.test' }))],
    listen: { host: '127.0.0.1', port: 0 },
    log: pino({ enabled: false }),
    access: new Access({ settings, cookieSecrets: new CookieSecrets() }),
    ...options,
  });
  const [at] = await server.start();
  t.after(() => server.stop());
  const ask = async (program: 'dig' | 'kdig', ...args: string[]) => {
    const patience = program === 'dig' ? ['+tries=1', '+time=10'] : ['+retry=0', '+timeout=10'];
    const words = ['@127.0.0.1', '-p', `${at!.port}`, ...patience, ...args];
    const ran = run(program, words).catch((error: { stdout: string; stderr: string }) => error);
    const { stdout, stderr } = await ran;
    return stdout + stderr;
  };
  const sample = (name: string, label: string) =>
    server
      .metrics()
      .flatMap(({ samples }) => samples)
      .find((one) => one.name === name && Object.values(one.labels).includes(label))?.value;
  return {
    server,
    dig: (...args: string[]) => ask('dig', ...args),
    kdig: (...args: string[]) => ask('kdig', ...args),
    sample,
  };
}

const skip = needs('dig', 'kdig');
/** One question many times, as fast as dig asks: the limit cannot fill again in between. */
const often = Array<string>(60).fill(listed);
const limited = /flags: qr tc rd; QUERY: 1, ANSWER: 0/;
/** Limited from the second answer on; each then comes out empty with TC. */
const strict = (badCookie = false) => settingsWith({ limit: { perName: 1, slip: 1, badCookie } });

const places: [where: string, options: Partial<DnsServerOptions>, skip: string | false][] = [
  ['the thread of the server', {}, skip],
  ['a thread with a socket of node', { workers: 1, sockets: 'dgram' }, skip],
  ['a thread with native sockets', { workers: 1, sockets: 'native' }, skip || needsNativeDns()],
];
for (const [where, options, missing] of places) {
  test(`${where}: rules, quota and limit, seen by dig`, { skip: missing }, async (t) => {
    const settings = settingsWith({
      rules: { refuse: ['127.0.0.4/32'], drop: ['127.0.0.5/32'] },
      quota: { perDay: 3, client: { ipv4: 32, ipv6: 56 }, unlimited: ['127.0.0.1'] },
    });
    const { dig } = await running(t, settings, options);
    const from = (address: string, ...more: string[]) =>
      dig('-b', address, '+nocookie', ...more, listed, 'A');
    assert.match(await from('127.0.0.4'), /status: REFUSED[\s\S]*ANSWER: 0, AUTHORITY: 0/);
    assert.match(await from('127.0.0.5', '+time=1'), /timed out/);
    for (let count = 0; count < 3; count++) assert.match(await from('127.0.0.3'), /127\.0\.3\.1/);
    assert.match(await from('127.0.0.3'), /status: REFUSED[\s\S]*ANSWER: 0, AUTHORITY: 0/);
    assert.match(await from('127.0.0.6'), /127\.0\.3\.1/, 'another client has its own');
    for (let count = 0; count < 5; count++) assert.match(await from('127.0.0.1'), /127\.0\.3\.1/);
  });

  test(`${where}: over the limit dig is told to use TCP, and does`, { skip: missing }, async (t) => {
    const { dig, server } = await running(t, strict(), options);
    assert.match(await dig('+ignore', '+nocookie', ...often), limited);
    const text = await dig('+nocookie', '+short', ...often);
    assert.equal(text.match(/^127\.0\.3\.1$/gm)?.length, often.length);
    assert.ok(server.counts().get('dns_queries tcp')! > 0);
  });

  test(`${where}: a cookie of ours frees dig from the limit`, { skip: missing }, async (t) => {
    const { dig, sample } = await running(t, strict(), options);
    const given = /COOKIE: ([0-9a-f]{48}) \(good\)/.exec(await dig('+cookie', listed, 'A'));
    assert.ok(given);
    const free = await dig('+ignore', `+cookie=${given[1]}`, ...often);
    assert.equal(free.match(/flags: qr aa rd; QUERY: 1, ANSWER: 1/g)?.length, often.length);
    assert.equal(free.match(/COOKIE: [0-9a-f]{48} \(good\)/g)?.length, often.length);
    assert.equal(sample('atmos_dns_cookies_total', 'valid'), often.length);
    // From another address it is worth nothing.
    assert.match(await dig('-b', '127.0.0.9', '+ignore', `+cookie=${given[1]}`, ...often), limited);
    assert.equal(sample('atmos_dns_cookies_total', 'invalid'), often.length);
  });
}

test('BADCOOKIE, where the operator wants it, brings dig back by UDP, with the cookie', {
  skip,
}, async (t) => {
  const { dig, server } = await running(t, strict(true));
  const text = await dig('+nobadcookie', '+cookie', ...often);
  assert.match(text, /status: BADCOOKIE[\s\S]*COOKIE: [0-9a-f]{48} \(good\)/);
  const again = await dig('+badcookie', '+cookie', ...often);
  assert.match(again, /BADCOOKIE, retrying/);
  assert.equal(again.match(/status: NOERROR/g)?.length, often.length);
  assert.equal(server.counts().get('dns_queries tcp'), 0);
});

test('kdig takes our cookie, and asks again with it', {
  skip,
}, async (t) => {
  const { kdig, sample } = await running(t, settingsWith({}));
  const text = await kdig('+cookie', listed, 'A');
  assert.match(text, /status: NOERROR/);
  const option = /COOKIE: ?([0-9A-Fa-f ]+)/i.exec(text);
  assert.ok(option, text);
  const cookie = option[1]!.replace(/\s/g, '');
  assert.equal(cookie.length, 48);
  assert.match(await kdig(`+cookie=${cookie}`, listed, 'A'), /127\.0\.3\.1/);
  assert.equal(sample('atmos_dns_cookies_total', 'valid'), 1);
});

test('a subscriber asks under its key; others hear that there is no such name, or are refused', {
  skip,
}, async (t) => {
  const subscribers = [
    { name: 'reef', keyHash: hashOfKey(key)!, quota: { perDay: 3 }, prefixes: ['127.0.0.0/30'] },
  ];
  const { dig } = await running(t, settingsWith({ zones: [{ apex, unkeyed: 'closed', subscribers }] }));
  const under = `reef.test.dom.${key}.${apex}`;
  assert.match(await dig(under, 'A'), /127\.0\.3\.1/);
  assert.match(await dig(`2.0.0.127.ip.${key}.${apex}`, 'A'), /127\.0\.0\.2/);
  assert.match(await dig('-b', '127.0.0.9', under, 'A'), /status: REFUSED/);
  assert.match(await dig(listed, 'A'), /status: REFUSED/);
  assert.match(await dig(`reef.test.dom.another-key-2026.${apex}`, 'A'), /status: NXDOMAIN/);
  assert.match(await dig(`nobody.test.dom.${key}.${apex}`, 'A'), /status: NXDOMAIN/);
  assert.match(await dig(under, 'A'), /status: REFUSED/, 'the fourth of three');
  assert.match(await dig(apex, 'SOA'), /status: NOERROR/, 'the zone itself can be found by resolvers');
});

test("a large resolver's misses are never limited, however many of one zone", { skip }, async (t) => {
  const { dig, server } = await running(t, settingsWith({ limit: { perName: 5, slip: 1 } }));
  const names = Array.from({ length: 400 }, (_, index) => `n${index}.test.dom.${apex}`);
  const text = await dig('+ignore', '+nocookie', '+noall', '+comments', ...names);
  assert.equal(text.match(/status: NXDOMAIN/g)?.length, 400);
  assert.equal(server.counts().get('dns_answers slipped'), 0);
});
