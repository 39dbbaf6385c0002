import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CorruptState } from '../../appview/database.ts';
import type { Frame } from '../../appview/labels/codec.ts';
import { LabelConsumer, type LabelConsumerOptions } from '../../appview/labels/consumer.ts';
import type { LabelSource } from '../../appview/labels/source.ts';
import { LabelStore } from '../../appview/labels/store.ts';
import { counters, type Issuer, issuer, june, memoryDatabases, quiet, uriOf } from './labels-fixtures.ts';

const harbor = await issuer();
const meadow = await issuer('did:web:meadow.test');
const reef = uriOf('reef.test');

/** Each entry is one connection: frames, then the end of the stream. After the last it stays open. */
class ScriptedSource implements LabelSource {
  readonly cursors: (number | undefined)[] = [];
  readonly played = Promise.withResolvers<void>();
  readonly #connections: Frame[][];

  constructor(...connections: Frame[][]) {
    this.#connections = connections;
  }

  async follow(
    cursor: number | undefined,
    onFrame: (frame: Frame) => Promise<void>,
    signal: AbortSignal,
  ): Promise<void> {
    this.cursors.push(cursor);
    const frames = this.#connections[this.cursors.length - 1];
    for (const frame of frames ?? []) await onFrame(frame);
    if (frames) return;
    this.played.resolve();
    await new Promise((resolve) => signal.addEventListener('abort', resolve));
  }
}

/** `keyAt` is asked for each resolve; `fresh` right after a forget(). */
function identitiesOf(keyAt: (fresh: boolean) => Promise<string | undefined>) {
  let forgotten = false;
  return {
    forget: () => {
      forgotten = true;
    },
    resolve: async () => {
      const fresh = forgotten;
      forgotten = false;
      return { labelKey: await keyAt(fresh) };
    },
  };
}

function consumerOf(
  source: LabelSource,
  options: Partial<LabelConsumerOptions> = {},
  trusted: Issuer = harbor,
) {
  const counted = counters();
  const { db } = memoryDatabases();
  const store = new LabelStore({ db, now: () => june, count: counted.count });
  const consumer = new LabelConsumer({
    ...{ src: harbor.did, source, store, log: quiet, count: counted.count, now: () => june },
    ...{ identities: identitiesOf(async () => trusted.didKey), firstRetryMs: 1 },
    ...options,
  });
  return { consumer, store, counted };
}

test('what is malformed, foreign or badly signed is refused and counted, and costs its neighbours nothing', async () => {
  const good = await harbor.sign({});
  const labels = [
    { ...good, sig: new Uint8Array(3) },
    await meadow.sign({}),
    { ...(await meadow.sign({ val: 'a' })), src: harbor.did },
    { ...good, val: 'relay-member' },
    good,
  ];
  const source = new ScriptedSource([{ kind: 'labels', seq: 4, labels }]);
  const { consumer, store, counted } = consumerOf(source);
  consumer.start();
  await source.played.promise;
  await consumer.stop();
  assert.deepEqual(
    store.current(reef).map(({ label }) => label),
    [good],
  );
  assert.equal(counted.of('labels_refused{malformed}'), 1);
  assert.equal(counted.of('labels_refused{foreign_src}'), 1);
  assert.equal(counted.of('labels_refused{bad_signature}'), 2);
  assert.equal(counted.of('labels_accepted'), 1);
});

test('the first connection asks for everything, the next ones for what follows the last frame stored', async () => {
  const source = new ScriptedSource(
    [],
    [{ kind: 'labels', seq: 9, labels: [await harbor.sign({})] }],
    [{ kind: 'labels', seq: 12, labels: [] }],
  );
  const { consumer } = consumerOf(source);
  consumer.start();
  await source.played.promise;
  assert.equal(consumer.state, 'following');
  await consumer.stop();
  assert.equal(consumer.state, 'stopped');
  assert.deepEqual(source.cursors, [0, 0, 9, 12]);
});

test('while the issuer cannot be resolved its frame waits: nothing is skipped', async () => {
  const frame: Frame = { kind: 'labels', seq: 1, labels: [await harbor.sign({})] };
  const source = new ScriptedSource([frame], [frame], [frame]);
  let asked = 0;
  const identities = identitiesOf(async () => {
    asked += 1;
    if (asked === 1) throw new Error('unreachable');
    return asked === 2 ? undefined : harbor.didKey;
  });
  const { consumer, store, counted } = consumerOf(source, { identities });
  consumer.start();
  await source.played.promise;
  await consumer.stop();
  assert.deepEqual(source.cursors, [0, 0, 0, 1]);
  assert.equal(store.current(reef).length, 1);
  assert.equal(counted.of('label_stream_failed'), 2);
  assert.equal(counted.of('labels_refused{bad_signature}'), 0);
});

test('bad signatures make us read the document again, at most once a minute', async () => {
  const bad = async (seq: number): Promise<Frame> => ({
    kind: 'labels',
    seq,
    labels: [{ ...(await meadow.sign({})), src: harbor.did }],
  });
  const clock = { now: june };
  const advance: LabelSource = {
    follow: async (_cursor, onFrame, signal) => {
      await onFrame(await bad(1));
      await onFrame(await bad(2));
      clock.now += 60_000;
      await onFrame(await bad(3));
      done.resolve();
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
    },
  };
  const done = Promise.withResolvers<void>();
  const refreshed: boolean[] = [];
  const { consumer, counted } = consumerOf(advance, {
    now: () => clock.now,
    identities: identitiesOf(async (fresh) => {
      refreshed.push(fresh);
      return harbor.didKey;
    }),
  });
  consumer.start();
  await done.promise;
  await consumer.stop();
  assert.deepEqual(refreshed, [false, true, false, false, true]);
  assert.equal(counted.of('labels_refused{bad_signature}'), 3);
});

test('a document that cannot be read again is no reason to refuse a label', async () => {
  const frame: Frame = { kind: 'labels', seq: 1, labels: [await harbor.sign({})] };
  const source = new ScriptedSource([frame], [frame]);
  let refreshes = 0;
  const identities = identitiesOf(async (fresh) => {
    if (!fresh) return meadow.didKey;
    refreshes += 1;
    if (refreshes === 1) throw new Error('unreachable');
    return harbor.didKey;
  });
  const { consumer, store, counted } = consumerOf(source, { identities });
  consumer.start();
  await source.played.promise;
  await consumer.stop();
  assert.equal(store.current(reef).length, 1);
  assert.equal(counted.of('labels_refused{bad_signature}'), 0);
  assert.equal(counted.of('label_key_changed'), 1);
});

test('a stream that is behind our cursor is quarantined and not connected to again', async () => {
  const source = new ScriptedSource(
    [{ kind: 'labels', seq: 9, labels: [] }],
    [{ kind: 'error', error: 'FutureCursor', message: 'ahead' }],
    [{ kind: 'labels', seq: 1, labels: [] }],
  );
  const quarantined = Promise.withResolvers<void>();
  let retries = 0;
  const { consumer, store } = consumerOf(source, {
    count: (what) => {
      if (what === 'label_stream_quarantined') quarantined.resolve();
    },
    random: () => {
      retries += 1;
      return 0;
    },
  });
  consumer.start();
  await quarantined.promise;
  // The connection ends at once, and with it whatever would lead to another one.
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(consumer.state, 'quarantined');
  assert.equal(retries, 1);
  await consumer.stop();
  assert.equal(consumer.state, 'quarantined');
  assert.deepEqual(source.cursors, [0, 9]);
  assert.equal(store.cursor(harbor.did), 9);
});

test('notices and messages of a later protocol are counted, and the stream goes on', async () => {
  const source = new ScriptedSource([
    { kind: 'info', name: 'OutdatedCursor' },
    { kind: 'unknown' },
    { kind: 'labels', seq: 3, labels: [] },
    { kind: 'labels', seq: 2, labels: [] },
    { kind: 'error', error: 'ConsumerTooSlow' },
  ]);
  const { consumer, counted } = consumerOf(source);
  consumer.start();
  await source.played.promise;
  await consumer.stop();
  assert.equal(counted.of('label_stream_notices'), 2);
  assert.equal(counted.of('label_frames_dropped{unknown}'), 1);
  assert.equal(counted.of('label_frames_dropped{replayed}'), 1);
  assert.deepEqual(source.cursors, [0, 3]);
});

test('corrupt state of our own is not tried again: it comes out of the consumer', async () => {
  let connections = 0;
  const source: LabelSource = {
    follow: async () => {
      connections += 1;
      throw new CorruptState('appview.db holds a label that is none');
    },
  };
  const { consumer } = consumerOf(source);
  consumer.start();
  await assert.rejects(consumer.stop(), CorruptState);
  assert.equal(connections, 1);
});

test('stopping does not wait for a document that does not come', async () => {
  const asked = Promise.withResolvers<void>();
  const source = new ScriptedSource([{ kind: 'labels', seq: 1, labels: [] }]);
  const identities = identitiesOf(() => {
    asked.resolve();
    return new Promise<never>(() => undefined);
  });
  const { consumer, store, counted } = consumerOf(source, { identities });
  consumer.start();
  await asked.promise;
  await consumer.stop();
  assert.equal(store.cursor(harbor.did), undefined);
  assert.equal(counted.of('label_stream_failed'), 0);
});
