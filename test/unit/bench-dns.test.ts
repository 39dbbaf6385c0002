/** The load of the DNS benchmark, beside servers that answer as told. */
import assert from 'node:assert/strict';
import { createSocket, type RemoteInfo } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { pino } from 'pino';
import { Access } from '../../dnsbl/access/access.ts';
import { CookieSecrets } from '../../dnsbl/access/cookie-secrets.ts';
import { defaultAccess } from '../../dnsbl/access/settings.ts';
import { readZone } from '../../dnsbl/files/read-zone.ts';
import { DnsServer } from '../../dnsbl/server.ts';
import { Zone } from '../../dnsbl/zone.ts';
import { apex, type Mix, writeQueries, writeZoneFiles, zoneFiles } from '../bench/dns/data.ts';
import { Load } from '../bench/dns/load.ts';
import { needs } from '../peers.ts';

// Not missingLoad(): what does not compile here is to fail.
const skip = needs('cc');
const entries = 60;

function folder(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'atmos-bench-dns-test-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** @param answer what goes back; undefined: nothing */
async function answering(t: TestContext, answer: (packet: Buffer, peer: RemoteInfo) => Buffer | undefined) {
  const server = createSocket({ type: 'udp4', recvBufferSize: 1 << 20 });
  t.after(() => server.close());
  server.on('message', (packet, peer) => {
    const reply = answer(packet, peer);
    if (reply) server.send(reply, peer.port, peer.address);
  });
  server.bind(0, '127.0.0.1');
  await once(server, 'listening');
  return server.address().port;
}

async function loadOf(t: TestContext, port: number, lines: string[] | Mix): Promise<Load> {
  const queriesFile = join(folder(t), 'queries');
  if (typeof lines === 'number') writeQueries(queriesFile, lines, entries, 500);
  else writeFileSync(queriesFile, `${lines.join('\n')}\n`);
  const load = await Load.start({ port, queriesFile, isSpread: lines === 2 });
  t.after(() => load.stop());
  return load;
}

/** NXDOMAIN, with what was asked. */
function missing(packet: Buffer): Buffer {
  const reply = Buffer.from(packet);
  reply[2]! |= 0x80;
  reply[3] = 3;
  return reply;
}

for (const mix of [1, 2] as const) {
  test(`every answer of ours to mix ${mix} is what the load wants`, { skip }, async (t) => {
    const dir = folder(t);
    writeZoneFiles(dir, entries);
    const sources = [
      { subtree: 'dom', form: 'dnset', file: join(dir, zoneFiles.dom) },
      { subtree: 'ip', form: 'ip4set', file: join(dir, zoneFiles.ip) },
    ] as const;
    const { table, notTakenCount } = readZone({ apex, sources });
    assert.equal(notTakenCount, 0);
    const zone = new Zone({ apex, nameservers: ['ns.test'], hostmaster: 'dns.test', now: Date.now });
    zone.adopt(table);
    assert.equal(zone.size, 2 * entries);
    const access = new Access({
      settings: { ...defaultAccess, limit: { ...defaultAccess.limit, mode: 'off' } },
      cookieSecrets: new CookieSecrets(),
    });
    const log = pino({ enabled: false });
    const server = new DnsServer({ zones: [zone], listen: { host: '127.0.0.1', port: 0 }, access, log });
    const [bound] = await server.start();
    t.after(() => server.stop());
    const load = await loadOf(t, bound!.port, mix);
    const report = await load.closed(0.3, 8);
    assert.ok(report.answered > 500, 'all were asked');
    assert.deepEqual([report.answered, report.wrong, report.lost], [report.sent, 0, 0]);
    assert.equal(report.cookies > 0, mix === 2);
    const counts = server.counts();
    const { noerror, nxdomain } = {
      noerror: counts.get('dns_answers noerror'),
      nxdomain: counts.get('dns_answers nxdomain'),
    };
    assert.equal(noerror! + nxdomain!, report.sent);
  });
}

test('an answer that says something else is wrong, and one that never comes is lost', { skip }, async (t) => {
  const kinds = { right: 0, wrong: 0, silent: 0 };
  const port = await answering(t, (packet) => {
    const turn = (kinds.right + kinds.wrong + kinds.silent) % 10;
    kinds[turn === 0 ? 'silent' : turn < 3 ? 'wrong' : 'right'] += 1;
    if (turn === 0) return undefined;
    const reply = missing(packet);
    if (turn === 1) reply[3] = 0;
    if (turn === 2) reply[14]! ^= 1;
    return reply;
  });
  const load = await loadOf(t, port, ['a.test A - plain 127.1.2.3', 'bb.test A - edns 127.1.2.3']);
  const { sent, answered, wrong, lost } = await load.closed(0.5, 16);
  // What comes after 300 ms, on a machine that is busy with other things, is lost too.
  assert.ok(answered > 0 && answered <= kinds.right);
  assert.ok(wrong > 0 && wrong <= kinds.wrong);
  assert.ok(lost >= kinds.silent && kinds.silent > 0);
  assert.equal(answered + wrong + lost, sent);
});

test('in an open loop so many are sent as were ordered', { skip }, async (t) => {
  const load = await loadOf(t, await answering(t, missing), ['a.test A - plain 127.1.2.3']);
  const { sent, answered } = await load.open(0.5, 100);
  assert.ok(sent >= 49 && sent <= 55, `${sent} in half a second`);
  assert.equal(answered, sent);
});

test('a spread load comes from the address of each query', { skip }, async (t) => {
  const seen = new Set<string>();
  const port = await answering(t, (packet, { address }) => {
    seen.add(address);
    return missing(packet);
  });
  const queriesFile = join(folder(t), 'queries');
  writeFileSync(queriesFile, 'a.test A - plain 127.1.2.3\nb.test A - plain 127.200.0.9\n');
  const load = await Load.start({ port, queriesFile, isSpread: true });
  t.after(() => load.stop());
  await load.open(0.1, 1000);
  assert.deepEqual([...seen].sort(), ['127.1.2.3', '127.200.0.9']);
});
