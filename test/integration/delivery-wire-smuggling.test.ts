/** What a stored body says never ends DATA early, nor makes a second message, at a sink that takes anything for a line's end. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { Fuzz } from '../fuzz/random.ts';
import { never, opened, outgoing } from './delivery-wire-world.ts';

const terminators = ['\r\n.\r\n', '\n.\n', '\r\n.\n', '\n.\r\n', '\r.\r', '\r\n.\r', '\r.\r\n', '\n.\r'];

const smuggled =
  'MAIL FROM:<evil@reef.test>\r\nRCPT TO:<victim@peer.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nboo\r\n.\r\n';

type Sink = { port: number; messages: string[]; commands: string[] };

/** DATA ends at a lone dot between any two of CRLF, CR and LF; commands end at any of them too. */
async function lenientSink(t: TestContext): Promise<Sink> {
  const messages: string[] = [];
  const commands: string[] = [];
  const serve = (socket: Socket) => {
    let rest = '';
    let inData = false;
    const step = (): boolean => {
      const [found, body] = inData
        ? (/^((?:[\s\S]*?(?:\r\n|\r|\n))??)\.(?:\r\n|\r(?!$)|\n)/.exec(rest) ?? [])
        : (/^([^\r\n]*)(?:\r\n|\r(?!$)|\n)/.exec(rest) ?? []);
      if (found === undefined || body === undefined) return false;
      rest = rest.slice(found.length);
      if (inData) messages.push(body);
      else commands.push(body);
      const isData = !inData && body.toUpperCase() === 'DATA';
      socket.write(isData ? '354 go\r\n' : inData || body.trim() ? '250 ok\r\n' : '');
      inData = isData;
      return true;
    };
    socket
      .on('error', () => undefined)
      .on('data', (bytes) => {
        rest += bytes.toString('latin1');
        while (step());
      });
    socket.write('220 sink\r\n');
  };
  const server = createServer({ noDelay: true }, serve).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return { port: (server.address() as { port: number }).port, messages, commands };
}

for (const terminator of terminators) {
  test(`${JSON.stringify(terminator)} in a body ends nothing`, async (t) => {
    const sink = await lenientSink(t);
    const session = await opened(t, sink);
    const body = `Subject: honest\r\n\r\nbefore${terminator}${smuggled}after\r\n`;
    const outcome = await session.deliver(outgoing({ message: Buffer.from(body) }), never);
    assert.equal(outcome.kind, 'delivered');
    assert.equal(sink.messages.length, 1);
    assert.match(sink.messages[0]!, /smuggled[\s\S]*after\r\n$/);
    assert.ok(!sink.commands.some((line) => line.includes('evil')), sink.commands.join('|'));
    session.close();
  });
}

test('nor does one at the very start or end of a message', async (t) => {
  for (const terminator of terminators) {
    for (const body of [
      `${terminator.slice(1)}${smuggled}`,
      `x${terminator}`,
      terminator,
      '.',
      '.\r\n',
      'x\r',
      'x\n.',
    ]) {
      const sink = await lenientSink(t);
      const session = await opened(t, sink);
      const outcome = await session.deliver(outgoing({ message: Buffer.from(body) }), never);
      const told = JSON.stringify([body, sink]);
      assert.deepEqual([outcome.kind, sink.messages.length], ['delivered', 1], told);
      assert.ok(!sink.commands.some((line) => line.includes('evil')), told);
      session.close();
    }
  }
});

test('random bodies of dots and line ends are one message each, and clean ones arrive unchanged', async (t) => {
  const fuzz = new Fuzz('delivery-wire-smuggling');
  const sink = await lenientSink(t);
  const session = await opened(t, sink);
  const rounds = fuzz.rounds(300);
  for (let round = 0; round < rounds; round++) {
    const pieces = fuzz.below(2)
      ? ['\r\n', 'a', 'b.c', ' ']
      : ['\r', '\n', '\r\n', '.', '..', 'a', '\0', smuggled];
    const body = `${Array.from({ length: 1 + fuzz.below(40) }, () => fuzz.pick(pieces)).join('')}\r\n`;
    const outcome = await session.deliver(outgoing({ message: Buffer.from(body, 'latin1') }), never);
    assert.equal(outcome.kind, 'delivered', JSON.stringify(body));
    assert.equal(sink.messages.length, round + 1, JSON.stringify(body));
    if (pieces.length === 4) assert.equal(sink.messages[round], body);
  }
  assert.ok(!sink.commands.some((line) => line.includes('evil')));
});

test('what stands in an envelope never ends its command: such an address is said to nobody', async (t) => {
  const evil = ['a@peer.test>\r\nRSET', 'a@peer.test\nRSET', 'a@peer.test> SIZE=1', '<a@peer.test'];
  for (const change of evil.flatMap((address) => [{ to: address }, { from: address }])) {
    const sink = await lenientSink(t);
    const session = await opened(t, sink);
    const before = sink.commands.length;
    await assert.rejects(session.deliver(outgoing(change), never), TypeError);
    assert.equal(session.isUsable, false);
    assert.deepEqual(sink.commands.slice(before), [], JSON.stringify(change));
  }
});
