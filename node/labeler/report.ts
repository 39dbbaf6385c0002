/** What is known of a domain, as lines to read: the verdict, what a silence means for it, each check, what was asked. */
import type { CheckResult } from './checks.ts';
import type { Verification } from './verifications.ts';
import type { Observation } from './witness.ts';

/** @param withEvidence also each question and its answer */
export function reportOf(known: Verification, withEvidence: boolean): string[] {
  const { domain, verdict, note, checkedAt, decidedAt } = known;
  if (checkedAt === null) return [`${domain}: not checked yet`];
  const since = decidedAt === null ? '' : ` (decided ${time(decidedAt)})`;
  return [
    `${domain}: ${verdict}${since}, looked at ${time(checkedAt)}`,
    ...(note === null ? [] : [`  ${note}`]),
    ...(known.cid === null ? ['  no attestation to check'] : []),
    ...known.evidence.flatMap((result) => [
      ...checkLines(result),
      ...(withEvidence ? result.observations.map(observed) : []),
    ]),
  ];
}

function checkLines({ check, verdict, reason, notes = [] }: CheckResult): string[] {
  return [
    `  ${check.padEnd(8)} ${verdict.padEnd(10)} ${plain(reason)}`,
    ...notes.map((note) => `  ${''.padEnd(19)} note: ${plain(note)}`),
  ];
}

function observed({ asked, server, answer, records, alias, at }: Observation): string {
  const led = alias === undefined ? '' : ` → ${alias}`;
  const found =
    answer === 'found' || answer === 'failed' ? records.map((record) => JSON.stringify(record)) : [];
  return plain(`           ${time(at)} ${asked}${led} of ${server}: ${[answer, ...found].join(' ')}`);
}

function time(ms: number): string {
  return new Date(ms).toISOString();
}

/** Strangers wrote parts of it, and a terminal obeys control characters. */
function plain(text: string): string {
  return text.replace(/\p{C}/gu, '?');
}
