/** Real secondaries: NSD and Knot take the zone by AXFR, follow it by NOTIFY and IXFR, and answer as we do. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { pino } from 'pino';
import { DnsServer } from '../../dnsbl/server.ts';
import { Transfers } from '../../dnsbl/transfer/transfers.ts';
import { needs } from '../peers.ts';
import { apex, emptyZone, vouched } from '../unit/dnsbl-fixtures.ts';

const run = promisify(execFile);
const skip = needs('nsd', 'knot', 'dig', 'kdig');

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

const secondaries: Secondary[] = [];
let transfers: Transfers;
let server: DnsServer;
let port = 0;

/** What the node does at start: zone, transfers and server, in one process. */
async function startPrimary(): Promise<void> {
  const told = secondaries.map((secondary) => ({ host: '127.0.0.1', port: secondary.port, key: keyName }));
  transfers = new Transfers({
    zones: [zone],
    keys: [
      { name: keyName, secret },
      { name: 'stranger', secret: strangerSecret },
    ],
    allow: new Map([[apex, [{ prefix: '127.0.0.1', key: keyName }]]]),
    notify: new Map([[apex, told]]),
    journalDir: folder,
    now: Date.now,
    log: pino({ enabled: false }),
    count,
  });
  zone.onChange = (change) => transfers.changed(apex, change);
  server = new DnsServer({
    zones: [zone],
    listen: { host: '127.0.0.1', port },
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
  port = await freePort();
  secondaries.push(startNsd(await freePort()), startKnot(await freePort()));
  await startPrimary();
});

after(async () => {
  await Promise.all(secondaries.map((secondary) => secondary.stop()));
  await stopPrimary();
  rmSync(folder, { recursive: true, force: true });
});

test('NSD and Knot transfer the whole zone, signed', { skip }, async () => {
  for (const secondary of secondaries) await secondary.reaches(zone.serial);
  assert.equal(counts.get('dns_transfer_answers axfr'), 2);
});

test('both follow a change by NOTIFY and IXFR', { skip }, async () => {
  zone.apply(vouched({ name: 'new.test' }, { trust: 3 }));
  zone.apply(vouched({ name: 'tide.test' }, { trust: 3, mailTypes: ['transaction'] }));
  zone.apply(vouched({ name: 'member-3.test' }, { removed: true }));
  zone.apply(vouched({ name: 'reef.test' }, { kind: 4, coverSubdomains: false }));
  for (const secondary of secondaries) await secondary.reaches(zone.serial);
  assert.equal(counts.get('dns_transfer_answers axfr'), 2, 'no further whole zone');
  assert.ok((counts.get('dns_transfer_answers ixfr') ?? 0) >= 2);
  assert.ok((counts.get('dns_notify acknowledged') ?? 0) >= 2);
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

test('both answer every question as we do', { skip }, async () => {
  for (const [name, type] of questions) {
    const [ours, ...theirs] = await Promise.all(
      [port, ...secondaries.map((secondary) => secondary.port)].map((at) => digest(at, name, type)),
    );
    for (const [index, answer] of theirs.entries())
      assert.deepEqual(answer, ours, `${secondaries[index]?.name}: ${name} ${type}`);
  }
});

test('a burst of changes reaches both as differences, and the content is the same', { skip }, async () => {
  for (let index = 0; index < 1500; index++) {
    const name = `member-${index % 4500}.test`;
    zone.apply(
      vouched({ name }, { trust: 2, seq: index, removed: index % 7 === 0, url: `https://x.test/${index}` }),
    );
    if (index % 100 === 0) await pause(1);
  }
  for (const secondary of secondaries) await secondary.reaches(zone.serial);
  assert.equal(counts.get('dns_transfer_answers axfr'), 2);
  const ours = await wholeZone(port);
  assert.ok(ours.length > 1500);
  const [, knot] = secondaries;
  assert.deepEqual(await wholeZone(knot!.port), ours);
});

test('a restart keeps the past: both follow by IXFR', { skip }, async () => {
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
    assert.equal((await digest(secondary.port, 'after-restart.test.dom', 'A'))[0], 'NOERROR', secondary.name);
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

/** Status, and the records of answer and authority, sorted. */
async function digest(at: number, name: string, type: string): Promise<string[]> {
  const full = name === '' ? apex : `${name}.${apex}`;
  const { stdout } = await run('dig', [
    '@127.0.0.1',
    '-p',
    `${at}`,
    '+norec',
    '+noall',
    '+comments',
    '+answer',
    '+authority',
    '+tries=2',
    full,
    type,
  ]);
  const status = /status: (\w+)/.exec(stdout)?.[1] ?? 'none';
  const records = stdout.split('\n').filter((line) => line !== '' && !line.startsWith(';'));
  // Knot and NSD add the NS of the zone to answers; that is theirs to say.
  const ownNs = type === 'NS' ? records : records.filter((line) => !/\sIN\s+NS\s/.test(line));
  return [status, ...ownNs.map((line) => line.replace(/\s+/g, ' ')).sort()];
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

type Secondary = {
  name: string;
  port: number;
  log: () => string;
  sawDifference: () => boolean;
  reaches: (serial: number) => Promise<void>;
  stop: () => Promise<void>;
};

function startNsd(at: number): Secondary {
  const home = mkdtempSync(join(folder, 'nsd-'));
  const config = join(home, 'nsd.conf');
  writeFileSync(
    config,
    `server:
  ip-address: 127.0.0.1@${at}
  username: ""
  zonesdir: "${home}"
  database: ""
  pidfile: "${home}/nsd.pid"
  xfrdfile: "${home}/xfrd.state"
  xfrdir: "${home}"
  zonelistfile: "${home}/zone.list"
  server-count: 1
  verbosity: 3
  xfrd-reload-timeout: 0
remote-control:
  control-enable: no
key:
  name: "${keyName}"
  algorithm: hmac-sha256
  secret: "${secret.toString('base64')}"
zone:
  name: "${apex}"
  zonefile: "zone"
  request-xfr: 127.0.0.1@${port} ${keyName}
  allow-notify: 127.0.0.1 ${keyName}
`,
  );
  return secondary('NSD', at, spawn('/usr/sbin/nsd', ['-d', '-c', config]), / of \d{1,4} bytes in /);
}

function startKnot(at: number): Secondary {
  const home = mkdtempSync(join(folder, 'knot-'));
  const config = join(home, 'knot.conf');
  writeFileSync(
    config,
    `server:
  rundir: "${home}"
  listen: 127.0.0.1@${at}
log:
  - target: stdout
    any: debug
database:
  storage: "${home}"
key:
  - id: ${keyName}
    algorithm: hmac-sha256
    secret: ${secret.toString('base64')}
remote:
  - id: primary
    address: 127.0.0.1@${port}
    key: ${keyName}
acl:
  - id: primary
    address: 127.0.0.1
    key: ${keyName}
    action: [notify, transfer]
zone:
  - domain: ${apex}
    storage: "${home}"
    master: primary
    acl: primary
`,
  );
  return secondary('Knot', at, spawn('/usr/sbin/knotd', ['-c', config]), /IXFR, incoming.*finished/);
}

function secondary(name: string, at: number, child: ChildProcess, difference: RegExp): Secondary {
  let log = '';
  child.stdout?.on('data', (text) => (log += text));
  child.stderr?.on('data', (text) => (log += text));
  const exited = once(child, 'exit');
  return {
    name,
    port: at,
    log: () => log,
    sawDifference: () => difference.test(log),
    reaches: async (serial) => {
      for (let tries = 0; tries < 200; tries++) {
        if (child.exitCode !== null) break;
        const [, soa = ''] = await digest(at, '', 'SOA').catch(() => []);
        if (soa.includes(` ${serial} `)) return;
        await pause(50);
      }
      assert.fail(`${name} does not reach ${serial}:\n${log}\n${[...counts].join('\n')}`);
    },
    stop: async () => {
      child.kill();
      await exited;
    },
  };
}

async function freePort(): Promise<number> {
  const listener = createServer().listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port: free } = listener.address() as { port: number };
  await once(listener.close(), 'close');
  return free;
}
