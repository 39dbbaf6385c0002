/** What is remembered of a peer's private channel, and what that costs. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cooperative, harbor, memorySignals, signalOf } from './reputation-fixtures.ts';

const peer = await cooperative(harbor);
const noon = Date.parse('2026-06-01T12:00:00Z');

test('that all was read is written with the next frame, and else every ten minutes at most', async () => {
  const clock = { now: noon };
  const signals = memorySignals(() => clock.now);
  const before = signals.changes();
  for (; clock.now < noon + 9 * 60_000; clock.now += 5_000) signals.caughtUp(harbor);
  assert.equal(signals.changes() - before, 1);
  assert.equal(signals.peer(harbor).caughtUpAt, clock.now - 5_000);
  assert.equal(signals.reopened().peer(harbor).caughtUpAt, noon);

  signals.receive(harbor, 1, [await signalOf(peer)], { countedAt: () => clock.now, maxStored: 9 });
  assert.equal(signals.reopened().peer(harbor).caughtUpAt, clock.now - 5_000);

  clock.now += 10 * 60_000;
  signals.caughtUp(harbor);
  assert.equal(signals.reopened().peer(harbor).caughtUpAt, clock.now);
});

test('a peer that is forgotten and comes back has read nothing', () => {
  const signals = memorySignals(() => noon);
  signals.caughtUp(harbor);
  signals.forget(harbor);
  assert.deepEqual(signals.peer(harbor), {});
});
