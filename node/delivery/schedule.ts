/**
 * When a recipient is tried again, and when we give up.
 *
 * The first try is at once. A try that the destination answered, refused or let time out counts; after
 * the n-th of them the n-th wait passes, and when the waits are used up the recipient bounces, unless the
 * operator wants a long tail: then it goes on at one distance until the lifetime is over. Our own
 * network or resolver failing does not count, so an outage here costs no member a message. Whatever the
 * cause, a message past its lifetime bounces.
 *
 * Greylisting servers open after 5 to 10 minutes: of the default tries one falls 6 minutes after the
 * first, another 21 minutes after it.
 */

/** Minutes after the try before: six tries in all within 111 minutes. */
export const defaultRetryMinutes: readonly number[] = [1, 5, 15, 30, 60];

const minuteMs = 60_000;

export type Schedule = {
  retryMinutes: readonly number[];
  /** After those waits, on at this distance until the lifetime is over. Without it we give up. */
  tailMs?: number;
};

export type Tried = {
  /** When the try ended. */
  now: number;
  counted: boolean;
  /** Tries that counted, this one included. */
  attempts: number;
  receivedAt: number;
  expiresAt: number;
};

/** Unix ms of the next try, never later than the end of the lifetime; undefined to give up now. */
export function nextTryAt(tried: Tried, schedule: Schedule): number | undefined {
  if (tried.now >= tried.expiresAt) return undefined;
  const wait = tried.counted ? countedWait(tried, schedule) : ownFailureWait(tried);
  return wait === undefined ? undefined : Math.min(tried.now + wait, tried.expiresAt);
}

function countedWait({ attempts }: Tried, { retryMinutes, tailMs }: Schedule): number | undefined {
  const minutes = retryMinutes[attempts - 1];
  return minutes === undefined ? tailMs : minutes * minuteMs;
}

/** Ms: a quarter of the message's age, so soon after a blip, seldom through an outage of days. */
export function ownFailureWait({ now, receivedAt }: Pick<Tried, 'now' | 'receivedAt'>): number {
  return Math.min(Math.max(Math.floor((now - receivedAt) / 4), minuteMs), 15 * minuteMs);
}
