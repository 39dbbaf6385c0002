/** What a list server keeps, and who else would have it. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, test } from 'node:test';
import { pino } from 'pino';
import { AloneDns } from '../../node/dns/alone.ts';
import { checkAloneConfig } from '../../node/dns/alone-config.ts';
import { ControlSocket, callNode, controlPath } from '../../node/operator/control.ts';

const folder = mkdtempSync(join(tmpdir(), 'dns-state-'));
after(() => rmSync(folder, { recursive: true }));

const file = join(folder, 'dom.dnset');
const stateDir = join(folder, 'state');

function put(...lines: string[]): void {
  writeFileSync(`${file}.new`, `${lines.join('\n')}\n`);
  renameSync(`${file}.new`, file);
}

const running: AloneDns[] = [];
afterEach(async () => {
  for (const dns of running.splice(0)) await dns.stop();
});

type Line = { level: string; text: string; facts: Record<string, unknown> };

function alone(apexes = ['list.example'], now: () => number = Date.now) {
  const lines: Line[] = [];
  const log = pino({
    hooks: {
      logMethod(args, _method, level) {
        const [facts] = args as unknown[];
        lines.push({
          level: pino.levels.labels[level]!,
          text: String(args.at(-1)),
          facts: facts as Record<string, unknown>,
        });
      },
    },
  });
  const zones = apexes.map((apex) => ({ apex, files: [`dom=${file}`], poll: '1h' }));
  const written = { listen: { dns: '127.0.0.1:53' }, stateDir, dns: { workers: 0, zones } };
  const settings = checkAloneConfig(JSON.stringify(written), join(folder, 'dns.jsonc'));
  const listen = [{ host: '127.0.0.1', port: 0 }];
  const dns = new AloneDns({ settings: { ...settings, listen }, log, now });
  running.push(dns);
  return { dns, lines };
}

const status = () => callNode(stateDir, 'GET', '/dns/status') as Promise<{ zones: { serial: number }[] }>;

test('a second list server with the same state folder is refused, and the first can still be asked', async () => {
  put('reef.test');
  const first = alone();
  await first.dns.start();
  const { serial } = (await status()).zones[0]!;
  for (let tries = 0; tries < 2; tries++) {
    const second = alone();
    await assert.rejects(second.dns.start(), /state is in use by another list server/);
    await second.dns.stop();
    assert.equal((await status()).zones[0]!.serial, serial);
  }
  await first.dns.stop();
  assert.equal(existsSync(controlPath(stateDir)), false);
  await alone().dns.start();
  await status();
});

test('a control socket at which somebody answers is left to them, one of a crash is replaced', async () => {
  const options = { stateDir: mkdtempSync(join(folder, 'control-')), log: pino({ level: 'silent' }) };
  const first = new ControlSocket(options);
  first.app.get('/who', () => ({ who: 'first' }));
  await first.start();
  await assert.rejects(new ControlSocket(options).start(), /another process answers there/);
  assert.deepEqual(await callNode(options.stateDir, 'GET', '/who'), { who: 'first' });
  await first.stop();
  writeFileSync(controlPath(options.stateDir), '');
  const later = new ControlSocket(options);
  await later.start();
  await later.stop();
});

test('a serial that went round does not go back at the next start, nor for what a file says', async () => {
  rmSync(stateDir, { recursive: true, force: true });
  put('$SOA 300 ns1.example host.example 4294967295 1h 1h 1h 60', 'reef.test');
  const first = alone();
  await first.dns.start();
  await first.dns.reload();
  const served = first.dns.status()[0]!.serial;
  assert.ok(served < 2 ** 31, String(served));
  await first.dns.stop();
  const second = alone();
  await second.dns.start();
  const again = second.dns.status()[0]!.serial;
  assert.ok(((again - served) | 0) > 0, `${served} then ${again}`);
});

test('what a reloaded file says of the zone itself, and a restart alone takes over, is told', async () => {
  put('$TTL 300', '$NS 300 ns1.example', '$SOA 300 ns1.example host.example 7 1h 1h 1h 60', 'reef.test');
  const { dns, lines } = alone();
  await dns.start();
  const warned = () => lines.filter(({ text }) => text.includes('restart')).map(({ facts }) => facts.changed);
  put('$TTL 300', '$NS 300 ns1.example', '$SOA 300 ns1.example host.example 8 1h 1h 1h 60', 'bay.test');
  await dns.reload();
  assert.deepEqual(warned(), []);
  put('$TTL 600', '$NS 300 ns2.example', '$SOA 300 ns1.example host.example 9 1h 1h 1h 30', 'bay.test');
  await dns.reload();
  assert.deepEqual(warned(), [['$TTL', '$NS', '$SOA']]);
});

test('a zone whose apex lies among the entries of another is told', async () => {
  put('reef.test');
  const { dns, lines } = alone(['list.example', 'dom.list.example', 'a.list.example']);
  await dns.start();
  const told = lines.filter(({ text }) => text.includes('hides')).map(({ facts }) => facts);
  assert.deepEqual(told, [{ apex: 'dom.list.example', outer: 'list.example' }]);
});
