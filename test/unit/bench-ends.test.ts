/** The two ends of the relay's benchmark, each on its own and with the other. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { messageOf } from '../bench/relay/children.ts';
import { expectMessages, type SinkReport, startLoad, startSink } from '../bench/relay/ends.ts';
import { sendLoad, TlsSink } from '../bench/relay/round.ts';
import { Shared } from '../bench/relay/surroundings.ts';
import { needs } from '../peers.ts';

// Not missingEnds(): what does not compile here is to fail.
const skip = needs('openssl');
const plenty = 20_000;
const auth = { user: 'member', pass: 'secret' };
const load = {
  sessions: 3,
  messages: 7,
  bytes: 10 * 1024,
  reuse: true,
  from: 'a@a.test',
  to: 'b@b.test',
  auth,
};

async function sinkFor(t: TestContext) {
  const shared = await Shared.make();
  t.after(shared.remove);
  const sink = await TlsSink.start(shared.certificate);
  t.after(() => sink.stop());
  return sink;
}

/** Its port, and a way to its reports that no class is between. */
async function bareSink(t: TestContext) {
  const shared = await Shared.make();
  t.after(shared.remove);
  const child = startSink(shared.certificate);
  t.after(() => child.kill());
  const next = () => messageOf<SinkReport>(child, plenty, 'the sink');
  const listening = await next();
  assert.equal(listening.kind, 'listening');
  return { child, next, port: (listening as { port: number }).port };
}

/** What each octet in a packet of its own becomes. */
async function trickle(port: number, text: string): Promise<string> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true }).setEncoding('latin1');
  let heard = '';
  socket.on('data', (words: string) => {
    heard += words;
  });
  for (const octet of text) {
    await new Promise((resolve) => socket.write(octet, 'latin1', resolve));
    await new Promise(setImmediate);
  }
  await once(socket, 'close');
  return heard;
}

/** As the load makes them. */
function bodyOf(bytes: number): string {
  const line = 'All that is gold does not glitter, not all those who wander are lost.\r\n';
  const text = line.repeat(Math.ceil(bytes / line.length)).slice(0, bytes - 2);
  return `${text.replace(/[\r\n]+$/, '')}\r\n.\r\n`;
}

const bodies: [name: string, text: string][] = [
  ['an empty message', '.\r\n'],
  ['an empty line', '\r\n.\r\n'],
  ['a line feed alone before the dot', 'a\n.\r\n\r\n.\r\n'],
  ['a carriage return alone after the dot', 'a\r\n.\ra\r\n.\r\n'],
  ['two carriage returns', 'a\r\r\n.\r\r\n.\r\n'],
  ['a doubled dot', '..\r\na\r\n..\r\n.\r\n'],
  ['an end that begins anew within an end', 'a\r\n.\r\r\n.\r\n'],
  ['octets above 127', `${'ÿ'.repeat(300)}\r\n.\r\n`],
];
for (const [name, text] of bodies) {
  for (const [how, pace] of [
    ['at once', atOnce],
    ['octet by octet', trickle],
  ] as const) {
    test(`the sink finds the end of ${name}, ${how}`, { skip }, async (t) => {
      const { child, next, port } = await bareSink(t);
      await expectMessages(child, 2, 2);
      const complete = next();
      const dialogue = `ehlo me\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\n${text}`;
      const heard = await pace(port, `${dialogue}MAIL FROM:<>\r\ndata\r\n${text}QUIT\r\n`);
      const report = (await complete) as Extract<SinkReport, { kind: 'complete' }>;
      assert.deepEqual(
        report.kept.map((one) => Buffer.from(one, 'base64').toString('latin1')),
        [text, text],
      );
      const codes = heard.match(/^\d{3}(?= )/gm);
      assert.deepEqual(codes, ['220', '250', '250', '250', '354', '250', '250', '354', '250', '221']);
    });
  }
}

async function atOnce(port: number, text: string): Promise<string> {
  const socket = connect({ port, host: '127.0.0.1' });
  socket.write(text, 'latin1');
  return Buffer.concat(await socket.toArray()).toString('latin1');
}

test('a message whose connection ended is neither counted nor kept', { skip }, async (t) => {
  const { child, next, port } = await bareSink(t);
  // Room for two: the sink may hear of the end of the first after the second began.
  await expectMessages(child, 1, 2);
  const complete = next();
  const broken = connect({ port, host: '127.0.0.1' });
  broken.write('DATA\r\nhalf a message\r\n.');
  // Leaving the loop ends the connection.
  for await (const words of broken) if (String(words).includes('354')) break;
  await atOnce(port, 'DATA\r\na whole one\r\n.\r\nQUIT\r\n');
  const report = (await complete) as Extract<SinkReport, { kind: 'complete' }>;
  assert.deepEqual(report.kept, [Buffer.from('a whole one\r\n.\r\n').toString('base64')]);
  const tooMany = next();
  await atOnce(port, 'DATA\r\none more\r\n.\r\nQUIT\r\n');
  assert.deepEqual(await tooMany, { kind: 'too-many', messages: 2 });
});

for (const reuse of [true, false]) {
  for (const bytes of [100, 10 * 1024, 100 * 1024]) {
    test(`load and sink agree: ${bytes} octets, ${reuse ? 'reused' : 'new'} connections`, {
      skip,
    }, async (t) => {
      const sink = await sinkFor(t);
      for (const messages of [2, 40]) {
        const { sent: report } = await sink.whileCounting(messages, () =>
          sendLoad({ ...load, bytes, reuse, messages, port: sink.port }),
        );
        assert.equal(report.latenciesMs.length, messages);
        assert.ok(report.latenciesMs.every((one) => one > 0 && one < report.endedAt - report.startedAt));
        const [first, second] = sink.kept.map(String);
        assert.match(first!, /^From: Bench <a@a.test>\r\nTo: <b@b.test>\r\nSubject: message \d+\r\nDate: /);
        assert.equal(first!.slice(first!.indexOf('\r\n\r\n') + 4), bodyOf(bytes));
        assert.notEqual(first, second);
      }
    });
  }
}

test('load and sink agree when TLS arrives octet by octet', { skip }, async (t) => {
  const sink = await sinkFor(t);
  const slow = createServer({ noDelay: true }, (one) => {
    const other = connect({ port: sink.port, host: '127.0.0.1', noDelay: true });
    void passOn(one, other);
    void passOn(other, one);
  }).listen(0, '127.0.0.1');
  t.after(() => slow.close());
  await once(slow, 'listening');
  const { port } = slow.address() as { port: number };
  await sink.whileCounting(load.messages, () => sendLoad({ ...load, bytes: 300, reuse: false, port }));
  assert.match(String(sink.kept[0]), /are lost\.\r\n/);
});

async function passOn(from: Socket, to: Socket): Promise<void> {
  from.on('error', () => to.destroy());
  try {
    for await (const chunk of from) {
      for (const octet of chunk as Buffer) await new Promise((sent) => to.write(Buffer.of(octet), sent));
    }
  } catch {
    // Its end is the end of both.
  }
  to.end();
}

test('in an open loop messages are due at their time', { skip }, async (t) => {
  const sink = await sinkFor(t);
  const { sent: report } = await sink.whileCounting(50, () =>
    sendLoad({ ...load, messages: 50, perSecond: 100, port: sink.port }),
  );
  assert.equal(report.accepted, 50);
  assert.ok(report.endedAt - report.startedAt >= 490);
});

test('a reply that was not wanted fails the load with its words', { skip }, async (t) => {
  const server = createServer((socket) => {
    socket.on('error', () => undefined).end('554 5.7.1 not\tyou\r\n');
  }).listen(0, '127.0.0.1');
  t.after(() => server.close());
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  await assert.rejects(sendLoad({ ...load, port }), /wanted 220, got: 554 5\.7\.1 not\?you/);
});

test('each ends with its standard input', { skip }, async (t) => {
  const { child } = await bareSink(t);
  const silent = createServer(() => undefined).listen(0, '127.0.0.1');
  t.after(() => silent.close());
  await once(silent, 'listening');
  const sending = startLoad({ ...load, port: (silent.address() as { port: number }).port });
  await once(silent, 'connection');
  for (const one of [child, sending]) {
    one.stdin!.end();
    assert.deepEqual(await once(one, 'exit'), [0, null]);
  }
});
