import assert from 'node:assert/strict';
import { createSocket, type Socket } from 'node:dgram';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { connect } from 'node:net';
import { type TestContext, test } from 'node:test';
import * as packet from 'dns-packet';
import { Packet, UDPClient } from 'dns2';
import { DnsWorld } from '../sandbox/dns-world.ts';
import { BadRecord, type RecordSet, Zone } from '../sandbox/zone.ts';

const world: RecordSet[] = [
  { name: '*.test', type: 'MX', values: ['10 mx.inbox.test'] },
  { name: 'mx.inbox.test', type: 'A', values: ['127.0.0.1'] },
  { name: 'reef.test', type: 'MX', values: ['10 harbor.test'] },
  { name: '_dmarc.reef.test', type: 'TXT', values: ['v=DMARC1; p=reject'] },
  { name: 'www.reef.test', type: 'CNAME', values: ['harbor.test'] },
  { name: 'lost.reef.test', type: 'CNAME', values: ['nowhere.inbox.test'] },
  { name: 'loop.reef.test', type: 'CNAME', values: ['loop.reef.test'] },
  { name: 'harbor.test', type: 'A', values: ['127.0.0.1', '127.0.0.2'] },
];

function fill(zone: Zone): Zone {
  for (const { name, type, values } of world) zone.set(name, type, values);
  return zone;
}

for (const [name, type, kind, values] of [
  ['reef.test', 'MX', 'found', ['10 harbor.test']],
  ['REEF.test', 'MX', 'found', ['10 harbor.test']],
  ['reef.test', 'A', 'none', []],
  ['harbor.test', 'A', 'found', ['127.0.0.1', '127.0.0.2']],
  ['harbor.test', 'TYPE65', 'none', []],
  ['inbox.test', 'MX', 'none', []], // an empty non-terminal hides the wildcard
  ['ghost.test', 'MX', 'found', ['10 mx.inbox.test']],
  ['deep.ghost.test', 'MX', 'found', ['10 mx.inbox.test']],
  ['ghost.test', 'TXT', 'none', []],
  ['ghost.reef.test', 'MX', 'nxdomain', []], // below a name that exists the wildcard is silent
  ['www.reef.test', 'A', 'found', ['harbor.test', '127.0.0.1', '127.0.0.2']],
  ['www.reef.test', 'MX', 'none', ['harbor.test']],
  ['lost.reef.test', 'A', 'nxdomain', ['nowhere.inbox.test']],
  ['mail.example.org', 'A', 'nxdomain', []],
  ['test', 'A', 'none', []],
  ['', 'NS', 'nxdomain', []],
] as const) {
  test(`${name || '.'} ${type} is ${kind}`, () => {
    const result = fill(new Zone()).lookup(name, type);
    assert.equal(result.kind, kind);
    assert.deepEqual(
      result.sets.flatMap((set) => set.values),
      values,
    );
  });
}

test('an alias of itself ends', () => {
  assert.equal(fill(new Zone()).lookup('loop.reef.test', 'A').kind, 'none');
});

test('what is taken away leaves no parent behind', () => {
  const zone = fill(new Zone());
  zone.remove('mx.inbox.test', 'A');
  assert.equal(zone.lookup('inbox.test', 'MX').kind, 'found', 'the wildcard answers again');
  zone.set('reef.test', 'MX', []);
  assert.equal(zone.lookup('reef.test', 'MX').kind, 'none', 'its children still stand');
});

for (const [name, type, value] of [
  ['reef.test', 'A', '::1'],
  ['reef.test', 'AAAA', '127.0.0.1'],
  ['reef.test', 'MX', 'harbor.test'],
  ['reef.test', 'MX', '70000 harbor.test'],
  ['reef.test', 'TXT', 'x'.repeat(5000)],
  ['ri ff.test', 'A', '127.0.0.1'],
  ['riff..test', 'A', '127.0.0.1'],
  ['_dmarc.reef.test', 'CNAME', 'harbor.test'],
] as const) {
  test(`${name} ${type} "${value.slice(0, 20)}" is refused and changes nothing`, () => {
    const zone = fill(new Zone());
    const before = zone.all();
    assert.throws(() => zone.set(name, type, [value]), BadRecord);
    assert.deepEqual(zone.all(), before);
  });
}

async function start(t: TestContext): Promise<DnsWorld> {
  const dns = await DnsWorld.start({ port: 0 });
  t.after(() => dns.stop());
  fill(dns.zone);
  return dns;
}

const ask = (dns: DnsWorld, name: string, type: string) =>
  UDPClient({ dns: dns.host, port: dns.port, timeout: 2000 })(name, type as never);

test('dns2 and dns-packet read the answers', async (t) => {
  const dns = await start(t);
  const mx = await ask(dns, 'ReeF.test', 'MX');
  assert.deepEqual(
    mx.answers.map(({ name, exchange, priority }) => [name, exchange, priority]),
    [['ReeF.test', 'harbor.test', 10]],
  );
  const query = packet.encode({ type: 'query', id: 7, questions: [{ name: 'lost.reef.test', type: 'A' }] });
  const answer = packet.decode(await roundTrip(dns, query));
  assert.equal((answer as { rcode?: string }).rcode, 'NXDOMAIN');
  assert.deepEqual(
    answer.answers?.map(({ type }) => type),
    ['CNAME'],
  );
  assert.deepEqual(
    answer.authorities?.map(({ type, name }) => [type, name]),
    [['SOA', 'test']],
  );
});

test('a change is seen by the next question', async (t) => {
  const dns = await start(t);
  dns.set('_dmarc.reef.test', 'TXT', ['v=DMARC1; p=none']);
  assert.deepEqual((await ask(dns, '_dmarc.reef.test', 'TXT')).answers[0]?.data, ['v=DMARC1; p=none']);
  dns.set('_dmarc.reef.test', 'TXT', []);
  const gone = await ask(dns, '_dmarc.reef.test', 'TXT');
  assert.equal(gone.header.rcode, Packet.RCODE.NXDOMAIN);
});

test('a long text is cut by octets, and comes over TCP where UDP has no room', async (t) => {
  const dns = await start(t);
  const text = `v=DKIM1; p=${'ä'.repeat(400)}`;
  dns.set('atmosr._domainkey.reef.test', 'TXT', [text]);
  const question = { name: 'atmosr._domainkey.reef.test', type: 'TXT' } as const;
  const overUdp = packet.decode(
    await roundTrip(dns, packet.encode({ type: 'query', questions: [question] })),
  );
  assert.equal(overUdp.flag_tc, true);
  const overTcp = await tcpRoundTrip(dns, packet.encode({ type: 'query', questions: [question] }));
  const [txt] = packet.decode(overTcp).answers as packet.TxtAnswer[];
  const strings = txt!.data as Buffer[];
  assert.deepEqual(
    strings.map((piece) => piece.length),
    [255, 255, 255, 46],
  );
  assert.equal(Buffer.concat(strings).toString(), text);
});

for (const [what, message, rcode] of [
  [
    'a NOTIFY',
    packet.encode({ type: 'query', flags: 4 << 11, questions: [{ name: 'reef.test', type: 'SOA' }] }),
    'NOTIMP',
  ],
  [
    'the class CHAOS',
    packet.encode({ type: 'query', questions: [{ name: 'version.bind', type: 'TXT', class: 'CH' }] }),
    'REFUSED',
  ],
  ['no question', packet.encode({ type: 'query', questions: [] }), 'FORMERR'],
  [
    'two questions',
    packet.encode({
      type: 'query',
      questions: [
        { name: 'a.test', type: 'A' },
        { name: 'b.test', type: 'A' },
      ],
    }),
    'FORMERR',
  ],
] as const) {
  test(`${what} is answered ${rcode}`, async (t) => {
    const dns = await start(t);
    const answer = packet.decode(await roundTrip(dns, message)) as { rcode?: string };
    assert.equal(answer.rcode, rcode);
  });
}

test('garbage, responses and source port 0 are counted, and the next question is answered', async (t) => {
  const sockets: Socket[] = [];
  const onSocket = (message: unknown) => void sockets.push((message as { socket: Socket }).socket);
  subscribe('udp.socket', onSocket);
  const dns = await start(t);
  unsubscribe('udp.socket', onSocket);
  const client = createSocket('udp4').bind(0, '127.0.0.1');
  await once(client, 'listening');
  t.after(() => client.close());
  const question = packet.encode({ type: 'query', questions: [{ name: 'reef.test', type: 'MX' }] });
  const response = packet.encode({ type: 'response', questions: [{ name: 'reef.test', type: 'MX' }] });
  const pointerLoop = Buffer.concat([question.subarray(0, 12), Buffer.from([0xc0, 0x0c, 0, 15, 0, 1])]);
  const messages = [Buffer.alloc(0), Buffer.from('x'), Buffer.alloc(12, 255), response, pointerLoop];
  for (const message of messages) client.send(message, dns.port, dns.host);
  // The kernel gives such a packet to Node as any other; only a raw socket can send it.
  for (const socket of sockets)
    socket.emit('message', question, { address: '127.0.0.1', family: 'IPv4', port: 0 });
  assert.equal((await ask(dns, 'reef.test', 'MX')).answers.length, 1);
  assert.ok(dns.garbage >= 4, `${dns.garbage} counted`);
});

test('a TCP client that sends half a message and stays does not keep the world from stopping', async () => {
  const dns = await DnsWorld.start({ port: 0 });
  const client = connect(dns.port, dns.host);
  await once(client, 'connect');
  client.write(Buffer.from([0, 40, 1]));
  client.on('error', () => undefined);
  const closed = once(client, 'close');
  await tcpRoundTrip(dns, packet.encode({ type: 'query', questions: [{ name: 'a.test', type: 'A' }] }));
  await dns.stop();
  await closed;
});

async function roundTrip(dns: DnsWorld, query: Buffer): Promise<Buffer> {
  const client = createSocket('udp4');
  client.send(query, dns.port, dns.host);
  const [answer] = await once(client, 'message');
  client.close();
  return answer;
}

async function tcpRoundTrip(dns: DnsWorld, query: Buffer): Promise<Buffer> {
  const client = connect(dns.port, dns.host);
  const length = Buffer.alloc(2);
  length.writeUInt16BE(query.length);
  client.end(Buffer.concat([length, query]));
  const chunks: Buffer[] = [];
  for await (const chunk of client) chunks.push(chunk);
  return Buffer.concat(chunks).subarray(2);
}
