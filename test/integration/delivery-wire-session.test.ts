/** One connection and the messages that it carries: what is said, in which order, and what it comes to. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import type { Outcome } from '../../node/delivery/client.ts';
import { type Act, never, open, opened, outgoing, type Peer, peer } from './delivery-wire-world.ts';

const mailOf = (commands: string[]) => commands.filter((line) => line.startsWith('MAIL'));

test('one session carries one message after another, each with its own bytes', async (t) => {
  const there = await peer(t);
  const session = await opened(t, there);
  for (let n = 0; n < 20; n++) {
    const outcome = await session.deliver(
      outgoing({ message: Buffer.from(`Subject: ${n}\r\n\r\n.${n}\r\nx\r\n`) }),
      never,
    );
    assert.equal(outcome.kind === 'delivered' && outcome.reply, '250 2.0.0 ok');
  }
  assert.equal(there.connections(), 1);
  assert.deepEqual(
    there.messages,
    Array.from({ length: 20 }, (_, n) => `Subject: ${n}\r\n\r\n.${n}\r\nx\r\n`),
  );
  assert.ok(!there.commands.includes('RSET'));
});

test('each message names what it needs and no other: SMTPUTF8, 8BITMIME, SIZE', async (t) => {
  const there = await peer(t, { offers: ['SMTPUTF8', '8BITMIME', 'SIZE 1000'] });
  const session = await opened(t, there);
  const plain = outgoing();
  await session.deliver(plain, never);
  await session.deliver(outgoing({ utf8Header: true, eightBit: true }), never);
  await session.deliver(outgoing({ eightBit: true }), never);
  await session.deliver(outgoing({ from: 'jörg@harbor.test' }), never);
  await session.deliver(plain, never);
  const size = `SIZE=${plain.message.length}`;
  assert.deepEqual(
    mailOf(there.commands).map((line) => line.slice(line.indexOf('>') + 2)),
    [size, `SMTPUTF8 BODY=8BITMIME ${size}`, `BODY=8BITMIME ${size}`, `SMTPUTF8 ${size}`, size],
  );
});

test('a peer that offers nothing is told of no extension', async (t) => {
  const there = await peer(t);
  const session = await opened(t, there);
  await session.deliver(outgoing({ dsn: { ret: 'hdrs', envid: 'x', notify: ['success'] } }), never);
  assert.deepEqual(there.commands.slice(1, 3), ['MAIL FROM:<b-1@harbor.test>', 'RCPT TO:<ann@peer.test>']);
});

test('the member’s wishes for notifications go on where the peer offers DSN, and only there', async (t) => {
  const wish = {
    ret: 'hdrs',
    envid: 'QQ=314',
    notify: ['success', 'delay'],
    orcpt: 'rfc822;ann+x@peer.test',
  };
  const dsn = wish as NonNullable<ReturnType<typeof outgoing>['dsn']>;
  for (const offers of [['DSN'], ['DSN-NOT', 'X DSN']]) {
    const there = await peer(t, { offers });
    const outcome = await (await opened(t, there)).deliver(outgoing({ dsn }), never);
    const isOffered = offers[0] === 'DSN';
    assert.equal(outcome.kind === 'delivered' && outcome.relayed, isOffered);
    const said = there.commands.slice(1, 3);
    if (isOffered) {
      assert.deepEqual(said, [
        'MAIL FROM:<b-1@harbor.test> RET=HDRS ENVID=QQ+3D314',
        'RCPT TO:<ann@peer.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;ann+2Bx@peer.test',
      ]);
    } else assert.deepEqual(said, ['MAIL FROM:<b-1@harbor.test>', 'RCPT TO:<ann@peer.test>']);
  }
});

test('after a refusal the same session carries the next message, reset first', async (t) => {
  for (const offers of [[], ['PIPELINING']]) {
    let refusals = 1;
    const there = await peer(t, {
      offers,
      script: {
        RCPT: (socket) => socket.write(refusals-- > 0 ? '550 5.1.1 who?\r\n' : '250 ok\r\n'),
        // With PIPELINING the peer has DATA before we have its refusal.
        ...(offers.length > 0 && {
          DATA: (socket) => socket.write(refusals < 0 ? '354 go\r\n' : '503 no\r\n'),
        }),
      },
    });
    const session = await opened(t, there);
    const first = await session.deliver(outgoing(), never);
    assert.deepEqual([first.kind, first.kind === 'refused' && first.stage], ['refused', 'recipient']);
    assert.ok(session.isUsable);
    if (offers.length === 0) {
      const second = await session.deliver(outgoing(), never);
      assert.equal(second.kind, 'delivered');
      assert.equal(there.commands.filter((line) => line === 'RSET').length, 1);
    }
  }
});

test('PIPELINING: a peer that takes DATA for nobody gets an empty message, and the session goes on', async (t) => {
  const there = await peer(t, {
    offers: ['PIPELINING'],
    script: { RCPT: '550 5.1.1 who?', '.': '554 none' },
  });
  const session = await opened(t, there);
  for (let n = 0; n < 2; n++) {
    const outcome = await session.deliver(outgoing(), never);
    assert.equal(outcome.kind === 'refused' && outcome.reply, '550 5.1.1 who?');
  }
  assert.deepEqual(there.messages, ['\r\n', '\r\n']);
  assert.equal(there.connections(), 1);
});

const stages: [verb: string, stage: string][] = [
  ['MAIL', 'mail'],
  ['RCPT', 'recipient'],
  ['DATA', 'data'],
  ['.', 'data'],
];
for (const [verb, stage] of stages) {
  for (const reply of ['450 4.2.0 later', '550 5.7.1 never', '421 4.3.2 going down']) {
    test(`${reply} at ${verb} is the ${stage} refused`, async (t) => {
      const there = await peer(t, { script: { [verb]: reply } });
      const session = await opened(t, there);
      const outcome = await session.deliver(outgoing(), never);
      assert.deepEqual(outcome, { kind: 'refused', stage, reply, tls: undefined });
      assert.equal(session.isUsable, !reply.startsWith('421'));
      const again = await session.deliver(outgoing(), never);
      assert.equal(again.kind, reply.startsWith('421') ? 'broken' : 'refused');
    });
  }
}

const opening: [verb: string, reply: string][] = [
  ['', '554 5.3.2 no'],
  ['', '421 4.3.2 busy'],
  ['EHLO', '421 4.3.2 busy'],
];
for (const [verb, reply] of opening) {
  test(`${reply} at ${verb || 'the greeting'} is the session refused`, async (t) => {
    const result = await open(await peer(t, { script: { [verb]: reply } }));
    assert.deepEqual(result, { kind: 'refused', stage: 'session', reply, tls: undefined });
  });
}

test('what the peer cannot take is not sent, and does not spoil the session', async (t) => {
  const there = await peer(t, { offers: ['SIZE 200'] });
  const session = await opened(t, there);
  const misfits: [Parameters<typeof outgoing>[0], string][] = [
    [{ eightBit: true }, '5.6.3'],
    [{ utf8Header: true }, '5.6.7'],
    [{ to: 'jörg@peer.test' }, '5.6.7'],
    [{ message: Buffer.alloc(201, 'x') }, '5.3.4'],
    [{ requireTls: true }, '5.7.30'],
  ];
  for (const [change, status] of misfits) {
    const outcome = await session.deliver(outgoing(change), never);
    assert.equal(outcome.kind === 'unfit' && outcome.status, status);
  }
  assert.deepEqual(mailOf(there.commands), []);
  assert.equal((await session.deliver(outgoing(), never)).kind, 'delivered');
});

test('the session speaks from the address that it is told to', async (t) => {
  const there = await peer(t);
  await opened(t, there, { source: '127.0.0.77' });
  assert.equal(there.remoteAddress(), '127.0.0.77');
});

test('a source address that is not ours is our fault, not the destination’s', async (t) => {
  const result = await open(await peer(t), { source: '192.0.2.1' });
  assert.equal(result.kind === 'broken' && result.reached, false);
});

test('an idle session that the peer ends is known not to be usable', async (t) => {
  for (const farewell of ['421 4.4.2 idle too long\r\n', '']) {
    let theirs: Socket | undefined;
    const keep = (socket: Socket) => {
      theirs = socket;
      socket.write('250 ok\r\n');
    };
    const there = await peer(t, { script: { '.': keep } });
    const session = await opened(t, there);
    await session.deliver(outgoing(), never);
    const gone = once(theirs!, 'close');
    theirs!.end(farewell);
    await gone;
    assert.equal(session.isUsable, false);
    const outcome = await session.deliver(outgoing(), never);
    assert.equal(outcome.kind === 'broken' && outcome.stage, 'session');
  }
});

test('a stop ends the message under way at once, and leaves no session', async (t) => {
  const stop = new AbortController();
  const there = await peer(t, { script: { RCPT: () => stop.abort() } });
  const session = await opened(t, there);
  assert.deepEqual(await session.deliver(outgoing(), stop.signal), { kind: 'aborted' });
  assert.equal(session.isUsable, false);
  assert.deepEqual(await session.deliver(outgoing(), stop.signal), { kind: 'aborted' });
});

test('closing in the middle of a message ends it, and says nothing into it', async (t) => {
  const there: Peer = await peer(t, { script: { DATA: () => session.close() } });
  const session = await opened(t, there);
  const outcome = await session.deliver(outgoing(), never);
  assert.equal(outcome.kind, 'broken');
  assert.ok(!there.commands.includes('QUIT'));
});

test('closing says QUIT', async (t) => {
  const { promise, resolve } = Promise.withResolvers<void>();
  const session = await opened(t, await peer(t, { script: { QUIT: () => resolve() } }));
  session.close();
  await promise;
  assert.equal(session.isUsable, false);
});

test('a stop ends an opening at once', async (t) => {
  const stop = new AbortController();
  const silent = await peer(t, { script: { '': () => stop.abort() } });
  assert.deepEqual(await open(silent, { signal: stop.signal }), { kind: 'aborted' });
  assert.deepEqual(await open(silent, { signal: stop.signal }), { kind: 'aborted' });
  assert.equal(silent.connections(), 1);
});

test('a thousand messages under one signal leave one listener', async (t) => {
  const stop = new AbortController();
  let listeners = 0;
  const { addEventListener, removeEventListener } = stop.signal;
  stop.signal.addEventListener = (...given: Parameters<typeof addEventListener>) => {
    listeners += 1;
    return addEventListener.apply(stop.signal, given);
  };
  stop.signal.removeEventListener = (...given: Parameters<typeof removeEventListener>) => {
    listeners -= 1;
    return removeEventListener.apply(stop.signal, given);
  };
  const session = await opened(t, await peer(t, { offers: ['PIPELINING'] }));
  for (let n = 0; n < 1_000; n++) await session.deliver(outgoing(), stop.signal);
  assert.equal(listeners, 1);
  session.close();
  assert.equal(listeners, 0);
});

test('each message has the whole time for itself', async (t) => {
  let dots = 0;
  const answer = (socket: Socket) => {
    dots += 1;
    // The fourth is never answered; each of those before takes more than a third of it.
    if (dots < 4) setTimeout(() => socket.write('250 ok\r\n'), 400);
  };
  const session = await opened(t, await peer(t, { script: { '.': answer } }), {
    timeouts: { totalMs: 1_000 },
  });
  const outcomes: Outcome[] = [];
  for (let n = 0; n < 4; n++) outcomes.push(await session.deliver(outgoing(), never));
  assert.deepEqual(
    outcomes.map(({ kind }) => kind),
    ['delivered', 'delivered', 'delivered', 'broken'],
  );
  assert.match((outcomes[3] as { summary: string }).summary, /no outcome within 1 s/);
  assert.equal(session.isUsable, false);
});

test('what the peer refused before it closed, or fell silent, is refused', async (t) => {
  const no = '550 5.1.1 no such mailbox';
  const leave: Act = (socket) => void socket.end(`${no}\r\n`);
  const cases: [stage: string, script: Record<string, Act>][] = [
    ['mail', { MAIL: leave }],
    ['recipient', { RCPT: leave }],
    ['recipient', { RCPT: no, DATA: () => undefined }],
    ['recipient', { RCPT: no, '.': (socket) => void socket.destroy() }],
  ];
  for (const [stage, script] of cases) {
    const there = await peer(t, { script, offers: ['PIPELINING'] });
    const session = await opened(t, there, { timeouts: { idleMs: 500 } });
    const outcome = await session.deliver(outgoing(), never);
    assert.deepEqual(outcome, { kind: 'refused', stage, reply: no, tls: undefined });
    assert.equal(session.isUsable, false);
  }
});
