/** What a member hears of a failure, and that nobody hears of it twice. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Settlement, Spool } from '../../node/spool/spool.ts';
import { anywhere, destination, type Received, world } from '../unit/delivery-fixtures.ts';
import { day, delivered, mail, minute } from '../unit/spool-fixtures.ts';

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
    assert.equal(await spool.nextDueAt(anywhere), undefined);
    assert.equal(received.length, 0);
  });
}

test('while a DSN cannot be signed the bounce waits for it in the queue, and holds no place', async (t) => {
  const { port, received } = await destination(t, refusing);
  let isBroken = true;
  const dsn = {
    recipientFor: () => 'owner@elsewhere.test',
    seal: () => (isBroken ? Promise.reject(new Error('no key')) : Promise.resolve(Buffer.alloc(0))),
    from: 'mailer-daemon@harbor.test',
  };
  const concurrency = { total: 1, perSite: 1 };
  const { spool, deliverer, clock, next, recipient } = await world(t, { port, dsn, concurrency });
  const message = mail();
  await spool.accept(message);
  let result = next('delivery_results');
  deliverer.start();
  // Twice the same, and past the lifetime of the message still no bounce without its DSN.
  for (const later of [minute, 5 * day]) {
    assert.equal(await result, 'deferred');
    result = next('delivery_results');
    clock.forward(later);
    deliverer.wake();
  }
  assert.equal(await result, 'deferred');
  const waiting = await recipient(message.queueId);
  assert.deepEqual([waiting.attempts, waiting.timeline.length, waiting.timeline[0]!.repeats], [0, 1, 2]);
  // The only place is free.
  result = next('delivery_results');
  await spool.accept(mail({ to: ['owner@dest.test'], receivedAt: clock.at, expiresAt: clock.at + day }));
  assert.equal(await result, 'sent');

  isBroken = false;
  result = next('delivery_results');
  clock.at = waiting.nextAt!;
  deliverer.wake();
  assert.equal(await result, 'bounced');
  assert.equal((await recipient(message.queueId)).state, 'bounced');
  if (received.length === 1) assert.equal(await next('delivery_results'), 'sent');
  assert.deepEqual([received[1]!.from, received[1]!.to], ['', 'owner@elsewhere.test']);
});

test('while the disk refuses a bounce it is offered again with the same DSN, signed once', async (t) => {
  const { port } = await destination(t, refusing);
  const seal = t.mock.fn(() => Promise.resolve(Buffer.from('X-Sealed: yes\r\n')));
  const dsn = { recipientFor: () => 'owner@elsewhere.test', seal, from: 'mailer-daemon@harbor.test' };
  const { spool, deliverer, next, recipient } = await world(t, { port, dsn });
  const offered: Settlement[] = [];
  const settle = spool.settle.bind(spool);
  t.mock.method(spool, 'settle', (settlement: Settlement) =>
    offered.push(settlement) === 1 ? Promise.reject(new Error('disk full')) : settle(settlement),
  );
  const message = mail();
  await spool.accept(message);
  const [retried, result] = [next('delivery_settle_retries'), next('delivery_results')];
  deliverer.start();
  await retried;
  assert.equal((await recipient(message.queueId)).state, 'accepted');
  assert.equal(await result, 'bounced');
  assert.equal(seal.mock.callCount(), 1);
  assert.equal(offered[0]!.dsn!.queueId, offered[1]!.dsn!.queueId);
});

for (const [claim, when] of [
  ['a message finished before its try', 'before the try'],
  ['a recipient finished during its try', 'during the try'],
] as const) {
  test(`${claim} is neither sent nor settled again, and its place is free`, async (t) => {
    const end = Promise.withResolvers<() => Promise<unknown>>();
    const { port, received } = await destination(t, {
      onRcptTo: async (_address, _session, done) => {
        if (when === 'during the try' && received.length === 0) await (await end.promise)();
        done(Object.assign(new Error('5.1.1 no'), { responseCode: 550 }));
      },
    });
    const concurrency = { total: 1, perSite: 1 };
    const here = await world(t, { port, concurrency, forwardTo: 'owner@elsewhere.test' });
    const { spool, deliverer, next, recipient } = here;
    const message = mail();
    await spool.accept(message);
    const finish = () =>
      spool.settle({
        recipientId: message.recipients[0]!.id,
        attempt: delivered(),
        next: { state: 'sent' },
      });
    end.resolve(finish);
    const due = spool.due.bind(spool);
    if (when === 'before the try') {
      const finished = async (...args: Parameters<Spool['due']>) => {
        const claims = await due(...args);
        if (claims.length > 0) await finish();
        return claims;
      };
      t.mock.method(spool, 'due', finished, { times: 1 });
    }
    let failures = 0;
    void next('delivery_internal_errors').then(() => {
      failures += 1;
    });
    const gone = next('delivery_not_open');
    deliverer.start();
    await gone;
    const { state, timeline } = await recipient(message.queueId);
    assert.deepEqual([state, timeline.length], ['sent', 1]);
    assert.equal(failures, 0);
    assert.equal(await spool.nextDueAt(anywhere), undefined, 'no DSN was made');
    const result = next('delivery_results');
    end.resolve(() => Promise.resolve());
    await spool.accept(mail({ kind: 'notice' }));
    assert.equal(await result, 'bounced');
  });
}
