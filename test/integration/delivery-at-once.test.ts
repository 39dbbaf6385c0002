/** Mail that is claimed in the answer to its acceptance, between a real spool and a real destination. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { DelivererOptions } from '../../node/delivery/deliverer.ts';
import type { NewMessage } from '../../node/spool/spool.ts';
import { destination, type Received, scripted, world } from '../unit/delivery-fixtures.ts';
import { bodyFor, mail, minute } from '../unit/spool-fixtures.ts';
import { until } from '../until.ts';

/** A deliverer that knows the way, and how many claims came to it unasked. */
async function running(t: TestContext, options: Partial<DelivererOptions> & { forwardTo?: string }) {
  const { spool, deliverer, ...rest } = await world(t, options);
  const came = { atOnce: 0 };
  const handTo = spool.handTo.bind(spool);
  spool.handTo = (taker) =>
    handTo(
      taker && {
        wants: (message) => taker.wants(message),
        recall: () => taker.recall(),
        answered(size, claim) {
          if (claim) came.atOnce += 1;
          taker.answered(size, claim);
        },
      },
    );
  deliverer.start();
  const first = rest.results(1);
  await spool.accept(mail());
  await first;
  return { spool, deliverer, came, ...rest };
}

/** Its body in memory of its own, given away. */
function given(size: number, change: Partial<NewMessage> & { to?: string[] } = {}): NewMessage {
  const text = Buffer.from(`Subject: given\r\n\r\n${bodyFor('given', size)}\r\n`);
  const body = Buffer.allocUnsafeSlow(text.length);
  text.copy(body);
  return mail({ body, givesBody: true, signatures: 'DKIM-Signature: s\r\n', ...change });
}

const holds = (size: number) => (one: Received) => one.bytes.includes(bodyFor('given', size));

test('what was committed when the deliverer stops is given back, and found by the next one', async (t) => {
  const { port, received } = await destination(t);
  const { spool, deliverer, again, came } = await running(t, { port });
  const accepting = Array.from({ length: 20 }, () => spool.accept(given(5_000)));
  const stopping = deliverer.stop();
  await Promise.all([...accepting, stopping]);
  assert.deepEqual([came.atOnce, received.length], [20, 1]);
  again().start();
  await until('all', () => received.length === 21);
  assert.equal(received.filter(holds(5_000)).length, 20);
});

test('what comes to a site that was closed meanwhile waits in the spool until it opens', async (t) => {
  let isClosed = false;
  const answer = () => (isClosed ? '421 4.7.0 too many connections\r\n' : '250 ok\r\n');
  const { port } = await scripted(t, { MAIL: (socket) => void socket.write(answer()) });
  const { spool, deliverer, recipient, clock, came } = await running(t, { port });
  isClosed = true;
  const messages = Array.from({ length: 20 }, () => given(200));
  await Promise.all(messages.map((message) => spool.accept(message)));
  await until('closed', () => deliverer.sites().some(({ suspendedUntil = 0 }) => suspendedUntil > clock.at));
  assert.ok(came.atOnce > 0);
  isClosed = false;
  const states = () => Promise.all(messages.map(async ({ queueId }) => (await recipient(queueId)).state));
  await until('all sent', async () => {
    clock.forward(10 * minute);
    deliverer.wake();
    return (await states()).every((state) => state === 'sent');
  });
});

test('a message that is put off first arrives whole; so does what a DSN quotes of one that failed or arrived', async (t) => {
  const sizes = [300, 70_000, 200_000];
  const tried = new Set<string>();
  const { port, received } = await destination(t, {
    onRcptTo({ address }, _session, done) {
      const isSecond = tried.has(address);
      tried.add(address);
      if (address.startsWith('later') && !isSecond)
        return done(Object.assign(new Error('4.2.0 later'), { responseCode: 450 }));
      if (address.startsWith('never'))
        return done(Object.assign(new Error('5.1.1 nobody'), { responseCode: 550 }));
      done();
    },
  });
  const forwardTo = 'owner@home.test';
  const { spool, deliverer, clock, came } = await running(t, { port, forwardTo });
  const messages = sizes.flatMap((size) =>
    ['later', 'never', 'told'].map((name) => {
      const message = given(size, { to: [`${name}${size}@dest.test`], ret: 'full' });
      if (name === 'told') message.recipients[0]!.notify = ['success'];
      return message;
    }),
  );
  await Promise.all(messages.map((message) => spool.accept(message)));
  assert.equal(came.atOnce, messages.length);
  // Given away, it was moved, not copied.
  assert.deepEqual([...new Set(messages.map(({ body }) => body.length))], [0]);
  const to = (address: string, size: number) =>
    received.filter((one) => one.to === address && holds(size)(one)).length;
  await until('all', () => {
    clock.forward(minute);
    deliverer.wake();
    const isThere = (size: number) =>
      to(`later${size}@dest.test`, size) === 1 && to(`told${size}@dest.test`, size) === 1;
    return sizes.every(isThere) && received.filter((one) => one.to === forwardTo).length === 2 * sizes.length;
  });
  // Long ones are not quoted in full, nor is what arrived; the header always is.
  assert.equal(to(forwardTo, 300), 1);
  for (const { to: address, bytes } of received)
    if (address === forwardTo) assert.ok(bytes.includes('Subject: given'));
});
