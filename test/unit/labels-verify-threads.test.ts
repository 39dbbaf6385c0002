/** Verification beside the main loop: in order, in turns, and never in doubt. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { P256Keypair } from '@atproto/crypto';
import { type SignedLabel, signLabel } from '../../appview/labels/codec.ts';
import { VerifyThreads, type VerifyThreadsOptions } from '../../appview/labels/verify-threads.ts';
import { iso, issuer, june, memberDid } from './labels-fixtures.ts';

const harbor = await issuer();
const meadow = await issuer('did:web:meadow.test');

/** Every third signature is another's. */
async function mixed(count: number, from = harbor): Promise<{ labels: SignedLabel[]; expected: boolean[] }> {
  const labels: SignedLabel[] = [];
  for (let n = 0; n < count; n++) {
    const label = await from.sign({ val: `v${n}` });
    labels.push(n % 3 === 2 ? { ...label, val: 'another' } : label);
  }
  return { labels, expected: labels.map((_, n) => n % 3 !== 2) };
}

const forms: [name: string, options: VerifyThreadsOptions][] = [
  ['on a thread', { threads: 1 }],
  ['on two threads', { threads: 2 }],
  ['on the calling thread', { threads: 0 }],
  ['where threads die at once', { threads: 1, script: new URL('data:text/javascript,throw 1') }],
  ['where threads end in the middle', { threads: 1, restMs: 0 }],
];
for (const [name, options] of forms) {
  test(`verdicts come in the order of the labels, ${name}`, async () => {
    const threads = new VerifyThreads(options);
    const [few, many] = [await mixed(3), await mixed(200)];
    for (const { labels, expected } of [few, many, many]) {
      assert.deepEqual(await threads.verify(harbor.did, labels, harbor.didKey), expected);
    }
    await threads.close();
    assert.deepEqual(await threads.verify(harbor.did, many.labels, harbor.didKey), many.expected);
  });
}

test('labels under a P-256 key are verified as well, and a key that is none confirms nothing', async () => {
  const threads = new VerifyThreads({ threads: 1 });
  const key = await P256Keypair.create();
  const fields = { src: harbor.did, uri: memberDid, cts: iso(june) };
  const labels = await Promise.all(
    Array.from({ length: 20 }, (_, n) => signLabel({ ...fields, val: `v${n}` }, key)),
  );
  assert.deepEqual(await threads.verify(harbor.did, labels, key.did()), Array(20).fill(true));
  assert.deepEqual(await threads.verify(harbor.did, labels, 'did:key:zQ3shgarbage'), Array(20).fill(false));
  await threads.close();
});

test('an issuer with a backlog delays another by no more than what is in hand', async () => {
  const threads = new VerifyThreads({ threads: 1 });
  const done: string[] = [];
  const { labels } = await mixed(64);
  const one = await mixed(8, meadow);
  const backlog = Array.from({ length: 20 }, async () => {
    await threads.verify(harbor.did, labels, harbor.didKey);
    done.push('harbor');
  });
  assert.deepEqual(await threads.verify(meadow.did, one.labels, meadow.didKey), one.expected);
  done.push('meadow');
  await Promise.all(backlog);
  assert.ok(done.indexOf('meadow') <= 4, `${done.indexOf('meadow')} batches of the other came first`);
  await threads.close();
});

test('the calling thread is free while a thread verifies', async () => {
  const threads = new VerifyThreads({ threads: 1 });
  const { labels } = await mixed(192);
  let turns = 0;
  const counting = setInterval(() => {
    turns += 1;
  }, 0);
  await threads.verify(harbor.did, labels, harbor.didKey);
  clearInterval(counting);
  assert.ok(turns > 1, `${turns} turns of the loop`);
  await threads.close();
});
