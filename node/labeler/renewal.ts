/**
 * When a label is issued again before it expires: pure arithmetic.
 *
 * Between 60 and 40 % of its lifetime before the end, at a point that its identity gives, so labels issued
 * together are not renewed together; an outage of a third of the lifetime still costs none.
 */
import { createHash } from 'node:crypto';
import type { Label } from './decision.ts';

/** @param now Unix ms */
export function isRenewalDue({ uri, val, exp }: Label, lifetimeMs: number, now: number): boolean {
  // From before labels expired.
  if (exp === undefined) return true;
  const share = createHash('sha256').update(`${val} ${uri}`).digest().readUInt32BE() / 2 ** 32;
  return Date.parse(exp) - now < lifetimeMs * (0.4 + 0.2 * share);
}
