import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defaultRetryMinutes, nextTryAt } from '../../node/delivery/schedule.ts';
import { day, minute, start } from './spool-fixtures.ts';

const expiresAt = start + 4 * day;
const tried = { now: start, counted: true, attempts: 1, receivedAt: start, expiresAt };

test('the n-th try that counts is followed by the n-th wait, and after the last wait we give up', () => {
  const waits = [1, 2, 3, 4, 5, 6].map((attempts) => nextTryAt({ ...tried, attempts }, defaultRetryMinutes));
  assert.deepEqual(
    waits.map((at) => at && (at - start) / minute),
    [1, 5, 15, 30, 60, undefined],
  );
});

test('a failure of our own waits a quarter of the age, between 1 and 15 minutes, as often as it takes', () => {
  const own = (ageMinutes: number) => {
    const now = start + ageMinutes * minute;
    return (nextTryAt({ ...tried, counted: false, attempts: 0, now }, defaultRetryMinutes)! - now) / minute;
  };
  assert.deepEqual([0, 4, 20, 60, 1_000].map(own), [1, 1, 5, 15, 15]);
});

test('times are whole milliseconds, whatever the age', () => {
  const at = nextTryAt({ ...tried, counted: false, now: start + 468_750 + 1 }, defaultRetryMinutes);
  assert.ok(Number.isInteger(at));
});

test('no wait goes beyond the lifetime, and past it there is none', () => {
  const late = { ...tried, now: expiresAt - 10 * minute, attempts: 5 };
  assert.equal(nextTryAt(late, defaultRetryMinutes), expiresAt);
  assert.equal(nextTryAt({ ...tried, now: expiresAt }, defaultRetryMinutes), undefined);
  assert.equal(nextTryAt({ ...tried, counted: false, now: expiresAt }, defaultRetryMinutes), undefined);
});
