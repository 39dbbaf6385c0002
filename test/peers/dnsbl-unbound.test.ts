/** Debian's unbound between the mail server and us, with QNAME minimisation (RFC 9156) as it comes. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { pino } from 'pino';
import { DnsServer } from '../../dnsbl/server.ts';
import { needs } from '../peers.ts';
import { apex, vouched, zoneOf } from '../unit/dnsbl-fixtures.ts';
import { dig } from './consumers/dig.ts';
import { type Resolver, startUnbound } from './consumers/unbound.ts';

const skip = needs('dig', 'unbound');

const vouchers = Array.from({ length: 64 }, (_, index) => `did:web:cooperative-${index}.example`);
const zone = zoneOf(
  vouched({ name: 'reef.test' }, { kind: 4, coverSubdomains: true }),
  vouched({ name: 'deep.inside.reef.test' }),
  vouched({ name: 'only.below.test' }),
  vouched({ name: 'long.test' }, { vouchers }),
  vouched({ address: '192.0.2.25' }, { kind: 2 }),
  vouched({ address: '2001:db8::25' }, { kind: 2 }),
  vouched({ name: 'sunk.test' }, { list: 'blocked', reason: 'spam' }),
);
const server = new DnsServer({
  zones: [zone],
  listen: { host: '127.0.0.1', port: 0 },
  log: pino({ enabled: false }),
});

/** `relaxed` is what Debian ships; `strict` never asks for a full name to make up for a broken server. */
const resolvers = new Map<string, Resolver>();
if (!skip) {
  before(async () => {
    const [address] = await server.start();
    for (const [name, strict] of [
      ['relaxed', 'no'],
      ['strict', 'yes'],
    ] as const) {
      const settings = [
        `qname-minimisation-strict: ${strict}`,
        'harden-below-nxdomain: yes',
        'use-caps-for-id: yes',
      ];
      resolvers.set(name, await startUnbound({ zone: apex, server: address!, settings }));
    }
  });
  after(async () => {
    for (const resolver of resolvers.values()) await resolver.stop();
    await server.stop();
  });
}

async function ask(resolver: string, name: string, type = 'A'): Promise<string> {
  return (await askAll(resolver, [name], type))[0]!;
}

async function askAll(resolver: string, names: readonly string[], type = 'A'): Promise<string[]> {
  const questions = names.map((name) => [`${name}.${apex}`, type]);
  const all = await dig(resolvers.get(resolver)!.port, [], questions);
  return all.map(({ status, answer }) => {
    const answers = answer.map((line) => line.split(' ').slice(4).join(' '));
    return status === 'QUERY NOERROR' ? answers.join(' | ') || 'NODATA' : status.split(' ')[1]!;
  });
}

/** Queries that reached us meanwhile. */
async function asked(work: () => Promise<unknown>): Promise<number> {
  const total = () => {
    const counts = server.counts();
    return (counts.get('dns_queries udp') ?? 0) + (counts.get('dns_queries tcp') ?? 0);
  };
  const before = total();
  await work();
  return total() - before;
}

const nibbles = (last: string) => `${last}.2.${'0.'.repeat(22)}8.b.d.0.1.0.0.2.ip`;

const questions: [name: string, says: string][] = [
  ['reef.test.dom', '127.0.4.1'],
  ['mail.reef.test.dom', '127.0.4.1'],
  ['a.b.c.d.mail.reef.test.dom', '127.0.4.1'],
  ['deep.inside.reef.test.dom', '127.0.3.1'],
  ['inside.reef.test.dom', 'NODATA'],
  ['other.inside.reef.test.dom', 'NXDOMAIN'],
  ['only.below.test.dom', '127.0.3.1'],
  ['below.test.dom', 'NODATA'],
  ['x.below.test.dom', 'NXDOMAIN'],
  ['nobody.example.dom', 'NXDOMAIN'],
  ['a.b.c.nobody.example.dom', 'NXDOMAIN'],
  ['25.2.0.192.ip', '127.0.2.1'],
  ['26.2.0.192.ip', 'NXDOMAIN'],
  ['2.0.0.127.ip', '127.0.0.2'],
  ['1.0.0.127.ip', 'NXDOMAIN'],
  [nibbles('5'), '127.0.2.1'],
  [nibbles('6'), 'NXDOMAIN'],
  [`2.0.0.0.0.0.f.7.f.f.f.f.${'0.'.repeat(20)}ip`, '127.0.0.2'],
  ['sunk.test.block', '127.0.0.2'],
  ['reef.test.block', 'NXDOMAIN'],
  ['test.dom', '127.0.0.2'],
  ['invalid.dom', 'NXDOMAIN'],
];
for (const resolver of ['relaxed', 'strict']) {
  for (const [name, says] of questions) {
    test(`through unbound (${resolver}), A ${name} is ${says}`, { skip }, async () => {
      assert.equal(await ask(resolver, name), says);
    });
  }

  test(`through unbound (${resolver}), a miss first hides no hit below or beside it`, { skip }, async () => {
    await resolvers.get(resolver)!.forget(apex);
    assert.equal(await ask(resolver, 'below.test.dom'), 'NODATA');
    assert.equal(await ask(resolver, 'x.below.test.dom'), 'NXDOMAIN');
    assert.equal(await ask(resolver, 'only.below.test.dom'), '127.0.3.1');
    assert.equal(await ask(resolver, '26.2.0.192.ip'), 'NXDOMAIN');
    assert.equal(await ask(resolver, '25.2.0.192.ip'), '127.0.2.1');
    assert.equal(await ask(resolver, nibbles('6')), 'NXDOMAIN');
    assert.equal(await ask(resolver, nibbles('5')), '127.0.2.1');
  });

  test(`through unbound (${resolver}), the longest TXT comes whole`, { skip }, async () => {
    const text = (await ask(resolver, 'long.test.dom', 'TXT')).replaceAll('" "', '');
    assert.ok(text.length > 512);
    assert.match(
      text,
      /^"did=did:plc:a+ vouched-by=did:web:cooperative-0\.example,.* url=https:\S+long\.test"$/,
    );
  });

  test(`through unbound (${resolver}), VBR says the kinds of mail`, { skip }, async () => {
    assert.equal(await ask(resolver, 'mail.reef.test._vouch', 'TXT'), '"transaction"');
    assert.equal(await ask(resolver, 'nobody.example._vouch', 'TXT'), 'NXDOMAIN');
  });
}

test('what unbound knows it does not ask again', { skip }, async () => {
  const names = questions.map(([name]) => name);
  await askAll('relaxed', names);
  assert.equal(await asked(() => askAll('relaxed', names)), 0);
});

test('an IPv6 address costs a resolver a few questions, not one for each of its 32 nibbles', {
  skip,
}, async () => {
  const resolver = resolvers.get('relaxed')!;
  await resolver.forget(apex);
  // RFC 9156 §2.3: at most ten, the SOA or NS of the zone aside.
  assert.ok((await asked(() => ask('relaxed', nibbles('5')))) <= 12);
  // A neighbour shares all but the last.
  assert.ok((await asked(() => ask('relaxed', nibbles('6')))) <= 2);
});

test('a miss costs one question, and one each for the labels on the way to the first of its kind', {
  skip,
}, async () => {
  await resolvers.get('relaxed')!.forget(apex);
  const names = Array.from({ length: 20 }, (_, index) => `host-${index}.nobody.example.dom`);
  const count = await asked(() => askAll('relaxed', names));
  assert.ok(count <= names.length + 4, `${count}`);
});

test('a listing that comes while its miss is remembered is seen when the miss is forgotten', {
  skip,
}, async () => {
  assert.equal(await ask('relaxed', 'late.test.dom'), 'NXDOMAIN');
  zone.apply(vouched({ name: 'late.test' }, { kind: 4, seq: 2 }));
  assert.equal(await ask('relaxed', 'late.test.dom'), 'NXDOMAIN');
  await resolvers.get('relaxed')!.forget(apex);
  assert.equal(await ask('relaxed', 'late.test.dom'), '127.0.4.1');
});
