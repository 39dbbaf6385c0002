/**
 * The header lines that the relay puts before a member's message, and those it takes out.
 *
 * Everything else leaves as it came. The lines are one recipient's own, since X-Atmos-Id names the
 * recipient; signatures go on top of them (signing.ts).
 */
import { createHash } from 'node:crypto';
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
};

/** @returns whole header lines, each ended by CR LF */
export function prefixOf(o: Prefix): Buffer {
  const date = mailDate(o.receivedAt);
  const lines = [
    // Without the client's address: where a member's users sit is nobody's business (RFC 6409 §8.1 lets us).
    `Received: by ${o.hostname} with ${o.protocol} id ${o.queueId};\r\n\t${date}`,
    `X-Atmos-Id: ${o.recipientId}`,
    `X-Atmos-Member-Did: ${o.did}`,
    `Feedback-ID: ${feedbackId(o)}`,
  ];
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
  const member = createHash('sha256').update(did).digest('hex').slice(0, 12);
  return `${domain}:${member}:${category}:${poolDomain}`;
}
