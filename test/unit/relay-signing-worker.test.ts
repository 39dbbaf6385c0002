/** The signing thread by itself. */
import assert from 'node:assert/strict';
import { createHash, hash } from 'node:crypto';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { BodyHash } from '../../node/relay/signing-body.ts';
import type { Done, Job } from '../../node/relay/signing-worker.ts';

test('bodies that are broken off do not pile up', async (t) => {
  const slot = new SharedArrayBuffer(16);
  Buffer.from(slot).write('a\r\n');
  const worker = new Worker(new URL('../../node/relay/signing-worker.ts', import.meta.url), {
    workerData: { slots: [slot] },
  });
  t.after(() => worker.terminate());
  const piece = { start: 0, end: 3 };
  const begun = (stream: number): Job => ({ kind: 'piece', stream, piece, isFirst: true, isLast: false });
  const ended = (stream: number): Job => ({ kind: 'piece', stream, piece, isFirst: false, isLast: true });
  const streams = Array.from({ length: 1_001 }, (_, n) => n);
  worker.postMessage({ slot: 0, jobs: [...streams.map(begun), ended(0), ended(1), ended(1_000)] });
  const [{ answers }] = (await once(worker, 'message')) as [Done];
  const bodyHash = createHash('sha256').update('a\r\na\r\n').digest('base64');
  assert.deepEqual(answers.slice(-3), [
    { kind: 'failed', reason: 'the beginning of the body is lost' },
    { kind: 'hashed', bodyHash },
    { kind: 'hashed', bodyHash },
  ]);
});

test('a needless blank is found wherever it stands, and nothing else is taken for one', () => {
  // Blanks and controls, and what RFC 6376 §3.4.4 makes of them between two words.
  const kinds = [
    ['  ', ' '],
    ['\t', ' '],
    [' \t', ' '],
    [' \r\n', '\r\n'],
    [' \x1f', ' \x1f'],
    ['\x01\x08', '\x01\x08'],
    ['\r\n ', '\r\n '],
  ] as const;
  const rest = ' \xa0\x89 word';
  // Every place in a word of four octets, and on both sides of a step of the search (signing-body.ts).
  for (const before of [0, 1, 2, 3, 4, 5, 2044, 2045, 2046, 2047, 2048, 2049, 4100])
    for (const [given, canonical] of kinds)
      for (const clean of ['x'.repeat(before), 'x '.repeat(before).slice(0, before).replace(/ $/, 'x')]) {
        const body = new BodyHash();
        body.update(Buffer.from(`y${clean}y${given}y${rest}\r\n`, 'latin1'));
        const expected = Buffer.from(`y${clean}y${canonical}y${rest}\r\n`, 'latin1');
        assert.equal(body.digest(), hash('sha256', expected, 'base64'), JSON.stringify([given, before]));
      }
});
