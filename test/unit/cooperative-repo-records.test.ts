/** Which records of our repo are written: what differs, and nothing else. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FetchRefused, guardedFetch } from '../../appview/identity/fetch.ts';
import { suspensionReasons } from '../../appview/labels/signal.ts';
import { agentOf, signedIn } from '../../node/cooperative/agent.ts';
import { labelerServiceRecord } from '../../node/cooperative/labeler-service.ts';
import { lexiconNames, lexiconRecords, lookedUp } from '../../node/cooperative/lexicon-records.ts';
import { RepoPublisher } from '../../node/cooperative/repo-publisher.ts';
import { missingWrites, writesFor } from '../../node/cooperative/repo-records.ts';
import { counters, quiet } from './labels-fixtures.ts';

const collection = 'email.atmos.peer';
const at = Date.UTC(2026, 10, 20);
const record = (fields: object = {}) => ({ $type: collection, subject: 'did:web:a', ...fields });
const wanted = (records: { rkey: string; record: Record<string, unknown> }[]) => ({
  records: records.map((one) => ({ collection, ...one })),
  whole: [collection],
});
const kinds = (there: [string, Record<string, unknown>][], records: Parameters<typeof wanted>[0]) =>
  writesFor(new Map(there), wanted(records)).map(({ kind, rkey }) => `${kind} ${rkey}`);

test('what is missing is created, what differs updated, what has gone deleted', () => {
  const there: [string, Record<string, unknown>][] = [
    [`${collection}/same`, record()],
    [`${collection}/old`, record({ stance: 'endorse' })],
    [`${collection}/gone`, record()],
    ['app.bsky.feed.post/1', {}],
  ];
  const now = [
    { rkey: 'same', record: record() },
    { rkey: 'old', record: record({ stance: 'censure' }) },
    { rkey: 'new', record: record() },
  ];
  assert.deepEqual(kinds(there, now), ['update old', 'create new', 'delete gone']);
});

test('another createdAt alone, an absent field or another order is no change', () => {
  const there = { createdAt: '2025', subject: 'did:web:a', $type: collection };
  const now = record({ createdAt: '2026', reason: undefined });
  assert.deepEqual(kinds([[`${collection}/a`, there]], [{ rkey: 'a', record: now }]), []);
});

test('the texts of our labels cover every value, in both languages, within the limits of the lexicon', () => {
  const { record: made } = labelerServiceRecord(at)(undefined);
  const { labelValues, labelValueDefinitions } = made.policies as {
    labelValues: string[];
    labelValueDefinitions: {
      severity: string;
      locales: { lang: string; name: string; description: string }[];
    }[];
  };
  for (const reason of suspensionReasons) assert.ok(labelValues.includes(`suspended-${reason}`), reason);
  assert.equal(labelValues.length, 9);
  for (const [i, { severity, locales }] of labelValueDefinitions.entries()) {
    assert.match(labelValues[i]!, /^[a-z-]{1,100}$/);
    assert.equal(severity, labelValues[i]!.startsWith('suspended-') ? 'alert' : 'inform');
    assert.deepEqual(
      locales.map(({ lang }) => lang),
      ['en', 'de'],
    );
    for (const { name, description } of locales) assert.ok(name.length <= 64 && description.length <= 1_000);
  }
  const again = labelerServiceRecord(at + 1)(made);
  assert.deepEqual(again.record, made, 'made over itself it is the same, with its first date');
});

test('each group of lexicons has its own TXT name, and only ours are published', () => {
  const ids = lexiconRecords().map(({ rkey }) => rkey);
  assert.ok(ids.includes('email.atmos.attestation') && ids.includes('email.atmos.listing.get'));
  assert.ok(ids.every((id) => id.startsWith('email.atmos.')));
  assert.deepEqual(lexiconNames(['email.atmos.peer', 'email.atmos.defs', 'email.atmos.listing.get']), [
    '_lexicon.atmos.email',
    '_lexicon.listing.atmos.email',
  ]);
});

test('a TXT is right when it names the repo and nothing else; who does not answer says nothing', async () => {
  const answers: Record<string, unknown> = {
    right: { kind: 'found', records: ['did=did:plc:a', 'v=other'] },
    two: { kind: 'found', records: ['did=did:plc:a', 'did=did:plc:b'] },
    none: { kind: 'none' },
    silent: { kind: 'failed', reason: 'timeout' },
  };
  const resolver = { txt: async (name: string) => answers[name] } as Parameters<typeof lookedUp>[2];
  const seen = await lookedUp(Object.keys(answers), 'did:plc:a', resolver);
  assert.deepEqual(
    seen.map(({ isRight, found }) => [isRight, found]),
    [
      [true, ['did:plc:a']],
      [false, ['did:plc:a', 'did:plc:b']],
      [false, []],
      [false, undefined],
    ],
  );
});

test('a PDS that cannot be reached is asked ever more rarely', async () => {
  let now = at;
  const count = counters();
  let asked = 0;
  const publisher = new RepoPublisher({
    account: () => ({ did: 'did:plc:a', pds: 'https://pds.example', appPassword: 'x' }),
    wanted: () => wanted([{ rkey: 'a', record: record() }]),
    version: () => 1,
    fetch: async () => {
      asked += 1;
      throw new Error('unreachable');
    },
    ...{ log: quiet, count: count.count, now: () => now },
  });
  const waits = [30_000, 60_000, 120_000, 240_000, 480_000, 960_000, 1_920_000, 3_600_000, 3_600_000];
  for (const wait of waits) {
    await publisher.look();
    now += wait - 1;
    await publisher.look();
    now += 1;
  }
  assert.equal(asked, waits.length);
  assert.equal(count.of('repo_writes_failed{network}'), waits.length);
});

for (const pds of ['https://10.0.0.1', 'https://169.254.169.254', 'http://pds.example', 'https://localhost'])
  test(`a PDS at ${pds} is not ours to ask`, async () => {
    const guarded = guardedFetch({
      allowLoopback: false,
      loopbackOnly: false,
      lookup: async () => ['1.1.1.1'],
    });
    const agent = await agentOf(pds, guarded);
    await assert.rejects(missingWrites(agent, 'did:plc:a', wanted([])), FetchRefused);
    await assert.rejects(signedIn(pds, { identifier: 'a', password: 'b' }, guarded), FetchRefused);
  });

test('without a password nothing is asked', async () => {
  const publisher = new RepoPublisher({
    ...{ account: () => undefined, wanted: () => assert.fail('nothing is made'), version: () => 1 },
    fetch: async () => assert.fail('nobody is asked'),
    ...{ log: quiet, count: counters().count, now: () => at },
  });
  await publisher.look();
  await publisher.stop();
});
