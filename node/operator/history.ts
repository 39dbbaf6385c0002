/** What happened to a recipient, in one order and in words: tries and acts of people together. */
import type { RecipientStatus } from '../spool/message.ts';

/** `said`: the peer's reply as it came. */
export type HistoryLine = { at: number; what: string; said?: string };

export function historyOf({ timeline, acts }: Pick<RecipientStatus, 'timeline' | 'acts'>): HistoryLine[] {
  const tries = timeline.map(({ at, summary, host, repeats, reply }) => ({
    at,
    what: `${summary}${host ? ` (${host})` : ''}${repeats > 0 ? `, ${repeats + 1} times` : ''}`,
    ...(reply !== undefined && { said: reply }),
  }));
  const done = acts.map(({ at, act, by, reason }) => ({
    at,
    what: `${act} by ${by}${reason ? `: ${reason}` : ''}`,
  }));
  return [...tries, ...done].sort((a, b) => a.at - b.at);
}
