/** One connection carries many messages, and its end costs nobody a try. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import { destination, resolverOf, scripted, world } from '../unit/delivery-fixtures.ts';
import { mail, minute } from '../unit/spool-fixtures.ts';

const one = { total: 1, perSite: 1 };

test('messages to one site go over one connection, up to its share', async (t) => {
  const peer = await scripted(t, {});
  const here = await world(t, { port: peer.port, concurrency: one, messagesPerConnection: 4 });
  for (let i = 0; i < 10; i++) await here.spool.accept(mail({ to: [`u${i}@dest.test`] }));
  const results = here.results(10);
  here.deliverer.start();
  assert.deepEqual(new Set(await results), new Set(['sent']));
  assert.equal(peer.connections(), 3);
  assert.equal(peer.commands.filter((line) => line === 'QUIT').length, 2);
});

test('domains at one site share its connections', async (t) => {
  const peer = await scripted(t, {});
  const mx: [number, string][] = [[10, 'mx.provider.test']];
  const resolver = resolverOf({
    ...{ 'a.test': { mx }, 'b.test': { mx }, 'c.test': { mx } },
    'mx.provider.test': { a: ['127.0.0.1'] },
  });
  const here = await world(t, { port: peer.port, resolver, concurrency: { total: 10, perSite: 1 } });
  for (const domain of ['a', 'b', 'c', 'a', 'b', 'c'])
    await here.spool.accept(mail({ to: [`u@${domain}.test`] }));
  const results = here.results(6);
  here.deliverer.start();
  await results;
  assert.equal(peer.connections(), 1);
  assert.equal(
    here.deliverer.sites().filter(({ connections, limit }) => connections + limit > 0).length > 0,
    true,
  );
});

test('an idle connection is closed after its time, and all are at a stop', async (t) => {
  const quits: Socket[] = [];
  const peer = await scripted(t, {
    QUIT: (socket) => {
      quits.push(socket);
      socket.end('221 bye\r\n');
    },
  });
  const here = await world(t, { port: peer.port, idleMs: 20 });
  await here.spool.accept(mail());
  const results = here.results(1);
  here.deliverer.start();
  await results;
  while (quits.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));

  const lasting = await world(t, { port: peer.port, idleMs: 60_000 });
  await lasting.spool.accept(mail());
  const more = lasting.results(1);
  lasting.deliverer.start();
  await more;
  assert.equal(quits.length, 1);
  await lasting.deliverer.stop();
  while (quits.length === 1) await new Promise((resolve) => setTimeout(resolve, 5));
});

const ends: [claim: string, end: (socket: Socket) => void][] = [
  ['closed while idle', (socket) => void socket.destroy()],
  ['ended by 421 while idle', (socket) => void socket.end('421 4.4.2 idle for too long\r\n')],
];

for (const [claim, end] of ends) {
  test(`a connection ${claim} is followed by a fresh one, and no try is counted`, async (t) => {
    const sockets: Socket[] = [];
    const peer = await scripted(t, {
      '.': (socket) => {
        sockets.push(socket);
        socket.write('250 ok\r\n');
      },
    });
    const here = await world(t, { port: peer.port, concurrency: one });
    await here.spool.accept(mail());
    const first = here.results(1);
    here.deliverer.start();
    await first;
    const closed = once(sockets[0]!, 'close');
    end(sockets[0]!);
    await closed;
    const message = mail();
    const second = here.results(1);
    await here.spool.accept(message);
    assert.deepEqual(await second, ['sent']);
    const { timeline, attempts } = await here.recipient(message.queueId);
    assert.deepEqual([timeline.length, attempts, peer.connections()], [1, 1, 2]);
  });
}

const refusals: [claim: string, reply: (socket: Socket) => void][] = [
  ['closed at its next MAIL', (socket) => void socket.destroy()],
  [
    'refused with 421 at its next MAIL',
    (socket) => void socket.end('421 4.7.0 too many messages in this session\r\n'),
  ],
];

for (const [claim, reply] of refusals) {
  test(`a connection ${claim} is followed by a fresh one, and no try is counted`, async (t) => {
    let mails = 0;
    const peer = await scripted(t, {
      MAIL: (socket) => (++mails === 3 ? reply(socket) : void socket.write('250 ok\r\n')),
    });
    const here = await world(t, { port: peer.port, concurrency: one });
    const messages = Array.from({ length: 4 }, () => mail());
    for (const message of messages) await here.spool.accept(message);
    const results = here.results(4);
    here.deliverer.start();
    assert.deepEqual(await results, ['sent', 'sent', 'sent', 'sent']);
    assert.equal(peer.connections(), 2);
    for (const { queueId } of messages) {
      const { timeline, attempts } = await here.recipient(queueId);
      assert.deepEqual([timeline.length, attempts], [1, 1]);
    }
  });
}

test('a fresh connection that breaks before MAIL is answered counts as any other', async (t) => {
  const peer = await scripted(t, { MAIL: (socket) => void socket.destroy() });
  const here = await world(t, { port: peer.port });
  const message = mail();
  await here.spool.accept(message);
  const results = here.results(1);
  here.deliverer.start();
  assert.deepEqual(await results, ['deferred']);
  const { attempts, nextAt } = await here.recipient(message.queueId);
  assert.deepEqual([attempts, nextAt! - here.clock.at, peer.connections()], [1, minute, 1]);
});

test('a refused message leaves the connection to the next one', async (t) => {
  const { port, received } = await destination(t, {
    onRcptTo: ({ address }, _session, done) =>
      done(
        address.startsWith('bad')
          ? Object.assign(new Error('5.1.1 no such user'), { responseCode: 550 })
          : null,
      ),
  });
  const here = await world(t, { port, concurrency: one });
  for (const to of ['bad@dest.test', 'good@dest.test', 'bad@dest.test', 'good@dest.test'])
    await here.spool.accept(mail({ to: [to] }));
  const results = here.results(4);
  here.deliverer.start();
  assert.deepEqual((await results).sort(), ['bounced', 'bounced', 'sent', 'sent']);
  assert.deepEqual(
    received.map(({ to }) => to),
    ['good@dest.test', 'good@dest.test'],
  );
});
