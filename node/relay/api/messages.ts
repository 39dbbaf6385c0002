/**
 * `GET /v1/messages`, `GET /v1/messages/:id`, `DELETE /v1/messages/:id`: what became of a member's mail.
 *
 * Promise: each recipient with its whole timeline: every try with the peer's own words, and everything that a
 * person did to it. Only the member's own messages; what is another's does not exist here. Looking changes
 * nothing; only a message that is still scheduled can be taken back.
 */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { behindDoor, type Door, principalOf, queried } from '../../http/authenticated.ts';
import { didInQuery, instant, iso, pageLimit } from '../../http/common-schema.ts';
import { read, refuse } from '../../http/refusal.ts';
import type {
  ActRecord,
  MessagePage,
  MessageQuery,
  MessageStatus,
  RecipientStatus,
  TriedRecord,
} from '../../spool/message.ts';
import { recipientStates } from '../../spool/states.ts';
import { parseAddress } from '../mailbox.ts';

export type MessagesOptions = {
  door: Door;
  queue: {
    message(queueId: string): Promise<MessageStatus | undefined>;
    messages(query: MessageQuery): Promise<MessagePage>;
    cancelScheduled(did: string, queueId: string): Promise<'cancelled' | 'not-scheduled' | 'unknown'>;
  };
};

export const messagesQuery = z.strictObject({
  did: didInQuery,
  state: z.enum(recipientStates).optional().describe('Of any of its recipients'),
  tag: z.string().max(64).optional(),
  recipient: z.string().max(320).optional().describe('Address of any of its recipients, in any case'),
  since: instant.optional().describe('Accepted from then on'),
  until: instant.optional().describe('Accepted before'),
  limit: pageLimit,
  // As the spool makes them.
  cursor: z
    .string()
    .regex(/^\d{1,15}$/, 'is not a cursor of ours')
    .optional()
    .describe('From the page before'),
});

const attempt = z.strictObject({
  at: z.iso.datetime(),
  what: z.literal('attempt'),
  outcome: z.enum(['delivered', 'deferred', 'failed']),
  status: z.string().describe('RFC 3463'),
  summary: z.string(),
  reply: z.string().optional().describe('The peer’s own words, verbatim'),
  host: z.string().optional(),
  address: z.string().optional(),
  source: z.string().optional().describe('The address that we sent from'),
  tls: z
    .strictObject({
      version: z.string(),
      cipher: z.string(),
      policy: z.string().optional(),
      verified: z.string().optional(),
      peer: z.string().optional(),
    })
    .optional(),
  durationMs: z.number(),
  counted: z.boolean().describe('Whether it counts against the retry schedule'),
  repeats: z.number().describe('How often the same failure of our own followed'),
});

const act = z.strictObject({
  at: z.iso.datetime(),
  what: z.enum(['held', 'released', 'cancelled', 'retry', 'rerouted', 'failed']),
  by: z.string(),
  reason: z.string(),
});

export const messageAnswer = z.strictObject({
  messageId: z.string(),
  from: z.string(),
  domain: z.string(),
  subject: z.string().optional().describe('Its first 200 characters'),
  category: z.string().optional(),
  tags: z.array(z.string()),
  via: z.string(),
  size: z.number(),
  acceptedAt: z.iso.datetime(),
  expiresAt: z.iso.datetime(),
  sendAt: z.iso.datetime().optional(),
  recipients: z.array(
    z.strictObject({
      recipient: z.string(),
      state: z.enum(recipientStates),
      attempts: z.number(),
      nextAttemptAt: z.iso.datetime().nullable(),
      simulated: z.boolean(),
      timeline: z.array(z.union([attempt, act])).describe('Oldest first'),
    }),
  ),
});

export const messagesAnswer = z.strictObject({
  messages: z.array(messageAnswer).describe('Newest first'),
  cursor: z.string().optional().describe('There may be more: ask again with it'),
});

export const cancelAnswer = z.strictObject({ messageId: z.string(), state: z.literal('cancelled') });

export const idParam = z.strictObject({ id: z.string().max(64) });

/** A fastify plugin. */
export function messagesApi({ door, queue }: MessagesOptions): (app: FastifyInstance) => Promise<void> {
  return async (app) => {
    behindDoor(app, door);
    app.get('/v1/messages', queried(messagesQuery), (req) => list(queue, principalOf(req).did, req.query));
    app.get('/v1/messages/:id', (req) => show(queue, principalOf(req).did, read(idParam, req.params).id));
    app.delete('/v1/messages/:id', (req) =>
      cancel(queue, principalOf(req).did, read(idParam, req.params).id),
    );
  };
}

type Queue = MessagesOptions['queue'];

async function list(queue: Queue, did: string, query: unknown): Promise<z.infer<typeof messagesAnswer>> {
  const { did: _, recipient, ...filters } = read(messagesQuery, query);
  const page = await queue.messages({
    ...{ ...filters, did },
    // As it is stored: the domain as A-labels.
    ...(recipient !== undefined && { recipient: parseAddress(recipient)?.address ?? recipient }),
  });
  return {
    messages: page.messages.filter((message) => isOwn(message, did)).map(shown),
    ...(page.cursor !== undefined && { cursor: page.cursor }),
  };
}

async function show(queue: Queue, did: string, id: string): Promise<z.infer<typeof messageAnswer>> {
  const message = await queue.message(id);
  return message && isOwn(message, did) ? shown(message) : refuse('NOT_FOUND');
}

async function cancel(queue: Queue, did: string, id: string): Promise<z.infer<typeof cancelAnswer>> {
  const outcome = await queue.cancelScheduled(did, id);
  if (outcome === 'unknown') return refuse('NOT_FOUND');
  if (outcome === 'not-scheduled') return refuse('NOT_CANCELLABLE');
  return { messageId: id, state: 'cancelled' };
}

/** Our own letters about a member's mail are not the member's mail. */
function isOwn(message: MessageStatus, did: string): boolean {
  return message.did === did && message.kind === 'mail';
}

function shown(message: MessageStatus): z.infer<typeof messageAnswer> {
  return {
    messageId: message.queueId,
    from: message.mailFrom,
    domain: message.domain,
    ...(message.subject !== undefined && { subject: message.subject }),
    ...(message.category !== undefined && { category: message.category }),
    tags: [...message.tags],
    via: message.via,
    size: message.size,
    acceptedAt: iso(message.receivedAt),
    expiresAt: iso(message.expiresAt),
    ...(message.sendAt !== undefined && { sendAt: iso(message.sendAt) }),
    recipients: message.recipients.map(shownRecipient),
  };
}

function shownRecipient(one: RecipientStatus): z.infer<typeof messageAnswer>['recipients'][number] {
  const { address, state, attempts, nextAt, simulated, timeline, acts } = one;
  const both = [
    ...timeline.map((record) => ({ at: record.at, entry: shownAttempt(record) })),
    ...acts.map((record) => ({ at: record.at, entry: shownAct(record) })),
  ];
  return {
    ...{ recipient: address, state, attempts, simulated },
    nextAttemptAt: nextAt === null ? null : iso(nextAt),
    timeline: both.sort((a, b) => a.at - b.at).map(({ entry }) => entry),
  };
}

function shownAttempt(record: TriedRecord): z.infer<typeof attempt> {
  const { at, durationMs, outcome, counted, host, address, source, tls, reply, status, summary, repeats } =
    record;
  return {
    ...{ at: iso(at), what: 'attempt', outcome, status, summary },
    ...(reply !== undefined && { reply }),
    ...(host !== undefined && { host }),
    ...(address !== undefined && { address }),
    ...(source !== undefined && { source }),
    ...(tls && { tls }),
    ...{ durationMs, counted, repeats },
  };
}

function shownAct({ at, act: what, by, reason }: ActRecord): z.infer<typeof act> {
  return { at: iso(at), what, by, reason };
}
