/** The label key changes while labels are issued and read. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Secp256k1Keypair } from '@atproto/crypto';
import { openDatabase } from '../../appview/database.ts';
import { decodeFrame, parseLabel, verifyLabel } from '../../appview/labels/codec.ts';
import { IssuedLabels } from '../../node/labeler/issued-labels.ts';
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
