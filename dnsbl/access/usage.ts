/**
 * How much was asked today and in this second, in shared memory: all threads count together.
 *
 * Three words: the day, the queries on it, and the time of a bucket for the second. Days are UTC.
 */
import { type Rate, rateOf, takeFrom } from './buckets.ts';
import type { Clock } from './clock.ts';
import type { Quota } from './settings.ts';

export const USAGE_WORDS = 3;
const DAY = 0;
const COUNT = 1;
const SECOND = 2;

/** A Quota, ready to be counted with. */
export type Allowance = { perSecond: Rate | undefined; perDay: number };

/** @returns undefined where nothing is limited */
export function allowanceOf({ perSecond, perDay }: Quota): Allowance | undefined {
  if (perSecond === undefined && perDay === undefined) return undefined;
  return { perSecond: perSecond === undefined ? undefined : rateOf(perSecond), perDay: perDay ?? Infinity };
}

/** Counts one query. What is refused does not count. @returns whether it is within the allowance */
export function use(words: Int32Array, at: number, allowance: Allowance | undefined, clock: Clock): boolean {
  const count = usedToday(words, at, clock);
  if (allowance !== undefined) {
    if (count >= allowance.perDay) return false;
    const { perSecond } = allowance;
    if (perSecond !== undefined && !takeFrom(words, at + SECOND, perSecond, clock.us)) return false;
  }
  Atomics.add(words, at + COUNT, 1);
  return true;
}

/** Begins the day when it is a new one: of two threads that see it first, one may lose its first count. */
function usedToday(words: Int32Array, at: number, { day }: Clock): number {
  const known = Atomics.load(words, at + DAY);
  if (known === day) return Atomics.load(words, at + COUNT);
  if (Atomics.compareExchange(words, at + DAY, known, day) === known) Atomics.store(words, at + COUNT, 0);
  return 0;
}

/** For whoever reads without asking: metrics, and who gives way. */
export function countOn(words: Int32Array, at: number, day: number): number {
  return words[at + DAY] === day ? words[at + COUNT]! : 0;
}
