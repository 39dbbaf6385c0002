/** A clock that is set back, and a disk that hangs: neither stops delivery for longer than it must. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Deliverer } from '../../node/delivery/deliverer.ts';
import { Destinations } from '../../node/delivery/destinations.ts';
import { RememberedAnswers } from '../../node/delivery/route-answers.ts';
import { Unreachable } from '../../node/delivery/unreachable.ts';
import type { TlsaResolver } from '../../node/resolver.ts';
import type { Spool } from '../../node/spool/spool.ts';
import { everyHost, everythingHere, scripted, type World, world } from './delivery-fixtures.ts';
import { Clock, day, mail, silent, start } from './spool-fixtures.ts';

test('a site that is suspended when the clock is set back stays so no longer', {
  timeout: 10_000,
}, async (t) => {
  let connections = 0;
  const peer = await scripted(t, {
    '': (socket) => void socket.write(connections++ === 0 ? '421 4.7.0 later\r\n' : '220 ready\r\n'),
  });
  const here = await world(t, { port: peer.port, concurrency: { total: 5, perSite: 1 } });
  await here.spool.accept(mail());
  let result = here.results(1);
  here.deliverer.start();
  assert.deepEqual(await result, ['deferred']);
  assert.ok(here.deliverer.sites()[0]!.suspendedUntil);
  const noticed = asksAt(here, start - day);
  here.clock.forward(-day);
  await here.spool.accept(mail({ receivedAt: here.clock.at }));
  await noticed;
  here.clock.forward(31_000);
  result = here.results(1);
  here.deliverer.wake();
  assert.deepEqual(await result, ['sent']);
});

/** Resolves when the deliverer asks the spool what is due at that time. */
function asksAt({ spool }: World, at: number): Promise<void> {
  const due = spool.due.bind(spool);
  return new Promise((resolve) => {
    spool.due = (query) => {
      if (query.now === at) resolve();
      return due(query);
    };
  });
}

test('what was found unreachable, or where a domain’s mail goes, is no news for ever after that', async () => {
  const clock = new Clock();
  const unreachable = new Unreachable(clock.now);
  const destinations = new Destinations({
    route: { resolver: everythingHere, allowed: () => true },
    demandsFor: everyHost('required').demandsFor,
    ...{ port: 25, now: clock.now },
  });
  const claim = { recipientDomain: 'dest.test', requireTls: false };
  unreachable.add('192.0.2.1', { summary: 'no answer' });
  await destinations.of(claim);
  assert.ok(unreachable.find('192.0.2.1') && destinations.known(claim));
  clock.forward(-day);
  assert.deepEqual([unreachable.find('192.0.2.1'), destinations.known(claim)], [undefined, undefined]);
});

test('nor is a DNS answer', async () => {
  const clock = new Clock();
  let asked = 0;
  const resolver: TlsaResolver = {
    ...everythingHere,
    tlsa: () => assert.fail(),
    a: async () => ({ server: '', kind: 'found', records: [`192.0.2.${++asked}`], ttlSeconds: 300 }),
  };
  const answers = new RememberedAnswers({ resolver, now: clock.now });
  for (let n = 0; n < 2; n++) await answers.a('dest.test');
  assert.equal(asked, 1);
  clock.forward(-day);
  await answers.a('dest.test');
  assert.equal(asked, 2);
});

test('a stop is over within its grace though the disk answers nothing', { timeout: 5_000 }, async () => {
  const never = () => new Promise<never>(() => undefined);
  const { promise: isAsked, resolve: asked } = Promise.withResolvers<void>();
  const hung: Partial<Spool> = {
    onCommitted: () => () => undefined,
    handTo: () => undefined,
    sourceUse: async () => [],
    nextDueAt: never,
    due: () => {
      asked();
      return never();
    },
  };
  const deliverer = new Deliverer({
    ...{
      spool: hung as Spool,
      resolver: everythingHere,
      port: 1,
      loopbackOnly: true,
      hostname: 'harbor.test',
    },
    tls: everyHost('required'),
    dsn: { recipientFor: () => undefined, seal: never, from: 'x@harbor.test' },
    ...{ graceMs: 50, log: silent, count: () => undefined, now: Date.now },
  });
  deliverer.start();
  await isAsked;
  await deliverer.stop();
});
