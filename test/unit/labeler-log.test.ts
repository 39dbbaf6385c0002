/** The log of issued labels: signatures, order, followers, and pages of it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Secp256k1Keypair, verifySignature } from '@atproto/crypto';
import { encode } from '@atproto/lex-cbor';
import { CorruptState, type Database, openDatabase } from '../../appview/database.ts';
import type { SignedLabel } from '../../appview/labels/codec.ts';
import { IssuedLabels } from '../../node/labeler/issued-labels.ts';
import { LabelQueries, type LabelQuery } from '../../node/labeler/label-query.ts';
import { ownLabelSource } from '../../node/labeler/own-source.ts';
import { nodeMigrations } from '../../node/migrations.ts';

const src = 'did:web:harbor.test';
const did = 'did:plc:reef';
const uri = `at://${did}/email.atmos.attestation/reef.test`;
const val = 'verified-mail-operator';
// Of the empty record, and of another one: only their syntax matters here.
const cid1 = 'bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua';
const cid2 = 'bafyreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku';

async function makeLog(clock: { now: number } = { now: 1_700_000_000_000 }) {
  const db = openDatabase(':memory:', nodeMigrations, { synchronous: 'NORMAL' });
  const key = await Secp256k1Keypair.create();
  const open = () => new IssuedLabels({ db, did: src, key, now: () => clock.now });
  return { db, key, clock, log: open(), open };
}

type Log = IssuedLabels;
const issue = (log: Log, on: string, cid = cid1, value = val) =>
  log.append({ issue: [{ uri: on, val: value, cid }], negate: [] });
/** A vote and a badge. */
const issueBoth = (log: Log) =>
  log.append({
    issue: [
      { uri, val, cid: cid1 },
      { uri: did, val },
    ],
    negate: [],
  });
const labelsSince = async (log: Log, seq = 0): Promise<SignedLabel[]> =>
  (await log.since(seq)).flatMap(({ labels }) => labels);
const negate = (log: Log, on: string, value = val) =>
  log.append({ issue: [], negate: [{ uri: on, val: value }] });

test('@atproto/crypto verifies the signature of a vote, a badge and a negation', async () => {
  const { log, key } = await makeLog();
  const appended = [...(await issueBoth(log)), ...(await negate(log, uri))];
  assert.deepEqual(
    appended.map(({ label: { sig: _, cts: __, ...fields } }) => fields),
    [
      { ver: 1, src, uri, cid: cid1, val },
      { ver: 1, src, uri: did, val },
      { ver: 1, src, uri, val, neg: true },
    ],
  );
  for (const { label } of appended) {
    const { sig, ...fields } = label;
    assert.equal(await verifySignature(key.did(), encode(fields), sig), true);
  }
});

test('of one label the later is always the younger, though the clock stands or steps back', async () => {
  const { log, clock } = await makeLog();
  await issue(log, uri);
  await negate(log, uri);
  clock.now -= 3_600_000;
  await issue(log, uri);
  const times = (await labelsSince(log)).map(({ cts }) => Date.parse(cts));
  assert.deepEqual(times, [1_700_000_000_000, 1_700_000_000_001, 1_700_000_000_002]);
});

test('in force is what stands last: not the negated, not the label of another account', async () => {
  const { log } = await makeLog();
  await issueBoth(log);
  await issue(log, uri, cid1, 'relay-member');
  await issue(log, `at://${did}x/email.atmos.attestation/other.test`);
  await issue(log, `${did}x`);
  await issue(log, uri, cid2);
  await negate(log, uri, 'relay-member');
  assert.deepEqual(log.inForce(did), [
    { uri, val, cid: cid2 },
    { uri: did, val },
  ]);
});

test('a restart goes on where the log ended', async () => {
  const { log, open } = await makeLog();
  await issue(log, uri);
  const again = open();
  assert.equal(again.newest, log.newest);
  const [next] = await negate(again, uri);
  assert.equal(next!.seq, log.newest + 1);
  assert.deepEqual(
    (await labelsSince(again)).map(({ neg }) => neg),
    [undefined, true],
  );
});

test('a follower gets each label once and in order, whether old, new or issued while it reads', async () => {
  const { log, open } = await makeLog();
  const total = 2_600;
  for (let i = 0; i < 1_300; i++) await issue(log, `did:plc:${i}`);
  // Opened anew, its memory is empty: the first half comes from disk, the rest from memory.
  const reopened = open();
  const stop = new AbortController();
  const seen: number[] = [];
  const writing = (async () => {
    for (let i = 1_300; i < total; i++) await issue(reopened, `did:plc:${i}`);
  })();
  for await (const frames of reopened.follow(0, stop.signal)) {
    for (const { labels } of frames) seen.push(...labels.map(({ uri: on }) => Number(on.slice(8))));
    if (seen.length === total) stop.abort();
  }
  await writing;
  assert.deepEqual(
    seen,
    Array.from({ length: total }, (_, i) => i),
  );
});

test('a follower that waits ends when it is told to', async () => {
  const { log } = await makeLog();
  const stop = new AbortController();
  const next = log.follow(0, stop.signal).next();
  stop.abort();
  assert.deepEqual(await next, { done: true, value: undefined });
});

test('our own AppView reads the same frames, resumes, and is told of a cursor ahead of us', async () => {
  const { log } = await makeLog();
  await issueBoth(log);
  const source = ownLabelSource(log);
  const stop = new AbortController();
  const frames: unknown[] = [];
  await source.follow(
    1,
    async (frame) => {
      frames.push(frame);
      stop.abort();
    },
    stop.signal,
  );
  assert.deepEqual(frames, [{ kind: 'labels', seq: 2, labels: [(await labelsSince(log))[1]] }]);

  const ahead: unknown[] = [];
  await source.follow(3, async (frame) => void ahead.push(frame), new AbortController().signal);
  assert.deepEqual(ahead, [{ kind: 'error', error: 'FutureCursor' }]);
});

test('a log that does not decode stops us', async () => {
  const { db, open } = await makeLog();
  db.prepare("INSERT INTO issued_label (uri, val, neg, cts, body) VALUES ('x', 'y', 0, 'z', x'00')").run();
  await assert.rejects(open().since(0), CorruptState);
});

type Shown = { uri: string; val: string };

function asking(db: Database.Database, log: Log) {
  const queries = new LabelQueries(db, log);
  return async (query: LabelQuery, now: number) => {
    const page = await queries.page(query, now);
    if (page.kind !== 'page') return assert.fail(page.why);
    return { labels: JSON.parse(`[${page.labels}]`) as Shown[], cursor: page.cursor };
  };
}

const patternCases: [patterns: string[], expect: string[]][] = [
  [['at://did:plc:b/col/x'], ['at://did:plc:b/col/x']],
  [['at://did:plc:b/col/*'], ['at://did:plc:b/col/x', 'at://did:plc:b/col/y']],
  [['did:plc:b'], ['did:plc:b']],
  [['did:plc:b*'], ['did:plc:b', 'did:plc:bb']],
  [['did:plc:z', 'did:plc:a', 'did:plc:a'], ['did:plc:a']],
  [
    ['at://did:plc:b/*', 'at://did:plc:b/col/x', 'did:*'],
    ['at://did:plc:b/col/x', 'at://did:plc:b/col/y', 'did:plc:a', 'did:plc:b', 'did:plc:bb'],
  ],
  [['*'], ['at://did:plc:b/col/x', 'at://did:plc:b/col/y', 'did:plc:a', 'did:plc:b', 'did:plc:bb']],
  [['did:plc:%', 'did:plc:_'], []],
];

test('patterns are exact, or a prefix before a final star; a label comes once however many match', async () => {
  const { db, log, clock } = await makeLog();
  for (const on of ['did:plc:b', 'at://did:plc:b/col/y', 'did:plc:a', 'at://did:plc:b/col/x', 'did:plc:bb'])
    await issue(log, on);
  for (const [uriPatterns, expect] of patternCases) {
    const { labels, cursor } = await asking(db, log)({ uriPatterns, limit: 50 }, clock.now);
    assert.deepEqual(
      labels.map((label) => label.uri),
      expect,
      uriPatterns.join(' '),
    );
    assert.equal(cursor, undefined);
  }
});

test('pages cover everything once, in order, while labels are issued and negated between them', async () => {
  const { db, log, clock } = await makeLog();
  for (let i = 0; i < 10; i++) {
    await log.append({
      issue: [
        { uri: `did:plc:${i}`, val, cid: cid1 },
        { uri: `did:plc:${i}`, val: 'relay-member', cid: cid1 },
      ],
      negate: [],
    });
  }
  const ask = asking(db, log);
  const seen: string[] = [];
  let cursor: string | undefined;
  for (let round = 0; ; round++) {
    const page = await ask({ uriPatterns: ['did:*'], limit: 3, ...(cursor && { cursor }) }, clock.now);
    seen.push(...page.labels.map((label) => `${label.uri} ${label.val}`));
    if (!page.cursor) break;
    cursor = page.cursor;
    if (round === 0) {
      await negate(log, 'did:plc:0'); // behind us
      await negate(log, 'did:plc:9', 'relay-member'); // before us
    }
    assert.ok(round < 20, 'the pages do not end');
  }
  const all = Array.from({ length: 10 }, (_, i) => [
    `did:plc:${i} ${val}`,
    `did:plc:${i} relay-member`,
  ]).flat();
  assert.deepEqual(
    seen,
    all.filter((label) => label !== 'did:plc:9 relay-member'),
  );
});

const badQueries: [string, { uriPatterns: string[]; cursor?: string }][] = [
  ['no pattern', { uriPatterns: [] }],
  ['a star in the middle', { uriPatterns: ['at://*/x'] }],
  ['too many patterns', { uriPatterns: Array(101).fill('x') }],
  ['a pattern without end', { uriPatterns: ['x'.repeat(3_000)] }],
  ['a made-up cursor', { uriPatterns: ['*'], cursor: 'abc' }],
  ['a cursor of another shape', { uriPatterns: ['*'], cursor: Buffer.from('{"a":1}').toString('base64url') }],
];
for (const [name, query] of badQueries) {
  test(`${name} is a bad query`, async () => {
    const { db, log } = await makeLog();
    assert.equal((await new LabelQueries(db, log).page({ ...query, limit: 50 }, 0)).kind, 'bad-query');
  });
}
