/**
 * The same packets through real sockets, and what only sockets can bring: source port 0, 64 KB over
 * TCP, connections that say half a message and wait. After each the server still answers.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect } from 'node:net';
import { after, before, type TestContext, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { pino } from 'pino';
import { DnsServer, type DnsServerOptions } from '../../dnsbl/server.ts';
import { addressOf } from '../ask-dns.ts';
import { needsNativeDns } from '../native-dns.ts';
import { apex, decoded, queryPacket, vouched, zoneOf } from '../unit/dnsbl-fixtures.ts';
import { key, oddlySigned } from '../unit/dnsbl-transfer-fixtures.ts';
import { mutated } from './dnsbl-packets.ts';
import { Fuzz } from './random.ts';

const fuzz = new Fuzz('dnsbl-sockets');

function serverOf(options: Partial<DnsServerOptions> = {}): DnsServer {
  return new DnsServer({
    zones: [zoneOf(vouched({ name: 'reef.test' }))],
    listen: { host: '127.0.0.1', port: 0 },
    log: pino({ enabled: false }),
    transfer: { keys: [key], handle: () => undefined },
    ...options,
  });
}

const server = serverOf();
let port = 0;
before(async () => {
  port = (await server.start())[0]!.port;
});
after(() => server.stop());

async function stillAnswers(at = { host: '127.0.0.1', port }, of = server): Promise<void> {
  assert.equal(await addressOf(at, `reef.test.dom.${apex}`), '127.0.3.1');
  assert.equal(of.counts().get('dns_dropped fault'), 0);
}

const kinds: [kind: string, options: Partial<DnsServerOptions>, skip: string | false][] = [
  ['the thread of the server', {}, false],
  ['a thread with a socket of node', { workers: 1, sockets: 'dgram' }, false],
  ['a thread with native sockets', { workers: 1, sockets: 'native' }, needsNativeDns()],
];
for (const [kind, options, skip] of kinds) {
  test(`mutated packets over UDP to ${kind}`, { skip }, async (t: TestContext) => {
    const own = serverOf(options);
    const [at] = await own.start();
    t.after(() => own.stop());
    const client = createSocket('udp4');
    t.after(() => client.close());
    client.on('message', (message) => assert.equal((message[2] as number) >> 7, 1));
    const came = () => own.counts().get('dns_queries udp')!;
    const burst = 16;
    for (let left = fuzz.rounds(1_000, 10); left > 0; left -= burst) {
      const expected = came() + burst;
      for (let n = 0; n < burst; n++) client.send(mutated(fuzz), at!.port, at!.host);
      while (came() < expected) await nextTurn();
    }
    await stillAnswers(at, own);
  });
}

for (const [kind, options, skip] of kinds) {
  test(`signatures that would be answered at length cost ${kind} no other answer`, {
    skip,
  }, async (t: TestContext) => {
    const deaths: string[] = [];
    const log = pino({}, { write: (line) => void (/failed|died/.test(line) && deaths.push(line)) });
    const own = serverOf({ ...options, log });
    const [at] = await own.start();
    t.after(() => own.stop());
    const client = createSocket('udp4');
    t.after(() => client.close());
    let longest = 0;
    client.on('message', (message) => {
      longest = Math.max(longest, message.length);
    });
    const came = () => own.counts().get('dns_queries udp')!;
    const plain = queryPacket(`reef.test.dom.${apex}`, 'A');
    // They would fill the room of a batch.
    const burst = [...Array(24).fill(oddlySigned(plain, 4000)), ...Array(24).fill(plain)] as Buffer[];
    for (let turn = 0; turn < 20; turn++) {
      const expected = came() + burst.length;
      for (const packet of burst) client.send(packet, at!.port, at!.host);
      const endMs = performance.now() + 2000;
      while (came() < expected && deaths.length === 0 && performance.now() < endMs) await nextTurn();
    }
    assert.deepEqual(deaths, []);
    await stillAnswers(at, own);
    assert.ok(longest > 0 && longest <= 512, `${longest} octets without EDNS`);
  });
}

/** Python, for node cannot forge a datagram. Needs the right to open raw sockets. */
const forge = `
import socket, struct, sys
port, payload = int(sys.argv[1]), bytes.fromhex(sys.argv[2])
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
raw.sendto(struct.pack('!HHHH', 0, port, 8 + len(payload), 0) + payload, ('127.0.0.1', 0))
`;
const python = ['-c', 'import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)'];
const cannotForge = spawnSync('/usr/bin/python3', python).status === 0 ? false : 'no raw sockets here';

for (const [kind, options, skip] of kinds) {
  test(`a query from source port 0 is dropped and counted by ${kind}`, {
    skip: skip || cannotForge,
  }, async (t) => {
    const own = serverOf(options);
    const [at] = await own.start();
    t.after(() => own.stop());
    const packet = queryPacket(`reef.test.dom.${apex}`, 'A').toString('hex');
    const { status, stderr } = spawnSync('/usr/bin/python3', ['-c', forge, `${at!.port}`, packet]);
    assert.equal(status, 0, stderr.toString());
    while (own.counts().get('dns_dropped source_port_zero') === 0) await nextTurn();
    await stillAnswers(at, own);
  });
}

/** All that comes back until the server or the client ends. */
async function exchange(octets: Buffer): Promise<Buffer> {
  const client = connect(port, '127.0.0.1');
  client.on('error', () => client.destroy());
  client.end(octets);
  const received: Buffer[] = [];
  client.on('data', (chunk) => received.push(chunk));
  await new Promise((resolve) => client.once('close', resolve));
  return Buffer.concat(received);
}

function framed(packet: Buffer): Buffer {
  return Buffer.concat([Buffer.from([packet.length >> 8, packet.length & 0xff]), packet]);
}

test('mutated packets over TCP, several on a connection, cut anywhere', async () => {
  for (let i = fuzz.rounds(100, 20); i > 0; i--) {
    const packets = Array.from({ length: 5 }, () => framed(mutated(fuzz)));
    const stream = Buffer.concat(packets);
    await exchange(stream.subarray(0, fuzz.below(stream.length + 1)));
  }
  await stillAnswers();
});

test('64 KB over TCP get FORMERR, and the connection goes on', async () => {
  const pointers = Buffer.concat([
    queryPacket(apex, 'A').subarray(0, 12),
    Buffer.alloc(65_523, Buffer.from([0xc0, 12])),
  ]);
  const received = await exchange(Buffer.concat([framed(pointers), framed(queryPacket(apex, 'SOA'))]));
  assert.equal(received.readUInt16BE(0), 12);
  assert.equal((received[5] as number) & 0xf, 1);
  const length = received.readUInt16BE(14);
  assert.equal(decoded(received.subarray(16, 16 + length)).answers?.length, 1);
});

test('a query padded to 64 KB is well-formed and answered', async () => {
  const plain = queryPacket(apex, 'SOA', {});
  const octets = 65_535 - plain.length;
  // RFC 7830: one padding option fills the record and the message to their limits.
  const padded = Buffer.concat([plain, Buffer.alloc(octets)]);
  padded.writeUInt16BE(octets, plain.length - 2);
  padded.writeUInt16BE(12, plain.length);
  padded.writeUInt16BE(octets - 4, plain.length + 2);
  const received = await exchange(framed(padded));
  assert.equal(decoded(received.subarray(2)).answers?.length, 1);
});

test('half a message on many connections keeps nobody from an answer', async () => {
  const halves = [
    Buffer.alloc(0),
    Buffer.from([0]),
    Buffer.from([0xff, 0xff]),
    framed(queryPacket(apex, 'SOA')).subarray(0, 20),
  ];
  const waiting = Array.from({ length: 24 }, (_, index) => {
    const client = connect(port, '127.0.0.1');
    client.write(halves[index % halves.length] as Buffer);
    return client;
  });
  await Promise.all(waiting.map((client) => once(client, 'connect')));
  await stillAnswers();
  assert.ok((await exchange(framed(queryPacket(apex, 'SOA')))).length > 12);
  for (const client of waiting) client.resetAndDestroy();
  await stillAnswers();
});

test('a client that is gone before its answer harms nobody', async () => {
  for (let turn = 0; turn < 20; turn++) {
    const client = connect(port, '127.0.0.1');
    await once(client, 'connect');
    client.write(framed(queryPacket(apex, 'SOA')));
    client.resetAndDestroy();
  }
  await stillAnswers();
});
