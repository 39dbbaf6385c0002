/**
 * What an SMTP reply says: for good or for now, and whose fault.
 *
 * The enhanced code is read first (RFC 3463), the text second. Only a reply that finds nothing wrong but
 * the recipient's own address makes it invalid, since that suppresses the address: a reply that blames
 * our address, our content or a policy never blames the recipient.
 */

/** Where in the session the reply came. */
export type Stage = 'session' | 'mail' | 'recipient' | 'data';

export type Verdict = {
  /** 5yz inside the transaction. A refusal of the whole session is not about this message. */
  permanent: boolean;
  /** RFC 3463, of the same class as the reply code. */
  status: string;
  recipientInvalid: boolean;
};

const recipientStatus = /^5\.(1\.[1236]|1\.10|2\.1)$/;
/** Statuses too general to say anything; the text decides. */
const vagueStatus = /^5\.(0\.0|1\.0|2\.0|3\.0|5\.0)$/;

const recipientText =
  /\b(user|recipient|mailbox|address|account)\b.{0,40}\b(unknown|not found|does ?n[o']t exist|invalid|disabled|unavailable)|\b(no such|unknown|invalid) (user|recipient|mailbox|address|account)\b/is;

const blamesUs =
  /\b(block(ed|list|ing)?|black ?list(ed)?|denylist|dnsbl|rbl|spamhaus|spamcop|barracuda|sorbs|reputation|spam|policy|rate|dmarc|spf|dkim|sender|client host|relay(ing)? (access )?denied)\b|\bIP\b/i;

export function classify(reply: string, stage: Stage): Verdict {
  const code = reply.slice(0, 3);
  const status = statusOf(reply, code);
  const permanent = code.startsWith('5') && stage !== 'session';
  return { permanent, status, recipientInvalid: permanent && isRecipientInvalid(reply, status, stage) };
}

function isRecipientInvalid(reply: string, status: string, stage: Stage): boolean {
  if (stage !== 'recipient' && stage !== 'data') return false;
  if (blamesUs.test(reply)) return false;
  if (recipientStatus.test(status)) return true;
  return vagueStatus.test(status) && recipientText.test(reply);
}

/** RFC 2034 §4: the status follows the code on each line. One of another class than the code is wrong. */
function statusOf(reply: string, code: string): string {
  const [, status] = /^\d{3}[ -]([245]\.\d{1,3}\.\d{1,3})\b/.exec(reply) ?? [];
  return status?.startsWith(code.charAt(0)) ? status : `${code.charAt(0)}.0.0`;
}
