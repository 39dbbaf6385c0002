import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { pino } from 'pino';
import { DnsServer, type DnsServerOptions } from '../../dnsbl/server.ts';
import { FrameReader } from '../../dnsbl/tcp.ts';
import { Zone } from '../../dnsbl/zone.ts';
import { addressOf } from '../ask-dns.ts';
import { apex, decoded, emptyZone, queryPacket, vouched, zoneOf } from './dnsbl-fixtures.ts';

type Running = { host: string; port: number; zone: Zone; server: DnsServer; count: (what: string) => number };

async function running(t: TestContext, options: Partial<DnsServerOptions> = {}): Promise<Running> {
  const zone = zoneOf(vouched({ name: 'reef.test' }));
  const server = new DnsServer({
    zones: [zone],
    listen: { host: '127.0.0.1', port: 0 },
    log: pino({ enabled: false }),
    ...options,
  });
  const [address] = await server.start();
  t.after(() => server.stop());
  return { ...address!, zone, server, count: (what) => server.counts().get(what)! };
}

function framed(packet: Buffer): Buffer {
  return Buffer.concat([Buffer.from([packet.length >> 8, packet.length & 0xff]), packet]);
}

/** Reads until the server ends or cuts the connection. */
async function messagesOf(socket: Socket): Promise<Buffer[]> {
  const frames = new FrameReader();
  const messages: Buffer[] = [];
  for await (const chunk of socket) messages.push(...frames.push(chunk));
  return messages;
}

/** By a FIN or a reset, whichever comes first. */
function closed(socket: Socket): Promise<void> {
  socket.on('error', () => socket.destroy());
  return new Promise((resolve) => socket.once('close', () => resolve()));
}

const query = queryPacket(`reef.test.dom.${apex}`, 'A');

test('UDP and TCP answer on the same port', async (t) => {
  const { host, port } = await running(t);
  assert.equal(await addressOf({ host, port }, `reef.test.dom.${apex}`), '127.0.3.1');
  const client = connect(port, host);
  client.end(framed(query));
  const [message] = await messagesOf(client);
  assert.equal(decoded(message as Buffer).answers?.length, 1);
});

test('IPv6 is served like IPv4', async (t) => {
  const { port } = await running(t, { listen: { host: '::1', port: 0 } });
  const client = createSocket('udp6');
  t.after(() => client.close());
  client.send(query, port, '::1');
  const [message] = await once(client, 'message');
  assert.equal(decoded(message).answers?.length, 1);
});

test('a change is in the next answer', async (t) => {
  const { host, port, zone } = await running(t);
  const name = `reef.test.dom.${apex}`;
  assert.equal(await addressOf({ host, port }, name), '127.0.3.1');
  zone.apply(vouched({ name: 'reef.test' }, { removed: true }));
  assert.equal(await addressOf({ host, port }, name), 'NXDOMAIN');
  zone.replace([vouched({ name: 'reef.test' }, { trust: 3 })]);
  assert.equal(await addressOf({ host, port }, name), '127.0.3.3');
});

test('queries on one connection are answered in their order, however they are cut', async (t) => {
  const { host, port } = await running(t);
  const names = Array.from({ length: 50 }, (_, index) => `n${index}.dom.${apex}`);
  const stream = Buffer.concat(names.map((name) => framed(queryPacket(name, 'A'))));
  for (const size of [1, 7, stream.length]) {
    const client = connect({ port, host, noDelay: true });
    for (let at = 0; at < stream.length; at += size) client.write(stream.subarray(at, at + size));
    client.end();
    const replies = (await messagesOf(client)).map(decoded);
    assert.deepEqual(
      replies.map(({ questions }) => questions?.[0]?.name),
      names,
      `in pieces of ${size}`,
    );
  }
});

test('a TCP message that is no query ends the connection', async (t) => {
  const { host, port, count } = await running(t);
  for (const [message, reason] of [
    [Buffer.alloc(0), 'short'],
    [Buffer.alloc(12, 0xff), 'response'],
  ] as const) {
    const client = connect(port, host);
    client.write(framed(message));
    assert.deepEqual(await messagesOf(client), []);
    assert.equal(count(`dns_dropped ${reason}`), 1);
  }
});

test('an idle connection is closed, and single octets do not keep it', async (t) => {
  const { host, port, count } = await running(t, { limits: { tcpIdleMs: 50 } });
  const silent = connect(port, host);
  const dripping = connect(port, host);
  const drip = setInterval(() => dripping.write(Buffer.alloc(1, 1)), 10);
  t.after(() => clearInterval(drip));
  await Promise.all([closed(silent.resume()), closed(dripping.resume())]);
  assert.equal(count('dns_tcp_closed idle'), 2);
});

test('a client that does not read its answers is not read, and is closed', async (t) => {
  const { host, port, count } = await running(t, { limits: { tcpIdleMs: 200 } });
  const client = connect(port, host);
  const many = 300_000;
  const flood = Buffer.alloc(many * (query.length + 2), framed(query));
  client.write(flood);
  await closed(client);
  const answered = count('dns_answers noerror');
  assert.ok(answered > 0 && answered < many, `${answered} of ${many} answered`);
});

test('a client that sends FIN behind its queries gets every answer', async (t) => {
  // Some 24 MB of answers: the server still waits for the client to read when the FIN arrives.
  const zone = zoneOf(vouched({ name: 'reef.test' }, { url: `https://harbor.test/${'x'.repeat(3900)}` }));
  const { host, port } = await running(t, { zones: [zone] });
  const many = 6000;
  const long = framed(queryPacket(`reef.test.dom.${apex}`, 'TXT'));
  const client = connect(port, host);
  client.end(Buffer.alloc(many * long.length, long));
  assert.equal((await messagesOf(client)).length, many);
});

test('connections are capped for each client and in all', async (t) => {
  const { host, port, count } = await running(t, {
    limits: { maxTcpConnections: 3, maxTcpConnectionsPerClient: 2 },
  });
  const open = async (localAddress: string) => {
    const client = connect({ port, host, localAddress });
    t.after(() => client.destroy());
    const refused = closed(client).then(() => 'refused');
    client.write(framed(query));
    const served = new Promise((resolve) => client.once('data', () => resolve('served')));
    return Promise.race([served, refused]);
  };
  assert.equal(await open('127.0.0.1'), 'served');
  assert.equal(await open('127.0.0.1'), 'served');
  assert.equal(await open('127.0.0.1'), 'refused');
  assert.equal(await open('127.0.0.2'), 'served');
  assert.equal(await open('127.0.0.3'), 'refused');
  assert.equal(count('dns_tcp_refused client'), 1);
  assert.equal(count('dns_tcp_refused all_taken'), 1);
});

test('a closed connection gives its place back', async (t) => {
  const { host, port } = await running(t, { limits: { maxTcpConnectionsPerClient: 1 } });
  for (let turn = 0; turn < 3; turn++) {
    const client = connect(port, host);
    client.end(framed(query));
    assert.equal((await messagesOf(client)).length, 1, `turn ${turn}`);
  }
});

test('beyond the cap of sends under way UDP drops and counts', async (t) => {
  const { host, port, count } = await running(t, { limits: { maxUdpSends: 0 } });
  const client = connect(port, host);
  const udp = createSocket('udp4');
  t.after(() => udp.close());
  udp.send(query, port, host);
  while (count('dns_dropped overload') === 0) await new Promise(setImmediate);
  client.end(framed(query));
  assert.equal((await messagesOf(client)).length, 1, 'TCP still answers');
});

test('a taken port is an error with its code, and nothing stays open', async (t) => {
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  const { port } = taken.address() as { port: number };
  await assert.rejects(running(t, { listen: { host: '127.0.0.1', port } }), { code: 'EADDRINUSE' });
  taken.close();
  await once(taken, 'close');
  assert.equal((await running(t, { listen: { host: '127.0.0.1', port } })).port, port);
  await assert.rejects(running(t, { listen: { host: '127.0.0.1', port } }), { code: 'EADDRINUSE' });
});

test('stop cuts open connections and frees the port, and start works again', async (t) => {
  const { host, port, server, zone } = await running(t);
  const client = connect(port, host);
  client.write(framed(query));
  await once(client, 'data');
  const cut = once(client, 'close');
  await server.stop();
  await cut;
  await server.stop();
  const again = await running(t, { listen: { host, port }, zones: [zone] });
  assert.equal(await addressOf(again, `reef.test.dom.${apex}`), '127.0.3.1');
  await again.server.stop();
  await again.server.start();
  assert.equal(await addressOf(again, `reef.test.dom.${apex}`), '127.0.3.1');
});

test('a zone inside another one answers for its own names, whatever the order', async (t) => {
  const inner = emptyZone({ apex: `inner.${apex}` });
  const { host, port } = await running(t, { zones: [emptyZone(), inner] });
  assert.equal(await addressOf({ host, port }, `test.dom.inner.${apex}`), '127.0.0.2');
});

test('a fault of ours costs one answer, not the process', async (t) => {
  class BrokenZone extends Zone {
    isBroken = false;
    override share() {
      if (this.isBroken) throw new Error('broken');
      return super.share();
    }
  }
  const broken = new BrokenZone({ apex, nameservers: ['ns.test'], hostmaster: 'dns.test', now: Date.now });
  const logged: string[] = [];
  const log = pino({}, { write: (line: string) => logged.push(line) });
  const { host, port, count } = await running(t, { zones: [broken], log });
  broken.replace([]);
  broken.isBroken = true;
  const name = `test.dom.${apex}`;
  for (let turn = 0; turn < 3; turn++) assert.equal(await addressOf({ host, port }, name), '127.0.0.2');
  assert.equal(count('dns_dropped fault'), 3);
  assert.equal(logged.filter((line) => line.includes('DNS answer failed')).length, 1, 'one line a second');
});

test('a host name to listen on is refused', () => {
  const options = { zones: [], log: pino({ enabled: false }) };
  assert.throws(() => new DnsServer({ ...options, listen: { host: 'localhost', port: 0 } }), RangeError);
});
