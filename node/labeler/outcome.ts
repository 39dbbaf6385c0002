/**
 * What a look at a domain leaves behind: the verdict that counts from now on, and why.
 *
 * Promise: a silence of DNS keeps the last verdict for a grace, and the row says so and until when; after it
 * the verdict is `failed`, with the silence as the reason. The grace counts from the first silence, also over
 * new versions of the record; any run that decides ends it.
 */
import type { CheckResult } from './checks.ts';
import { type DnsChange, dnsChanges } from './dns-changes.ts';
import { overall, type Verdict } from './finding.ts';
import type { Found, Verification } from './verifications.ts';

export type Run = { cid: string; evidence: CheckResult[] /** Unix ms. */; at: number };

export type Outcome = {
  /** Of this run alone. */
  verdict: Verdict;
  row: Found;
  change?: DnsChange;
};

export function outcomeOf(before: Verification | undefined, run: Run, graceMs: number): Outcome {
  const verdict = overall(run.evidence);
  const { seen, change } = dnsChanges(before ?? { cid: null, seen: {} }, run);
  const { cid, evidence, at } = run;
  const isSame = before?.cid === cid;
  const tries = verdict === 'passed' ? 0 : (isSame ? before.tries : 0) + 1;
  const about = { cid, evidence, checkedAt: at, tries, seen };
  const row: Found =
    verdict === 'undecided'
      ? { ...about, ...silence(isSame ? before : undefined, before?.undecidedSince ?? at, at, graceMs) }
      : { ...about, verdict, decidedAt: at, undecidedSince: null, note: null };
  return { verdict, row, ...(change && { change }) };
}

/** @param known what was decided of this very version */
function silence(known: Verification | undefined, since: number, at: number, graceMs: number) {
  const last = known?.verdict ?? 'undecided';
  const kept = { decidedAt: known?.decidedAt ?? null, undecidedSince: since };
  const silent = `DNS did not answer since ${time(since)}`;
  if (last === 'failed')
    return { ...kept, verdict: last, note: known?.note ?? `${silent}; it had failed before` };
  if (at - since >= graceMs) return { ...kept, verdict: 'failed' as const, note: silent };
  const until = `after ${time(since + graceMs)} it counts as failed`;
  const meanwhile = last === 'passed' ? 'the verdict of before stands' : 'nothing is decided';
  return { ...kept, verdict: last, note: `${silent}; ${meanwhile}, and ${until}` };
}

function time(ms: number): string {
  return new Date(ms).toISOString();
}
