/** The log over time: what stands of it, shared commits, history that goes, keys that change, older databases. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { Secp256k1Keypair, verifySignature } from '@atproto/crypto';
import { encode } from '@atproto/lex-cbor';
import { openDatabase } from '../../appview/database.ts';
import { parseLabel, type SignedLabel } from '../../appview/labels/codec.ts';
import { IssuedLabels } from '../../node/labeler/issued-labels.ts';
import { LabelsFrame } from '../../node/labeler/label-frame.ts';
import { LabelQueries } from '../../node/labeler/label-query.ts';
import { labelSigner } from '../../node/labeler/label-signer.ts';
import { ownLabelSource } from '../../node/labeler/own-source.ts';
import { isRenewalDue } from '../../node/labeler/renewal.ts';
import { nodeMigrations } from '../../node/migrations.ts';
import { Fuzz } from '../fuzz/random.ts';
import { encodeLabelsFrame } from './labels-frame.ts';
import { temporaryFolder } from './spool-fixtures.ts';

const src = 'did:web:harbor.test';
const val = 'verified-mail-operator';
const cid = 'bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua';
const day = 86_400_000;
const uriOf = (n: number) => `at://did:plc:m${n}/email.atmos.attestation/m${n}.test`;

async function makeLog(historyMs = 90 * day) {
  const clock = { now: 1_700_000_000_000 };
  const now = () => clock.now;
  const db = openDatabase(':memory:', nodeMigrations, { synchronous: 'NORMAL' });
  const newKey = () => Secp256k1Keypair.create({ exportable: true });
  const open = (key: Secp256k1Keypair) => new IssuedLabels({ db, did: src, key, now, historyMs });
  const key = await newKey();
  const log = open(key);
  const issue = (n: number, more: object = {}) =>
    log.append({ issue: [{ uri: uriOf(n), val, cid, ...more }], negate: [] });
  const negate = (n: number) => log.append({ issue: [], negate: [{ uri: uriOf(n), val }] });
  const ask = async (of: IssuedLabels = log) => {
    const page = await new LabelQueries(db, of).page({ uriPatterns: ['*'], limit: 250 }, clock.now);
    assert.ok(page.kind === 'page');
    return (JSON.parse(`[${page.labels}]`) as (SignedLabel & { sig: { $bytes: string } })[]).map(
      ({ sig, ...fields }) => ({ fields, sig: Buffer.from(sig.$bytes, 'base64') }),
    );
  };
  return { db, clock, key, newKey, open, log, issue, negate, ask };
}

const all = async (log: IssuedLabels, seq = 0) => (await log.since(seq)).flatMap(({ labels }) => labels);

test('a label expires by itself: at its end it is in force and in answers no more', async () => {
  const { clock, log, issue, ask } = await makeLog();
  await issue(1, { exp: new Date(clock.now + day).toISOString() });
  clock.now += day - 1;
  assert.equal((await ask()).length, 1);
  assert.deepEqual(log.inForce('did:plc:m1'), [
    { uri: uriOf(1), val, cid, exp: new Date(clock.now + 1).toISOString() },
  ]);
  clock.now += 1;
  assert.deepEqual(await ask(), []);
  assert.deepEqual(log.inForce('did:plc:m1'), []);
});

test('a renewal takes the place of what it renews, younger and with a later end', async () => {
  const { db, clock, log, issue, ask } = await makeLog();
  await issue(1, { exp: new Date(clock.now + day).toISOString() });
  clock.now += day / 2;
  await issue(1, { exp: new Date(clock.now + day).toISOString() });
  const [renewed] = await ask();
  assert.equal(renewed!.fields.exp, new Date(clock.now + day).toISOString());
  assert.equal((await ask()).length, 1);
  assert.equal((await all(log)).length, 2);
  assert.equal((db.prepare('SELECT count(*) AS n FROM current_label').get() as { n: number }).n, 1);
});

test('what is decided in one turn is one commit, a frame for each decision', async () => {
  const { log, issue } = await makeLog();
  const appended = await Promise.all([1, 2, 3, 1].map((n) => issue(n)));
  assert.deepEqual(
    appended.map(([one]) => one!.seq),
    [1, 2, 3, 4],
  );
  const frames = await log.since(0);
  assert.deepEqual(
    frames.map(({ first, seq }) => [first, seq]),
    [
      [1, 1],
      [2, 2],
      [3, 3],
      [4, 4],
    ],
  );
  // Of the same label the later is the younger, within a commit too.
  assert.ok(appended[0]![0]!.label.cts < appended[3]![0]!.label.cts);
});

test('a commit that fails fails for all who shared it, and the next one works', async () => {
  const { db, log, issue } = await makeLog();
  db.exec("CREATE TRIGGER full BEFORE INSERT ON issued_label BEGIN SELECT raise(ABORT, 'disk full'); END");
  const results = await Promise.allSettled([issue(1), issue(2)]);
  assert.deepEqual(
    results.map(({ status }) => status),
    ['rejected', 'rejected'],
  );
  assert.equal(log.newest, 0);
  db.exec('DROP TRIGGER full');
  await issue(3);
  assert.deepEqual(
    (await all(log)).map(({ uri }) => uri),
    [uriOf(3)],
  );
});

test('many at once are several commits, and none is lost', async () => {
  const { log, issue } = await makeLog();
  await Promise.all(Array.from({ length: 1_000 }, (_, n) => issue(n)));
  assert.equal(log.newest, 1_000);
  const seen = new Set<string>();
  for (let at = 0; at < 1_000; ) {
    const frames = await log.since(at);
    for (const { labels } of frames) for (const { uri } of labels) seen.add(uri);
    at = frames.at(-1)!.seq;
  }
  assert.equal(seen.size, 1_000);
});

test('a frame out of stored bytes is what the codec encodes from values', async () => {
  const fuzz = new Fuzz('label-frame');
  const key = await Secp256k1Keypair.create({ exportable: true });
  const { sign } = await labelSigner(key);
  for (let round = fuzz.rounds(200); round > 0; round--) {
    const count = 1 + fuzz.below(fuzz.below(10) === 0 ? 300 : 30);
    const fields = { ver: 1, src, uri: uriOf(fuzz.below(99)), val, cts: new Date(0).toISOString() };
    const label = { ...fields, ...(fuzz.below(2) && { cid }), ...(fuzz.below(2) && { neg: true }) };
    const signed = { ...label, sig: await sign(encode(label)) } as SignedLabel;
    const first = 1 + fuzz.below(2 ** fuzz.pick([3, 6, 9, 17, 31])) * fuzz.pick([1, 1, 1_000_000]);
    const rows = Array.from({ length: count }, (_, i) => ({ seq: first + i, body: encode(signed) }));
    const expected = encodeLabelsFrame(first + count - 1, Array(count).fill(signed));
    const frame = new LabelsFrame(rows);
    assert.deepEqual(Buffer.from(frame.bytes), Buffer.from(expected));
    assert.deepEqual(frame.labels, Array(count).fill(signed));
    const cut = fuzz.below(count);
    assert.equal(frame.after(first + cut - 1).labels.length, count - cut);
  }
});

test('both engines make the same signature, low-S, that @atproto/crypto verifies', async () => {
  const key = await Secp256k1Keypair.create({ exportable: true });
  const sealed = await Secp256k1Keypair.import(await key.export());
  const [fast, slow] = [await labelSigner(key), await labelSigner(sealed)];
  for (let n = 0; n < 20; n++) {
    const bytes = Buffer.from(`label ${n}`);
    const [one, other] = [await fast.sign(bytes), await slow.sign(bytes)];
    assert.deepEqual(Buffer.from(one), Buffer.from(other));
    assert.equal(await verifySignature(key.did(), bytes, one), true);
  }
});

test('after a rotation a label is signed anew when it is read: same fields, same time, and stored so', async () => {
  const { db, key, newKey, open, log, issue, negate, ask } = await makeLog();
  await issue(1);
  await issue(2);
  await negate(2);
  const before = await all(log);
  const next = await newKey();
  const rotated = open(next);
  const [answer] = await ask(rotated);
  assert.equal((await verified([answer!.fields], [answer!.sig], next.did()))[0], true);
  const replayed = await all(rotated);
  assert.deepEqual(replayed.map(withoutSig), before.map(withoutSig));
  for (const label of replayed) {
    assert.equal(await verifySignature(next.did(), encode(withoutSig(label)), label.sig), true);
    assert.equal(await verifySignature(key.did(), encode(withoutSig(label)), label.sig), false);
  }
  const keys = db.prepare('SELECT DISTINCT key FROM issued_label').all();
  assert.deepEqual(
    keys.map((row) => (row as { key: number }).key),
    [rotated.keyId],
  );
  // And back: the same signatures as at first.
  assert.deepEqual(await all(open(key)), before);
});

test('what stands no more goes after its time; who read less than that is told so, and misses nothing that stands', async () => {
  const { clock, open, key, issue, negate, log } = await makeLog(30 * day);
  await issue(1); // 1: stays
  await issue(2); // 2: negated by 3
  await negate(2);
  await issue(4); // 4: renewed by 5
  await issue(4);
  clock.now += 31 * day;
  await issue(6); // 6
  const reopened = open(key);
  assert.deepEqual(
    (await all(reopened)).map(({ uri }) => uri),
    [1, 4, 6].map(uriOf),
  );
  assert.deepEqual(
    [0, 1, 3, 4, 5, 6].map((cursor) => reopened.isOutdated(cursor)),
    [false, true, true, false, false, false],
  );
  assert.equal(log.newest, 6);
  const told: unknown[] = [];
  const stop = new AbortController();
  const onFrame = async (frame: { kind: string }) => {
    told.push('seq' in frame ? frame.seq : frame);
    if (told.length === 2) stop.abort();
  };
  await ownLabelSource(reopened).follow(3, onFrame, stop.signal);
  assert.deepEqual(told, [{ kind: 'info', name: 'OutdatedCursor' }, 6]);
});

test('an expired label becomes history too', async () => {
  const { db, clock, issue } = await makeLog(30 * day);
  await issue(1, { exp: new Date(clock.now + day).toISOString() });
  clock.now += 2 * day;
  await issue(2);
  const left = () => db.prepare('SELECT seq FROM issued_label ORDER BY seq').raw().all();
  assert.deepEqual(left(), [[1], [2]]);
  clock.now += 31 * day;
  await issue(3);
  assert.deepEqual(left(), [[2], [3]]);
});

test('a log whose last label went as history still knows how far it had come', async () => {
  const { clock, open, key, issue, negate } = await makeLog(30 * day);
  await issue(1);
  await negate(1);
  clock.now += 31 * day;
  await issue(2);
  await negate(2);
  clock.now += 31 * day;
  // Only the removal of what is past, by a commit that adds nothing that stays.
  await issue(3);
  assert.equal(open(key).newest, 5);
});

test('a node.db from before has its labels at once, and their JSON when they are first asked for', async (t) => {
  const { db, key, newKey } = await makeLog();
  db.close();
  const file = `${temporaryFolder(t)}/node.db`;
  const old = openDatabase(file, nodeMigrations.slice(0, 8), { synchronous: 'NORMAL' });
  const { sign } = await labelSigner(key);
  const insert = old.prepare(
    'INSERT INTO issued_label (uri, val, cid, neg, cts, exp, body) VALUES (?, ?, ?, ?, ?, ?, ?)',
  );
  const add = async (n: number, at: number, neg = false) => {
    const label = { ver: 1, src, uri: uriOf(n), val, cts: new Date(at).toISOString(), ...(neg && { neg }) };
    const body = encode({ ...label, sig: await sign(encode(label)) });
    insert.run([label.uri, val, null, neg ? 1 : 0, label.cts, null, Buffer.from(body)]);
  };
  for (const [n, at, neg] of [
    [1, 1e12],
    [2, 1e12],
    [2, 1e12 + 1, true],
    [3, 1e12],
    [3, 1e12 + 1],
  ] as const)
    await add(n, at, neg);
  old.close();
  const migrated = openDatabase(file, nodeMigrations, { synchronous: 'NORMAL' });
  t.after(() => migrated.close());
  for (const today of [key, await newKey()]) {
    const log = new IssuedLabels({ db: migrated, did: src, key: today, now: () => 1e12 });
    const page = await new LabelQueries(migrated, log).page({ uriPatterns: ['*'], limit: 9 }, 1e12);
    assert.ok(page.kind === 'page');
    const labels = (JSON.parse(`[${page.labels}]`) as { uri: string; cts: string }[]).map(({ uri, cts }) => [
      uri,
      Date.parse(cts),
    ]);
    assert.deepEqual(labels, [
      [uriOf(1), 1e12],
      [uriOf(3), 1e12 + 1],
    ]);
  }
  const past = migrated.prepare('SELECT seq FROM past_label ORDER BY seq').raw().all();
  assert.deepEqual(past, [[2], [3], [4]]);
});

test('labels issued together are renewed spread over a fifth of their life, never before half of it is near', () => {
  const life = 14 * day;
  const exp = new Date(life).toISOString();
  const dueAt = Array.from({ length: 2_000 }, (_, n) => {
    for (let at = 0; at < life; at += day / 10)
      if (isRenewalDue({ uri: uriOf(n), val, exp }, life, at)) return at;
    return life;
  }).sort((a, b) => a - b);
  assert.ok(dueAt[0]! >= 0.4 * life && dueAt.at(-1)! <= 0.61 * life, `${dueAt[0]} ${dueAt.at(-1)}`);
  const inOneDay = Math.max(
    ...dueAt.map((from) => dueAt.filter((at) => at >= from && at < from + day).length),
  );
  assert.ok(inOneDay < 900, `${inOneDay} of 2,000 on one day`);
  assert.equal(isRenewalDue({ uri: uriOf(1), val }, life, 0), true);
});

const opKinds = ['issue', 'renew', 'negate', 'later', 'ask'] as const;
test('whatever was issued, negated and let expire, answers are what a plain map says', async (t: TestContext) => {
  const fuzz = new Fuzz('labels-current');
  const { db, clock, log, ask, issue, negate } = await makeLog(5 * day);
  t.after(() => db.close());
  const model = new Map<number, number | null>();
  for (let round = fuzz.rounds(300); round > 0; round--) {
    const n = fuzz.below(12);
    const kind = fuzz.pick(opKinds);
    if (kind === 'later') clock.now += fuzz.below(3 * day);
    else if (kind === 'negate') {
      await negate(n);
      model.delete(n);
    } else if (kind !== 'ask') {
      const end = fuzz.below(3) === 0 ? null : clock.now + 1 + fuzz.below(4 * day);
      await issue(n, end === null ? {} : { exp: new Date(end).toISOString() });
      model.set(n, end);
    }
    const expected = [...model].filter(([, end]) => end === null || end > clock.now).map(([of]) => uriOf(of));
    const answered = (await ask()).map(({ fields }) => fields.uri);
    assert.deepEqual(answered, [...new Set(answered)].sort());
    assert.deepEqual(answered, expected.sort());
    assert.equal(log.inForce(`did:plc:m${n}`).length, expected.includes(uriOf(n)) ? 1 : 0);
  }
});

function withoutSig({ sig: _, ...fields }: SignedLabel) {
  return fields;
}

async function verified(fields: object[], sigs: Uint8Array[], didKey: string): Promise<boolean[]> {
  return Promise.all(
    fields.map((one, i) => {
      assert.ok(parseLabel({ ...one, sig: sigs[i] }));
      return verifySignature(didKey, encode(one as never), sigs[i]!);
    }),
  );
}
