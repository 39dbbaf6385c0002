/** A stream of mutated frames through a whole consumer: it goes on, and stores what its issuer signed alone. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeFrame, type Frame, labelBytes } from '../../appview/labels/codec.ts';
import { LabelConsumer } from '../../appview/labels/consumer.ts';
import { defaultLimits } from '../../appview/labels/limits.ts';
import { LabelStore } from '../../appview/labels/store.ts';
import { counters, iso, issuer, june, memoryDatabases, quiet, uriOf } from '../unit/labels-fixtures.ts';
import { encodeLabelsFrame } from '../unit/labels-frame.ts';
import { Fuzz } from './random.ts';

const fuzz = new Fuzz('labels-stream');
const harbor = await issuer();
const signed = await Promise.all(
  Array.from({ length: 30 }, (_, n) =>
    harbor.sign({ uri: uriOf(`d${n % 10}.test`), cts: iso(june - 1000 + n), neg: n % 7 === 0 }),
  ),
);

test('whatever comes, the stream goes on, and what is stored was signed', async () => {
  const { db } = memoryDatabases();
  const counted = counters();
  const store = new LabelStore({ db, now: () => june, count: counted.count });
  const ended = Promise.withResolvers<void>();
  const rounds = fuzz.rounds(1_000, 10);
  async function* frames(): AsyncGenerator<Frame> {
    for (let n = 1; n <= rounds; n++) {
      const frame = encodeLabelsFrame(n, [fuzz.pick(signed), fuzz.pick(signed)]);
      yield decodeFrame(fuzz.below(4) === 0 ? frame : fuzz.mutate(frame)) ?? {
        ...{ kind: 'broken', why: fuzz.below(20) === 0 ? 'too_large' : 'malformed' },
      };
    }
  }
  const none = Number.MAX_SAFE_INTEGER;
  const consumer = new LabelConsumer({
    ...{ src: harbor.did, store, log: quiet, count: counted.count, now: () => june },
    limits: {
      ...{ ...defaultLimits, labelsPerSecond: none, labelsPerDay: none },
      faultsPerHour: {
        bad_signature: none,
        foreign_src: none,
        future_cts: none,
        malformed: none,
        too_large: none,
      },
    },
    identities: { forget: () => undefined, resolve: async () => ({ labelKey: harbor.didKey }) },
    sleep: async () => undefined,
    source: {
      follow: async (_cursor, onFrame, signal) => {
        for await (const frame of frames()) await onFrame(frame);
        // Its number is beyond what a mutation made of any other.
        await onFrame({ kind: 'labels', seq: Number.MAX_SAFE_INTEGER, labels: [] });
        ended.resolve();
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
      },
    },
  });
  consumer.start();
  await ended.promise;
  assert.equal(consumer.state, 'following');
  await consumer.stop();
  const genuine = new Set(signed.map((label) => Buffer.from(labelBytes(label)).toString('hex')));
  const stored = Array.from({ length: 10 }, (_, n) => store.current(uriOf(`d${n}.test`))).flat();
  assert.ok(stored.length > 0);
  for (const { label } of stored) assert.ok(genuine.has(Buffer.from(labelBytes(label)).toString('hex')));
  assert.equal(counted.of('label_stream_failed'), 0);
});
