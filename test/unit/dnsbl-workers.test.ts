import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { networkInterfaces } from 'node:os';
import { type TestContext, test } from 'node:test';
import { pino } from 'pino';
import { MAX_WORKER_CRASHES, WORKER_RESTART_MS } from '../../dnsbl/limits.ts';
import { DnsServer, type DnsServerOptions } from '../../dnsbl/server.ts';
import type { ZoneShare } from '../../dnsbl/table/share.ts';
import type { Zone } from '../../dnsbl/zone.ts';
import { addressOf } from '../ask-dns.ts';
import { needsNativeDns } from '../native-dns.ts';
import { until } from '../until.ts';
import { apex, decoded, queryPacket, vouched, zoneOf } from './dnsbl-fixtures.ts';

const name = `reef.test.dom.${apex}`;
const loopback = { host: '127.0.0.1', port: 0 };

async function running(t: TestContext, options: Partial<DnsServerOptions>) {
  const zone = zoneOf(vouched({ name: 'reef.test' }));
  const logged: Record<string, unknown>[] = [];
  const log = pino({}, { write: (line: string) => logged.push(JSON.parse(line)) });
  const server = new DnsServer({ zones: [zone], listen: loopback, workers: 1, log, ...options });
  const addresses = await server.start();
  t.after(() => server.stop());
  return { zone, server, logged, addresses, at: addresses[0]! };
}

/** One query from one socket to many answers, whichever thread gives them. */
async function askFrom(family: 4 | 6, host: string, port: number): Promise<{ data: unknown; from: string }> {
  const socket = createSocket(family === 4 ? 'udp4' : 'udp6');
  try {
    const answered = once(socket, 'message', { signal: AbortSignal.timeout(2000) });
    socket.send(queryPacket(name, 'A'), port, host);
    const [message, { address }] = await answered;
    const [first] = decoded(message).answers ?? [];
    return { data: first && 'data' in first ? first.data : undefined, from: address };
  } finally {
    socket.close();
  }
}

/** Nothing of a table is in it, so the thread that takes it dies of it. */
function killThreads(zone: Zone): void {
  zone.onSwap!({ ...zone.share(), table: undefined } as unknown as ZoneShare);
}

for (const sockets of ['dgram', 'native'] as const) {
  const skip = sockets === 'native' ? needsNativeDns() : false;

  test(`${sockets}: threads share the ports of all addresses, and every address answers`, {
    skip,
  }, async (t) => {
    const listen = [loopback, { host: '127.0.0.2', port: 0 }, { host: '::1', port: 0 }];
    const { addresses, server } = await running(t, { sockets, workers: 2, listen });
    assert.equal(new Set(addresses.map(({ port }) => port)).size, 3);
    for (let turn = 0; turn < 20; turn++) {
      for (const { host, port } of addresses) {
        const family = host === '::1' ? 6 : 4;
        assert.deepEqual(await askFrom(family, host, port), { data: '127.0.3.1', from: host });
      }
    }
    assert.equal(server.counts().get('dns_queries udp'), 60);
    assert.equal(server.counts().get('dns_answers noerror'), 60);
  });

  test(`${sockets}: every change is in the next answer of every thread`, { skip }, async (t) => {
    const { at, zone } = await running(t, { sockets, workers: 2 });
    for (let turn = 0; turn < 30; turn++) {
      zone.apply(vouched({ name: 'reef.test' }, { trust: (turn % 4) as 0 }));
      assert.equal(await addressOf(at, name), `127.0.3.${turn % 4}`);
      zone.replace(turn % 2 === 0 ? [] : [vouched({ name: 'reef.test' }, { kind: 4 })]);
      assert.equal(await addressOf(at, name), turn % 2 === 0 ? 'NXDOMAIN' : '127.0.4.1');
    }
  });

  test(`${sockets}: a thread that dies is reported, and another takes its place`, { skip }, async (t) => {
    const { at, zone, logged, server } = await running(t, { sockets });
    assert.equal(await addressOf(at, name), '127.0.3.1');
    killThreads(zone);
    await until('the thread died', () => logged.find(({ msg }) => msg === 'DNS thread died'));
    zone.apply(vouched({ name: 'reef.test' }, { trust: 2 }));
    await until('its successor answers', async () => (await addressOf(at, name)) === '127.0.3.2');
    assert.ok(server.counts().get('dns_queries udp')! >= 2, 'the counters go on');
  });

  test(`${sockets}: threads that keep dying wait before they begin again, and nothing else ends`, {
    skip,
  }, async (t) => {
    const { at, zone, logged, server } = await running(t, { sockets });
    const deaths = () => logged.filter(({ msg }) => msg === 'DNS thread died').length;
    for (let death = 1; death <= MAX_WORKER_CRASHES + 1; death++) {
      killThreads(zone);
      await until(`death ${death}`, () => deaths() === death);
    }
    const last = logged.findLast(({ msg }) => msg === 'DNS thread died')!;
    assert.deepEqual([last.level, last.againMs], [60, WORKER_RESTART_MS], 'fatal, but of one part');
    const before = logged.filter(({ msg, againMs }) => msg === 'DNS thread died' && againMs === 0).length;
    assert.equal(before, MAX_WORKER_CRASHES, 'those before were not kept waiting');
    assert.equal(server.counts().get('dns_threads died'), MAX_WORKER_CRASHES + 1);
    await until('it answers again', async () => (await addressOf(at, name)) === '127.0.3.1');
  });

  test(`${sockets}: stop ends idle threads within 100 ms, and the ports are free`, { skip }, async (t) => {
    const { at, server } = await running(t, { sockets, workers: 2 });
    assert.equal(await addressOf(at, name), '127.0.3.1');
    const before = performance.now();
    await server.stop();
    // Ending two threads costs what ending threads costs here; the blocked socket adds no more than this.
    const tookMs = performance.now() - before;
    assert.ok(tookMs < 500, `${tookMs} ms`);
    const again = await running(t, { sockets, listen: at });
    assert.equal(await addressOf(again.at, name), '127.0.3.1');
  });

  test(`${sockets}: a taken port is an error with its code`, { skip }, async (t) => {
    const taken = createSocket('udp4').bind(0, '127.0.0.1');
    await once(taken, 'listening');
    t.after(() => taken.close());
    const { port } = taken.address();
    const listen = { host: '127.0.0.1', port };
    await assert.rejects(running(t, { sockets, workers: 2, listen }), { code: 'EADDRINUSE' });
  });

  test(`${sockets}: packets that are no queries get silence, and cost nothing`, { skip }, async (t) => {
    const { at, server } = await running(t, { sockets });
    const client = createSocket('udp4');
    t.after(() => client.close());
    const junk = [
      Buffer.alloc(0),
      Buffer.alloc(11),
      Buffer.alloc(12, 0xff),
      Buffer.alloc(5000),
      Buffer.alloc(60_000),
    ];
    for (const packet of junk) client.send(packet, at.port, at.host);
    client.send(queryPacket(name, 'A'), at.port, at.host);
    const [message] = await once(client, 'message');
    assert.equal(decoded(message).answers?.length, 1);
    const counts = server.counts();
    assert.equal(counts.get('dns_dropped short'), 2);
    assert.equal(counts.get('dns_dropped response'), 1);
    assert.equal(counts.get('dns_dropped oversized'), 2);
  });
}

test('native: on a wildcard address the answer leaves from the one that was asked', {
  skip: needsNativeDns(),
}, async (t) => {
  const listen = [
    { host: '0.0.0.0', port: 0 },
    { host: '::', port: 0 },
  ];
  const { addresses } = await running(t, { sockets: 'native', listen });
  const [four, six] = addresses.map(({ port }) => port);
  const own = Object.values(networkInterfaces()).flatMap((all) => all ?? []);
  const asked = [
    '127.0.0.1',
    '127.1.2.3',
    ...own.filter(({ family }) => family === 'IPv4').map((a) => a.address),
  ];
  for (const host of asked) {
    assert.deepEqual(await askFrom(4, host, four!), { data: '127.0.3.1', from: host });
  }
  assert.deepEqual(await askFrom(6, '::1', six!), { data: '127.0.3.1', from: '::1' });
});

test('both kinds of sockets give the same octets', { skip: needsNativeDns() }, async (t) => {
  const [one, other] = [await running(t, { sockets: 'dgram' }), await running(t, { sockets: 'native' })];
  const names = [
    name,
    apex,
    `nobody.test.dom.${apex}`,
    `2.0.0.127.ip.${apex}`,
    `reef.test._vouch.${apex}`,
    'other.test',
  ];
  const client = createSocket('udp4');
  t.after(() => client.close());
  for (const asked of names) {
    for (const type of ['A', 'TXT', 'SOA', 'NS', 'ANY'] as const) {
      const replies = [];
      for (const { at } of [one, other]) {
        client.send(queryPacket(asked, type, {}), at.port, at.host);
        replies.push((await once(client, 'message'))[0].toString('hex'));
      }
      assert.equal(replies[0], replies[1], `${asked} ${type}`);
    }
  }
});

test('a burst is answered whole by the native sockets, batch after batch', {
  skip: needsNativeDns(),
}, async (t) => {
  const { at } = await running(t, { sockets: 'native' });
  const client = createSocket({ type: 'udp4', recvBufferSize: 2 ** 21 });
  t.after(() => client.close());
  const ids = new Set<number>();
  const all = new Promise<void>((resolve) => {
    client.on('message', (message) => {
      assert.equal(decoded(message).answers?.length, 1);
      if (ids.add(message.readUInt16BE(0)).size === 500) resolve();
    });
  });
  for (let id = 0; id < 500; id++) {
    const query = queryPacket(name, 'A');
    query.writeUInt16BE(id);
    client.send(query, at.port, at.host);
  }
  await all;
});

test('native sockets without threads, and threads without the native sockets that were asked for, are errors', async () => {
  const zones = [zoneOf()];
  const server = new DnsServer({ zones, listen: loopback, sockets: 'native', log: pino({ enabled: false }) });
  await assert.rejects(server.start(), /need workers/);
});

test('the start-up line names the addresses and whose sockets serve', async (t) => {
  const { logged, at } = await running(t, { sockets: 'dgram', workers: 2 });
  const { addresses, workers, sockets } = logged.find(({ msg }) => msg === 'DNS listens')!;
  assert.deepEqual(
    { addresses, workers, sockets },
    { addresses: [`127.0.0.1:${at.port}`], workers: 2, sockets: 'dgram' },
  );
});

test('no thread begins again behind a stop', async (t) => {
  const { at, zone, logged, server } = await running(t, { sockets: 'dgram' });
  const deaths = () => logged.filter(({ msg }) => msg === 'DNS thread died').length;
  for (let death = 1; death <= MAX_WORKER_CRASHES + 1; death++) {
    killThreads(zone);
    await until(`death ${death}`, () => deaths() === death);
  }
  await server.stop();
  // Real time, for what must not happen would happen then: it would hold the port.
  await new Promise((resolve) => setTimeout(resolve, WORKER_RESTART_MS + 1000));
  const again = await running(t, { workers: 0, listen: at });
  assert.equal(await addressOf(again.at, name), '127.0.3.1');
});
