import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defaultRetryMinutes, nextTryAt } from '../../node/delivery/schedule.ts';
import { day, minute, start } from './spool-fixtures.ts';

const expiresAt = start + 4 * day;
const schedule = { retryMinutes: defaultRetryMinutes };
const tried = { now: start, counted: true, attempts: 1, receivedAt: start, expiresAt };

test('the n-th try that counts is followed by the n-th wait, and after the last wait we give up', () => {
  const waits = [1, 2, 3, 4, 5, 6].map((attempts) => nextTryAt({ ...tried, attempts }, schedule));
  assert.deepEqual(
    waits.map((at) => at && (at - start) / minute),
    [1, 5, 15, 30, 60, undefined],
  );
});

test('a failure of our own waits a quarter of the age, between 1 and 15 minutes, as often as it takes', () => {
  const own = (ageMinutes: number) => {
    const now = start + ageMinutes * minute;
    return (nextTryAt({ ...tried, counted: false, attempts: 0, now }, schedule)! - now) / minute;
  };
  assert.deepEqual([0, 4, 20, 60, 1_000].map(own), [1, 1, 5, 15, 15]);
});

test('times are whole milliseconds, whatever the age', () => {
  const at = nextTryAt({ ...tried, counted: false, now: start + 468_750 + 1 }, schedule);
  assert.ok(Number.isInteger(at));
});

test('no wait goes beyond the lifetime, and past it there is none', () => {
  const late = { ...tried, now: expiresAt - 10 * minute, attempts: 5 };
  assert.equal(nextTryAt(late, schedule), expiresAt);
  assert.equal(nextTryAt({ ...tried, now: expiresAt }, schedule), undefined);
  assert.equal(nextTryAt({ ...tried, counted: false, now: expiresAt }, schedule), undefined);
});

test('with a long tail it goes on at one distance until the lifetime is over', () => {
  const tail = { ...schedule, tailMs: 120 * minute };
  const late = (attempts: number) => (nextTryAt({ ...tried, attempts }, tail)! - start) / minute;
  assert.deepEqual([5, 6, 7, 40].map(late), [60, 120, 120, 120]);
  const last = { ...tried, attempts: 50, now: expiresAt - minute };
  assert.equal(nextTryAt(last, tail), expiresAt);
});
