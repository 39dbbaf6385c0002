/** The outcome of looking at a domain, and the one rule about servers that do not answer. */
import type { Answer } from '../resolver.ts';

/** `undecided`: nobody could say. Never a failure, and never a pass. */
export type Verdict = 'passed' | 'failed' | 'undecided';

/** `reason`: one sentence, what was observed and what is expected, for the member to read. */
export type Finding = { verdict: Verdict; reason: string };

/** NXDOMAIN and NODATA are answers: there are no records. A server that fails is none. */
export function judged<T>(answer: Answer<T>, judge: (records: T[]) => Finding): Finding {
  if (answer.kind === 'failed') {
    return { verdict: 'undecided', reason: `DNS did not answer: ${answer.reason}` };
  }
  return judge(answer.kind === 'found' ? answer.records : []);
}

/** The verdict over findings that must all hold. */
export function overall(findings: readonly { verdict: Verdict }[]): Verdict {
  if (findings.some(({ verdict }) => verdict === 'failed')) return 'failed';
  return findings.some(({ verdict }) => verdict === 'undecided') ? 'undecided' : 'passed';
}
