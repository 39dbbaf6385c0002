/** The signing thread by itself. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
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
