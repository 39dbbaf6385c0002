/** The label key changes while labels are issued and read. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Secp256k1Keypair } from '@atproto/crypto';
import { openDatabase } from '../../appview/database.ts';
import { decodeFrame, parseLabel, verifyLabel } from '../../appview/labels/codec.ts';
import { IssuedLabels } from '../../node/labeler/issued-labels.ts';
import { LabelQueries } from '../../node/labeler/label-query.ts';
import { labelsOfOtherKeys } from '../../node/labeler/old-keys.ts';
import { nodeMigrations } from '../../node/migrations.ts';

test('from the change on every reader gets the new signature, also of what was being issued', async (t) => {
  const db = openDatabase(':memory:', nodeMigrations, { synchronous: 'NORMAL' });
  t.after(() => db.close());
  const make = () => Secp256k1Keypair.create({ exportable: true });
  const [first, second] = await Promise.all([make(), make()]);
  const signs = Promise.withResolvers<void>();
  const signed = Promise.withResolvers<void>();
  // One that keeps its secret signs by itself, and this one takes its time.
  const slow = {
    ...{ jwtAlg: first.jwtAlg, did: () => first.did() },
    sign: async (bytes: Uint8Array) => {
      signs.resolve();
      await signed.promise;
      return first.sign(bytes);
    },
  };
  const issued = new IssuedLabels({ db, did: 'did:web:harbor.test', key: slow, now: Date.now });
  const issue = (n: number) =>
    issued.append({ issue: [{ uri: `did:web:m${n}.test`, val: 'v' }], negate: [] });
  const underWay = Promise.all([issue(1), issue(2)]);
  await signs.promise;
  issued.useKey(second);
  signed.resolve();
  await underWay;
  await issue(3);
  const frames = await issued.since(0);
  const labels = frames.flatMap(({ bytes }) => {
    const frame = decodeFrame(bytes);
    assert.ok(frame?.kind === 'labels');
    return frame.labels.map((label) => parseLabel(label)!);
  });
  assert.deepEqual(
    labels.map(({ uri }) => uri),
    ['did:web:m1.test', 'did:web:m2.test', 'did:web:m3.test'],
  );
  for (const label of labels) assert.ok(verifyLabel(label, second.did()), label.uri);
  assert.equal(labelsOfOtherKeys(db, second.did()), 0);
  assert.equal(labelsOfOtherKeys(db, first.did()), 3);
});

test('on a full disk what an older key signed is read with the new signature, and stored later', async (t) => {
  const db = openDatabase(':memory:', nodeMigrations, { synchronous: 'NORMAL' });
  t.after(() => db.close());
  const make = () => Secp256k1Keypair.create({ exportable: true });
  const [first, second] = await Promise.all([make(), make()]);
  const issued = new IssuedLabels({ db, did: 'did:web:harbor.test', key: first, now: Date.now });
  const issue = (n: number) =>
    issued.append({ issue: [{ uri: `did:web:m${n}.test`, val: 'v' }], negate: [] });
  await issue(1);
  issued.useKey(second);
  await issue(2);
  const queries = new LabelQueries(db, issued);
  const read = async (limit = 2) => {
    const page = await queries.page({ uriPatterns: ['*'], limit }, Date.now());
    assert.ok(page.kind === 'page');
    for (const { sig, ...label } of JSON.parse(`[${page.labels}]`)) {
      const bytes = new Uint8Array(Buffer.from(sig.$bytes, 'base64'));
      assert.ok(verifyLabel({ ...label, sig: bytes }, second.did()), label.uri);
    }
    return page;
  };
  db.exec(`CREATE TRIGGER no_room BEFORE UPDATE ON issued_label BEGIN SELECT raise(ABORT, 'no room'); END`);
  await assert.rejects(read(), /no room/, 'another fault is no full disk');
  db.exec('DROP TRIGGER no_room');
  const exec = db.exec.bind(db);
  let isFull = true;
  db.exec = (sql: string) => {
    if (isFull && /^COMMIT/i.test(sql)) throw Object.assign(new Error('full'), { code: 'SQLITE_FULL' });
    return exec(sql);
  };
  const full = await read();
  assert.equal(JSON.parse(`[${full.labels}]`).length, 2);
  assert.ok((await read(1)).cursor);
  const [frame] = await issued.since(0);
  assert.ok(frame!.labels.every((label) => verifyLabel(label, second.did())));
  assert.equal(labelsOfOtherKeys(db, second.did()), 1);
  isFull = false;
  await read();
  assert.equal(labelsOfOtherKeys(db, second.did()), 0);
});
