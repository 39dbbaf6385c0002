import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addressAllowed } from '../../appview/identity/address.ts';
import { type Route, routeOf } from '../../node/delivery/route.ts';
import { resolverOf } from './delivery-fixtures.ts';

const anywhere = () => true;
const inTheWorld = (address: string) =>
  addressAllowed(address, { allowLoopback: false, loopbackOnly: false });
const onLoopback = (address: string) => addressAllowed(address, { allowLoopback: true, loopbackOnly: true });

const resolver = resolverOf({
  'dest.test': {
    mx: [
      [20, 'mx2.dest.test'],
      [10, 'mx1.dest.test'],
    ],
    a: ['192.0.2.9'],
  },
  'mx1.dest.test': { a: ['192.0.2.1'], aaaa: ['2001:db8::1'] },
  'mx2.dest.test': { a: ['192.0.2.2'] },
  'bare.test': { a: ['192.0.2.3'] },
  'null.test': { mx: [[0, '']], a: ['192.0.2.4'] },
  'mixed.test': {
    mx: [
      [0, ''],
      [10, 'mx2.dest.test'],
    ],
  },
  'empty.test': {},
  'dangling.test': { mx: [[10, 'gone.test']] },
  'down.test': 'down',
  'half.test': {
    mx: [
      [10, 'down.test'],
      [20, 'mx2.dest.test'],
    ],
  },
  'halfdown.test': {
    mx: [
      [10, 'down.test'],
      [20, 'gone.test'],
    ],
  },
  'inside.test': { mx: [[10, 'trap.test']] },
  'trap.test': { a: ['10.0.0.1', '127.0.0.1'] },
  'escape.test': { mx: [[10, 'out.test']] },
  'out.test': { a: ['8.8.8.8', '127.0.0.1'] },
  'xn--bcher-kva.test': { a: ['192.0.2.5'] },
});

const hosts = (...list: [name: string, ...addresses: string[]][]): Route => ({
  kind: 'hosts',
  hosts: list.map(([name, ...addresses]) => ({ name, addresses })),
});

const routes: [claim: string, address: string, route: Route][] = [
  [
    'exchangers go by preference, IPv4 first',
    'a@dest.test',
    hosts(['mx1.dest.test', '192.0.2.1', '2001:db8::1'], ['mx2.dest.test', '192.0.2.2']),
  ],
  ['without MX the domain is its exchanger', 'a@bare.test', hosts(['bare.test', '192.0.2.3'])],
  ['a null MX beside others says nothing', 'a@mixed.test', hosts(['mx2.dest.test', '192.0.2.2'])],
  [
    'an exchanger that DNS cannot say anything of is passed over',
    'a@half.test',
    hosts(['mx2.dest.test', '192.0.2.2']),
  ],
  ['a name beyond ASCII is asked as A-labels', 'a@bücher.test', hosts(['xn--bcher-kva.test', '192.0.2.5'])],
  ['an address literal needs no DNS', 'a@[192.0.2.7]', hosts(['192.0.2.7', '192.0.2.7'])],
  ['an IPv6 literal too', 'a@[IPv6:2001:db8::7]', hosts(['2001:db8::7', '2001:db8::7'])],
  [
    'what DNS could not say is no verdict',
    'a@down.test',
    { kind: 'unknown', summary: 'MX of down.test: SERVFAIL' },
  ],
  [
    'an exchanger that DNS could not say anything of is no verdict either',
    'a@halfdown.test',
    { kind: 'unknown', summary: 'addresses of down.test: SERVFAIL' },
  ],
];

for (const [claim, address, route] of routes) {
  test(`${claim}: ${address}`, async () => {
    assert.deepEqual(await routeOf(address, { resolver, allowed: anywhere }), route);
  });
}

const dead: [claim: string, address: string, status: string][] = [
  ['a null MX takes no mail (RFC 7505)', 'a@null.test', '5.1.10'],
  ['a domain that does not exist', 'a@nowhere.test', '5.1.2'],
  ['a domain without MX and address', 'a@empty.test', '5.4.4'],
  ['an MX that leads nowhere', 'a@dangling.test', '5.4.4'],
  ['a broken literal', 'a@[192.0.2]', '5.1.3'],
  ['an IPv6 literal without its tag', 'a@[2001:db8::7]', '5.1.3'],
  ['not a domain', 'a@exa mple', '5.1.2'],
];

for (const [claim, address, status] of dead) {
  test(`${claim} is final: ${address}`, async () => {
    const route = await routeOf(address, { resolver, allowed: anywhere });
    assert.equal(route.kind === 'unreachable' && route.status, status);
  });
}

test('nobody leads us into our own network', async () => {
  for (const address of ['a@inside.test', 'a@[127.0.0.1]', 'a@[10.1.2.3]', 'a@[IPv6:::ffff:127.0.0.1]']) {
    const route = await routeOf(address, { resolver, allowed: inTheWorld });
    assert.equal(route.kind === 'unreachable' && route.status, '5.4.4', address);
  }
});

test('a sandbox speaks to loopback alone, whatever DNS says', async () => {
  const route = await routeOf('a@escape.test', { resolver, allowed: onLoopback });
  assert.deepEqual(route, hosts(['out.test', '127.0.0.1']));
  assert.equal((await routeOf('a@dest.test', { resolver, allowed: onLoopback })).kind, 'unreachable');
});

test('exchangers of one preference share the load', async () => {
  const twins = resolverOf({
    'dest.test': {
      mx: [
        [10, 'one.test'],
        [10, 'two.test'],
      ],
    },
    'one.test': { a: ['192.0.2.1'] },
    'two.test': { a: ['192.0.2.2'] },
  });
  const firstBy = async (...draws: number[]) => {
    const route = await routeOf('a@dest.test', {
      resolver: twins,
      allowed: anywhere,
      random: () => draws.shift()!,
    });
    return route.kind === 'hosts' && route.hosts[0]!.name;
  };
  assert.equal(await firstBy(0.1, 0.9), 'one.test');
  assert.equal(await firstBy(0.9, 0.1), 'two.test');
});

test('a domain of a hundred exchangers costs no more than ten', async () => {
  let asked = 0;
  const many = resolverOf({ 'dest.test': { mx: Array.from({ length: 100 }, (_, i) => [i, `mx${i}.test`]) } });
  const counting = {
    ...many,
    a: (name: string) => {
      asked += 1;
      return many.a(name);
    },
  };
  await routeOf('a@dest.test', { resolver: counting, allowed: anywhere });
  assert.equal(asked, 10);
});
