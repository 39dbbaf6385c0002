/** What many domains share is asked once, and no longer believed than its TTL says. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { domainChecks } from '../../node/labeler/checks.ts';
import { askingAnew, DnsMemory } from '../../node/labeler/dns-memory.ts';
import type { Answer, Resolver } from '../../node/resolver.ts';
import { type DnsTable, goodDns, tableResolver } from './labeler-fixtures.ts';

/** Counts questions; answers carry that TTL. */
function counting(table: DnsTable, ttlSeconds?: number) {
  const asked: string[] = [];
  const inner = tableResolver(table);
  const count = <T>(question: string, ask: () => Promise<Answer<T>>) => {
    asked.push(question);
    return ask().then((answer) => (ttlSeconds === undefined ? answer : { ...answer, ttlSeconds }));
  };
  const resolver: Resolver = {
    txt: (name) => count(`TXT ${name}`, () => inner.txt(name)),
    mx: (name) => count(`MX ${name}`, () => inner.mx(name)),
    a: (name) => count(`A ${name}`, () => inner.a(name)),
    aaaa: (name) => count(`AAAA ${name}`, () => inner.aaaa(name)),
  };
  return { resolver, asked };
}

const cases: [
  claim: string,
  ttl: number | undefined,
  entry: string[] | 'fail',
  waitMs: number,
  asked: number,
][] = [
  ['an answer is remembered while its TTL lasts', 60, ['x'], 59_999, 1],
  ['and asked again after it', 60, ['x'], 60_000, 2],
  ['at most five minutes', 86_400, ['x'], 300_000, 2],
  ['TTL 0 is asked each time', 0, ['x'], 0, 2],
  ['as is what has none', undefined, ['x'], 0, 2],
  ['that there is nothing is remembered too', 60, [], 59_999, 1],
  ['a failure for five seconds, whatever its TTL', 60, 'fail', 4_999, 1],
  ['and no longer', 60, 'fail', 5_000, 2],
  ['an answer of great size is asked again', 60, ['x'.repeat(9_000)], 0, 2],
];
for (const [claim, ttl, entry, waitMs, expected] of cases) {
  test(claim, async () => {
    const { resolver, asked } = counting({ 'TXT a.test': entry }, ttl);
    let clock = 1_000_000;
    const memory = new DnsMemory(resolver, () => clock);
    const first = await memory.txt('a.test');
    clock += waitMs;
    const second = await memory.txt('a.test');
    assert.equal(asked.length, expected);
    assert.equal(second.askedAt, expected === 1 ? first.askedAt : clock);
    assert.equal(second.kind, first.kind);
  });
}

test('a question under way is shared, and names and types are kept apart', async () => {
  const { resolver, asked } = counting({ 'TXT a.test': ['x'], 'A a.test': ['192.0.2.1'] }, 60);
  const memory = new DnsMemory(resolver, () => 0);
  const answers = await Promise.all([memory.txt('a.test'), memory.txt('a.test'), memory.a('a.test')]);
  assert.deepEqual(asked, ['TXT a.test', 'A a.test']);
  assert.deepEqual(
    answers.map((answer) => answer.kind === 'found' && answer.records),
    [['x'], ['x'], ['192.0.2.1']],
  );
});

test('what is remembered is bounded, the oldest goes first', async () => {
  const { resolver, asked } = counting({}, 60);
  const memory = new DnsMemory(resolver, () => 0);
  for (let i = 0; i < 2_500; i++) await memory.txt(`n${i}.test`);
  assert.equal(memory.size, 2_000);
  await memory.txt('n2499.test');
  assert.equal(asked.length, 2_500);
  await memory.txt('n0.test');
  assert.equal(asked.length, 2_501);
});

test("a domain's own names are asked anew, and only they", async () => {
  const { resolver, asked } = counting({}, 60);
  const memory = new DnsMemory(resolver, () => 0);
  const asking = askingAnew('reef.test', resolver, memory);
  for (const name of ['reef.test', '_dmarc.reef.test', 'spf.test', 'coralreef.test']) {
    await asking.txt(name);
    await asking.txt(name);
  }
  assert.deepEqual(asked, [
    ...['TXT reef.test', 'TXT reef.test', 'TXT _dmarc.reef.test', 'TXT _dmarc.reef.test'],
    ...['TXT spf.test', 'TXT coralreef.test'],
  ]);
});

test("a thousand domains that include one provider's SPF ask it once, and their evidence says when", async () => {
  const provider = { 'TXT spf.provider.net': ['v=spf1 include:more.provider.net -all'] };
  const table: DnsTable = { ...provider, 'TXT more.provider.net': ['v=spf1 ip4:198.51.100.1 -all'] };
  const domains = Array.from({ length: 1_000 }, (_, i) => `d${i}.test`);
  for (const domain of domains) {
    Object.assign(table, goodDns(domain, 'did:plc:reef'));
    table[`TXT ${domain}`] = ['v=spf1 include:spf.provider.net -all'];
  }
  const { resolver, asked } = counting(table, 3_600);
  let clock = 5_000;
  const now = () => clock;
  const control = { identities: { resolve: async (did: string) => ({ did }) } };
  const check = domainChecks({ resolver, memory: new DnsMemory(resolver, now), control, now });
  const at: number[] = [];
  for (const domain of domains) {
    const results = await check({ did: 'did:plc:reef', domain, selectors: ['s1'] });
    const spf = results.find((result) => result.check === 'spf')!;
    assert.equal(spf.verdict, 'passed', spf.reason);
    at.push(spf.observations.find(({ asked }) => asked === 'TXT spf.provider.net')!.at);
    clock += 100;
  }
  assert.equal(asked.filter((question) => question.endsWith('provider.net')).length, 2);
  assert.ok(at.every((time) => time === 5_000));
  assert.equal(asked.length, 5 * 1_000 + 2);
});
