import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CorruptState } from '../../appview/database.ts';
import type { Frame } from '../../appview/labels/codec.ts';
import { LabelConsumer, type LabelConsumerOptions } from '../../appview/labels/consumer.ts';
import type { LabelSource } from '../../appview/labels/source.ts';
import { LabelStore } from '../../appview/labels/store.ts';
import {
  counters,
  type Issuer,
  iso,
  issuer,
  june,
  memoryDatabases,
  quiet,
  uriOf,
} from './labels-fixtures.ts';

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

/**
 * Harbor, whose document names `key`; time passes only when the consumer sleeps. Each frame comes when the one
 * before it is stored. A new key counts at once.
 */
function rotatingWorld(frames: () => Promise<Frame[]>, first: string) {
  const clock = { now: june };
  const document = { key: first };
  const played = Promise.withResolvers<void>();
  let stored = Promise.withResolvers<void>();
  const source: LabelSource = {
    follow: async (_cursor, onFrame, signal) => {
      for (const frame of await frames()) {
        stored = Promise.withResolvers();
        await onFrame(frame);
        await stored.promise;
      }
      played.resolve();
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
    },
  };
  // As the identity cache: what was read last stands until the document is asked for anew.
  let cached = first;
  const refreshedAt: number[] = [];
  const slept: number[] = [];
  const { consumer, store, counted } = consumerOf(source, {
    keyWaitMs: 0,
    now: () => clock.now,
    sleep: async (ms) => {
      slept.push(ms);
      clock.now += ms;
    },
    identities: identitiesOf(async (fresh) => {
      if (fresh) {
        refreshedAt.push(clock.now - june);
        cached = document.key;
      }
      return cached;
    }),
  });
  const { receiveAll } = store;
  store.receiveAll = (...args) => {
    stored.resolve();
    return receiveAll.apply(store, args);
  };
  return { clock, document, played: played.promise, consumer, store, counted, refreshedAt, slept };
}

const labelsFrame = (seq: number, ...labels: unknown[]): Frame => ({ kind: 'labels', seq, labels });

test('bad signatures make us read the document again, at most once a minute, and cost that stream the wait', async () => {
  const bad = async () => ({ ...(await meadow.sign({})), src: harbor.did });
  const world = rotatingWorld(
    async () => [labelsFrame(1, await bad()), labelsFrame(2, await bad()), labelsFrame(3, await bad())],
    harbor.didKey,
  );
  world.consumer.start();
  await world.played;
  await world.consumer.stop();
  assert.deepEqual(world.refreshedAt, [0, 60_000, 120_000]);
  assert.equal(world.counted.of('labels_refused{bad_signature}'), 3);
  assert.equal(world.store.cursor(harbor.did), 3);
});

test('a label signed with a new key right after a refresh is held until the document may be read again', async () => {
  const after = await issuer(harbor.did);
  const world = rotatingWorld(async () => {
    const bad = { ...(await meadow.sign({ val: 'a' })), src: harbor.did };
    return [labelsFrame(1, await harbor.sign({})), labelsFrame(2, bad), await rotated()];
  }, harbor.didKey);
  async function rotated(): Promise<Frame> {
    return labelsFrame(3, await after.sign({ neg: true, cid: undefined, cts: iso(june + 30_000) }));
  }
  const { receiveAll } = world.store;
  world.store.receiveAll = (src, frames, didKey) => {
    const seq = frames[0]?.seq;
    // The issuer rotates 30 s after the refresh that frame 2 brought.
    if (seq === 2) {
      world.clock.now += 30_000;
      world.document.key = after.didKey;
    }
    return receiveAll.call(world.store, src, frames, didKey);
  };
  world.consumer.start();
  await world.played;
  await world.consumer.stop();
  assert.deepEqual(world.store.current(reef), [], 'the negation counts');
  assert.equal(world.counted.of('labels_refused{bad_signature}'), 1);
  assert.deepEqual(world.slept, [30_000]);
});

test('a negation behind a rotation counts, though our clock was set back in between', async () => {
  const after = await issuer(harbor.did);
  const hour = 3_600_000;
  const world = rotatingWorld(async () => {
    const bad = { ...(await meadow.sign({ val: 'a' })), src: harbor.did };
    const negation = await after.sign({ neg: true, cid: undefined, cts: iso(june - hour) });
    const good = await harbor.sign({ cts: iso(june - 2 * hour) });
    return [labelsFrame(1, good), labelsFrame(2, bad), labelsFrame(3, negation)];
  }, harbor.didKey);
  const { receiveAll } = world.store;
  world.store.receiveAll = (src, frames, didKey) => {
    const seq = frames[0]?.seq;
    if (seq === 2) {
      world.clock.now -= hour;
      world.document.key = after.didKey;
    }
    return receiveAll.call(world.store, src, frames, didKey);
  };
  world.consumer.start();
  await world.played;
  await world.consumer.stop();
  assert.deepEqual(world.store.current(reef), []);
  assert.equal(world.counted.of('labels_refused{bad_signature}'), 1);
});

test('the history of an issuer that changed its key is refused without a wait for each label', async () => {
  const before = await issuer(harbor.did);
  const world = rotatingWorld(async () => {
    const old = await Promise.all(
      [1, 2, 3].map((day) => before.sign({ cts: iso(june - day * 86_400_000), val: `v${day}` })),
    );
    return [...old.map((label, i) => labelsFrame(i + 1, label)), labelsFrame(4, await harbor.sign({}))];
  }, harbor.didKey);
  world.consumer.start();
  await world.played;
  await world.consumer.stop();
  assert.deepEqual([world.refreshedAt, world.slept], [[0], []]);
  assert.equal(world.store.current(reef).length, 1);
});

test('stopping does not wait for a frame that is held', async () => {
  const held = Promise.withResolvers<void>();
  const bad = async () => ({ ...(await meadow.sign({})), src: harbor.did });
  const source = new ScriptedSource([labelsFrame(1, await bad()), labelsFrame(2, await bad())]);
  const { consumer, store } = consumerOf(source, {
    count: (what) => {
      if (what === 'label_frames_held') held.resolve();
    },
  });
  consumer.start();
  await held.promise;
  await consumer.stop();
  assert.equal(store.cursor(harbor.did), 1);
});

test('a document that cannot be read again is no reason to refuse a label', async () => {
  const frame: Frame = { kind: 'labels', seq: 1, labels: [await harbor.sign({})] };
  const source = new ScriptedSource([frame], [frame]);
  let refreshes = 0;
  let known = meadow.didKey;
  const identities = identitiesOf(async (fresh) => {
    if (!fresh) return known;
    refreshes += 1;
    if (refreshes === 1) throw new Error('unreachable');
    known = harbor.didKey;
    return known;
  });
  const { consumer, store, counted } = consumerOf(source, { identities, keyWaitMs: 0 });
  consumer.start();
  await source.played.promise;
  await consumer.stop();
  assert.equal(store.current(reef).length, 1);
  assert.equal(counted.of('labels_refused{bad_signature}'), 0);
  assert.equal(counted.of('label_key_changed'), 1);
});

test('a stream that is behind our cursor is quarantined, over a restart too, and read from the start on a word', async () => {
  const source = new ScriptedSource(
    [{ kind: 'labels', seq: 9, labels: [] }],
    [{ kind: 'error', error: 'FutureCursor', message: 'ahead' }],
    [{ kind: 'labels', seq: 1, labels: [] }],
  );
  const quarantined = Promise.withResolvers<unknown[]>();
  const options = { onQuarantine: (...what: unknown[]) => quarantined.resolve(what) };
  const { consumer, store } = consumerOf(source, options);
  consumer.start();
  assert.deepEqual(await quarantined.promise, [harbor.did, 'future_cursor', 'ahead']);
  assert.equal(consumer.state, 'quarantined');
  await consumer.stop();
  assert.equal(consumer.state, 'quarantined');
  assert.deepEqual([source.cursors, store.cursor(harbor.did)], [[0, 9], 9]);

  const { consumer: restarted } = consumerOf(source, { store });
  restarted.start();
  const { reason, detail, quarantinedAt } = restarted.status();
  assert.deepEqual([reason, detail, quarantinedAt], ['future_cursor', 'ahead', june]);
  assert.equal(restarted.state, 'quarantined');
  restarted.release();
  await source.played.promise;
  await restarted.stop();
  assert.deepEqual(source.cursors, [0, 9, 0, 1]);
  assert.equal(restarted.status().reason, undefined);
});

test('our own log that is behind our cursor, as after a backup came back, is read from its start without a word', async () => {
  const label = await harbor.sign({});
  const source = new ScriptedSource(
    [{ kind: 'labels', seq: 9, labels: [] }],
    [{ kind: 'error', error: 'FutureCursor' }],
    [{ kind: 'labels', seq: 1, labels: [label] }],
  );
  const told: unknown[] = [];
  const { consumer, store } = consumerOf(source, {
    isOurs: true,
    onQuarantine: (...what) => told.push(what),
  });
  store.states.quarantine(harbor.did, { reason: 'bad_signature', at: june });
  consumer.start();
  await source.played.promise;
  await consumer.stop();
  assert.deepEqual([source.cursors, told], [[0, 9, 0, 1], []]);
  assert.equal(store.current(reef).length, 1);
});

for (const [fault, spoil] of [
  ['foreign_src', async () => meadow.sign({})],
  ['malformed', async () => ({ src: 'x' })],
  ['bad_signature', async () => ({ ...(await harbor.sign({})), val: 'forged' })],
] as const) {
  test(`the batch that brought a quarantine for ${fault} is not met again: its good part stands, and a release goes on behind it`, async () => {
    const bad = await spoil();
    const frame = labelsFrame(1, await harbor.sign({}), ...Array(60).fill(bad));
    const source = new ScriptedSource([frame], [labelsFrame(2)]);
    const quarantined = Promise.withResolvers<string>();
    const { consumer, store, counted } = consumerOf(source, {
      onQuarantine: (_src, reason) => quarantined.resolve(reason),
    });
    consumer.start();
    assert.equal(await quarantined.promise, fault);
    assert.deepEqual([store.cursor(harbor.did), store.current(reef).length], [1, 1]);
    assert.equal(counted.of(`labels_refused{${fault}}`), 60);
    assert.equal(consumer.release(), true);
    await source.played.promise;
    await consumer.stop();
    assert.deepEqual(source.cursors, [0, 1, 2]);
    assert.equal(counted.of(`label_stream_quarantined{${fault}}`), 1);
  });
}

test('too many faults are a quarantine though the document cannot be had', async () => {
  const source = new ScriptedSource([labelsFrame(1, ...Array(60).fill(await meadow.sign({})))]);
  const identities = identitiesOf(() => Promise.reject(new Error('unreachable')));
  const quarantined = Promise.withResolvers<string>();
  const { consumer } = consumerOf(source, {
    identities,
    onQuarantine: (_src, reason) => quarantined.resolve(reason),
  });
  consumer.start();
  assert.equal(await quarantined.promise, 'foreign_src');
  await consumer.stop();
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

for (const damage of [
  new CorruptState('appview.db holds a label that is none'),
  Object.assign(new Error('database disk image is malformed'), { code: 'SQLITE_CORRUPT' }),
]) {
  test(`corrupt state of our own is not tried again: ${damage.name} comes out of the consumer`, async () => {
    let connections = 0;
    const source: LabelSource = {
      follow: async () => {
        connections += 1;
        throw damage;
      },
    };
    const { consumer } = consumerOf(source);
    consumer.start();
    await assert.rejects(consumer.stop(), damage);
    assert.equal(connections, 1);
  });
}

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
