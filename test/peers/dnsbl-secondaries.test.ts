/**
 * Real secondaries: NSD, Knot and BIND take the zone by AXFR, follow it by NOTIFY and IXFR, all signed, and
 * answer as we do.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { pino } from 'pino';
import { DnsServer } from '../../dnsbl/server.ts';
import { Transfers } from '../../dnsbl/transfer/transfers.ts';
import { freePort } from '../free-port.ts';
import { needs } from '../peers.ts';
import { apex, emptyZone, vouched } from '../unit/dnsbl-fixtures.ts';
import { until } from '../until.ts';
import { dig } from './consumers/dig.ts';
import { bind, knot, type Maker, nsd, type Secondary } from './consumers/secondaries.ts';

const run = promisify(execFile);
const skip = needs('nsd', 'knot', 'named', 'dig', 'kdig');

const secret = Buffer.alloc(32, 7);
const keyName = 'harbor-secondary';
const strangerSecret = Buffer.alloc(32, 8);
const rightKey = kdigKey(keyName, secret);

const folder = mkdtempSync(join(tmpdir(), 'atmos-secondaries-'));
const counts = new Map<string, number>();
let zone = emptyZone({ now: Date.now });
for (const listing of [
  vouched({ name: 'reef.test' }, { kind: 4, coverSubdomains: true }),
  vouched({ name: 'deep.lagoon.reef.test' }, { trust: 0 }),
  vouched({ name: 'shoal.test' }, { kind: 4, coverSubdomains: true }),
  vouched({ name: 'deep.lagoon.shoal.test' }, { trust: 0 }),
  vouched({ name: 'tide.test' }, { trust: 2, mailTypes: ['transaction', 'list'] }),
  vouched({ name: 'sunk.test' }, { list: 'blocked', reason: 'spam' }),
  vouched({ address: '192.0.2.25' }, { kind: 2 }),
  vouched({ address: '192.0.2.66' }, { list: 'blocked' }),
  vouched({ address: '2001:db8::25' }, { kind: 2, trust: 2 }),
  ...Array.from({ length: 4000 }, (_, index) => vouched({ name: `member-${index}.test` })),
]) {
  assert.equal(zone.apply(listing), 'changed');
}

const makers: Maker[] = [nsd('TCP'), nsd('UDP'), knot, bind];
const secondaries: Secondary[] = [];
let secondaryPorts: number[] = [];
let transfers: Transfers;
let server: DnsServer;
let port = 0;

/** What the node does at start: zone, transfers and server, in one process. */
async function startPrimary(): Promise<void> {
  const told = secondaryPorts.map((to) => ({ host: '127.0.0.1', port: to, key: keyName }));
  transfers = new Transfers({
    zones: [zone],
    keys: [
      { name: keyName, secret },
      { name: 'stranger', secret: strangerSecret },
    ],
    allow: new Map([[apex, [{ prefix: '127.0.0.1', key: keyName }]]]),
    notify: new Map([[apex, told]]),
    journalDir: folder,
    // All of them, and kdig, are one peer here.
    limits: { maxTransfersPerPeer: 16 },
    now: Date.now,
    log: pino({ enabled: false }),
    count,
  });
  zone.onChange = (change) => transfers.changed(apex, change);
  server = new DnsServer({
    zones: [zone],
    listen: { host: '127.0.0.1', port },
    // Signed questions over UDP are answered where all others are.
    workers: 1,
    log: pino({ enabled: false }),
    transfer: transfers,
  });
  port = (await server.start())[0]!.port;
  await transfers.start();
}

async function stopPrimary(): Promise<void> {
  await server?.stop();
  await transfers?.stop();
}

before(async () => {
  if (skip) return;
  secondaryPorts = await Promise.all(makers.map(freePort));
  await startPrimary();
  for (const [index, maker] of makers.entries())
    secondaries.push(await maker(optionsOf(secondaryPorts[index]!)));
});

function optionsOf(own: number, by = secret) {
  return { apex, primaryPort: port, key: { name: keyName, secret: by }, port: own };
}

after(async () => {
  await Promise.all(secondaries.map((secondary) => secondary.stop()));
  await stopPrimary();
  rmSync(folder, { recursive: true, force: true });
});

test('each transfers the whole zone once, signed', { skip }, async () => {
  for (const secondary of secondaries) await secondary.reaches(zone.serial);
  assert.equal(counts.get('dns_transfer_answers axfr'), makers.length);
});

test('each follows a change by NOTIFY and IXFR', { skip }, async () => {
  zone.apply(vouched({ name: 'new.test' }, { trust: 3 }));
  zone.apply(vouched({ name: 'tide.test' }, { trust: 3, mailTypes: ['transaction'] }));
  zone.apply(vouched({ name: 'member-3.test' }, { removed: true }));
  zone.apply(vouched({ name: 'reef.test' }, { kind: 4, coverSubdomains: false }));
  for (const secondary of secondaries) await secondary.reaches(zone.serial);
  assert.equal(counts.get('dns_transfer_answers axfr'), makers.length, 'no further whole zone');
  assert.ok((counts.get('dns_transfer_answers ixfr') ?? 0) >= makers.length);
  assert.ok((counts.get('dns_notify acknowledged') ?? 0) >= makers.length);
  assert.ok(server.counts().get('dns_tsig signed')! > 0, 'BIND asks for the SOA by UDP, signed');
  assert.equal(server.counts().get('dns_tsig rejected'), 0);
  for (const secondary of secondaries) assert.ok(secondary.sawDifference(), secondary.log());
});

const questions: [name: string, type: string][] = [
  ['', 'SOA'],
  ['', 'NS'],
  ['', 'A'],
  ['dom', 'A'],
  ['_vouch', 'TXT'],
  ['nothing', 'A'],
  ['new.test.dom', 'A'],
  ['new.test.dom', 'TXT'],
  ['NEW.test._vouch', 'TXT'],
  ['reef.test.dom', 'A'],
  ['mail.reef.test.dom', 'A'],
  ['lagoon.reef.test.dom', 'A'],
  ['deep.lagoon.reef.test.dom', 'A'],
  ['deep.lagoon.reef.test._vouch', 'TXT'],
  ['shoal.test.dom', 'A'],
  ['mail.shoal.test.dom', 'A'],
  ['a.b.shoal.test.dom', 'TXT'],
  ['*.shoal.test.dom', 'A'],
  ['mail.shoal.test._vouch', 'TXT'],
  ['mail.shoal.test._vouch', 'A'],
  ['lagoon.shoal.test.dom', 'A'],
  ['other.lagoon.shoal.test.dom', 'A'],
  ['deep.lagoon.shoal.test.dom', 'A'],
  ['deep.lagoon.shoal.test._vouch', 'TXT'],
  ['below.deep.lagoon.shoal.test.dom', 'A'],
  ['tide.test.dom', 'A'],
  ['tide.test._vouch', 'TXT'],
  ['test.dom', 'A'],
  ['test.dom', 'TXT'],
  ['invalid.dom', 'A'],
  ['member-3.test.dom', 'A'],
  ['member-4.test.dom', 'TXT'],
  ['member-4.test.dom', 'AAAA'],
  ['sunk.test.block', 'A'],
  ['sunk.test.block', 'TXT'],
  ['25.2.0.192.ip', 'A'],
  ['2.0.192.ip', 'A'],
  ['192.ip', 'TXT'],
  ['26.2.0.192.ip', 'A'],
  ['66.2.0.192.block', 'A'],
  ['2.0.0.127.ip', 'A'],
  ['1.0.0.127.ip', 'A'],
  [`5.2.${'0.'.repeat(22)}8.b.d.0.1.0.0.2.ip`, 'A'],
  [`2.${'0.'.repeat(22)}8.b.d.0.1.0.0.2.ip`, 'A'],
  ['d.0.1.0.0.2.ip', 'TXT'],
];

test('each answers every question as we do', { skip }, async () => {
  const ours = await digests(port, questions);
  for (const { name, port: at } of secondaries) {
    for (const [index, theirs] of (await digests(at, questions)).entries())
      assert.deepEqual(theirs, ours[index], `${name}: ${questions[index]!.join(' ')}`);
  }
});

test('a burst of changes reaches each as differences, and the content is the same', { skip }, async () => {
  for (let index = 0; index < 1500; index++) {
    const name = `member-${index % 4500}.test`;
    zone.apply(
      vouched({ name }, { trust: 2, seq: index, removed: index % 7 === 0, url: `https://x.test/${index}` }),
    );
    if (index % 100 === 0) await pause(1);
  }
  for (const secondary of secondaries) await secondary.reaches(zone.serial);
  assert.equal(counts.get('dns_transfer_answers axfr'), makers.length);
  const ours = await wholeZone(port);
  assert.ok(ours.length > 1500);
  for (const { name, port: at } of secondaries.slice(-2)) assert.deepEqual(await wholeZone(at), ours, name);
});

test('a restart keeps the past: each follows by IXFR', { skip }, async () => {
  const wholeZones = counts.get('dns_transfer_answers axfr');
  await stopPrimary();
  const listings = [...zone.listings()];
  zone = emptyZone({ now: Date.now, serial: zone.serial + 300 });
  zone.replace(listings);
  await startPrimary();
  zone.apply(vouched({ name: 'after-restart.test' }));
  for (const secondary of secondaries) await secondary.reaches(zone.serial);
  assert.equal(counts.get('dns_journal continued'), 1);
  assert.equal(counts.get('dns_transfer_answers axfr'), wholeZones);
  for (const secondary of secondaries)
    assert.equal(
      (await digest(secondary.port, 'after-restart.test.dom', 'A'))[0],
      'QUERY NOERROR',
      secondary.name,
    );
});

test('kdig gets an IXFR of what changed since its serial', { skip }, async () => {
  const before = zone.serial;
  zone.apply(vouched({ name: 'asked-by-kdig.test' }, { trust: 0 }));
  const text = await kdig('-y', rightKey, apex, `IXFR=${before}`);
  const lines = text.split('\n').filter((line) => /\sIN\s/.test(line));
  assert.deepEqual(
    lines.map((line) => line.split(/\s+/)[3]),
    ['SOA', 'SOA', 'SOA', 'A', 'TXT', 'SOA'],
  );
  assert.doesNotMatch(text, /WARNING|;; ERROR/);
});

test('secondaries with another secret get nothing', { skip }, async (t) => {
  const before = counts.get('dns_transfer_answers axfr');
  for (const maker of [nsd('TCP'), knot, bind]) {
    const rejections = () =>
      (counts.get('dns_transfer_answers badsig') ?? 0) + server.counts().get('dns_tsig rejected')!;
    const refusals = rejections();
    const wrong = await maker(optionsOf(await freePort(), strangerSecret));
    t.after(wrong.stop);
    await until(`${wrong.name} is rejected`, () => rejections() > refusals);
    assert.notEqual((await digest(wrong.port, '', 'SOA'))[0], 'QUERY NOERROR', wrong.name);
  }
  assert.equal(counts.get('dns_transfer_answers axfr'), before);
});

const refused: [what: string, args: () => string[], says: RegExp][] = [
  ['no key', () => [], /REFUSED/],
  ['another key', () => ['-y', kdigKey('stranger', strangerSecret)], /REFUSED/],
  ['an unknown key', () => ['-y', kdigKey('nobody', secret)], /BADKEY|NOTAUTH/],
  ['a wrong secret', () => ['-y', kdigKey(keyName, strangerSecret)], /BADSIG|NOTAUTH/],
  ['a wrong address', () => ['-y', rightKey, '-b', '127.0.0.9'], /REFUSED/],
];
for (const [what, args, says] of refused) {
  for (const type of ['AXFR', 'IXFR=1']) {
    test(`kdig ${type} with ${what} is refused`, { skip }, async () => {
      const text = await kdig(...args(), apex, type);
      assert.match(text, says);
      assert.doesNotMatch(text, /\sIN\s+TXT\s/);
    });
  }
}

function kdigKey(name: string, of: Buffer): string {
  return `hmac-sha256:${name}:${of.toString('base64')}`;
}

/** What it prints, whether it is content or not. */
async function kdig(...args: string[]): Promise<string> {
  const ran = run('kdig', ['@127.0.0.1', '-p', `${port}`, '+retry=0', ...args], { maxBuffer: 2 ** 26 });
  const { stdout, stderr } = await ran.catch((error: { stdout: string; stderr: string }) => error);
  return stdout + stderr;
}

function count(what: string, reason?: string): void {
  const name = reason === undefined ? what : `${what} ${reason}`;
  counts.set(name, (counts.get(name) ?? 0) + 1);
}

/** Of each question: status, and the records of answer and authority. */
async function digests(at: number, asked: readonly [name: string, type: string][]): Promise<string[][]> {
  const full = asked.map(([name, type]) => [name === '' ? apex : `${name}.${apex}`, type]);
  const said = await dig(at, ['+norecurse', '+nocookie'], full);
  return said.map(({ status, answer, authority }, index) => {
    // BIND gives an owner's letters as the zone has them; a name is the same in any.
    const records = [...answer, ...authority].map((line) => line.toLowerCase());
    // Some add the NS of the zone to answers; that is theirs to say.
    const isNs = asked[index]![1] === 'NS';
    return [status, ...records.filter((line) => isNs || !line.includes(' in ns '))];
  });
}

/** Status, and the records of answer and authority. */
async function digest(at: number, name: string, type: string): Promise<string[]> {
  return (await digests(at, [[name, type]]))[0]!;
}

async function wholeZone(at: number): Promise<string[]> {
  const { stdout } = await run(
    'kdig',
    ['@127.0.0.1', '-p', `${at}`, '-y', rightKey, apex, 'AXFR', '+noall', '+answer'],
    { maxBuffer: 2 ** 26 },
  );
  return stdout
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith(';'))
    .sort();
}
