/** The outcome of looking at a domain, and the one rule about servers that do not answer. */
import type { Answer } from '../resolver.ts';

/** `undecided`: nobody could say. Never a failure, and never a pass. */
export type Verdict = 'passed' | 'failed' | 'undecided';

export type Finding = {
  verdict: Verdict;
  /** One sentence, what was observed and what is expected, for the member to read. */
  reason: string;
  /** What is allowed and yet worth changing, one sentence each. */
  notes?: string[];
  /** What the records say, by the name of the record; empty: it is not there. What was not answered is left out. */
  seen?: Record<string, string>;
};

export const passed = (reason: string, notes: string[] = []): Finding => ({
  verdict: 'passed',
  reason,
  ...(notes.length > 0 && { notes }),
});
export const failed = (reason: string): Finding => ({ verdict: 'failed', reason });
export const undecided = (reason: string): Finding => ({ verdict: 'undecided', reason });

/** NXDOMAIN and NODATA are answers: there are no records. A server that fails is none. */
export function judged<T>(answer: Answer<T>, judge: (records: T[]) => Finding): Finding {
  if (answer.kind === 'failed') return undecided(`DNS did not answer: ${answer.reason}`);
  return judge(recordsOf(answer));
}

/** Empty where there are none; also where nobody could say, so look at `kind` before. */
export function recordsOf<T>(answer: Answer<T>): T[] {
  return answer.kind === 'found' ? answer.records : [];
}

/** The verdict over findings that must all hold. */
export function overall(findings: readonly { verdict: Verdict }[]): Verdict {
  if (findings.some(({ verdict }) => verdict === 'failed')) return 'failed';
  return findings.some(({ verdict }) => verdict === 'undecided') ? 'undecided' : 'passed';
}
