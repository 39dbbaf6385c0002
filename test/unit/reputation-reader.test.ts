/** What a peer may do to us over the private channel, and what it may not. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { Signal, SignalFrame } from '../../appview/labels/signal.ts';
import type { SignalListener } from '../../node/reputation/channel.ts';
import { SignalReader, signalLimits } from '../../node/reputation/reader.ts';
import { log } from './enforcement-fixtures.ts';
import { cooperative, harbor, meadow, memorySignals, signalOf } from './reputation-fixtures.ts';

const day = 86_400_000;
const noon = Date.parse('2026-06-01T12:00:00Z');
const own = await cooperative(harbor);
const member = (n: number) => `did:plc:member${n}`;
const iso = (at: number) => new Date(at).toISOString();

/** Meadow, which reads Harbor; the test is the network between them. */
function openMeadow(
  t: TestContext,
  o: { vouched?: number; limits?: typeof signalLimits; quietMs?: number } = {},
) {
  const clock = { now: noon };
  const stored = memorySignals(() => clock.now);
  const keys = { now: own.key.did() as string | undefined, next: undefined as string | undefined };
  const quarantines: string[] = [];
  const counted: string[] = [];
  let onCounted: () => void = () => undefined;
  const cursors: number[] = [];
  let connected = Promise.withResolvers<SignalListener>();
  let end: (error?: Error) => void = () => undefined;
  const reader = new SignalReader({
    channel: {
      follow: (_peer, cursor, listener, signal) => {
        cursors.push(cursor);
        const { promise, resolve, reject } = Promise.withResolvers<void>();
        end = (error) => (error ? reject(error) : resolve());
        signal.addEventListener('abort', () => resolve());
        listener.onOpen();
        connected.resolve(listener);
        return promise;
      },
    },
    ...{ signals: stored, now: () => clock.now, log, firstRetryMs: 1, quietMs: o.quietMs ?? 1e6 },
    count: (what) => {
      counted.push(what);
      onCounted();
    },
    keyOf: async () => keys.now,
    forgetKey: () => {
      keys.now = keys.next ?? keys.now;
    },
    vouchedBy: () => o.vouched ?? 0,
    onStored: () => undefined,
    onQuarantine: (_, reason) => quarantines.push(reason),
    ...(o.limits && { limits: o.limits }),
  });
  t.after(() => reader.stop());
  let seq = 0;
  /** As the channel does: what the reader throws ends the stream. */
  const frame = async (one: SignalFrame) => {
    const listener = await connected.promise;
    try {
      await listener.onFrame(one);
    } catch (error) {
      connected = Promise.withResolvers();
      end(error as Error);
    }
  };
  const bring = (...signals: unknown[]) => frame({ kind: 'signals', seq: ++seq, signals });
  const suspend = async (n: number, at = clock.now, fields: Partial<Signal['label']> = {}) =>
    signalOf(own, { uri: member(n), cts: iso(at), ...fields });
  const known = () =>
    Array.from({ length: 30 }, (_, n) => member(n)).filter((did) => stored.of({ did }).length > 0);
  const hangUp = () => {
    connected = Promise.withResolvers();
    end();
  };
  /** Resolves when it was counted so often. */
  const hasCounted = (what: string, times = 1) =>
    new Promise<void>((resolve) => {
      onCounted = () => counted.filter((one) => one === what).length >= times && resolve();
      onCounted();
    });
  reader.follow([harbor]);
  return {
    ...{ reader, stored, clock, keys, quarantines, cursors, bring, frame, suspend, known, hangUp },
    hasCounted,
  };
}

test('a signal of somebody else is not stored, and many are a quarantine', async (t) => {
  const { bring, known, quarantines } = openMeadow(t);
  const foreign = await signalOf(await cooperative(meadow), { uri: member(1), cts: iso(noon) });
  for (let n = 0; n < 20; n++) await bring(foreign);
  assert.deepEqual([known(), quarantines], [[], []]);
  await bring(foreign);
  assert.deepEqual(quarantines, ['foreign_src']);
});

test('a signal that its issuer did not sign is not stored', async (t) => {
  const { bring, suspend, known } = openMeadow(t);
  await bring({ ...(await suspend(1)), reason: 'phishing' }, await suspend(2));
  assert.deepEqual(known(), [member(2)]);
});

test('after a change of the key its signals count', async (t) => {
  const { bring, keys, known } = openMeadow(t);
  const next = await cooperative(harbor);
  keys.next = next.key.did();
  await bring(await signalOf(next, { uri: member(1), cts: iso(noon) }));
  assert.deepEqual(known(), [member(1)]);
});

test('while a new key does not count nothing is stored, and the cursor waits', async (t) => {
  const { bring, keys, known, stored, cursors, suspend } = openMeadow(t);
  await bring(await suspend(1));
  keys.now = undefined;
  await bring(await suspend(2));
  assert.deepEqual([known(), stored.peer(harbor).cursor], [[member(1)], 1]);
  keys.now = own.key.did();
  await bring(await suspend(2));
  assert.deepEqual(
    [known(), cursors],
    [
      [member(1), member(2)],
      [0, 1],
    ],
  );
});

test('a frame that was stored changes nothing when it comes again', async (t) => {
  const { frame, suspend, stored, known } = openMeadow(t);
  const signals = [await suspend(1)];
  await frame({ kind: 'signals', seq: 5, signals });
  const ended = await suspend(1, noon + 1, { neg: true });
  await frame({ kind: 'signals', seq: 6, signals: [ended] });
  await frame({ kind: 'signals', seq: 5, signals });
  assert.deepEqual([known(), stored.peer(harbor).cursor], [[], 6]);
});

test('an older signal does not undo a later end, in whatever order they come', async (t) => {
  const { bring, suspend, known } = openMeadow(t);
  await bring(await suspend(1, noon, { neg: true }));
  await bring(await suspend(1, noon - 1));
  assert.deepEqual(known(), []);
});

test('a signal with an end is over at its end', async (t) => {
  const { bring, suspend, known, clock } = openMeadow(t);
  await bring(await suspend(1, noon, { exp: iso(noon + 1_000) }));
  assert.deepEqual(known(), [member(1)]);
  clock.now += 1_000;
  assert.deepEqual(known(), []);
});

for (const [vouched, limit] of [
  [0, 5],
  [250, 5],
  [299, 5],
  [300, 6],
  [1_000, 20],
] as const) {
  test(`of ${vouched} vouched for, ${limit} may be suspended in a day, and one more is a quarantine`, async (t) => {
    const { bring, suspend, quarantines, known, stored } = openMeadow(t, { vouched });
    for (let n = 0; n < limit; n++) await bring(await suspend(n));
    assert.deepEqual([quarantines, known().length], [[], limit]);
    await bring(await suspend(limit));
    assert.deepEqual(quarantines, ['too_many_suspensions']);
    // What it said before is not answered meanwhile, and what was too much is not stored.
    assert.deepEqual([known(), stored.peer(harbor).cursor], [[], limit]);
  });
}

test('suspending one member on its DID and on its records is one suspension', async (t) => {
  const { bring, suspend, quarantines } = openMeadow(t);
  const uris = (n: number) => [member(n), `at://${member(n)}/email.atmos.attestation/m${n}.test`];
  for (let n = 0; n < 5; n++) for (const uri of uris(n)) await bring(await suspend(n, noon, { uri }));
  assert.deepEqual(quarantines, []);
});

test('warnings and ends are not suspensions', async (t) => {
  const { bring, suspend, quarantines } = openMeadow(t);
  for (let n = 0; n < 10; n++)
    await bring(await suspend(n, noon, { val: 'warned' }), await suspend(n, noon, { neg: true }));
  assert.deepEqual(quarantines, []);
});

test('suspending and ending it again counts all the same', async (t) => {
  const { bring, suspend, quarantines } = openMeadow(t);
  for (let n = 0; n < 5; n++) {
    await bring(await suspend(n));
    await bring(await suspend(n, noon + 1, { neg: true }));
  }
  await bring(await suspend(5));
  assert.deepEqual(quarantines, ['too_many_suspensions']);
});

test('a day later the count begins anew', async (t) => {
  const { bring, suspend, quarantines, clock } = openMeadow(t);
  for (let n = 0; n < 5; n++) await bring(await suspend(n));
  clock.now += day + 1;
  for (let n = 5; n < 10; n++) await bring(await suspend(n));
  assert.deepEqual(quarantines, []);
});

test('what a new peer decided over the years is no sudden suspension', async (t) => {
  const { bring, suspend, quarantines, known } = openMeadow(t);
  await bring(...(await Promise.all(Array.from({ length: 20 }, (_, n) => suspend(n, noon - (n + 2) * day)))));
  assert.deepEqual([quarantines, known().length], [[], 20]);
});

test('once we had read all, an old date is no excuse', async (t) => {
  const { bring, suspend, quarantines, stored } = openMeadow(t);
  await bring(await suspend(0, noon - 30 * day));
  stored.caughtUp(harbor);
  for (let n = 1; n < 7; n++) await bring(await suspend(n, noon - 20 * day));
  assert.deepEqual(quarantines, ['too_many_suspensions']);
});

test('a quarantine survives a restart, and a release lets what was too much through', async (t) => {
  const { reader, bring, suspend, quarantines, stored, known, clock, cursors } = openMeadow(t);
  for (let n = 0; n < 6; n++) await bring(await suspend(n));
  assert.equal(stored.peer(harbor).quarantine?.reason, 'too_many_suspensions');
  clock.now += 1_000;
  assert.equal(reader.release(harbor), true);
  assert.equal(reader.release(harbor), false);
  await bring(await suspend(5, noon));
  assert.equal(known().length, 6);
  assert.deepEqual([quarantines.length, cursors], [1, [0, 5]]);
});

test('a stream beyond the limit of a day is a quarantine', async (t) => {
  const { bring, suspend, quarantines } = openMeadow(t, { limits: { ...signalLimits, labelsPerDay: 3 } });
  for (let n = 0; n < 4; n++) await bring(await suspend(1));
  assert.deepEqual(quarantines, ['too_many_signals']);
});

test('beyond the limit of what is stored, only changes count', async (t) => {
  const { bring, suspend, known } = openMeadow(t, { limits: { ...signalLimits, maxStored: 1 } });
  await bring(await suspend(1), await suspend(2));
  assert.deepEqual(known(), [member(1)]);
  await bring(await suspend(1, noon + 1, { neg: true }));
  assert.deepEqual(known(), []);
});

test('where it is full, what has been over for a month makes place', async (t) => {
  const { bring, suspend, known, clock } = openMeadow(t, { limits: { ...signalLimits, maxStored: 1 } });
  await bring(await suspend(1));
  await bring(await suspend(1, noon + 1, { neg: true }));
  await bring(await suspend(2));
  assert.deepEqual(known(), []);
  clock.now += 31 * day;
  await bring(await suspend(2));
  assert.deepEqual(known(), [member(2)]);
});

test('a stream that ends is followed again behind its cursor', async (t) => {
  const { bring, suspend, cursors, hangUp } = openMeadow(t);
  await bring(await suspend(1));
  hangUp();
  await bring(await suspend(2));
  assert.deepEqual(cursors, [0, 1]);
});

test('a frame whose faults are a quarantine is read: what is good in it stands, and a release does not meet it again', async (t) => {
  const { reader, bring, suspend, quarantines, stored, known, cursors } = openMeadow(t);
  const forged = async (n: number) => ({ ...(await suspend(n)), reason: 'phishing' });
  await bring(await suspend(1), ...(await Promise.all(Array.from({ length: 25 }, (_, n) => forged(n + 2)))));
  assert.deepEqual([quarantines, known(), stored.peer(harbor).cursor], [['bad_signature'], [], 1]);
  reader.release(harbor);
  await bring(await suspend(2));
  assert.deepEqual([quarantines.length, known(), cursors], [1, [member(1), member(2)], [0, 1]]);
});

test('a frame that is too large is a quarantine, and a release does not meet it again', async (t) => {
  const { reader, bring, suspend, quarantines, stored, known } = openMeadow(t);
  await bring(...Array.from({ length: 101 }, () => 'nothing'));
  assert.deepEqual([quarantines, stored.peer(harbor).cursor], [['too_large'], 1]);
  reader.release(harbor);
  await bring(await suspend(1));
  assert.deepEqual([quarantines.length, known()], [1, [member(1)]]);
});

test('lifting old suspensions suspends nobody', async (t) => {
  const { bring, suspend, quarantines, known } = openMeadow(t);
  for (let n = 0; n < 10; n++) await bring(await suspend(n, noon - 30 * day));
  for (let n = 0; n < 10; n++) await bring(await suspend(n, noon, { neg: true }));
  // Nor does the end of what we never heard of.
  for (let n = 10; n < 20; n++) await bring(await suspend(n, noon, { neg: true }));
  await bring(await suspend(20));
  assert.deepEqual([quarantines, known()], [[], [member(20)]]);
});

test('a peer that takes the connection and hangs up is asked ever more seldom', async () => {
  let connections = 0;
  const seven = Promise.withResolvers<void>();
  const reader = new SignalReader({
    channel: {
      follow: async (_peer, _cursor, { onOpen }) => {
        onOpen();
        if (++connections === 7) seven.resolve();
      },
    },
    ...{ signals: memorySignals(Date.now), now: Date.now, log, count: () => undefined, firstRetryMs: 2 },
    ...{ keyOf: async () => own.key.did(), forgetKey: () => undefined, vouchedBy: () => 0 },
    ...{ onStored: () => undefined, onQuarantine: () => undefined },
  });
  const began = performance.now();
  reader.follow([harbor]);
  // The event loop must not end for a wait that holds nothing.
  const held = setInterval(() => undefined, 1_000);
  await seven.promise;
  clearInterval(held);
  await reader.stop();
  assert.ok(performance.now() - began >= 100, 'without a wait that grows these are some 10 ms');
});

const fullDisk = () => {
  throw Object.assign(new Error('database or disk is full'), { code: 'SQLITE_FULL' });
};

test('a disk that is full where it is remembered that all was read ends nothing', async (t) => {
  const { stored, hasCounted, bring, suspend, known } = openMeadow(t, { quietMs: 1 });
  stored.caughtUp = fullDisk;
  await hasCounted('signals_failed', 2);
  await bring(await suspend(1));
  assert.deepEqual(known(), [member(1)]);
});

test('a disk that is full where a former peer is forgotten ends nothing, and it is forgotten later', async (t) => {
  const { reader, stored, hasCounted, bring, suspend } = openMeadow(t);
  await bring(await suspend(1));
  const { forget } = stored;
  stored.forget = fullDisk;
  reader.follow([]);
  await hasCounted('signals_failed', 2);
  const forgotten = Promise.withResolvers<void>();
  stored.forget = (src) => {
    forget.call(stored, src);
    forgotten.resolve();
  };
  const held = setInterval(() => undefined, 1_000);
  await forgotten.promise;
  clearInterval(held);
  assert.deepEqual(stored.sources(), []);
});

test('a disk that fails where a peer is looked up ends nothing', async (t) => {
  const { stored, hasCounted, bring, suspend, known, hangUp } = openMeadow(t);
  await bring(await suspend(1));
  const { peer } = stored;
  stored.peer = fullDisk;
  hangUp();
  await hasCounted('signal_stream_failed', 1);
  stored.peer = peer;
  await bring(await suspend(2));
  assert.deepEqual(known(), [member(1), member(2)]);
});

test('that all was read is remembered over a restart', async (t) => {
  const { reader, stored, clock, bring, suspend } = openMeadow(t);
  await bring(await suspend(1));
  stored.caughtUp(harbor);
  clock.now += 60_000;
  stored.caughtUp(harbor);
  await reader.stop();
  assert.equal(stored.reopened().peer(harbor).caughtUpAt, clock.now);
});
