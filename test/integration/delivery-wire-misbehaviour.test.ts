/** Destinations that break the rules on purpose: each ends as a value, in bounded time, and nothing is taken for sent. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import type { Outcome } from '../../node/delivery/client.ts';
import type { Opened } from '../../node/delivery/session.ts';
import {
  type Act,
  certificate,
  never,
  type OpenOptions,
  open,
  outgoing,
  peer,
} from './delivery-wire-world.ts';

const drop = (socket: Socket) => void socket.destroy();
const silence = () => undefined;
const megabyte = 1024 * 1024;

/** Opens, delivers one message, tells what came of it and whether the session would carry another. */
async function tried(
  t: TestContext,
  script: Record<string, Act>,
  { offers, ...options }: OpenOptions & { offers?: string[] } = {},
): Promise<{ outcome: Opened | Outcome; isUsable: boolean; messages: string[]; commands: string[] }> {
  const { messages, commands, ...there } = await peer(t, { script, ...(offers && { offers }) });
  const result = await open(there, options);
  if (result.kind !== 'open') return { outcome: result, isUsable: false, messages, commands };
  t.after(() => result.session.close());
  const outcome = await result.session.deliver(outgoing(), never);
  return { outcome, isUsable: result.session.isUsable, messages, commands };
}

const quick = { timeouts: { sessionMs: 300, idleMs: 300, totalMs: 900 } };

/** Until the socket closes: one byte at a time, never a whole reply. */
const drip = (socket: Socket, first = '') => {
  socket.write(first);
  const timer = setInterval(() => socket.write('2'), 20);
  socket.on('close', () => clearInterval(timer));
};

type Case = [
  claim: string,
  script: Record<string, Act>,
  summary: RegExp,
  options?: OpenOptions & { offers?: string[] },
];

const inSession: Case[] = [
  ['closes before the greeting', { '': drop }, /closed|ECONNRESET/],
  ['closes at EHLO', { EHLO: drop }, /closed|ECONNRESET/],
  ['greets with something else', { '': 'HTTP/1.1 400 Bad Request' }, /greeting/i],
  ['greets with nothing', { '': silence }, /did not answer in time/, quick],
  ['drips its greeting', { '': (s) => drip(s) }, /did not answer in time/, quick],
  ['drips its EHLO', { EHLO: (s) => drip(s) }, /did not answer in time/, quick],
  ['greets with a megabyte', { '': `220 ${'x'.repeat(megabyte)}` }, /exceeds/],
  ['offers extensions without end', { EHLO: (s) => s.write('250-more\r\n'.repeat(20_000)) }, /exceeds/],
  ['greets twice', { '': '220 one\r\n220 two' }, /not asked/],
  ['answers EHLO before it is asked', { '': '220 hello\r\n250 ok' }, /not asked/],
  ['answers everything before it is asked', { '': `220 hello${'\r\n250 ok'.repeat(9)}` }, /not asked/],
];

const inTransaction: Case[] = [
  ['closes at MAIL', { MAIL: drop }, /closed|ECONNRESET/],
  ['closes at RCPT', { RCPT: drop }, /closed|ECONNRESET/],
  ['closes at DATA', { DATA: drop }, /closed|ECONNRESET|EPIPE/],
  ['closes after the dot', { '.': drop }, /closed|ECONNRESET/],
  ['says half a refusal and closes', { RCPT: (s) => void s.end('550 5.1.1 no such') }, /closed/],
  ['says nothing to RCPT', { RCPT: silence }, /did not answer in time/, quick],
  ['says nothing to the dot', { '.': silence }, /did not answer in time/, quick],
  ['drips its reply to the dot', { '.': (s) => drip(s) }, /no outcome within 0\.9 s/, quick],
  ['replies a megabyte in one line', { RCPT: (s) => s.write(`250 ${'x'.repeat(megabyte)}`) }, /exceeds/],
  ['replies a megabyte and ends it', { RCPT: `550 ${'x'.repeat(megabyte)}` }, /exceeds/],
  ['replies in lines without end', { RCPT: (s) => s.write('250-more\r\n'.repeat(20_000)) }, /exceeds/],
  ['replies ten thousand times', { RCPT: '250 ok\r\n'.repeat(10_000) }, /not asked/],
  ['replies twice to MAIL', { MAIL: '250 ok\r\n250 ok' }, /not asked/],
  ['replies to DATA and to the message at once', { DATA: '354 go\r\n250 2.0.0 kept' }, /not asked/],
  [
    'takes DATA with 250, as if it had the message',
    { DATA: '250 2.0.0 kept' },
    /did not wait for the message/,
  ],
  ['replies with no number', { MAIL: 'sure, go on' }, /./],
  ['replies in binary', { MAIL: '\x00\x01\xff\xfe' }, /./],
  [
    'says one thing too many to a pipelined transaction',
    { DATA: '354 go\r\n250 kept' },
    /not asked/,
    { offers: ['PIPELINING'] },
  ],
];

for (const [claim, script, summary, options] of inSession) {
  test(`a destination that ${claim} has broken the session`, async (t) => {
    const { outcome } = await tried(t, script, options);
    assert.ok(outcome.kind === 'broken', JSON.stringify(outcome));
    assert.deepEqual([outcome.stage, outcome.reached], ['session', true]);
    assert.match(outcome.summary, summary);
    assert.ok(outcome.summary.length <= 500);
  });
}

for (const [claim, script, summary, options] of inTransaction) {
  test(`a destination that ${claim} has broken the transaction`, async (t) => {
    const { outcome, isUsable } = await tried(t, script, options);
    assert.ok(outcome.kind === 'broken', JSON.stringify(outcome).slice(0, 500));
    // `mail`: nothing of the message was answered.
    assert.ok(outcome.stage === 'mail' || outcome.stage === 'data');
    assert.deepEqual([outcome.reached, isUsable], [true, false]);
    assert.match(outcome.summary, summary);
    assert.ok(outcome.summary.length <= 500);
  });
}

test('a 250 before the end of a long message is not its delivery', async (t) => {
  // It takes nothing more off the wire, so the message cannot have left.
  const early = (socket: Socket) => {
    socket.write('354 go\r\n');
    socket.once('data', () => socket.pause().write('250 2.0.0 kept\r\n'));
  };
  const there = await peer(t, { script: { DATA: early } });
  const result = await open(there);
  assert.ok(result.kind === 'open');
  const long = Buffer.from(`Subject: long\r\n\r\n${`${'x'.repeat(70)}\r\n`.repeat(300_000)}`);
  const outcome: Outcome = await result.session.deliver(outgoing({ message: long }), never);
  assert.match(outcome.kind === 'broken' ? outcome.summary : outcome.kind, /did not wait for the end/);
  assert.equal(result.session.isUsable, false);
});

test('a refusal before the end of a long message is one, and the session is over', async (t) => {
  const early = (socket: Socket) => {
    socket.write('354 go\r\n');
    socket.once('data', () => socket.pause().write('552 5.3.4 too much\r\n'));
  };
  const there = await peer(t, { script: { DATA: early } });
  const result = await open(there);
  assert.ok(result.kind === 'open');
  const long = Buffer.from(`Subject: long\r\n\r\n${`${'x'.repeat(70)}\r\n`.repeat(300_000)}`);
  const outcome: Outcome = await result.session.deliver(outgoing({ message: long }), never);
  assert.equal(outcome.kind === 'refused' && outcome.reply, '552 5.3.4 too much');
  assert.equal(result.session.isUsable, false);
});

test('4xx for ever is a refusal each time, over one session', async (t) => {
  const there = await peer(t, { script: { RCPT: '450 4.2.0 later' } });
  const result = await open(there);
  assert.ok(result.kind === 'open');
  for (let n = 0; n < 50; n++) {
    const outcome: Outcome = await result.session.deliver(outgoing(), never);
    assert.equal(outcome.kind === 'refused' && outcome.reply, '450 4.2.0 later');
  }
  assert.equal(there.connections(), 1);
  result.session.close();
});

test('empty lines between replies answer nothing and do no harm', async (t) => {
  const { outcome } = await tried(t, { MAIL: '\r\n\r\n250 ok', RCPT: '250 ok\r\n' });
  assert.equal(outcome.kind, 'delivered');
});

const tlsDemanded = { tls: { kind: 'encrypted' } } as const;

test('what is said in plain after the reply to STARTTLS never counts as said inside', async (t) => {
  const tls = await certificate({ names: ['mx.peer.test'] });
  for (const injected of ['250 injected\r\n', '250-injected\r\n', 'fragment']) {
    const inject = (socket: Socket) => void socket.write(`220 go\r\n${injected}`);
    const there = await peer(t, { tls, script: { STARTTLS: inject } });
    const result = await open(there, { ...tlsDemanded, timeouts: { sessionMs: 500 } });
    assert.ok(result.kind === 'broken', injected);
    assert.ok(!there.commands.some((line) => line.startsWith('MAIL')));
  }
});

const handshakes: [claim: string, act: Act][] = [
  ['says garbage', (s) => void s.write('220 go\r\nthis is not TLS at all, sorry\r\n')],
  ['closes', (s) => void s.end('220 go\r\n')],
  ['hangs', '220 go'],
  ['drips', (s) => drip(s, '220 go\r\n')],
];
for (const [claim, act] of handshakes) {
  test(`a handshake that ${claim} is no encrypted session, and where encryption is a wish the mail goes in plain`, async (t) => {
    const script = { EHLO: '250-peer.test\r\n250 STARTTLS', STARTTLS: act };
    const demanded = await tried(t, script, { ...quick, ...tlsDemanded });
    assert.ok(demanded.outcome.kind === 'broken');
    assert.deepEqual([demanded.outcome.stage, demanded.outcome.status], ['session', '4.7.5']);
    assert.deepEqual(demanded.messages, []);
    const wished = await tried(t, script, { ...quick, timeouts: { ...quick.timeouts, totalMs: 5_000 } });
    assert.equal(wished.outcome.kind, 'delivered');
  });
}

test('nobody listening is the destination’s fault; a place that our network cannot reach is ours', async () => {
  const closed = createServer().listen(0, '127.0.0.1');
  await once(closed, 'listening');
  const { port } = closed.address() as { port: number };
  closed.close();
  await once(closed, 'close');
  const refused = await open({ port });
  assert.deepEqual([refused.kind, refused.kind === 'broken' && refused.reached], ['broken', true]);
  // TCP to the broadcast address fails in connect(2); no packet leaves.
  const unreachable = await open({ port: 25 }, { address: '255.255.255.255' });
  assert.deepEqual(
    [unreachable.kind, unreachable.kind === 'broken' && unreachable.reached],
    ['broken', false],
  );
});
