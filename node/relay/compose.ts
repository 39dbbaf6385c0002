/**
 * The header lines that the relay puts before a member's message, and those it takes out.
 *
 * Everything else leaves as it came. The lines are one recipient's own, since X-Atmos-Id names the
 * recipient; signatures go on top of them (signing.ts).
 */
import { hash } from 'node:crypto';
import { mailDate } from '../mail-date.ts';
import type { Category } from '../members/category.ts';
import { fieldsNamed, type Message, withoutFields } from './message.ts';

/** Only Bcc and Return-Path, which must not travel, and names that we alone write. */
export function isRemovedField(name: string): boolean {
  return removed.has(name) || name.startsWith('x-atmos-');
}
const removed = new Set(['bcc', 'return-path', 'feedback-id', 'vbr-info']);

/** The message as it is stored and signed, still without our lines. */
export function strip(message: Message): Buffer {
  return withoutFields(message, isRemovedField);
}

export type Prefix = {
  message: Message;
  queueId: string;
  recipientId: string;
  did: string;
  /** The domain of From. */
  domain: string;
  category: Category;
  poolDomain: string;
  /** The name of this machine. */
  hostname: string;
  /** The `with` of RFC 5321 §4.4, for example ESMTPSA. */
  protocol: string;
  /** Unix ms. */
  receivedAt: number;
  /** Our list's apex, which vouches (VBR-Info); none: no such line. */
  apex?: string | undefined;
  /** The recipient's own link, where unsubscribeAllowed(). */
  unsubscribe?: string | undefined;
};

/** Does this mail carry a link of ours to unsubscribe? Only bulk mail, and not where the member has its own. */
export function unsubscribeAllowed(category: Category, message?: Message): boolean {
  if (category !== 'bulk') return false;
  return message === undefined || fieldsNamed(message.fields, 'list-unsubscribe').length === 0;
}

/** @returns whole header lines, each ended by CR LF; none is longer than RFC 5322 §2.1.1 allows */
export function prefixOf(o: Prefix): Buffer {
  const date = mailDate(o.receivedAt);
  const lines = [
    // Without the client's address: where a member's users sit is nobody's business (RFC 6409 §8.1 lets us).
    `Received: by ${o.hostname} with ${o.protocol} id ${o.queueId};\r\n\t${date}`,
    `X-Atmos-Id: ${o.recipientId}`,
    `X-Atmos-Member-Did: ${o.did}`,
    `Feedback-ID: ${feedbackId(o)}`,
  ];
  if (o.apex !== undefined) lines.push(vbrInfo(o, o.apex));
  if (o.unsubscribe !== undefined) lines.push(...unsubscribeLines(o, o.unsubscribe));
  // RFC 6409 §8.1, §8.3: a submission server supplies what the client left out.
  if (fieldsNamed(o.message.fields, 'date').length === 0) lines.push(`Date: ${date}`);
  if (fieldsNamed(o.message.fields, 'message-id').length === 0)
    lines.push(`Message-ID: <${o.queueId}@${o.domain}>`);
  return Buffer.from(`${lines.join('\r\n')}\r\n`);
}

/**
 * `<campaign>:<member>:<category>:<pool>`: stable words, so that a mailbox provider can add complaints up.
 * The member is a short hash, because a DID has colons.
 */
function feedbackId({ did, domain, category, poolDomain }: Prefix): string {
  return `${domain}:${hash('sha256', did).slice(0, 12)}:${category}:${poolDomain}`;
}

/**
 * RFC 5518 §4: whom to ask about the signing domain, and of what kind this mail is.
 * The words are those of `<domain>._vouch.<apex>`: `list` for bulk, `transaction` for all else, never `all`.
 */
function vbrInfo({ domain, category }: Prefix, apex: string): string {
  return `VBR-Info: md=${domain}; mc=${category === 'bulk' ? 'list' : 'transaction'}; mv=${apex}`;
}

/** RFC 8058 §3.1; the mailto form stands beside the link once port 25 reads it. */
function unsubscribeLines({ category, message }: Prefix, link: string): string[] {
  const line = `List-Unsubscribe: <${link}>`;
  // An address and a DID of the greatest length fit; whatever does not would break the message.
  if (!unsubscribeAllowed(category, message) || line.length > maxLine) return [];
  // A second one beside the member's own would make both void.
  const has = fieldsNamed(message.fields, 'list-unsubscribe-post').length > 0;
  return has ? [line] : [line, 'List-Unsubscribe-Post: List-Unsubscribe=One-Click'];
}

/** RFC 5322 §2.1.1, without the CR LF. */
const maxLine = 998;
