/** Destinations that behave, and many that do not: what becomes of the recipient. */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import type { RecipientStatus } from '../../node/spool/spool.ts';
import {
  destination,
  firstTry,
  resolverOf,
  type Script,
  scripted,
  world,
} from '../unit/delivery-fixtures.ts';
import { mail } from '../unit/spool-fixtures.ts';

const drop = (socket: Socket) => socket.destroy();
const silence = () => undefined;

type Options = NonNullable<Parameters<typeof world>[1]>;

/** One message, one try. */
async function tried(t: TestContext, options: Options, message = mail()): Promise<RecipientStatus> {
  const here = await world(t, options);
  const first = await firstTry(here, message);
  await here.deliverer.stop();
  return first;
}

test('a good destination gets the bytes as they came, under TLS, from the return path', async (t) => {
  const { port, received } = await destination(t);
  const body = Buffer.from('From: a@reef.test\r\nSubject: dots\r\n\r\n.\r\n..\r\n.x\r\nno end');
  const message = mail({ body, signatures: 'DKIM-Signature: 1\r\n', prefix: 'X-Atmos-Id: 1\r\n' });
  const { state, timeline } = await tried(t, { port, tls: 'required' }, message);
  assert.equal(state, 'sent');
  assert.equal(received[0]!.bytes.toString(), `DKIM-Signature: 1\r\nX-Atmos-Id: 1\r\n${body}\r\n`);
  assert.deepEqual(
    [received[0]!.from, received[0]!.to, received[0]!.secure],
    ['b-x@harbor.test', 'ann@dest.test', true],
  );
  assert.match(timeline[0]!.tls!.version, /^TLSv1\.[23]$/);
  assert.match(timeline[0]!.reply!, /^250 .*kept/);
});

test('a deferred recipient does not delay its siblings', async (t) => {
  const { port, received } = await destination(t, {
    onRcptTo: ({ address }, _session, done) => {
      if (address.startsWith('bad'))
        done(Object.assign(new Error('4.2.0 greylisted'), { responseCode: 450 }));
      else done();
    },
  });
  const { spool, deliverer, results } = await world(t, { port });
  const message = mail({ to: ['bad@dest.test', 'good@dest.test', 'fine@dest.test'] });
  await spool.accept(message);
  const three = results(3);
  deliverer.start();
  assert.deepEqual((await three).sort(), ['deferred', 'sent', 'sent']);
  assert.deepEqual(received.map(({ to }) => to).sort(), ['fine@dest.test', 'good@dest.test']);
});

const finals: [claim: string, script: Script, status: string, invalid: boolean][] = [
  ['an unknown user', { RCPT: '550 5.1.1 no such user' }, '5.1.1', true],
  ['a sender refused', { MAIL: '550 5.7.1 not you' }, '5.7.1', false],
  ['content refused after the dot', { '.': '554 5.6.0 spam' }, '5.6.0', false],
  ['DATA refused', { DATA: '554 5.5.1 no' }, '5.5.1', false],
];

for (const [claim, script, status, invalid] of finals) {
  test(`${claim} bounces at once`, async (t) => {
    const { port } = await scripted(t, script);
    const { state, timeline } = await tried(t, { port });
    assert.deepEqual([state, timeline.length, timeline[0]!.status], ['bounced', 1, status]);
    assert.equal(timeline[0]!.recipientInvalid, invalid);
  });
}

const passing: [claim: string, script: Script, summary: RegExp][] = [
  ['4xx to MAIL', { MAIL: '451 4.3.0 busy' }, /put off the mail/],
  ['4xx to RCPT', { RCPT: '450 4.2.0 greylisted' }, /put off the recipient/],
  ['4xx to DATA', { DATA: '451 busy' }, /put off the message/],
  ['4xx after the dot', { '.': '452 4.3.1 disk full' }, /put off the message/],
  ['421 in the middle', { RCPT: '421 4.7.0 too many' }, /put off the/],
  ['a greeting of 421', { '': '421 busy' }, /put off the session/],
  ['a greeting of 554', { '': '554 no service for you' }, /put off the session/],
  ['EHLO and HELO refused', { EHLO: '502 what?', HELO: '550 never' }, /HELO|session/],
  ['closed before the greeting', { '': drop }, /closed|ECONNRESET/],
  ['closed at EHLO', { EHLO: drop }, /closed|ECONNRESET/],
  ['closed at MAIL', { MAIL: drop }, /closed|ECONNRESET/],
  ['closed at RCPT', { RCPT: drop }, /closed|ECONNRESET/],
  ['closed at DATA', { DATA: drop }, /closed|ECONNRESET/],
  ['closed after the dot', { '.': drop }, /closed|ECONNRESET/],
  ['half a 5xx and a close', { RCPT: (s) => s.end('550 5.1.1 no such') }, /closed/],
  ['a reply of a megabyte in one line', { RCPT: (s) => s.write(`250 ${'x'.repeat(1 << 20)}`) }, /exceeds/],
  ['a reply that never ends', { RCPT: (s) => s.write('250-more\r\n'.repeat(20_000)) }, /exceeds/],
  ['a greeting that is no reply', { '': 'HTTP/1.1 400 Bad Request' }, /greeting|Invalid/i],
  ['silence instead of a greeting', { '': silence }, /did not answer in time/],
  ['silence after RCPT', { RCPT: silence }, /did not answer in time/],
  ['silence after the dot', { '.': silence }, /did not answer in time/],
];

for (const [claim, script, summary] of passing) {
  test(`${claim} is tried again, and counts`, async (t) => {
    const { port } = await scripted(t, script);
    // Short only where the silence is the point: a busy machine must not make more of it.
    const timeouts = Object.values(script).includes(silence) ? { sessionMs: 200, idleMs: 200 } : {};
    const { state, attempts, timeline } = await tried(t, { port, timeouts });
    assert.deepEqual([state, attempts, timeline[0]!.counted], ['deferred', 1, true]);
    assert.match(timeline[0]!.summary, summary);
  });
}

test('a peer that drips is cut off by the total time', async (t) => {
  const timers: NodeJS.Timeout[] = [];
  t.after(() => timers.forEach(clearInterval));
  const drip = (socket: Socket) => void timers.push(setInterval(() => socket.write('2'), 20));
  const { port } = await scripted(t, { RCPT: drip });
  const { state, timeline } = await tried(t, { port, timeouts: { totalMs: 1_200, idleMs: 400 } });
  assert.equal(state, 'deferred');
  assert.match(timeline[0]!.summary, /no outcome within 1\.2 s/);
});

test('a long reply is kept verbatim, cut to a bounded length', async (t) => {
  const { port } = await scripted(t, { RCPT: `550-5.1.1 ${'a'.repeat(30_000)}\r\n550 5.1.1 end` });
  const { timeline } = await tried(t, { port });
  assert.match(timeline[0]!.reply!, /^550-5\.1\.1 a+$/);
  assert.equal(timeline[0]!.reply!.length, 2_000);
});

test('where TLS is required, a site without it is deferred with that reason and gets nothing', async (t) => {
  const plain = await scripted(t, { STARTTLS: '502 5.5.1 not here' });
  const { state, timeline } = await tried(t, { port: plain.port, tls: 'required' });
  assert.equal(state, 'deferred');
  assert.match(timeline[0]!.summary, /no encrypted session.*502 5\.5\.1 not here/s);
  assert.ok(!plain.commands.some((line) => line.startsWith('MAIL')));
});

test('where TLS is opportunistic, a broken handshake is followed by a plain session', async (t) => {
  const broken = await scripted(t, {
    EHLO: '250-scripted.test\r\n250 STARTTLS',
    STARTTLS: (socket) => socket.write('220 go\r\nthis is not TLS\r\n'),
  });
  assert.equal(
    (await tried(t, { port: broken.port, tls: 'opportunistic', timeouts: { sessionMs: 5_000 } })).state,
    'sent',
  );
  assert.equal(broken.connections(), 2);
});

test('the next exchanger is tried when one does not get to MAIL, and not after', async (t) => {
  const { port, received } = await destination(t);
  // Nothing listens on 127.0.0.2 and 127.0.0.3 at this port.
  const resolver = resolverOf({
    'dest.test': {
      mx: [
        [10, 'dead.test'],
        [20, 'dying.test'],
        [30, 'alive.test'],
      ],
    },
    'dead.test': { a: ['127.0.0.2'] },
    'dying.test': { a: ['127.0.0.3'] },
    'alive.test': { a: ['127.0.0.1'] },
  });
  const { state, timeline } = await tried(t, { port, resolver });
  assert.deepEqual([state, timeline[0]!.host, received.length], ['sent', 'alive.test', 1]);
});

test('a reply in the transaction is the destination’s word: no other exchanger is asked', async (t) => {
  const peer = await scripted(t, { RCPT: '450 4.2.0 greylisted' });
  const resolver = resolverOf({
    'dest.test': {
      mx: [
        [10, 'one.test'],
        [20, 'two.test'],
      ],
    },
    'one.test': { a: ['127.0.0.1'] },
    'two.test': { a: ['127.0.0.1'] },
  });
  await tried(t, { port: peer.port, resolver });
  assert.equal(peer.connections(), 1);
});

const unfit: [claim: string, message: Parameters<typeof mail>[0], status: string][] = [
  ['8-bit content', { body: Buffer.from('From: a@reef.test\r\n\r\nGrüße\r\n') }, '5.6.3'],
  ['a header in UTF-8', { body: Buffer.from('From: a@reef.test\r\nSubject: Grüße\r\n\r\nhi\r\n') }, '5.6.7'],
  ['an address in UTF-8', { to: ['jörg@dest.test'] }, '5.6.7'],
  ['more than SIZE', { body: Buffer.alloc(200, 'x') }, '5.3.4'],
];

for (const [claim, message, status] of unfit) {
  test(`${claim} that the destination does not take is a bounce, never a conversion`, async (t) => {
    const peer = await scripted(t, { EHLO: '250-scripted.test\r\n250 SIZE 200' });
    const { state, timeline } = await tried(t, { port: peer.port }, mail(message));
    assert.deepEqual([state, timeline[0]!.status], ['bounced', status]);
    assert.ok(!peer.commands.some((line) => line.startsWith('MAIL')));
  });
}

test('8-bit content and UTF-8 headers are named in MAIL FROM where the destination takes them', async (t) => {
  const { port, received } = await destination(t);
  const body = Buffer.from('From: a@reef.test\r\nSubject: Grüße\r\n\r\nGrüße\r\n');
  assert.equal((await tried(t, { port }, mail({ body, prefix: '' }))).state, 'sent');
  assert.deepEqual(received[0]!.bytes, body);
  const args = received[0]!.args as Record<string, unknown>;
  assert.deepEqual([args.BODY, args.SMTPUTF8], ['8BITMIME', true]);
});

test('a sandbox bounces what would leave the machine, without a connection', async (t) => {
  const resolver = resolverOf({ 'dest.test': { a: ['192.0.2.1'] } });
  const { state, timeline } = await tried(t, { resolver, port: 25 });
  assert.deepEqual([state, timeline[0]!.status], ['bounced', '5.4.4']);
});
