/**
 * When a recipient is tried again, and when we give up.
 *
 * The first try is at once. A try that the destination answered, refused or let time out counts; after
 * the n-th of them the n-th wait passes, and when the waits are used up the recipient bounces. Our own
 * network or resolver failing does not count, so an outage here costs no member a message. Whatever the
 * cause, a message past its lifetime bounces.
 */

/** Minutes after the try before: six tries in all within 111 minutes. */
export const defaultRetryMinutes: readonly number[] = [1, 5, 15, 30, 60];

const minuteMs = 60_000;

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
export function nextTryAt(tried: Tried, retryMinutes: readonly number[]): number | undefined {
  if (tried.now >= tried.expiresAt) return undefined;
  const wait = tried.counted ? countedWait(tried, retryMinutes) : ownFailureWait(tried);
  return wait === undefined ? undefined : Math.min(tried.now + wait, tried.expiresAt);
}

function countedWait({ attempts }: Tried, retryMinutes: readonly number[]): number | undefined {
  const minutes = retryMinutes[attempts - 1];
  return minutes === undefined ? undefined : minutes * minuteMs;
}

/** Ms: a quarter of the message's age, so soon after a blip, seldom through an outage of days. */
export function ownFailureWait({ now, receivedAt }: Pick<Tried, 'now' | 'receivedAt'>): number {
  return Math.min(Math.max(Math.floor((now - receivedAt) / 4), minuteMs), 15 * minuteMs);
}
