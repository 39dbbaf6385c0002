/** The requests and answers of `/v1/webhooks`, as they are judged and as the OpenAPI document shows them. */
import { z } from 'zod';
import { cursor, didInQuery, instant, pageLimit } from '../http/common-schema.ts';
import { toldTypes } from './payload.ts';

const at = z.iso.datetime();
const word = z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, 'is not an id');
const queueId = z.string().regex(/^[0-9a-v]{16}$/, 'is not a message id');
const deliveryId = z.int().min(1);

export const idParam = z.strictObject({ id: word });

export const webhookRequest = z.strictObject({
  url: z.string().max(2_000).describe('https; an address that the public internet reaches'),
  description: z.string().max(200).default('').describe('For you'),
  types: z
    .array(z.enum(toldTypes))
    .max(toldTypes.length)
    .default([])
    .describe('What it is told; none named: everything'),
  enabled: z.boolean().default(true).describe('Enabled again, its failures are forgotten'),
});

export const webhookAnswer = z.strictObject({
  id: z.string(),
  url: z.string(),
  description: z.string(),
  types: z.array(z.enum(toldTypes)),
  state: z.enum(['enabled', 'disabled']),
  reason: z.string().nullable().describe('Why it is disabled'),
  failingSince: at.nullable().describe('The first failure after the last success'),
  waiting: z.int().describe('Deliveries that are still to be made'),
  createdAt: at,
});

const secret = z.string().describe('`whsec_…`: keep it; it is shown here only');

export const createdAnswer = webhookAnswer.extend({ secret });
export const rotatedAnswer = z.strictObject({
  secret,
  oldSecretUntil: at.describe('Until then each request carries a signature of the old secret too'),
});
export const webhooksAnswer = z.strictObject({ webhooks: z.array(webhookAnswer) });
export const removedAnswer = z.strictObject({ id: z.string(), removed: z.literal(true) });

const deliveryState = z.enum(['waiting', 'delivered', 'failed']);

export const deliveriesQuery = z.strictObject({
  did: didInQuery,
  state: deliveryState.optional(),
  limit: pageLimit,
  cursor: cursor.pipe(
    z
      .string()
      .regex(/^[1-9]\d{0,14}$/, 'is not a cursor')
      .optional(),
  ),
});

export const deliveriesAnswer = z.strictObject({
  deliveries: z
    .array(
      z.strictObject({
        id: z.int(),
        webhookId: z.string().describe('The header `webhook-id`, the same at each try'),
        type: z.enum(toldTypes),
        messageId: z.string().nullable(),
        state: deliveryState,
        attempts: z.int(),
        nextAt: at.nullable(),
        lastAt: at.nullable(),
        status: z.int().nullable().describe('HTTP status of the last try'),
        answer: z.string().nullable().describe('The beginning of the last answer, or what went wrong'),
      }),
    )
    .describe('Newest first'),
  cursor: z.string().optional().describe('There may be more: ask again with it'),
});

export const replayRequest = z.union([
  z.strictObject({ deliveries: z.array(deliveryId).min(1).max(1_000).describe('By their ids') }),
  z.strictObject({ messageId: queueId.describe('All that happened to a message') }),
  z.strictObject({ since: instant, until: instant.optional().describe('Default: now') }),
]);

export const replayAnswer = z.strictObject({
  queued: z.int(),
  since: at.optional().describe('The queue is full: go on from here when it is shorter'),
});

export const testAnswer = z.strictObject({
  delivered: z.boolean(),
  status: z.int().nullable(),
  answer: z.string(),
});
