/** What TCP brings beyond the answers: transfers between the queries, and clients that only take room. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { pino } from 'pino';
import { Access } from '../../dnsbl/access/access.ts';
import { defaultServerLimits } from '../../dnsbl/limits.ts';
import type { Client } from '../../dnsbl/seams.ts';
import { DnsServer, type DnsServerOptions } from '../../dnsbl/server.ts';
import { FrameReader, TcpEndpoint } from '../../dnsbl/tcp.ts';
import { isForTransfer } from '../../dnsbl/transfer-seam.ts';
import { addressOf } from '../ask-dns.ts';
import { mutated } from '../fuzz/dnsbl-packets.ts';
import { Fuzz } from '../fuzz/random.ts';
import { settingsWith } from './dnsbl-access-fixtures.ts';
import { apex, decoded, queryPacket, vouched, zoneOf } from './dnsbl-fixtures.ts';
import { repeater } from './dnsbl-udp-fixtures.ts';

const name = `reef.test.dom.${apex}`;
const query = queryPacket(name, 'A');
const axfr = queryPacket(apex, 'AXFR');

async function running(t: TestContext, options: Partial<DnsServerOptions> = {}) {
  const zone = zoneOf(vouched({ name: 'reef.test' }));
  const listen = { host: '127.0.0.1', port: 0 };
  const server = new DnsServer({ zones: [zone], listen, log: pino({ enabled: false }), ...options });
  const [address] = await server.start();
  t.after(() => server.stop());
  return { ...address!, server, count: (what: string) => server.counts().get(what)! };
}

function framed(packet: Buffer): Buffer {
  return Buffer.concat([Buffer.from([packet.length >> 8, packet.length & 0xff]), packet]);
}

async function messagesOf(socket: Socket): Promise<Buffer[]> {
  const frames = new FrameReader();
  const messages: Buffer[] = [];
  for await (const chunk of socket) messages.push(...frames.push(chunk));
  return messages;
}

test('transfers are told from all else', () => {
  const notify = Buffer.from(axfr);
  notify[2] = 4 << 3;
  const response = Buffer.from(axfr);
  response[2]! |= 0x80;
  for (const message of [axfr, queryPacket(apex, 'IXFR'), queryPacket(apex, 'AXFR', {})])
    assert.ok(isForTransfer(message), message.toString('hex'));
  const plain = [
    query,
    notify,
    queryPacket(name, 'A', {}),
    response,
    Buffer.alloc(0),
    Buffer.alloc(12),
    axfr.subarray(0, -3),
  ];
  for (const message of plain) assert.ok(!isForTransfer(message), message.toString('hex'));
});

test('no octets make that throw or hang', () => {
  const fuzz = new Fuzz('dnsbl-transfer-seam');
  const seeds = [axfr, query];
  for (let round = fuzz.rounds(5_000); round > 0; round--) {
    isForTransfer(fuzz.below(2) === 0 ? mutated(fuzz) : fuzz.mutate(fuzz.pick(seeds)));
  }
});

test('a transfer comes between the answers to what was asked before and after it', async (t) => {
  const asked: { message: Buffer; client: Client }[] = [];
  const { host, port, count } = await running(t, {
    transfer: {
      async *handle(message: Buffer, client: Client) {
        asked.push({ message, client });
        yield Buffer.from('first');
        yield Buffer.alloc(65_535, 7);
      },
    },
  });
  const client = connect(port, host);
  client.end(Buffer.concat([query, axfr, query].map(framed)));
  const messages = await messagesOf(client);
  assert.equal(messages.length, 4);
  assert.equal(decoded(messages[0]!).answers?.length, 1);
  assert.equal(messages[1]!.toString(), 'first');
  assert.equal(messages[2]!.length, 65_535);
  assert.equal(decoded(messages[3]!).answers?.length, 1);
  assert.deepEqual(asked[0]!.message, axfr);
  assert.deepEqual([...asked[0]!.client.address], [127, 0, 0, 1]);
  assert.equal(count('dns_transfers begun'), 1);
});

test("what the transfer does not want is the zone's to answer", async (t) => {
  const { host, port } = await running(t, { transfer: { handle: () => undefined } });
  const client = connect(port, host);
  client.end(framed(axfr));
  const [message] = await messagesOf(client);
  assert.equal(decoded(message!).rcode, 'REFUSED');
});

test('whom the rules drop or refuse gets no transfer', async (t) => {
  const handled: Buffer[] = [];
  const transfer = {
    async *handle(message: Buffer) {
      handled.push(message);
      yield Buffer.from('the zone');
    },
  };
  const ask = async (action: 'drop' | 'refuse') => {
    const access = new Access({ settings: settingsWith({ rules: { [action]: ['127.0.0.0/8'] } }) });
    const { host, port, server } = await running(t, { transfer, access });
    const client = connect(port, host);
    client.end(framed(axfr));
    const messages = await messagesOf(client);
    const denied = server.metrics().find(({ name }) => name === 'atmos_dns_access_denied_total')!;
    const counted = denied.samples.find(({ labels }) => labels.reason === `rule_${action}`)!.value;
    return { answers: messages.map((message) => decoded(message).rcode), counted };
  };
  assert.deepEqual(await ask('drop'), { answers: [], counted: 1 });
  assert.deepEqual(await ask('refuse'), { answers: ['REFUSED'], counted: 1 });
  assert.deepEqual(handled, []);
});

test('a transfer that fails cuts its connection, and the server goes on', async (t) => {
  const { host, port, count } = await running(t, {
    transfer: {
      // biome-ignore lint/correctness/useYield: it fails before
      async *handle() {
        throw new Error('the zone moved');
      },
    },
  });
  const client = connect(port, host);
  client.on('error', () => client.destroy());
  client.write(framed(axfr));
  await new Promise((resolve) => client.once('close', resolve));
  assert.equal(count('dns_transfers broken'), 1);
  assert.equal(await addressOf({ host, port }, name), '127.0.3.1');
});

test('a transfer to a client that does not read is not made ahead of it, and ends with its connection', async (t) => {
  let made = 0;
  const over = Promise.withResolvers<void>();
  const { host, port } = await running(t, {
    limits: { tcpIdleMs: 300 },
    transfer: {
      async *handle() {
        try {
          for (;;) {
            made += 1;
            yield Buffer.alloc(65_535);
          }
        } finally {
          over.resolve();
        }
      },
    },
  });
  const client = connect(port, host);
  client.on('error', () => client.destroy());
  client.write(framed(axfr));
  await over.promise;
  // What two kernels buffer, and no more.
  assert.ok(made < 500, `${made} messages made`);
});

test('a whole query starts the idle time anew', async (t) => {
  let nowMs = 1_000_000;
  const limits = { ...defaultServerLimits, tcpIdleMs: 50 };
  const counters = { add: () => undefined };
  const endpoint = new TcpEndpoint({ responder: repeater, counters, limits, now: () => nowMs });
  const port = await endpoint.listen({ host: '127.0.0.1', port: 0 });
  t.after(() => endpoint.close());
  const opened = async () => {
    const socket = connect(port, '127.0.0.1');
    await once(socket, 'connect');
    const cut = new Promise((resolve) => socket.on('error', () => undefined).once('close', resolve));
    const ask = async () => {
      socket.write(framed(query));
      const [octets] = await Promise.race([once(socket, 'data'), cut.then(() => ['cut'])]);
      return octets === 'cut' ? 'cut' : 'answer';
    };
    return { socket, cut, ask };
  };
  const asking = await opened();
  assert.equal(await asking.ask(), 'answer');
  for (let turn = 0; turn < 3; turn++) {
    const silent = await opened();
    // Whoever is accepted is in front of what is asked behind it.
    assert.equal(await (await opened()).ask(), 'answer');
    nowMs += 40;
    assert.equal(await asking.ask(), 'answer', 'younger than the silent one');
    nowMs += 40;
    await silent.cut;
  }
  assert.equal(await asking.ask(), 'answer', 'idle for 40 ms of 50');
  nowMs += 51;
  await asking.cut;
});

test('when all places are taken the one that was idle longest gives way', async (t) => {
  const { host, port, count } = await running(t, { limits: { maxTcpConnections: 2, tcpDisplaceMs: 0 } });
  const first = connect(port, host);
  await once(first, 'connect');
  const second = connect(port, host);
  second.write(framed(query));
  await once(second, 'data');
  first.on('error', () => first.destroy());
  const cut = new Promise((resolve) => first.once('close', resolve));
  const third = connect(port, host);
  third.write(framed(query));
  await once(third.once('error', assert.fail), 'data');
  await cut;
  second.write(framed(query));
  await once(second, 'data');
  assert.equal(count('dns_tcp_closed displaced'), 1);
  second.destroy();
  third.destroy();
});

test('clients of one IPv6 site share their cap', async (t) => {
  const { host, port, count } = await running(t, {
    listen: { host: '::1', port: 0 },
    limits: { maxTcpConnectionsPerClient: 1 },
  });
  const first = connect(port, host);
  await once(first, 'connect');
  const second = connect(port, host);
  second.on('error', () => second.destroy());
  await new Promise((resolve) => second.once('close', resolve));
  assert.equal(count('dns_tcp_refused client'), 1);
  first.destroy();
});
