/**
 * What `POST /v1/send` and each message of a batch may say.
 *
 * Every field has its bounds here, and a field that is not here is refused by its name; the OpenAPI document
 * is made from the same schemas. What an address or a From may be is admission.ts's question.
 */
import { z } from 'zod';
import { categories } from '../../members/category.ts';

/** Octets of a request, after the credentials were judged. The first 1 MiB is the promise of old; attachments need more. */
export const bodyLimit = 10 * 1024 * 1024;

export const maxRecipients = 100;
export const maxBatch = 100;
/** Recipients over all messages of one batch: each costs three signatures. */
export const maxBatchRecipients = 1000;
export const maxAheadMs = 72 * 60 * 60_000;

export const line = (max: number) =>
  z
    .string()
    .max(max)
    .regex(/^[^\r\n\0]*$/, 'has a line break or NUL')
    // RFC 5322 §2.1.1 allows 998 octets a line, and a header is folded at blanks alone.
    .refine((text) => !hasLongWord(text), `has more than ${maxWord} characters without a blank`);

const maxWord = 900;

/** By no regular expression: one tries every place of a long text anew. */
function hasLongWord(text: string): boolean {
  if (text.length <= maxWord) return false;
  let start = 0;
  for (let at = 0; at < text.length; at++) {
    if (text[at] === ' ' || text[at] === '\t') start = at + 1;
    else if (at - start === maxWord) return true;
  }
  return false;
}

/** Names that the composer or the relay writes; everything else is the member's. */
const reservedHeader =
  /^(from|sender|to|cc|bcc|reply-to|subject|date|message-id|mime-version|content-.*|received|return-path|dkim-signature|arc-.*|authentication-results|resent-.*|feedback-id|vbr-info|x-atmos-(?!category$).*)$/i;

const headerName = z
  .string()
  .regex(/^[!-9;-~]{1,76}$/, 'is not a header name')
  .refine((name) => !reservedHeader.test(name), 'is reserved: the relay writes it, or another field does');

const mailbox = line(998).describe('`a@b.example` or `Name <a@b.example>`');
const mailboxes = z
  // More than a message may have, so that TOO_MANY_RECIPIENTS can say so.
  .union(
    [
      mailbox,
      z
        .array(mailbox)
        .min(1)
        .max(10 * maxRecipients),
    ],
    'is neither an address nor a list',
  )
  .describe('One address, or a list of them');

const attachment = z
  .strictObject({
    filename: line(255).min(1),
    content: z
      .string()
      .max(bodyLimit)
      .refine((text) => isBase64(text), 'is not base64')
      .describe('Base64 (RFC 4648 §4)'),
    contentType: line(255)
      .regex(
        /^[a-z0-9][a-z0-9!#$&^_.+-]{0,126}\/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}(;.*)?$/i,
        'is not type/subtype',
      )
      .refine(
        (type) => !/^(multipart|message)\//i.test(type),
        'is a type that holds other parts: send it as application/octet-stream',
      )
      .optional()
      .describe('Default `application/octet-stream`'),
    cid: z
      .string()
      .regex(/^[A-Za-z0-9._@+-]{1,128}$/, 'is not a content id')
      .optional()
      .describe('Shown inside the HTML, where it says `<img src="cid:…">`'),
  })
  .describe('A file that goes along');

const message = z.strictObject({
  from: mailbox.describe('In one of your enrolled domains; chooses DKIM keys, warming and forward-to'),
  to: mailboxes,
  cc: mailboxes.optional(),
  bcc: mailboxes.optional().describe('Get the message and stand in nobody’s header'),
  subject: line(998),
  text: z.string().max(bodyLimit).optional(),
  html: z.string().max(bodyLimit).optional(),
  replyTo: mailbox.optional(),
  headers: z
    .record(headerName, line(8192))
    .refine((headers) => Object.keys(headers).length <= 50, 'has more than 50 entries')
    .optional()
    .describe('More header fields, at most 50'),
  category: z
    .enum(categories)
    .optional()
    .describe('What the message is for. Default: that of the API key, else of the domain'),
  attachments: z.array(attachment).min(1).max(100).optional(),
  tags: z
    .array(z.string().regex(/^[A-Za-z0-9_.-]{1,64}$/, 'is not a tag: letters, digits, _ . -, at most 64'))
    .max(10)
    .optional()
    .describe('Your own words, to find messages by; never in the message'),
  sendAt: z.iso
    .datetime({ offset: true })
    .max(40)
    .optional()
    .describe('Sent then, at most 72 h ahead; until then it can be cancelled'),
});

export const sendRequest = message
  .refine(({ text, html }) => text !== undefined || html !== undefined, {
    path: ['text'],
    message: 'text or html is needed',
  })
  .refine(({ attachments }) => cidsAreUnique(attachments), {
    path: ['attachments'],
    message: 'two attachments have the same cid',
  });

export type SendRequest = z.infer<typeof sendRequest>;

/** Its messages are judged one by one, so that one that is malformed does not refuse the others. */
export const batchRequest = z.strictObject({ messages: z.array(z.unknown()).min(1).max(maxBatch) });

/** The same, as the document shows it. */
export const documentedBatch = z.strictObject({ messages: z.array(sendRequest).min(1).max(maxBatch) });

/** RFC 9110 §5.5 characters of a field value; scoped by member, kept for 24 h. */
export const idempotencyKey = z
  .string()
  .regex(/^[\x21-\x7e]{1,256}$/, 'has 1 to 256 printable characters without blanks');

const rejection = z.strictObject({ recipient: z.string(), error: z.string(), code: z.string() });

export const sendAnswer = z.strictObject({
  accepted: z.array(z.strictObject({ recipient: z.string(), messageId: z.string() })),
  rejected: z.array(rejection),
});

export type SendAnswer = z.infer<typeof sendAnswer>;

export const errorAnswer = z
  .object({
    error: z.string(),
    code: z.string(),
    action: z.string(),
    rejected: z.array(rejection).optional(),
  })
  .describe('`error` is for people, `code` for programs: see /errors');

export const batchAnswer = z.strictObject({
  results: z.array(z.union([sendAnswer, errorAnswer])).describe('In the order of the messages'),
});

/** Buffer.from() takes anything and drops what it does not know; a file with a hole is worse than none. */
function isBase64(text: string): boolean {
  return text.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(text);
}

function cidsAreUnique(attachments: readonly { cid?: string | undefined }[] = []): boolean {
  const cids = attachments.flatMap(({ cid }) => cid ?? []);
  return new Set(cids).size === cids.length;
}
