/** Sites that are slow, dead or angry, and who does not suffer from them. */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import type { NewMessage } from '../../node/spool/spool.ts';
import { destination, resolverOf, scripted, type World, world } from '../unit/delivery-fixtures.ts';
import { mail, minute } from '../unit/spool-fixtures.ts';

const second = 1_000;

/** Waits for what another turn of the event loop makes true; the test's own time-out is the limit. */
async function soon(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) await new Promise(setImmediate);
}

/** Waits until `tries` of the messages have their first outcome on disk. @returns how many have none */
async function outcomes({ recipient }: World, messages: NewMessage[], tries: () => number): Promise<number> {
  for (;;) {
    const states = await Promise.all(messages.map(({ queueId }) => recipient(queueId)));
    const left = states.filter(({ timeline }) => timeline.length === 0).length;
    if (messages.length - left === tries()) return left;
  }
}

async function accept({ spool }: World, count: number, domain: string, did = 'did:plc:reef'): Promise<void> {
  for (let i = 0; i < count; i++) await spool.accept(mail({ to: [`u${i}@${domain}`], did }));
}

test('tarpits have a quarter of all places once they are known as slow, and mail for others flows', async (t) => {
  const stuck: Socket[] = [];
  const tarpit = await scripted(t, { RCPT: (socket) => void stuck.push(socket) });
  await destination(t, {}, { port: tarpit.port, host: '127.0.0.2' });
  const zones = Object.fromEntries(
    Array.from({ length: 8 }, (_, i) => [`tar${i}.test`, { a: ['127.0.0.1'] }]),
  );
  const here = await world(t, {
    port: tarpit.port,
    resolver: resolverOf({ ...zones, 'good.test': { a: ['127.0.0.2'] } }),
    concurrency: { total: 16, perSite: 20 },
    graceMs: 0,
  });
  // Each mail of another member, so that only the sites matter here.
  for (let i = 0; i < 64; i++) await accept(here, 1, `tar${i % 8}.test`, `did:plc:m${i}`);
  here.deliverer.start();
  await soon(() => stuck.length === 16);
  await here.spool.accept(mail({ to: ['a@good.test'], did: 'did:plc:good' }));
  here.clock.forward(11 * second);
  const results = here.results(1);
  here.deliverer.wake();
  assert.deepEqual(await results, ['sent']);
  assert.equal(stuck.length, 16, 'nothing more began at the tarpits');
});

test('a member with a thousand messages at a site does not hold up another’s one', async (t) => {
  const order: string[] = [];
  const { port } = await destination(t, {
    onRcptTo: ({ address }, _session, done) => {
      order.push(address);
      done();
    },
  });
  const here = await world(t, { port, concurrency: { total: 4, perSite: 1 } });
  await accept(here, 300, 'dest.test', 'did:plc:big');
  await here.spool.accept(mail({ to: ['one@dest.test'], did: 'did:plc:small' }));
  const results = here.results(301);
  here.deliverer.start();
  await results;
  assert.ok(order.indexOf('one@dest.test') < 10, `it was number ${order.indexOf('one@dest.test')}`);
});

test('a hold takes effect at once for all but the try that is under way', async (t) => {
  const asked: Socket[] = [];
  const peer = await scripted(t, { RCPT: (socket) => void asked.push(socket) });
  const here = await world(t, { port: peer.port, concurrency: { total: 4, perSite: 1 } });
  const messages = Array.from({ length: 20 }, (_, i) => mail({ to: [`u${i}@dest.test`] }));
  here.deliverer.start();
  for (const message of messages) await here.spool.accept(message);
  await soon(() => asked.length === 1);
  await here.spool.hold({ did: 'did:plc:reef' }, { by: 'ada', reason: 'odd' });
  asked[0]!.write('250 ok\r\n');
  const states = async () =>
    (await Promise.all(messages.map(({ queueId }) => here.recipient(queueId)))).map(({ state }) => state);
  while (!(await states()).includes('sent')) await new Promise(setImmediate);
  const held = (await states()).filter((state) => state === 'held').length;
  assert.deepEqual([held, asked.length], [19, 1]);
});

test('what was rerouted stays due when an act concerns other mail', async (t) => {
  const asked: Socket[] = [];
  const peer = await scripted(t, { RCPT: (socket) => void asked.push(socket) });
  const resolver = resolverOf({ 'other.test': { a: ['127.0.0.1'] } });
  const here = await world(t, {
    port: peer.port,
    resolver,
    concurrency: { total: 4, perSite: 1 },
    graceMs: 0,
  });
  const messages = Array.from({ length: 5 }, (_, i) => mail({ to: [`u${i}@dest.test`] }));
  for (const message of messages) await here.spool.accept(message);
  await here.spool.reroute({ did: 'did:plc:reef' }, { by: 'ada', to: 'other.test' });
  here.deliverer.start();
  await soon(() => asked.length === 1);
  await here.spool.hold({ did: 'did:plc:nobody' }, { by: 'ada', reason: 'odd' });
  asked[0]!.write('250 ok\r\n');
  await soon(() => asked.length === 2);
  const tries = await Promise.all(messages.map(({ queueId }) => here.recipient(queueId)));
  const attempts = tries.flatMap(({ timeline }) => timeline.filter((entry) => !('act' in entry)));
  assert.deepEqual(
    attempts.filter(({ outcome }) => outcome !== 'delivered'),
    [],
  );
});

test('a dead host is connected to once, and everyone’s try counts at its time', async (t) => {
  const resolver = resolverOf({ 'dead.test': { a: ['127.0.0.1'] } });
  const here = await world(t, { port: 1, resolver, concurrency: { total: 8, perSite: 1 } });
  const messages = Array.from({ length: 50 }, (_, i) => mail({ to: [`u${i}@dead.test`] }));
  for (const message of messages) await here.spool.accept(message);
  const results = here.results(50);
  here.deliverer.start();
  assert.deepEqual(new Set(await results), new Set(['deferred']));
  const summaries = new Map<string, number>();
  for (const { queueId } of messages) {
    const { attempts, nextAt, timeline } = await here.recipient(queueId);
    assert.deepEqual([attempts, nextAt! - here.clock.at], [1, minute]);
    const { summary } = timeline[0]!;
    summaries.set(summary, (summaries.get(summary) ?? 0) + 1);
  }
  assert.deepEqual(
    [...summaries.entries()].map(([summary, times]) => [
      /ECONNREFUSED/.test(summary),
      /found/.test(summary),
      times,
    ]),
    [
      [true, false, 1],
      [true, true, 49],
    ],
  );
});

test('a site that asks for less is suspended, the others wait uncounted, and it is ramped back from one', async (t) => {
  let isAngry = true;
  let tries = 0;
  let atOnce = 0;
  let most = 0;
  const peer = await scripted(t, {
    MAIL: (socket) => {
      tries += 1;
      atOnce += 1;
      most = Math.max(most, atOnce);
      socket.write(isAngry ? '421 4.7.0 too many connections\r\n' : '250 ok\r\n');
      if (isAngry) atOnce -= 1;
    },
    '.': (socket) => {
      atOnce -= 1;
      socket.write('250 ok\r\n');
    },
  });
  const here = await world(t, { port: peer.port });
  const messages = Array.from({ length: 40 }, (_, i) => mail({ to: [`u${i}@dest.test`] }));
  for (const message of messages) await here.spool.accept(message);
  here.deliverer.start();
  const suspended = () => here.deliverer.sites().find(({ suspendedUntil }) => suspendedUntil !== undefined);
  await soon(() => suspended() !== undefined);
  await soon(() => suspended()?.connections === 0);
  const { site, limit, suspendedUntil, lastReply } = suspended()!;
  assert.deepEqual([site, limit, suspendedUntil! - here.clock.at], ['dest.test', 1, 30 * second]);
  assert.match(lastReply!, /too many connections/);
  const untouched = await outcomes(here, messages, () => tries);
  assert.ok(untouched >= 30, `${untouched} were not tried`);
  // Nothing begins before its time.
  const connections = peer.connections();
  here.clock.forward(29 * second);
  here.deliverer.wake();
  await here.spool.nextDueAt({ exceptSites: [], exceptMembers: [] });
  assert.equal(peer.connections(), connections);

  isAngry = false;
  most = 0;
  const results = here.results(untouched);
  here.clock.forward(second);
  here.deliverer.wake();
  assert.deepEqual(new Set(await results), new Set(['sent']));
  assert.ok(most >= 2, 'it grew again');
});

test('an operator lifts a suspension', async (t) => {
  let isAngry = true;
  const peer = await scripted(t, {
    MAIL: (socket) => void socket.write(isAngry ? '421 4.7.0 slow down\r\n' : '250 ok\r\n'),
  });
  const here = await world(t, { port: peer.port, concurrency: { total: 4, perSite: 1 } });
  await accept(here, 20, 'dest.test');
  const first = here.results(1);
  here.deliverer.start();
  assert.deepEqual(await first, ['deferred']);
  assert.ok(here.deliverer.sites()[0]!.suspendedUntil);
  isAngry = false;
  const results = here.results(1);
  here.deliverer.flush('dest.test');
  assert.deepEqual(await results, ['sent']);
});

test('domains at one provider share one budget', async (t) => {
  const stuck: Socket[] = [];
  const peer = await scripted(t, { RCPT: (socket) => void stuck.push(socket) });
  const mx: [number, string][] = [[10, 'mx.provider.test']];
  const domains = Array.from({ length: 10 }, (_, i) => `d${i}.test`);
  const zones = Object.fromEntries(domains.map((domain) => [domain, { mx }]));
  const resolver = resolverOf({ ...zones, 'mx.provider.test': { a: ['127.0.0.1'] } });
  const here = await world(t, {
    port: peer.port,
    resolver,
    concurrency: { total: 50, perSite: 3 },
    graceMs: 0,
  });
  for (const domain of domains) await accept(here, 3, domain);
  here.deliverer.start();
  await soon(() => stuck.length === 3);
  const { sites } = await here.spool.summary(here.clock.at);
  await soon(() => here.deliverer.sites().some(({ connections }) => connections === 3));
  assert.equal(peer.connections(), 3);
  assert.ok(sites.length <= 10);
});

test('while the disk takes no outcome, no more than a bounded number of tries is made', async (t) => {
  const { port, received } = await destination(t);
  const here = await world(t, { port, concurrency: { total: 4, perSite: 4 }, graceMs: 0 });
  t.mock.method(here.spool, 'settle', () => Promise.reject(new Error('disk full')));
  await accept(here, 60, 'dest.test');
  let retries = 0;
  here.deliverer.start();
  // Some are offered a second time by then.
  while (retries < 20) {
    await here.next('delivery_settle_retries');
    retries += 1;
  }
  assert.ok(received.length <= 16, `${received.length} were sent`);
});
