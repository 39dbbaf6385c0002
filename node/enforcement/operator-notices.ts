/**
 * Tells the operator what happened by itself, and never floods.
 *
 * At most `perHour` notices go out in an hour; what is beyond is in the log and in the events, and the next
 * notice says how many there were. A notice that could not be sent is logged.
 */
import type { Logger } from 'pino';

export type Notice = { subject: string; text: string };

export type OperatorNoticesOptions = {
  /** Sends it; false, or a rejection: it was not sent. Without an operator's address: undefined. */
  send: ((notice: Notice) => Promise<unknown>) | undefined;
  /** Default 20. */
  perHour?: number;
  now: () => number;
  log: Logger;
};

const hourMs = 3_600_000;

/** @returns the function to call with each notice; it never throws */
export function operatorNotices({ send, perHour = 20, now, log }: OperatorNoticesOptions) {
  let sent: number[] = [];
  let unsent = 0;
  return ({ subject, text }: Notice): void => {
    log.warn({ subject }, 'notice to the operator');
    if (!send) return;
    sent = sent.filter((at) => now() - at < hourMs);
    if (sent.length >= perHour) {
      unsent++;
      return;
    }
    sent.push(now());
    const more =
      unsent === 0 ? '' : `\n${unsent} further notices before this one were not sent; the log has them.\n`;
    unsent = 0;
    const failed = (error?: unknown) =>
      log.error({ err: error, subject }, 'a notice to the operator was not sent');
    send({ subject, text: text + more }).then((isSent) => isSent === false && failed(), failed);
  };
}
