import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RememberedAnswers } from '../../node/delivery/route-answers.ts';
import type { Answer, TlsaResolver } from '../../node/resolver.ts';

/** Counts the questions; `say` is what each is answered. */
function counting(say: () => Answer<string>): { resolver: TlsaResolver; asked: string[] } {
  const asked: string[] = [];
  const ask = (type: string) => (name: string) => {
    asked.push(`${type} ${name}`);
    return Promise.resolve(say() as never);
  };
  const resolver = { txt: ask('TXT'), mx: ask('MX'), a: ask('A'), aaaa: ask('AAAA'), tlsa: ask('TLSA') };
  return { resolver, asked };
}

const found = (ttlSeconds?: number): Answer<string> => {
  return { server: '', kind: 'found', records: ['192.0.2.1'], ttlSeconds };
};

const lives: [claim: string, answer: Answer<string>, seconds: number][] = [
  ['an answer lives as long as it says', found(300), 300],
  ['an hour at most', found(86_400), 3_600],
  ['an absence too', { server: '', kind: 'none', ttlSeconds: 60 }, 60],
  ['a name that does not exist too', { server: '', kind: 'nxdomain', ttlSeconds: 60 }, 60],
  ['without a word on it not at all', found(), 0],
  ['with a TTL of nothing neither', found(0), 0],
  ['what could not be asked is asked again', { server: '', kind: 'failed', reason: 'x', ttlSeconds: 60 }, 0],
];

for (const [claim, answer, seconds] of lives) {
  test(claim, async () => {
    let now = 1_000_000;
    const { resolver, asked } = counting(() => answer);
    const answers = new RememberedAnswers({ resolver, now: () => now });
    assert.deepEqual(await answers.a('mx.test'), answer);
    if (seconds > 0) {
      now += seconds * 1000 - 1;
      assert.deepEqual(await answers.a('MX.test'), answer);
      assert.equal(asked.length, 1);
      now += 1;
    }
    await answers.a('mx.test');
    assert.equal(asked.length, 2);
  });
}

test('types and names are told apart, and one question that is open is asked once', async () => {
  const { resolver, asked } = counting(() => found(60));
  const answers = new RememberedAnswers({ resolver, now: () => 0 });
  const ask = () => [
    answers.a('x.test'),
    answers.aaaa('x.test'),
    answers.mx('x.test'),
    answers.txt('x.test'),
    answers.tlsa('x.test'),
  ];
  await Promise.all([...ask(), ...ask(), answers.a('y.test')]);
  assert.deepEqual(asked.sort(), [
    'A x.test',
    'A y.test',
    'AAAA x.test',
    'MX x.test',
    'TLSA x.test',
    'TXT x.test',
  ]);
});

test('memory is bounded whatever is asked', async () => {
  const { resolver } = counting(() => found(60));
  const answers = new RememberedAnswers({ resolver, now: () => 0, maxEntries: 10 });
  for (let n = 0; n < 1_000; n++) await answers.a(`x${n}.test`);
  assert.equal(answers.size, 10);
});

test('a question that throws is forgotten', async () => {
  let broken = true;
  const { resolver } = counting(() => {
    if (broken) throw new TypeError('a mistake of ours');
    return found(60);
  });
  const failing = { ...resolver, a: async (name: string) => resolver.a(name) };
  const answers = new RememberedAnswers({ resolver: failing, now: () => 0 });
  await assert.rejects(answers.a('x.test'), TypeError);
  broken = false;
  assert.equal((await answers.a('x.test')).kind, 'found');
});
