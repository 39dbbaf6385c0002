/** The promise of facts and README: at once, then 1, 5, 15, 30, 60 minutes after the one before, then the DSN. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TlsPolicies } from '../../node/delivery/tls-policy.ts';
import type { Resolver, TlsaResolver } from '../../node/resolver.ts';
import {
  anywhere,
  destination,
  everythingHere,
  firstTry,
  resolverOf,
  type Script,
  scripted,
  world,
} from '../unit/delivery-fixtures.ts';
import { day, mail, minute, start } from '../unit/spool-fixtures.ts';

const forEver: [what: string, script: Script | undefined, summary: RegExp][] = [
  ['4xx to RCPT', { RCPT: '451 4.7.1 not today' }, /put off the recipient/],
  // Suspensions and what is remembered of dead hosts are shorter than the waits.
  ['421 at the greeting', { '': '421 4.7.0 too many connections' }, /put off the session/],
  ['421 in the transaction', { MAIL: '421 4.3.2 closing' }, /put off the mail/],
  ['a closed port', undefined, /ECONNREFUSED/],
];

for (const [what, script, summary] of forEver) {
  test(`${what} for ever: tries at exactly 0, 1, 6, 21, 51 and 111 minutes, then bounced with a DSN`, async (t) => {
    const { port } = script ? await scripted(t, script) : { port: 1 };
    const { spool, deliverer, clock, next, recipient } = await world(t, {
      port,
      forwardTo: 'owner@dest.test',
    });
    const message = mail();
    await spool.accept(message);
    const tries: number[] = [];
    let result = next('delivery_results');
    deliverer.start();
    while ((await result) === 'deferred') {
      tries.push((clock.at - start) / minute);
      const { nextAt } = await recipient(message.queueId);
      // A millisecond early nothing happens: nothing is due.
      assert.deepEqual(await spool.due({ limit: 10, now: nextAt! - 1, ...anywhere }), []);
      result = next('delivery_results');
      clock.at = nextAt!;
      deliverer.wake();
    }
    tries.push((clock.at - start) / minute);
    assert.deepEqual(tries, [0, 1, 6, 21, 51, 111]);
    const { state, attempts, timeline } = await recipient(message.queueId);
    assert.deepEqual([state, attempts], ['bounced', 6]);
    for (const tried of timeline) {
      assert.match(tried.summary, summary);
      assert.doesNotMatch(tried.summary, /found .* before/);
    }
    const { messages } = await spool.messages({ recipient: 'owner@dest.test', limit: 2 });
    assert.deepEqual(
      messages.map(({ kind }) => kind),
      ['dsn'],
    );
  });
}

test('our own resolver failing is not counted, and the schedule begins when it is back', async (t) => {
  const peer = await scripted(t, { RCPT: '451 later' });
  let resolver: Resolver = resolverOf({ 'dest.test': 'down' });
  const switching: Resolver = {
    txt: (name) => resolver.txt(name),
    mx: (name) => resolver.mx(name),
    a: (name) => resolver.a(name),
    aaaa: (name) => resolver.aaaa(name),
  };
  const { spool, deliverer, clock, next, recipient } = await world(t, {
    port: peer.port,
    resolver: switching,
  });
  const message = mail();
  await spool.accept(message);
  let result = next('delivery_results');
  deliverer.start();
  for (let i = 0; i < 50; i++) {
    assert.equal(await result, 'deferred');
    result = next('delivery_results');
    clock.at = (await recipient(message.queueId)).nextAt!;
    if (i === 49) resolver = everythingHere;
    deliverer.wake();
  }
  assert.equal(await result, 'deferred');
  const { attempts, nextAt, timeline } = await recipient(message.queueId);
  assert.deepEqual([attempts, nextAt! - clock.at], [1, minute]);
  assert.deepEqual(
    timeline.map(({ counted, repeats }) => [counted, repeats]),
    [
      [false, 49],
      [true, 0],
    ],
  );
});

test('DNS that does not say what TLS a destination demands is not counted either', async (t) => {
  const resolver: TlsaResolver = {
    ...everythingHere,
    mx: async () => ({ ...signed, records: [{ preference: 10, exchange: 'mx.dest.test' }] }),
    a: async () => ({ ...signed, records: ['127.0.0.1'] }),
    tlsa: async () => ({ server: '', kind: 'failed', reason: 'SERVFAIL' }),
  };
  const fetch = () => Promise.reject(new Error('no policy is published'));
  const policies = { resolver, fetch, default: 'required', exceptions: {} } as const;
  const tls = new TlsPolicies({ ...policies, now: Date.now, count: () => undefined });
  const { attempts, timeline, state } = await firstTry(await world(t, { resolver, tls }));
  assert.deepEqual([attempts, state, timeline[0]!.status], [0, 'deferred', '4.4.3']);
});

const signed = { server: '', kind: 'found', secure: true } as const;

test('after four days it bounces with a DSN, whatever the cause', async (t) => {
  const inbox = await destination(t);
  const { spool, deliverer, clock, next, recipient } = await world(t, {
    port: inbox.port,
    resolver: resolverOf({ 'dest.test': 'down', 'owner.test': { a: ['127.0.0.1'] } }),
    forwardTo: 'owner@owner.test',
  });
  const message = mail();
  await spool.accept(message);
  let result = next('delivery_results');
  deliverer.start();
  let tries = 0;
  while ((await result) === 'deferred') {
    tries += 1;
    result = next('delivery_results');
    clock.at = (await recipient(message.queueId)).nextAt!;
    deliverer.wake();
  }
  assert.equal(clock.at, start + 4 * day);
  assert.ok(tries > 300);
  const { state, attempts, timeline } = await recipient(message.queueId);
  assert.deepEqual([state, attempts, timeline.at(-1)!.status], ['bounced', 0, '4.4.7']);
  assert.equal(timeline.length, 2);
  // The DSN left for the owner.
  if (inbox.received.length === 0) assert.equal(await next('delivery_results'), 'sent');
  assert.match(inbox.received[0]!.bytes.toString(), /Status: 4\.4\.7/);
});

test('a refusal of the connection counts', async (t) => {
  const { result, attempts, timeline } = await firstTry(await world(t, { port: 1 }));
  assert.deepEqual([result, attempts], ['deferred', 1]);
  assert.match(timeline[0]!.summary, /ECONNREFUSED/);
});
