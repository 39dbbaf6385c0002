/**
 * JSON to a message as bytes.
 *
 * Promise: composed by nodemailer, which may read neither files nor addresses here; every line ends with CR LF;
 * of the recipients only To and Cc stand in the header. The message then passes admission like any other.
 */
import MailComposer from 'nodemailer/lib/mail-composer';
import { decodeWords } from '../encoded-words.ts';
import type { Mailbox } from '../mailbox.ts';
import type { SendRequest } from './send-schema.ts';

export type Headed = { from: Mailbox; to: readonly Mailbox[]; cc: readonly Mailbox[]; replyTo?: Mailbox };

/** @param now Unix ms, for Date */
export async function composeMail(mail: SendRequest, headed: Headed, now: number): Promise<Buffer> {
  const composer = new MailComposer({
    from: toComposer(headed.from),
    to: headed.to.map(toComposer),
    ...(headed.cc.length > 0 && { cc: headed.cc.map(toComposer) }),
    subject: mail.subject,
    ...(headed.replyTo && { replyTo: toComposer(headed.replyTo) }),
    ...(mail.text !== undefined && { text: toCrLf(mail.text) }),
    ...(mail.html !== undefined && { html: toCrLf(mail.html) }),
    ...(mail.attachments && { attachments: mail.attachments.map(toAttachment) }),
    ...(mail.headers && { headers: mail.headers }),
    date: new Date(now),
    disableFileAccess: true,
    disableUrlAccess: true,
  });
  const bytes = await composer.compile().build();
  return bytes.subarray(-2).equals(crLf) ? bytes : Buffer.concat([bytes, crLf]);
}

const crLf = Buffer.from('\r\n');

function toComposer({ text, address }: Mailbox): { name: string; address: string } {
  return { name: decodeWords(text), address };
}

function toAttachment(file: NonNullable<SendRequest['attachments']>[number]) {
  const { filename, content, cid, contentType = 'application/octet-stream' } = file;
  return {
    ...{ filename, contentType, content: Buffer.from(content, 'base64') },
    contentTransferEncoding: 'base64' as const,
    contentDisposition: cid === undefined ? ('attachment' as const) : ('inline' as const),
    ...(cid !== undefined && { cid }),
  };
}

/** JSON has line ends of every kind; a message has one (RFC 5322 §2.3). */
function toCrLf(text: string): string {
  return text.replace(/\r\n?|\n/g, '\r\n');
}
