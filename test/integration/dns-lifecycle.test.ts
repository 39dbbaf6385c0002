/** The list server alone, in this process: what a reload takes over, and a stop in the middle of a start. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, test } from 'node:test';
import { pino } from 'pino';
import { AloneDns, type AloneSettings } from '../../node/dns/alone.ts';
import { checkAloneConfig } from '../../node/dns/alone-config.ts';
import { askDns } from '../ask-dns.ts';
import { freePort } from '../free-port.ts';
import { AppView } from '../unit/dnsbl-appview.ts';

const folder = mkdtempSync(join(tmpdir(), 'dns-lifecycle-'));
after(() => rmSync(folder, { recursive: true }));

const port = await freePort();
const server = { host: '127.0.0.1', port };
const file = join(folder, 'dom.dnset');

function settings(zones: unknown[], dns: Record<string, unknown> = {}): AloneSettings {
  const written = {
    listen: { dns: `127.0.0.1:${port}` },
    dns: { workers: 0, ...dns, zones },
  };
  return checkAloneConfig(JSON.stringify(written), join(folder, 'dns.jsonc'));
}

const paid = (apex: string) => ({ apex, files: [`dom=${file}`], poll: '1h', unkeyed: 'closed' });

const running: AloneDns[] = [];
afterEach(async () => {
  for (const dns of running.splice(0)) await dns.stop();
});

function alone(first: AloneSettings, later?: () => AloneSettings, onLog?: (text: string) => void) {
  const log = pino({ hooks: { logMethod: (args) => onLog?.(String(args.at(-1))) } });
  const dns = new AloneDns({ settings: first, ...(later && { reread: later }), log, now: Date.now });
  running.push(dns);
  return dns;
}

const isTaken = () =>
  new Promise<boolean>((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });

const rcodeOf = async (name: string) => (await askDns(server, name)).rcode;

test('a reload that no longer names a zone is refused, and its subscribers stay the only ones', async () => {
  writeFileSync(file, 'reef.test :2:\n');
  const dns = alone(settings([paid('list.test')]), () => settings([paid('renamed.test')]));
  await dns.start();
  assert.equal(await rcodeOf('reef.test.dom.list.test'), 'REFUSED');
  await assert.rejects(dns.reload(), /list\.test is served, but no longer named: .* needs a restart/);
  assert.equal(await rcodeOf('reef.test.dom.list.test'), 'REFUSED');
  await dns.stop();
});

test('a zone file that is away keeps its old entries, and no other part of a reload from its effect', async () => {
  writeFileSync(file, 'reef.test :2:\n');
  const zones = [{ ...paid('list.test'), unkeyed: 'open' }];
  const dns = alone(settings(zones), () => settings(zones, { access: { refuse: ['127.0.0.0/8'] } }));
  await dns.start();
  assert.equal(await rcodeOf('reef.test.dom.list.test'), 'NOERROR');
  rmSync(file);
  await assert.rejects(dns.reload(), /could not be read, the old entries stay/);
  assert.equal(await rcodeOf('reef.test.dom.list.test'), 'REFUSED');
  assert.equal(dns.status()[0]?.entries, 1);
  await dns.stop();
});

test('a stop in the middle of a start leaves nothing running, whenever it comes', async () => {
  const appview = new AppView();
  appview.list('reef.test');
  const from = await appview.start();
  const followed = settings([{ apex: 'list.test', from, nameservers: ['ns1.example'] }]);
  const first = alone(followed);
  await first.start();
  await first.stop();
  for (const moment of ['', 'saved state loaded', 'DNS list is current', 'DNS listens']) {
    const reached = Promise.withResolvers<void>();
    const dns = alone(followed, undefined, (text) => {
      if (text.includes(moment)) reached.resolve();
    });
    const started = dns.start();
    started.catch(() => undefined);
    if (moment !== '') await Promise.race([reached.promise, started.catch(() => undefined)]);
    await dns.stop();
    // At the last moment it may have started just before; then it was stopped like any other.
    if (moment === '' || moment.startsWith('saved')) await assert.rejects(started, /stopped/, moment);
    else await started.catch(() => undefined);
    assert.equal(await isTaken(), false, moment);
  }
  await appview.stop();
});

test('a stop while no AppView can be reached ends the start', async () => {
  rmSync(join(folder, 'state'), { recursive: true, force: true });
  const from = `http://127.0.0.1:${await freePort()}`;
  const reached = Promise.withResolvers<void>();
  const dns = alone(
    settings([{ apex: 'list.test', from, nameservers: ['ns1.example'] }]),
    undefined,
    (text) => {
      if (text.includes('interrupted')) reached.resolve();
    },
  );
  const started = dns.start();
  started.catch(() => undefined);
  await reached.promise;
  await dns.stop();
  await assert.rejects(started, /stopped/);
});

test('one zone that cannot be opened ends the start of the others', async () => {
  const appview = new AppView();
  const from = await appview.start();
  writeFileSync(file, 'reef.test :2:\n');
  const zones = [
    { apex: 'list.test', from, nameservers: ['ns1.example'] },
    { apex: 'files.test', files: [`dom=${join(folder, 'nowhere.dnset')}`] },
  ];
  await assert.rejects(alone(settings(zones)).start(), /ENOENT.*nowhere/);
  await appview.stop();
});
