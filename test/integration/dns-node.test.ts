/** The list of a node as an operator sets it up: all of it through the configuration, seen from outside. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { decode, encode } from 'dns-packet';
import { AtmosProcess, atmos, killAll } from '../atmos-process.ts';
import { readExposition } from '../exposition.ts';
import { freePort } from '../free-port.ts';
import { needs } from '../peers.ts';
import { until } from '../until.ts';

const apex = 'list.harbor.test';
const folder = mkdtempSync(join(tmpdir(), 'dns-node-'));
const file = join(folder, 'atmos.jsonc');
const secret = Buffer.alloc(32, 7).toString('base64');
const subscriber = JSON.parse(atmos('dns', 'key', '--json').out) as { key: string; keyHash: string };
const secondary = createSocket('udp4');
const ports = { web: await freePort(), dns: await freePort(), metrics: await freePort() };
const log: string[] = [];
let node: AtmosProcess;

/** Whose first three octets differ is another client to the limit. */
const client = { usual: '127.0.0.1', refused: '127.0.9.1', dropped: '127.0.10.1', limited: '127.0.11.1' };

function configuration(dns: Record<string, unknown> = {}) {
  return {
    ...{ name: 'Harbor', domain: 'harbor.test', did: 'did:web:localhost', stateDir: './state' },
    publicUrl: `http://127.0.0.1:${ports.web}`,
    roles: ['appview', 'dns'],
    listen: {
      web: `127.0.0.1:${ports.web}`,
      dns: [`127.0.0.1:${ports.dns}`, `[::1]:${ports.dns}`],
      metrics: `127.0.0.1:${ports.metrics}`,
    },
    network: { plcUrl: 'http://localhost:1' },
    firehose: [],
    dns: {
      ...{ apex, nameservers: ['ns1.harbor.test'], hostmaster: 'hostmaster@harbor.test' },
      ...{ workers: 1, nsid: 'harbor-1', version: 'list of harbor' },
      limit: { perName: 5, slip: 0 },
      access: { refuse: [client.refused], drop: [client.dropped] },
      keys: [{ name: 'reef', keyHash: subscriber.keyHash }],
      queryLog: { every: 1 },
      transfer: {
        keys: 'tsig.keys',
        allow: [{ prefix: '127.0.0.0/8', key: 'harbor-secondary' }],
        notify: [{ host: '127.0.0.1', port: secondary.address().port, key: 'harbor-secondary' }],
      },
      export: { dir: './zones' },
      ...dns,
    },
  };
}

before(async () => {
  secondary.bind(0, '127.0.0.1');
  await once(secondary, 'listening');
  const notified = once(secondary, 'message');
  writeFileSync(join(folder, 'tsig.keys'), `# ours\nhmac-sha256:harbor-secondary:${secret}\n`);
  writeFileSync(file, JSON.stringify(configuration()));
  node = new AtmosProcess(['start', '--config', file]);
  await node.logged('ready');
  const [message] = (await notified) as [Buffer];
  assert.equal((message[2]! >> 3) & 15, 4, 'the secondary is notified at the start');
});

after(() => {
  secondary.close();
  killAll();
  rmSync(folder, { recursive: true, force: true });
});

/** `no answer` after half a second. */
async function ask(name: string, from: string, type: 'A' | 'TXT' = 'A', host = '127.0.0.1'): Promise<string> {
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
  try {
    socket.bind(0, from);
    await once(socket, 'listening');
    socket.send(encode({ type: 'query', id: 7, questions: [{ type, name }] }), ports.dns, host);
    const [message] = (await once(socket, 'message', { signal: AbortSignal.timeout(500) })) as [Buffer];
    const { rcode, answers = [] } = decode(message) as ReturnType<typeof decode> & { rcode: string };
    return answers[0] && 'data' in answers[0] ? String(answers[0].data) : rcode;
  } catch (error) {
    if ((error as Error).name === 'AbortError') return 'no answer';
    throw error;
  } finally {
    socket.close();
  }
}

test('it answers on every address, and who is refused or dropped hears that or nothing', async () => {
  assert.equal(await ask(`test.dom.${apex}`, client.usual), '127.0.0.2');
  assert.equal(await ask(`test.dom.${apex}`, '::1', 'A', '::1'), '127.0.0.2');
  assert.equal(await ask(`nobody.test.dom.${apex}`, client.usual), 'NXDOMAIN');
  assert.equal(await ask(`test.dom.${apex}`, client.refused), 'REFUSED');
  assert.equal(await ask(`test.dom.${apex}`, client.dropped), 'no answer');
});

test('a subscriber asks with its key, and the log does not say it', async () => {
  assert.equal(await ask(`test.dom.${subscriber.key}.${apex}`, client.usual), '127.0.0.2');
  assert.equal(await ask(`test.dom.${'x'.repeat(26)}.${apex}`, client.usual), 'NXDOMAIN');
  const line = await until('the query log', () =>
    node.lines.find(({ msg, name }) => msg === 'DNS query' && name === `test.dom.*.${apex}.`),
  );
  assert.equal(line.client, '127.0.0.0/24');
  log.push(...node.lines.map((said) => JSON.stringify(said)));
  assert.ok(!log.join('\n').includes(subscriber.key));
  assert.ok(!log.join('\n').includes(secret));
});

test('answers beyond the limit stay away', async () => {
  const socket = createSocket('udp4');
  socket.bind(0, client.limited);
  await once(socket, 'listening');
  let answered = 0;
  socket.on('message', () => (answered += 1));
  const query = encode({ type: 'query', id: 7, questions: [{ type: 'A', name: `test.dom.${apex}` }] });
  for (let n = 0; n < 100; n++) socket.send(query, ports.dns, '127.0.0.1');
  await until(
    'the limit',
    async () => (await series()).get('atmos_dns_rate_limited_total{action="drop"}')! > 0,
  );
  assert.ok(answered <= 20, `${answered} of 100`);
  socket.close();
});

async function series(): Promise<Map<string, number>> {
  const reply = await fetch(`http://127.0.0.1:${ports.metrics}/metrics`);
  return readExposition(await reply.text());
}

test('all metrics are one valid exposition', async () => {
  const values = await series();
  assert.ok(values.get(`atmos_dns_answers_total{zone="${apex}",type="A",answer="noerror"}`)! > 2);
  assert.ok(values.get(`atmos_dns_zone_serial{zone="${apex}"}`)! > 1_000_000_000);
  assert.equal(values.get(`atmos_dns_zone_entries{zone="${apex}"}`), 0);
  assert.equal(values.get(`atmos_dns_subscriber_queries_today{zone="${apex}",subscriber="reef"}`), 1);
  assert.ok(values.has(`atmos_dns_zone_swap_seconds{zone="${apex}"}`));
  assert.ok(values.get('process_cpu_seconds_total')! > 0);
  assert.ok(values.get('atmos_dns_notify_total{reason="sent"}')! >= 1);
});

test('a secondary takes the zone with its key, and nobody else does', { skip: needs('kdig') }, () => {
  const kdig = (...words: string[]) =>
    spawnSync('kdig', ['@127.0.0.1', '-p', String(ports.dns), ...words], { encoding: 'utf8' }).stdout;
  const right = ['-y', `hmac-sha256:harbor-secondary:${secret}`];
  const wrong = ['-y', `hmac-sha256:harbor-secondary:${Buffer.alloc(32, 8).toString('base64')}`];
  const zone = kdig(...right, apex, 'AXFR');
  assert.match(zone, new RegExp(`^test\\.dom\\.${apex}\\.\\s+300\\s+IN\\s+A\\s+127\\.0\\.0\\.2$`, 'm'));
  assert.doesNotMatch(kdig(...wrong, apex, 'AXFR'), /127\.0\.0\.2/);
  assert.doesNotMatch(kdig(apex, 'AXFR'), /127\.0\.0\.2/);
  assert.match(kdig('+short', 'CH', 'TXT', 'version.bind'), /list of harbor/);
  assert.match(kdig('+nsid', apex, 'SOA'), /harbor-1/);
});

test('commands ask it how it stands, and export; SIGUSR2 does too', async () => {
  const config = ['--config', file];
  assert.match(atmos('dns', 'status', ...config).out, new RegExp(`^${apex}: 0 entries, serial \\d+$`, 'm'));
  assert.match(atmos('dns', 'export', ...config).out, /^0 entries of serial \d+ in \d files/);
  const zoneFile = join(folder, 'zones', `${apex}.zone`);
  assert.match(readFileSync(zoneFile, 'utf8'), /^test\.dom 300 IN A 127\.0\.0\.2$/m);
  const seen = node.lines.length;
  node.child.kill('SIGUSR2');
  await node.logged('DNS zone exported', seen);
});

test('access settings change while it answers; a broken file changes nothing', async () => {
  writeFileSync(file, JSON.stringify(configuration({ limit: { mode: 'sometimes' } })));
  let seen = node.lines.length;
  node.child.kill('SIGHUP');
  await node.logged('configuration not read again', seen);
  assert.match(atmos('dns', 'reload', '--config', file).err, /"dns\.limit\.mode": "sometimes"/);
  assert.equal(await ask(`test.dom.${apex}`, client.refused), 'REFUSED');

  writeFileSync(
    file,
    JSON.stringify(configuration({ access: { refuse: [client.usual] }, unkeyed: 'closed' })),
  );
  seen = node.lines.length;
  node.child.kill('SIGHUP');
  await node.logged('DNS access settings read again', seen);
  // A thread that waits for packets looks for settings a few times a second.
  const asKnown = () => ask(`test.dom.${subscriber.key}.${apex}`, client.refused);
  await until('the new settings', async () => (await asKnown()) === '127.0.0.2', 2000);
  assert.equal(await ask(`test.dom.${apex}`, client.refused), 'REFUSED');
  assert.equal(await ask(`test.dom.${subscriber.key}.${apex}`, client.usual), 'REFUSED');
});

test('the serial goes on behind the last run', async () => {
  const serial = async () => (await series()).get(`atmos_dns_zone_serial{zone="${apex}"}`)!;
  const served = await serial();
  assert.equal(await node.end(), 0);
  writeFileSync(file, JSON.stringify(configuration()));
  node = new AtmosProcess(['start', '--config', file]);
  await node.logged('ready');
  assert.ok((await serial()) > served);
  assert.equal(await node.end(), 0);
});

test('a file of keys that cannot be used is named, its content is not', () => {
  writeFileSync(join(folder, 'tsig.keys'), `hmac-sha512:harbor-secondary:${secret}\n`);
  const { code, err } = atmos('start', '--config', file);
  assert.equal(code, 2);
  assert.match(err, /dns\.transfer\.keys, .*tsig\.keys: line 1 is not of the form hmac-sha256:name:secret/);
  assert.ok(!err.includes(secret));
});
