/** Which demand wins: the domain's, the member's, ours. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TlsDemand, TlsPolicy } from '../../node/delivery/client.ts';
import type { Host } from '../../node/delivery/route.ts';
import { TlsPolicies } from '../../node/delivery/tls-policy.ts';
import type { Answer, TlsaRecord, TlsaResolver } from '../../node/resolver.ts';

const record: TlsaRecord = { usage: 3, selector: 1, matching: 1, data: Buffer.alloc(32, 1) };
const useless: TlsaRecord = { usage: 1, selector: 1, matching: 1, data: Buffer.alloc(32, 1) };
const sure = { server: '', secure: true } as const;

type World = {
  tlsa?: Record<string, Answer<TlsaRecord>>;
  sts?: { mode: string; mx: string[] } | 'down';
  policy?: TlsPolicy;
  exceptions?: Record<string, TlsPolicy>;
};

function policies({ tlsa = {}, sts, policy = 'required', exceptions = {} }: World) {
  const asked: string[] = [];
  const refused: string[] = [];
  const nothing = <T>(): Promise<Answer<T>> => Promise.resolve({ server: '', kind: 'none' });
  const resolver: TlsaResolver = {
    mx: nothing,
    a: nothing,
    aaaa: nothing,
    txt: () =>
      sts === 'down'
        ? Promise.resolve({ server: '', kind: 'failed', reason: 'SERVFAIL' })
        : sts
          ? Promise.resolve({ server: '', kind: 'found', records: ['v=STSv1; id=1;'] })
          : nothing(),
    tlsa: (name) => {
      asked.push(name);
      return Promise.resolve(tlsa[name] ?? { ...sure, kind: 'nxdomain' });
    },
  };
  const { mode, mx } = sts && sts !== 'down' ? sts : { mode: 'none', mx: [] };
  const body = `version: STSv1\nmode: ${mode}\n${mx.map((one) => `mx: ${one}\n`).join('')}max_age: 86400\n`;
  const headers = { 'content-type': 'text/plain' };
  const made = new TlsPolicies({
    resolver,
    fetch: () => Promise.resolve({ status: 200, headers, body: Buffer.from(body) }),
    default: policy,
    exceptions,
    now: () => 0,
    count: (what, reason) => refused.push(`${what} ${reason}`),
  });
  return { made, asked, refused };
}

const host = (name: string, more: Partial<Host> = {}): Host => ({ name, addresses: ['192.0.2.1'], ...more });
const one = host('mx1.dest.test');
const two = host('mx2.dest.test');
const signedOne = host('mx1.dest.test', { secure: true });
const signedTwo = host('mx2.dest.test', { secure: true });
const verified = (why: 'mta-sts' | 'requiretls', name: string): TlsDemand => ({
  kind: 'verified',
  why,
  names: [name],
});
const encrypted: TlsDemand = { kind: 'encrypted' };
const dane = (name: string): TlsDemand => ({ kind: 'dane', names: [name, 'dest.test'], records: [record] });

type Asked = { domain?: string; hosts?: Host[]; secure?: true; requireTls?: boolean };

async function demands(
  world: World,
  { domain = 'dest.test', hosts = [one, two], secure, requireTls = false }: Asked,
) {
  const { made, ...told } = policies(world);
  const result = await made.demandsFor(domain, { kind: 'hosts', hosts, secure }, { requireTls });
  const list =
    result.kind === 'hosts' ? result.hosts.map((each) => [each.host.name, each.demand] as const) : [];
  return { ...told, result, list };
}

const signedRecord: Answer<TlsaRecord> = { ...sure, kind: 'found', records: [record] };
const tlsa1 = { '_25._tcp.mx1.dest.test': signedRecord };

type Case = [claim: string, world: World, asked: Asked, list: [string, TlsDemand][]];
const cases: Case[] = [
  [
    'required is encrypted with any certificate',
    {},
    {},
    [
      ['mx1.dest.test', encrypted],
      ['mx2.dest.test', encrypted],
    ],
  ],
  [
    'opportunistic asks for nothing',
    { policy: 'opportunistic' },
    { hosts: [one] },
    [['mx1.dest.test', { kind: 'opportunistic' }]],
  ],
  [
    'an exception for the domain',
    { exceptions: { 'dest.test': 'opportunistic' } },
    { hosts: [one] },
    [['mx1.dest.test', { kind: 'opportunistic' }]],
  ],
  [
    'an exception for the site',
    { exceptions: { 'provider.test': 'opportunistic' } },
    { hosts: [host('mx1.provider.test')] },
    [['mx1.provider.test', { kind: 'opportunistic' }]],
  ],
  [
    'an exception may ask for more',
    { policy: 'opportunistic', exceptions: { 'dest.test': 'required' } },
    { hosts: [one] },
    [['mx1.dest.test', encrypted]],
  ],
  [
    'no exception is found in an object’s own properties',
    { exceptions: {} },
    { domain: 'constructor', hosts: [one] },
    [['mx1.dest.test', encrypted]],
  ],
  [
    'MTA-STS enforce: verified, and only the hosts that it names',
    { sts: { mode: 'enforce', mx: ['mx2.dest.test'] } },
    {},
    [['mx2.dest.test', verified('mta-sts', 'mx2.dest.test')]],
  ],
  [
    'MTA-STS testing asks for nothing',
    { sts: { mode: 'testing', mx: ['other.test'] } },
    { hosts: [one] },
    [['mx1.dest.test', encrypted]],
  ],
  [
    'MTA-STS none neither',
    { sts: { mode: 'none', mx: [] } },
    { hosts: [one] },
    [['mx1.dest.test', encrypted]],
  ],
  [
    'no exception lowers what the domain itself asks',
    { sts: { mode: 'enforce', mx: ['*.dest.test'] }, exceptions: { 'dest.test': 'opportunistic' } },
    { hosts: [one] },
    [['mx1.dest.test', verified('mta-sts', 'mx1.dest.test')]],
  ],
  [
    'DANE where DNSSEC vouches for all of it',
    { tlsa: tlsa1 },
    { hosts: [signedOne, signedTwo], secure: true },
    [
      ['mx1.dest.test', dane('mx1.dest.test')],
      ['mx2.dest.test', encrypted],
    ],
  ],
  [
    'DANE beats MTA-STS, also at a host that the policy does not name',
    { tlsa: tlsa1, sts: { mode: 'enforce', mx: ['mx2.dest.test'] } },
    { hosts: [signedOne, signedTwo], secure: true },
    [
      ['mx1.dest.test', dane('mx1.dest.test')],
      ['mx2.dest.test', verified('mta-sts', 'mx2.dest.test')],
    ],
  ],
  [
    'no DANE by records that nobody signed',
    { tlsa: { '_25._tcp.mx1.dest.test': { server: '', kind: 'found', records: [record] } } },
    { hosts: [signedOne], secure: true },
    [['mx1.dest.test', encrypted]],
  ],
  [
    'useless TLSA records still ask for encryption',
    {
      policy: 'opportunistic',
      tlsa: { '_25._tcp.mx1.dest.test': { ...sure, kind: 'found', records: [useless] } },
    },
    { hosts: [signedOne], secure: true },
    [['mx1.dest.test', encrypted]],
  ],
  [
    'a host whose TLSA records cannot be asked for is passed over',
    { tlsa: { '_25._tcp.mx1.dest.test': { server: '', kind: 'failed', reason: 'SERVFAIL' } } },
    { hosts: [signedOne, signedTwo], secure: true },
    [['mx2.dest.test', encrypted]],
  ],
  [
    'REQUIRETLS with names that DNSSEC vouches for',
    {},
    { hosts: [one], secure: true, requireTls: true },
    [['mx1.dest.test', verified('requiretls', 'mx1.dest.test')]],
  ],
  [
    'REQUIRETLS with names that MTA-STS vouches for',
    { sts: { mode: 'enforce', mx: ['mx1.dest.test'] } },
    { requireTls: true },
    [['mx1.dest.test', verified('mta-sts', 'mx1.dest.test')]],
  ],
  [
    'REQUIRETLS with DANE',
    { tlsa: tlsa1 },
    { hosts: [signedOne], secure: true, requireTls: true },
    [['mx1.dest.test', dane('mx1.dest.test')]],
  ],
  [
    'REQUIRETLS where the TLSA records are useless',
    { tlsa: { '_25._tcp.mx1.dest.test': { ...sure, kind: 'found', records: [useless] } } },
    { hosts: [signedOne], secure: true, requireTls: true },
    [['mx1.dest.test', verified('requiretls', 'mx1.dest.test')]],
  ],
  [
    'an address literal has no policy but ours',
    { sts: { mode: 'enforce', mx: ['x.test'] } },
    { domain: '[192.0.2.1]', hosts: [host('192.0.2.1')] },
    [['192.0.2.1', encrypted]],
  ],
];
for (const [claim, world, asked, list] of cases) {
  test(claim, async () => {
    assert.deepEqual((await demands(world, asked)).list, list);
  });
}

const refusals: [claim: string, world: World, asked: Asked, status: string, summary: RegExp][] = [
  [
    'MTA-STS that names none of the hosts',
    { sts: { mode: 'enforce', mx: ['other.test'] } },
    {},
    '4.7.5',
    /mx1\.dest\.test is not in the MTA-STS policy/,
  ],
  [
    'TLSA records that cannot be asked for',
    { tlsa: { '_25._tcp.mx1.dest.test': { server: '', kind: 'failed', reason: 'SERVFAIL' } } },
    { hosts: [signedOne], secure: true },
    '4.4.3',
    /TLSA records of mx1\.dest\.test: SERVFAIL/,
  ],
  [
    'REQUIRETLS where nothing vouches for the names',
    {},
    { requireTls: true },
    '5.7.30',
    /neither DNSSEC nor MTA-STS/,
  ],
  [
    'REQUIRETLS where nobody could say what vouches',
    { sts: 'down' },
    { requireTls: true },
    '4.7.5',
    /could not be learnt/,
  ],
  [
    'REQUIRETLS to an address literal',
    {},
    { domain: '[192.0.2.1]', hosts: [host('192.0.2.1')], requireTls: true },
    '5.7.30',
    /no name/,
  ],
];
for (const [claim, world, asked, status, summary] of refusals) {
  test(`no host may be used: ${claim}`, async () => {
    const { result } = await demands(world, asked);
    assert.ok(result.kind === 'none', JSON.stringify(result));
    assert.equal(result.status, status);
    assert.match(result.summary, summary);
  });
}

test('without DNSSEC on names and addresses no TLSA record is asked for', async () => {
  for (const [hosts, secure] of [
    [[signedOne], undefined],
    [[one], true],
  ] as const) {
    const { asked, list } = await demands({ tlsa: tlsa1 }, { hosts: [...hosts], secure });
    assert.deepEqual([asked, list], [[], [['mx1.dest.test', encrypted]]]);
  }
});

test('behind an alias the records of its end are asked first, then those of the name in the MX', async () => {
  const alias = host('mx1.dest.test', { secure: true, canonical: 'real.test' });
  const atTheEnd = { '_25._tcp.real.test': signedRecord };
  const first = await demands({ tlsa: atTheEnd }, { hosts: [alias], secure: true });
  assert.deepEqual(first.asked, ['_25._tcp.real.test']);
  assert.deepEqual(first.list[0]![1], {
    kind: 'dane',
    names: ['real.test', 'mx1.dest.test', 'dest.test'],
    records: [record],
  });
  const second = await demands({ tlsa: tlsa1 }, { hosts: [alias], secure: true });
  assert.deepEqual(second.asked, ['_25._tcp.real.test', '_25._tcp.mx1.dest.test']);
  assert.deepEqual(second.list[0]![1], dane('mx1.dest.test'));
});
