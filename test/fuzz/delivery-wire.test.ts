/** Destinations that say anything at all: every session and every message ends as a value, and nothing is sent by accident. */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { before, test } from 'node:test';
import { vouches } from '../../node/delivery/dane.ts';
import { MtaSts } from '../../node/delivery/mta-sts.ts';
import { routeOf } from '../../node/delivery/route.ts';
import { siteOfExchanger } from '../../node/delivery/route-site.ts';
import type { Answer, MxRecord, Resolver } from '../../node/resolver.ts';
import { certificate, never, open, outgoing } from '../integration/delivery-wire-world.ts';
import { Fuzz } from './random.ts';

const fuzz = new Fuzz('delivery-wire');

const replies = [
  '220 peer.test ESMTP\r\n',
  '250-peer.test\r\n250-PIPELINING\r\n250-SIZE 1000000\r\n250-8BITMIME\r\n250 DSN\r\n',
  '250 2.1.0 ok\r\n',
  '250 2.1.5 ok\r\n',
  '354 go on\r\n',
  '250 2.0.0 kept\r\n',
];

/** Replies as a good server's, in turn, each changed with some chance; after the last one it goes away. */
function babble(socket: Socket): void {
  let turn = 0;
  const say = () => {
    const reply = Buffer.from(replies[turn++] ?? '');
    if (reply.length === 0) return socket.end();
    socket.write(fuzz.below(3) === 0 ? fuzz.mutate(reply) : reply);
  };
  socket.on('error', () => undefined).on('data', say);
  say();
}

test('whatever a destination says, the outcome is a value', async () => {
  const server = createServer({ noDelay: true }, babble).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  const kinds = new Map<string, number>();
  const timeouts = { sessionMs: 150, idleMs: 150, totalMs: 300 };
  const one = async () => {
    const result = await open({ port }, { timeouts });
    const outcome = result.kind === 'open' ? await result.session.deliver(outgoing(), never) : result;
    if (result.kind === 'open') result.session.close();
    kinds.set(outcome.kind, (kinds.get(outcome.kind) ?? 0) + 1);
    if (outcome.kind === 'delivered') assert.match(outcome.reply, /^\s*2/);
    if (outcome.kind === 'refused') assert.match(outcome.reply, /^[45]\d\d/);
  };
  const rounds = fuzz.rounds(300, 20);
  for (let round = 0; round < rounds; round += 50) await Promise.all(Array.from({ length: 50 }, one));
  server.close();
  assert.ok(kinds.has('delivered') && kinds.has('broken'), JSON.stringify([...kinds]));
});

let der: Buffer;
before(async () => {
  der = new X509Certificate((await certificate({ names: ['mx.peer.test'], ca: true })).cert).raw;
});

test('no TLSA record throws, and none that was changed vouches', () => {
  const chain = [new X509Certificate(der), new X509Certificate(der)];
  const rounds = fuzz.rounds(300);
  for (let round = 0; round < rounds; round++) {
    const data = fuzz.mutate(der);
    const record = { usage: fuzz.below(5), selector: fuzz.below(3), matching: fuzz.below(4), data };
    const isVouchedFor = vouches([record], chain, ['mx.peer.test'], Date.now());
    // A whole authority in the record may differ from the one in the chain and still have signed it.
    const isAuthority = record.usage === 2 && record.selector === 0 && record.matching === 0;
    assert.equal(isVouchedFor && !isAuthority && !data.equals(der), false);
  }
});

test('no policy throws', async () => {
  const good =
    'version: STSv1\r\nmode: enforce\r\nmx: *.dest.test\r\nmx: mx.dest.test\r\nmax_age: 604800\r\n';
  const kinds = new Set<string>();
  const rounds = fuzz.rounds(500);
  for (let round = 0; round < rounds; round++) {
    const text = fuzz.mutate(Buffer.from('v=STSv1; id=20260101;')).toString('latin1');
    const mtaSts = new MtaSts({
      resolver: { txt: () => Promise.resolve({ server: '', kind: 'found', records: [text] }) },
      fetch: () => {
        const headers = { 'content-type': 'text/plain' };
        return Promise.resolve({ status: 200, headers, body: fuzz.mutate(Buffer.from(good)) });
      },
      now: () => 0,
      count: () => undefined,
    });
    kinds.add((await mtaSts.policyOf('dest.test')).kind);
  }
  assert.deepEqual([...kinds].sort(), ['none', 'policy', 'unknown']);
});

test('no domain and no exchanger throws, and nothing leads to an address that is not allowed', async () => {
  const rounds = fuzz.rounds(500);
  for (let round = 0; round < rounds; round++) {
    const garbage = () => fuzz.mutate(Buffer.from('alt1.aspmx.l.google.com')).toString('latin1');
    const exchange = garbage();
    const say = <T>(records: T[]): Promise<Answer<T>> =>
      Promise.resolve({ server: '', kind: 'found', records });
    const resolver: Resolver = {
      txt: () => say<string>([]),
      mx: () =>
        say<MxRecord>([
          { preference: fuzz.below(3), exchange },
          { preference: 1, exchange: garbage() },
        ]),
      a: () => say(['192.0.2.1', '10.0.0.1']),
      aaaa: () => say(['::1']),
    };
    const address = fuzz.mutate(Buffer.from('ann@[IPv6:2001:db8::1]'), fuzz.below(5)).toString('latin1');
    const route = await routeOf(address, { resolver, allowed: (one) => one === '192.0.2.1' });
    if (route.kind === 'hosts') {
      assert.deepEqual(new Set(route.hosts.flatMap(({ addresses }) => addresses)), new Set(['192.0.2.1']));
      assert.ok(route.site);
    }
    siteOfExchanger(exchange);
  }
});
