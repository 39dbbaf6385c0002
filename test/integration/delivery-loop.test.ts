/** The loop between spool and destinations: waking, fairness, stopping. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import { anywhere, destination, firstTry, resolverOf, scripted, world } from '../unit/delivery-fixtures.ts';
import { mail, minute } from '../unit/spool-fixtures.ts';

test('a message accepted later wakes the loop by itself', async (t) => {
  const { port, received } = await destination(t);
  const { spool, deliverer, next } = await world(t, { port });
  deliverer.start();
  for (let i = 1; i <= 3; i++) {
    const result = next('delivery_results');
    await spool.accept(mail());
    assert.equal(await result, 'sent');
    assert.equal(received.length, i);
  }
});

test('a slow domain has its share of tries at once and holds up nobody else', async (t) => {
  const waiting: Socket[] = [];
  const slow = await scripted(t, { RCPT: (socket) => void waiting.push(socket) });
  const resolver = resolverOf({ 'slow.test': { a: ['127.0.0.1'] }, 'fast.test': { a: ['127.0.0.2'] } });
  const { spool, deliverer, next } = await world(t, { port: slow.port, resolver });
  const crowd = Array.from({ length: 40 }, (_, i) => `u${i}@slow.test`);
  await spool.accept(mail({ to: crowd }));
  await spool.accept(mail({ to: ['a@fast.test'] }));
  // Nothing listens for the fast domain: its answer is a refusal, at once.
  const result = next('delivery_results');
  deliverer.start();
  assert.equal(await result, 'deferred');
  while (waiting.length < 5) await new Promise(setImmediate);
  assert.equal(slow.connections(), 5);
  // As one ends, the next one begins.
  const ended = next('delivery_results');
  waiting[0]!.write('250 ok\r\n');
  assert.equal(await ended, 'sent');
  while (waiting.length < 6) await new Promise(setImmediate);
  assert.equal(slow.connections(), 5);
  for (const socket of waiting) socket.destroy();
});

test('a stop lets a try finish, and gives back what was not begun', async (t) => {
  const held = Promise.withResolvers<Socket>();
  const peer = await scripted(t, { '.': (socket) => held.resolve(socket) });
  const { spool, deliverer, recipient } = await world(t, {
    port: peer.port,
    concurrency: { total: 1, perSite: 1 },
  });
  const [first, second] = [mail(), mail()];
  await spool.accept(first);
  await spool.accept(second);
  deliverer.start();
  const socket = await held.promise;
  const stopped = deliverer.stop();
  socket.write('250 2.0.0 taken\r\n');
  await stopped;
  assert.equal((await recipient(first.queueId)).state, 'sent');
  assert.deepEqual(
    (await spool.due({ limit: 10, now: Date.now() + 10 * minute, ...anywhere })).map(
      ({ queueId }) => queueId,
    ),
    [second.queueId],
  );
});

test('a try that does not end is given back after the grace, uncounted', async (t) => {
  const held = Promise.withResolvers<Socket>();
  const peer = await scripted(t, { RCPT: (socket) => held.resolve(socket) });
  const { spool, deliverer, recipient } = await world(t, { port: peer.port, graceMs: 50 });
  const message = mail();
  await spool.accept(message);
  deliverer.start();
  const socket = await held.promise;
  const closed = once(socket, 'close');
  await deliverer.stop();
  await closed;
  const { state, attempts, timeline } = await recipient(message.queueId);
  assert.deepEqual([state, attempts, timeline], ['accepted', 0, []]);
  assert.equal((await spool.due({ limit: 1, now: Date.now() + 10 * minute, ...anywhere })).length, 1);
});

test('a body that cannot be read now is tried again later, not lost', async (t) => {
  const { port } = await destination(t);
  const here = await world(t, { port });
  t.mock.method(here.spool, 'body', () => Promise.reject(new Error('EIO')), { times: 1 });
  // Small ones come with their claim.
  const large = mail({ body: Buffer.from('From: a@reef.test\r\n\r\n'.padEnd(300_000, 'x')) });
  const { result, attempts, timeline } = await firstTry(here, large);
  assert.deepEqual([result, attempts, timeline[0]!.summary], ['deferred', 0, 'a failure on our side']);
});
