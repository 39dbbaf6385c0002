/**
 * What an SMTP reply says: for good or for now, and whose fault.
 *
 * The enhanced code is read first (RFC 3463), the text second (reply-rules.ts). Only a reply that finds
 * nothing wrong but the recipient's own address makes it invalid, since that suppresses the address: a
 * reply that blames our address, our content or a policy never blames the recipient.
 */
import { causeOf, type ReplyCause, type Stage } from './reply-rules.ts';

export type { ReplyCause, Stage } from './reply-rules.ts';

export type Verdict = {
  /** 5yz inside the transaction. A refusal of the whole session is not about this message. */
  permanent: boolean;
  /** RFC 3463, of the same class as the reply code. */
  status: string;
  recipientInvalid: boolean;
  cause: ReplyCause;
  /** The site asks for less: fewer connections, later. */
  slowDown: boolean;
};

/** What is said beyond this says nothing more. */
const maxRead = 4_000;

export function classify(reply: string, stage: Stage): Verdict {
  const text = reply.slice(0, maxRead);
  const code = text.slice(0, 3);
  const status = statusOf(text, code);
  const permanent = code.startsWith('5') && stage !== 'session';
  const cause = causeOf({ code, status, text, stage });
  // RFC 5321 §3.8: 421 closes the channel, whatever it says beside that.
  const slowDown = code === '421' || cause === 'rate';
  return { permanent, status, recipientInvalid: permanent && cause === 'recipient', cause, slowDown };
}

/**
 * RFC 2034 §4: the status follows the code on each line; qmail writes it at the end, as `(#5.1.1)`.
 * One of another class than the code is wrong.
 */
function statusOf(reply: string, code: string): string {
  const [, first] = /^\d{3}[ -]([245]\.\d{1,3}\.\d{1,3})\b/.exec(reply) ?? [];
  const status = first ?? /\(#([245]\.\d{1,3}\.\d{1,3})\)/.exec(reply)?.[1];
  return status?.startsWith(code.charAt(0)) ? status : `${code.charAt(0)}.0.0`;
}
