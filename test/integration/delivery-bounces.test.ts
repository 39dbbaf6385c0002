/** What a member hears of a failure, and that nobody hears of it twice. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { destination, type Received, world } from '../unit/delivery-fixtures.ts';
import { mail } from '../unit/spool-fixtures.ts';

const refusing = {
  onRcptTo: ({ address }: { address: string }, _session: unknown, done: (error?: Error) => void) => {
    if (address.startsWith('owner')) done();
    else done(Object.assign(new Error('5.1.1 <ann@dest.test> no such user here'), { responseCode: 550 }));
  },
};

test('a bounce reaches the forward-to as a sealed DSN with the null sender and the peer’s own words', async (t) => {
  const { port, received } = await destination(t, refusing);
  const { spool, deliverer, next, recipient } = await world(t, { port, forwardTo: 'owner@elsewhere.test' });
  const message = mail();
  await spool.accept(message);
  const first = next('delivery_results');
  deliverer.start();
  assert.equal(await first, 'bounced');
  if (received.length === 0) assert.equal(await next('delivery_results'), 'sent');
  const [dsn] = received as [Received];
  assert.deepEqual([dsn.from, dsn.to], ['', 'owner@elsewhere.test']);
  const text = dsn.bytes.toString();
  assert.match(text, /^X-Sealed: yes\r\n/);
  assert.match(text, /\r\nDiagnostic-Code: smtp; 550 5\.1\.1 <ann@dest\.test> no such user here\r\n/);
  assert.match(text, /\r\nIn-Reply-To: <1@reef\.test>\r\n/);
  assert.match(text, new RegExp(`X-Atmos-Id: ${message.queueId}`));
  assert.equal((await recipient(message.queueId)).timeline[0]!.recipientInvalid, true);
});

const withoutDsn: [claim: string, message: Parameters<typeof mail>[0], forwardTo: string | undefined][] = [
  ['a DSN that bounces makes no DSN', { kind: 'dsn', mailFrom: '' }, 'owner@elsewhere.test'],
  [
    'a notice that bounces makes no DSN',
    { kind: 'notice', mailFrom: 'x@harbor.test' },
    'owner@elsewhere.test',
  ],
  ['mail with the null sender makes no DSN', { mailFrom: '' }, 'owner@elsewhere.test'],
  ['without a confirmed forward-to the bounce stands on the timeline alone', {}, undefined],
];

for (const [claim, options, forwardTo] of withoutDsn) {
  test(claim, async (t) => {
    const { port, received } = await destination(t, refusing);
    const { spool, deliverer, next, recipient } = await world(t, {
      port,
      ...(forwardTo ? { forwardTo } : {}),
    });
    const message = mail(options);
    await spool.accept(message);
    const result = next('delivery_results');
    deliverer.start();
    assert.equal(await result, 'bounced');
    assert.equal((await recipient(message.queueId)).state, 'bounced');
    assert.equal(await spool.nextDueAt(), undefined);
    assert.equal(received.length, 0);
  });
}

test('while a DSN cannot be signed the bounce waits for it, and is not sent again meanwhile', async (t) => {
  let tries = 0;
  const { port } = await destination(t, {
    onRcptTo: (_address, _session, done) => {
      tries += 1;
      done(Object.assign(new Error('5.1.1 no'), { responseCode: 550 }));
    },
  });
  let broken = true;
  const dsn = {
    recipientFor: () => 'owner@elsewhere.test',
    seal: () => (broken ? Promise.reject(new Error('no key')) : Promise.resolve(Buffer.alloc(0))),
    from: 'mailer-daemon@harbor.test',
  };
  const { spool, deliverer, next, recipient } = await world(t, { port, dsn });
  const message = mail();
  await spool.accept(message);
  const retry = next('delivery_settle_retries');
  deliverer.start();
  await retry;
  assert.equal((await recipient(message.queueId)).state, 'accepted');
  const result = next('delivery_results');
  broken = false;
  assert.equal(await result, 'bounced');
  // Once for the message; the DSN itself may be refused by now as well.
  assert.ok(tries <= 2);
});
