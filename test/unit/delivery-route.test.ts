import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addressAllowed } from '../../appview/identity/address.ts';
import { type Route, routeOf, siteOf } from '../../node/delivery/route.ts';
import type { Answer, MxRecord, Resolver } from '../../node/resolver.ts';
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
  'many.test': {
    a: [1, 2, 3, 4, 5].map((n) => `192.0.2.${n}`),
    aaaa: [1, 2, 3].map((n) => `2001:db8::${n}`),
  },
  'fours.test': { a: [1, 2, 3, 4, 5].map((n) => `192.0.2.${n}`) },
});

const hosts = (...list: [name: string, ...addresses: string[]][]): Route => ({
  kind: 'hosts',
  hosts: list.map(([name, ...addresses]) => ({ name, addresses })),
});

function withoutSite(route: Route): Route {
  if (route.kind !== 'hosts') return route;
  const { site, ...rest } = route;
  assert.ok(site);
  return rest;
}

const routes: [claim: string, address: string, route: Route][] = [
  [
    'of a host with many addresses some of each family are tried',
    'a@many.test',
    hosts(['many.test', '192.0.2.1', '192.0.2.2', '2001:db8::1', '2001:db8::2']),
  ],
  [
    'of a host with many addresses of one family four are tried',
    'a@fours.test',
    hosts(['fours.test', '192.0.2.1', '192.0.2.2', '192.0.2.3', '192.0.2.4']),
  ],
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
    assert.deepEqual(withoutSite(await routeOf(address, { resolver, allowed: anywhere })), route);
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
  assert.deepEqual(withoutSite(route), hosts(['out.test', '127.0.0.1']));
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

const ours = (name: string, address: string) => name === 'mx.harbor.test' || address === '192.0.2.25';
const circles: [claim: string, mx: [number, string][], left: string[] | '5.4.6'][] = [
  ['we are the only exchanger', [[10, 'mx.harbor.test']], '5.4.6'],
  [
    'we are the best',
    [
      [10, 'mx.harbor.test'],
      [20, 'two.test'],
    ],
    '5.4.6',
  ],
  [
    'we are as good as another',
    [
      [10, 'one.test'],
      [10, 'mx.harbor.test'],
    ],
    '5.4.6',
  ],
  [
    'others are better than we',
    [
      [10, 'one.test'],
      [20, 'mx.harbor.test'],
      [30, 'two.test'],
    ],
    ['one.test'],
  ],
  [
    'we are known by our address',
    [
      [10, 'one.test'],
      [20, 'alias.test'],
      [20, 'two.test'],
    ],
    ['one.test'],
  ],
  [
    'we are not on the list',
    [
      [10, 'one.test'],
      [20, 'two.test'],
    ],
    ['one.test', 'two.test'],
  ],
];
for (const [claim, mx, left] of circles) {
  test(`no mail goes in circles: ${claim}`, async () => {
    const resolver = resolverOf({
      'dest.test': { mx },
      'mx.harbor.test': { a: ['192.0.2.99'] },
      'alias.test': { a: ['192.0.2.25'] },
      'one.test': { a: ['192.0.2.1'] },
      'two.test': { a: ['192.0.2.2'] },
    });
    const route = await routeOf('a@dest.test', { resolver, allowed: anywhere, isSelf: ours });
    if (left === '5.4.6') assert.equal(route.kind === 'unreachable' && route.status, left);
    else assert.deepEqual(route.kind === 'hosts' && route.hosts.map(({ name }) => name), left);
  });
}

test('nor to a domain or a literal that is this node', async () => {
  const resolver = resolverOf({ 'mx.harbor.test': { a: ['192.0.2.25'] } });
  for (const address of ['a@mx.harbor.test', 'a@[192.0.2.25]']) {
    const route = await routeOf(address, { resolver, allowed: anywhere, isSelf: ours });
    assert.equal(route.kind === 'unreachable' && route.status, '5.4.6', address);
  }
});

test('an exchanger inside our network is left out, and the others are used', async () => {
  const resolver = resolverOf({
    'dest.test': {
      mx: [
        [10, 'trap.test'],
        [20, 'out.test'],
      ],
    },
    'trap.test': { a: ['10.0.0.1'], aaaa: ['::1', 'fe80::1'] },
    'out.test': { a: ['169.254.169.254', '8.8.8.8'], aaaa: ['::ffff:10.0.0.1'] },
  });
  const route = await routeOf('a@dest.test', { resolver, allowed: inTheWorld });
  assert.deepEqual(withoutSite(route), hosts(['out.test', '8.8.8.8']));
});

type Signed = Partial<Record<'mx' | 'a' | 'aaaa', Answer<never> | object>>;
const signed = (zones: Record<string, Signed>): Resolver => {
  const ask =
    <T>(type: keyof Signed) =>
    (name: string) =>
      Promise.resolve({ server: '', kind: 'none', ...zones[name]?.[type] } as Answer<T>);
  return { txt: ask('mx'), mx: ask<MxRecord>('mx'), a: ask('a'), aaaa: ask('aaaa') };
};
const exchanger = { kind: 'found', records: [{ preference: 10, exchange: 'mx.dest.test' }] };
const address4 = { kind: 'found', records: ['192.0.2.1'] };
const address6 = { kind: 'found', records: ['2001:db8::1'] };
const secure = { secure: true };

test('the route says what DNSSEC vouches for: the names, and each host’s addresses', async () => {
  const cases: [mx: object, a: object, aaaa: object, names?: true, addresses?: true][] = [
    [secure, secure, secure, true, true],
    [{}, secure, secure, undefined, true],
    [secure, {}, secure, true, undefined],
    [secure, secure, {}, true, undefined],
  ];
  for (const [mx, a, aaaa, names, addresses] of cases) {
    const resolver = signed({
      'dest.test': { mx: { ...exchanger, ...mx } },
      'mx.dest.test': { a: { ...address4, ...a }, aaaa: { ...address6, ...aaaa } },
    });
    const route = await routeOf('a@dest.test', { resolver, allowed: anywhere });
    assert.ok(route.kind === 'hosts');
    assert.deepEqual([route.secure, route.hosts[0]!.secure], [names, addresses]);
  }
});

test('an exchanger that is an alias keeps its name, and tells where it led', async () => {
  const resolver = signed({
    'dest.test': { mx: exchanger },
    'mx.dest.test': { a: { ...address4, canonical: 'real.test' } },
  });
  const route = await routeOf('a@dest.test', { resolver, allowed: anywhere });
  assert.deepEqual(route.kind === 'hosts' && route.hosts, [
    { name: 'mx.dest.test', addresses: ['192.0.2.1'], canonical: 'real.test' },
  ]);
});

test('the site does not depend on the draw, nor on which exchanger has an address today', async () => {
  for (const gone of ['none', 'a1.mx.one.test', 'b1.mx.two.test']) {
    for (const random of [() => 0.1, () => 0.9, Math.random]) {
      const resolver = resolverOf({
        'dest.test': {
          mx: [
            [10, 'b1.mx.two.test'],
            [10, 'a1.mx.one.test'],
            [20, 'a0.zero.test'],
          ],
        },
        ...(gone === 'a1.mx.one.test' ? {} : { 'a1.mx.one.test': { a: ['192.0.2.1'] } }),
        ...(gone === 'b1.mx.two.test' ? {} : { 'b1.mx.two.test': { a: ['192.0.2.2'] } }),
      });
      const route = await routeOf('a@dest.test', { resolver, allowed: anywhere, random });
      assert.equal(route.kind === 'hosts' && siteOf(route), 'one.test');
    }
  }
});
