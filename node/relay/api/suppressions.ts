/** `GET /v1/suppressions`, `DELETE /v1/suppressions/:address`: whom a member's mail does not reach, and why. */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import type { Suppression, Suppressions } from '../../members/suppressions.ts';
import { behindDoor, type Door, principalOf } from './authenticated.ts';
import { cursor, didInQuery, iso, pageLimit } from './common-schema.ts';
import { read, refuse } from './refusal.ts';

export type SuppressionsOptions = { door: Door; suppressions: Pick<Suppressions, 'list' | 'remove'> };

export const suppressionsQuery = z.strictObject({ did: didInQuery, limit: pageLimit, cursor });

export const suppressionsAnswer = z.strictObject({
  suppressions: z
    .array(
      z.strictObject({
        address: z.string(),
        reason: z.enum(['unsubscribe', 'bounce', 'manual', 'complaint']),
        evidence: z.string().describe('The peer’s reply, or who did it'),
        messageId: z.string().nullable().describe('The message that it came from'),
        since: z.iso.datetime(),
        until: z.iso.datetime().nullable(),
      }),
    )
    .describe('In the order of addresses'),
  cursor: z.string().optional().describe('There may be more: ask again with it'),
});

export const removalAnswer = z.strictObject({ address: z.string(), removed: z.literal(true) });

export const addressParam = z.strictObject({ address: z.string().max(320) });

/** A fastify plugin. */
export function suppressionsApi(o: SuppressionsOptions): (app: FastifyInstance) => Promise<void> {
  return async (app) => {
    behindDoor(app, o.door);
    app.get('/v1/suppressions', async (req): Promise<z.infer<typeof suppressionsAnswer>> => {
      const { limit, cursor: from } = read(suppressionsQuery, req.query);
      const page = o.suppressions.list(principalOf(req).did, {
        limit,
        ...(from !== undefined && { cursor: from }),
      });
      return { ...page, suppressions: page.suppressions.map(shown) };
    });
    app.delete('/v1/suppressions/:address', async (req): Promise<z.infer<typeof removalAnswer>> => {
      const { address } = read(addressParam, req.params);
      return o.suppressions.remove(principalOf(req).did, address)
        ? { address, removed: true }
        : refuse('NOT_FOUND', `${address} is not on your list.`);
    });
  };
}

function shown({ address, reason, evidence, messageId, createdAt, expiresAt }: Suppression) {
  return {
    ...{ address, reason, evidence, messageId },
    since: iso(createdAt),
    until: expiresAt === null ? null : iso(expiresAt),
  };
}
