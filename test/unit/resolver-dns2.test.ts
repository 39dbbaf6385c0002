/** The resolver against dns2's own server, and against servers that misbehave on purpose. */
import assert from 'node:assert/strict';
import { createSocket, type Socket } from 'node:dgram';
import { createServer as createTcpServer, type Server as TcpServer } from 'node:net';
import { after, test } from 'node:test';
import { createServer, type DnsHandler, Packet, type Question, type Resource } from 'dns2';
import { DnsResolver } from '../../node/resolver.ts';

const cleanups: (() => unknown)[] = [];
after(async () => {
  for (const cleanup of cleanups) await cleanup();
});

type Zone = Record<string, Partial<Resource>[] | number>;
const { MX, TXT, CNAME } = Packet.TYPE;

/** Answers `name/TYPE` from a table; a number is an RCODE. Everything else is NXDOMAIN. */
function answering(zone: Zone): { handle: DnsHandler; asked: Question[] } {
  const asked: Question[] = [];
  const handle: DnsHandler = (request, send) => {
    const question = request.questions[0]!;
    asked.push(question);
    const response = Packet.createResponseFromRequest(request);
    const entry = zone[`${question.name}/${Packet.TYPE_NAME[question.type]}`] ?? Packet.RCODE.NXDOMAIN;
    if (typeof entry === 'number') response.header.rcode = entry;
    else for (const record of entry) response.answers.push(resource(question, record));
    send(response);
  };
  return { handle, asked };
}

function resource(question: Question, record: Partial<Resource>): Resource {
  return { name: question.name, type: question.type, class: Packet.CLASS.IN, ttl: 60, ...record } as Resource;
}

async function serve(zone: Zone): Promise<{ server: { host: string; port: number }; asked: Question[] }> {
  const { handle, asked } = answering(zone);
  const dns = createServer({ udp: true, handle });
  const { udp } = await dns.listen({ udp: { port: 0, address: '127.0.0.1' } });
  cleanups.push(() => dns.close());
  return { server: { host: '127.0.0.1', port: (udp as { port: number }).port }, asked };
}

async function bindUdp(
  onMessage: (message: Buffer, reply: (bytes: Buffer) => void) => void,
): Promise<Socket> {
  const socket = createSocket('udp4');
  socket.on('message', (message, peer) =>
    onMessage(message, (bytes) => socket.send(bytes, peer.port, peer.address)),
  );
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
  cleanups.push(() => new Promise<void>((resolve) => socket.close(() => resolve())));
  return socket;
}

function replyTo(message: Buffer, change: (response: Packet) => void): Buffer {
  const response = Packet.createResponseFromRequest(Packet.parse(message));
  change(response);
  return response.toBuffer();
}

const quick = { timeoutMs: 200, attempts: 1 };

test('the strings of a TXT record are joined without a separator, records stay apart', async () => {
  const { server } = await serve({
    'reef.test/TXT': [{ data: ['v=DKIM1; p=AAA', 'BBB', 'CCC'] }, { data: ['second'] }],
  });
  const answer = await new DnsResolver({ servers: [server] }).txt('Reef.Test.');
  assert.deepEqual(answer, {
    kind: 'found',
    records: ['v=DKIM1; p=AAABBBCCC', 'second'],
    ttlSeconds: 60,
    server: `127.0.0.1:${server.port}`,
  });
});

test('MX, A and AAAA records come in the shape that callers use', async () => {
  const { server } = await serve({
    'reef.test/MX': [
      { exchange: 'MX2.Reef.Test', priority: 20 },
      { exchange: 'mx1.reef.test', priority: 10 },
    ],
    'null.test/MX': [{ exchange: '', priority: 0 }],
    'mx1.reef.test/A': [{ address: '192.0.2.7' }],
    'mx1.reef.test/AAAA': [{ address: '2001:db8::7' }],
  });
  const resolver = new DnsResolver({ servers: [server] });
  const [mx, nullMx, a, aaaa] = await Promise.all([
    resolver.mx('reef.test'),
    resolver.mx('null.test'),
    resolver.a('mx1.reef.test'),
    resolver.aaaa('mx1.reef.test'),
  ]);
  assert.deepEqual(mx.kind === 'found' && mx.records, [
    { exchange: 'mx2.reef.test', preference: 20 },
    { exchange: 'mx1.reef.test', preference: 10 },
  ]);
  assert.deepEqual(nullMx.kind === 'found' && nullMx.records, [{ exchange: '', preference: 0 }]);
  assert.deepEqual(a.kind === 'found' && a.records, ['192.0.2.7']);
  assert.deepEqual(aaaa.kind === 'found' && aaaa.records, ['2001:db8::7']);
});

test('a name without the record, a name that does not exist and a server that fails are three things', async () => {
  const { server } = await serve({
    'empty.test/TXT': [],
    'broken.test/TXT': Packet.RCODE.SERVFAIL,
    'refused.test/TXT': Packet.RCODE.REFUSED,
  });
  const resolver = new DnsResolver({ servers: [server], ...quick });
  assert.equal((await resolver.txt('empty.test')).kind, 'none');
  assert.equal((await resolver.txt('nobody.test')).kind, 'nxdomain');
  const broken = await resolver.txt('broken.test');
  assert.deepEqual(broken, {
    kind: 'failed',
    reason: 'the server answered SERVFAIL',
    server: `127.0.0.1:${server.port}`,
  });
  assert.equal((await resolver.txt('refused.test')).kind, 'failed');
});

test('an alias chain is followed within the answer, and records of other names are left out', async () => {
  const { server } = await serve({
    's1._domainkey.reef.test/TXT': [
      { type: TXT, name: 'stray.test', data: ['not ours'] },
      { type: CNAME, domain: 's1.keys.test' },
      { type: CNAME, name: 's1.keys.test', domain: 'K.keys.test' },
      { type: TXT, name: 'k.keys.test', data: ['v=DKIM1; p=x'] },
    ],
    'loop.test/TXT': [
      { type: CNAME, name: 'loop.test', domain: 'pool.test' },
      { type: CNAME, name: 'pool.test', domain: 'loop.test' },
    ],
    'dangling.test/A': [{ type: CNAME, domain: 'nowhere.test' }],
  });
  const resolver = new DnsResolver({ servers: [server] });
  const found = await resolver.txt('s1._domainkey.reef.test');
  assert.deepEqual(found.kind === 'found' && found.records, ['v=DKIM1; p=x']);
  assert.equal((await resolver.txt('loop.test')).kind, 'none');
  assert.equal((await resolver.a('dangling.test')).kind, 'none');
});

test('a name that DNS cannot carry is answered without asking', async () => {
  const { server, asked } = await serve({});
  const resolver = new DnsResolver({ servers: [server] });
  for (const name of [
    '',
    'a..b',
    'reef test',
    `${'x'.repeat(64)}.test`,
    `${'abc.'.repeat(64)}test`,
    'bücher.test',
  ]) {
    assert.equal((await resolver.txt(name)).kind, 'nxdomain', name);
  }
  assert.deepEqual(asked, []);
});

test('a truncated answer is asked again over TCP', async () => {
  const long = Array.from({ length: 8 }, (_, i) => ({ data: [`${i}`.repeat(200)] }));
  const udp = await bindUdp((message, reply) =>
    reply(replyTo(message, (response) => (response.header.tc = 1))),
  );
  const { port } = udp.address();
  const tcp = await listenTcp(port, (message) =>
    replyTo(message, (response) => {
      for (const record of long) response.answers.push(resource(response.questions[0]!, record));
    }),
  );
  const answer = await new DnsResolver({ servers: [{ host: '127.0.0.1', port }], attempts: 1 }).txt(
    'big.test',
  );
  assert.deepEqual(answer.kind === 'found' && answer.records.map((text) => text.length), Array(8).fill(200));
  assert.equal(tcp.connections, 1);
});

test('a TCP server that says nothing, or far too much, ends as a failure in time', async () => {
  const udp = await bindUdp((message, reply) =>
    reply(replyTo(message, (response) => (response.header.tc = 1))),
  );
  const { port } = udp.address();
  const resolver = new DnsResolver({ servers: [{ host: '127.0.0.1', port }], ...quick });

  const silent = await listenTcp(port, () => undefined);
  const answer = await resolver.txt('silent.test');
  assert.ok(answer.kind === 'failed' && answer.reason.includes('timed out'), JSON.stringify(answer));
  await silent.close();

  await listenTcp(port, () => Buffer.alloc(20_000));
  const flood = await resolver.txt('flood.test');
  assert.ok(flood.kind === 'failed' && flood.reason.includes('20000 octets'), JSON.stringify(flood));
});

test('a server that never answers costs its time-out, then the next one is asked', async () => {
  const deaf = await bindUdp(() => undefined);
  const { server } = await serve({ 'reef.test/A': [{ address: '192.0.2.1' }] });
  const silent = { host: '127.0.0.1', port: deaf.address().port };
  const both = await new DnsResolver({ servers: [silent, server], timeoutMs: 100 }).a('reef.test');
  const found = { kind: 'found', records: ['192.0.2.1'], ttlSeconds: 60 };
  assert.deepEqual(both, { ...found, server: `127.0.0.1:${server.port}` });

  const alone = await new DnsResolver({ servers: [silent], timeoutMs: 100, attempts: 2 }).a('reef.test');
  assert.ok(alone.kind === 'failed' && alone.reason.includes('timed out'), JSON.stringify(alone));
});

const lies: [name: string, change: (response: Packet) => void][] = [
  ['answers another name', (response) => (response.questions[0]!.name = 'other.test')],
  ['answers another type', (response) => (response.questions[0]!.type = MX)],
  ['sends a question', (response) => (response.header.qr = 0)],
  ['drops the question', (response) => (response.questions = [])],
];
for (const [name, change] of lies) {
  test(`a reply that ${name} proves nothing`, async () => {
    const socket = await bindUdp((message, reply) => reply(replyTo(message, change)));
    const servers = [{ host: '127.0.0.1', port: socket.address().port }];
    assert.equal((await new DnsResolver({ servers, ...quick }).txt('reef.test')).kind, 'failed');
  });
}

test('an answer with a record that does not decode is a failure, not an absence', async () => {
  const socket = await bindUdp((message, reply) => {
    const bytes = replyTo(message, (response) => {
      response.answers.push(resource(response.questions[0]!, { address: '192.0.2.1' }));
    });
    // RDLENGTH of the last record: 4 becomes 3, so the record is one octet short.
    bytes.writeUInt16BE(3, bytes.length - 6);
    reply(bytes);
  });
  const servers = [{ host: '127.0.0.1', port: socket.address().port }];
  const answer = await new DnsResolver({ servers, ...quick }).a('reef.test');
  assert.ok(answer.kind === 'failed' && answer.reason.includes('malformed'), JSON.stringify(answer));
});

test('a resolver without a server is a mistake', () => {
  assert.throws(() => new DnsResolver({ servers: [] }), RangeError);
});

type TcpPeer = { connections: number; close: () => Promise<void> };

/** Reads one framed question; `answer` gives the message to frame, or nothing. */
async function listenTcp(port: number, answer: (message: Buffer) => Buffer | undefined): Promise<TcpPeer> {
  const peer: TcpPeer = { connections: 0, close: async () => undefined };
  const server: TcpServer = createTcpServer((socket) => {
    peer.connections += 1;
    socket.on('error', () => undefined);
    socket.once('data', (bytes) => {
      const reply = answer(bytes.subarray(2));
      if (!reply) return;
      const length = Buffer.alloc(2);
      length.writeUInt16BE(reply.length);
      socket.write(Buffer.concat([length, reply]));
    });
  });
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  peer.close = () => new Promise((resolve) => server.close(() => resolve()));
  cleanups.push(peer.close);
  return peer;
}

/** Answers one record, says in the header what the test wants, and keeps what was asked. */
async function headed(header: Partial<Packet['header']> & { ad?: number }, records: Partial<Resource>[]) {
  const asked: Packet[] = [];
  const socket = await bindUdp((message, reply) => {
    asked.push(Packet.parse(message));
    reply(
      replyTo(message, (response) => {
        Object.assign(response.header, header);
        for (const record of records) response.answers.push(resource(response.questions[0]!, record));
      }),
    );
  });
  return { servers: [{ host: '127.0.0.1', port: socket.address().port }], asked };
}

const adOf = ({ header }: Packet) => (header as { ad?: number }).ad;

test('DNSSEC: the resolver is asked for its word, and the word is passed on', async () => {
  const sure = await headed({ ad: 1 }, [{ address: '192.0.2.1' }]);
  const unsure = await headed({}, [{ address: '192.0.2.1' }]);
  assert.equal((await new DnsResolver({ servers: sure.servers }).a('reef.test')).secure, true);
  assert.equal((await new DnsResolver({ servers: unsure.servers }).a('reef.test')).secure, undefined);
  assert.equal(adOf(sure.asked[0]!), 1);
  const absent = await headed({ ad: 1 }, []);
  assert.equal((await new DnsResolver({ servers: absent.servers }).a('reef.test')).secure, true);
});

test('DNSSEC: a resolver that does not validate is not asked, and not believed', async () => {
  const { servers, asked } = await headed({ ad: 1 }, [{ address: '192.0.2.1' }]);
  const resolver = new DnsResolver({ servers, validates: false });
  assert.equal((await resolver.a('reef.test')).secure, undefined);
  assert.equal(adOf(asked[0]!), 0);
});

test('TLSA records are asked for and read', async () => {
  const data = Buffer.concat([Buffer.from([3, 1, 1]), Buffer.alloc(32, 7)]);
  const { servers, asked } = await headed({ ad: 1 }, [{ data }, { data: Buffer.from([2]) }]);
  const answer = await new DnsResolver({ servers }).tlsa('_25._tcp.mx.reef.test');
  assert.equal(asked[0]!.questions[0]!.type, 52);
  assert.deepEqual(answer.kind === 'found' && answer.records, [
    { usage: 3, selector: 1, matching: 1, data: Buffer.alloc(32, 7) },
    { usage: 2, selector: 255, matching: 255, data: Buffer.alloc(0) },
  ]);
});

test('an answer says how long it lives: the shortest of the chain, the SOA of an absence', async () => {
  const chain = await headed({}, [
    { type: CNAME, domain: 'real.test', ttl: 30 },
    { name: 'real.test', address: '192.0.2.1', ttl: 600 },
    { name: 'real.test', address: '192.0.2.2', ttl: 300 },
  ]);
  const found = await new DnsResolver({ servers: chain.servers }).a('reef.test');
  assert.deepEqual([found.ttlSeconds, found.canonical], [30, 'real.test']);

  const soa = { type: Packet.TYPE.SOA, primary: 'ns.test', admin: 'x.test', ttl: 900, minimum: 60 };
  const numbers = { serial: 1, refresh: 1, retry: 1, expiration: 1 };
  for (const rcode of [Packet.RCODE.NOERROR, Packet.RCODE.NXDOMAIN]) {
    const socket = await bindUdp((message, reply) =>
      reply(
        replyTo(message, (response) => {
          response.header.rcode = rcode;
          response.authorities.push(resource(response.questions[0]!, { ...soa, ...numbers }));
        }),
      ),
    );
    const servers = [{ host: '127.0.0.1', port: socket.address().port }];
    assert.equal((await new DnsResolver({ servers }).a('reef.test')).ttlSeconds, 60);
  }
  const bare = await headed({}, []);
  assert.equal((await new DnsResolver({ servers: bare.servers }).a('reef.test')).ttlSeconds, undefined);
});

test('a datagram that is no answer does not end the wait for the real one', async () => {
  const socket = await bindUdp((message, reply) => {
    const other = Buffer.from(message);
    other.writeUInt16BE(other.readUInt16BE(0) ^ 1, 0);
    reply(Buffer.from('x'));
    reply(
      replyTo(other, (response) =>
        response.answers.push(resource(response.questions[0]!, { address: '192.0.2.66' })),
      ),
    );
    reply(
      replyTo(message, (response) =>
        response.answers.push(resource(response.questions[0]!, { address: '192.0.2.1' })),
      ),
    );
  });
  const servers = [{ host: '127.0.0.1', port: socket.address().port }];
  const answer = await new DnsResolver({ servers }).a('reef.test');
  assert.deepEqual(answer.kind === 'found' && answer.records, ['192.0.2.1']);
});

test('a domain that is an alias has the exchangers of its end, and one without them none', async () => {
  const { server } = await serve({
    'alias.test/MX': [
      { type: CNAME, domain: 'reef.test' },
      { name: 'reef.test', exchange: 'mx.reef.test', priority: 10 },
    ],
    'bare.test/MX': [{ type: CNAME, domain: 'web.test' }],
  });
  const resolver = new DnsResolver({ servers: [server] });
  const found = await resolver.mx('alias.test');
  assert.deepEqual(found.kind === 'found' && found.records, [{ exchange: 'mx.reef.test', preference: 10 }]);
  assert.equal((await resolver.mx('bare.test')).kind, 'none');
});
