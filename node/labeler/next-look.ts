/**
 * When to look at a domain again: pure arithmetic.
 *
 * Promise: a domain that passed is looked at after the interval ± a tenth, and each time is drawn nearer to
 * its own place in the interval, which its name gives: whatever brought many together (a mass enrolment, a long
 * stop), after five rounds they are spread evenly. One that did not pass is asked within minutes at first and
 * ever more rarely then, down to every four hours, so a dead domain is not hammered.
 */
import { createHash } from 'node:crypto';
import type { DomainOf } from './verifications.ts';

export type Rhythm = { reverifyIntervalMs: number; retryUnverifiedMs: number };

/** Of the interval: how far from it a look may be drawn. */
const maxShift = 0.1;
/** Each wait is this much longer than the one before, so a mended domain waits half of what it was broken. */
const growth = 1.5;
const maxRetryMs = 4 * 3_600_000;

/** Unix ms of the next look at a domain that passed. */
export function nextRound(now: number, about: DomainOf, intervalMs: number): number {
  const due = now + intervalMs;
  const fromPlace = modulo(placeOf(about) * intervalMs - due, intervalMs);
  const shift = fromPlace > intervalMs / 2 ? fromPlace - intervalMs : fromPlace;
  const most = maxShift * intervalMs;
  return Math.round(due + Math.min(Math.max(shift, -most), most));
}

/**
 * Unix ms of the next look at one that did not.
 *
 * @param tries looks in a row that did not pass, this one included: 1 or more
 */
export function nextTry(now: number, tries: number, firstMs: number, intervalMs: number): number {
  const wait = firstMs * growth ** Math.max(tries - 1, 0);
  // Those that broke together, as when a provider fails, do not come back together.
  const spread = 0.9 + 0.1 * Math.random();
  return Math.round(now + Math.max(firstMs, Math.min(wait, maxRetryMs, intervalMs) * spread));
}

/** 0 ≤ place < 1, the same for a domain at all times. */
function placeOf({ did, domain }: DomainOf): number {
  return createHash('sha256').update(`${did} ${domain}`).digest().readUInt32BE() / 2 ** 32;
}

function modulo(n: number, by: number): number {
  return ((n % by) + by) % by;
}
