/**
 * `GET` and `POST /v1/suppressions`, `DELETE /v1/suppressions/:address`: whom a member's mail does not reach, and why.
 *
 * A member adds whom it will not write to, and removes such entries and those of bounces. That a recipient
 * unsubscribed or complained is the recipient's word: it stays.
 */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { behindDoor, type Door, principalOf, queried } from '../../http/authenticated.ts';
import { cursor, didInQuery, iso, pageLimit } from '../../http/common-schema.ts';
import { read, refuse } from '../../http/refusal.ts';
import { ownReasons, type Suppression, type Suppressions } from '../../members/suppressions.ts';
import { parseAddress } from '../mailbox.ts';
import { line } from './send-schema.ts';

export type SuppressionsOptions = {
  door: Door;
  suppressions: Pick<Suppressions, 'add' | 'find' | 'list' | 'remove'>;
};

export const suppressionsQuery = z.strictObject({ did: didInQuery, limit: pageLimit, cursor });

const reason = z.enum(['unsubscribe', 'bounce', 'manual', 'complaint']);

const entry = z.strictObject({
  address: z.string(),
  reason,
  evidence: z.string().describe('The peer’s reply, or who did it'),
  messageId: z.string().nullable().describe('The message that it came from'),
  since: z.iso.datetime(),
  until: z.iso.datetime().nullable(),
});

export const suppressionRequest = z.strictObject({
  address: line(320).describe('`ana@harbor.example`'),
  note: line(500).optional().describe('For you: why'),
});

export const suppressionAnswer = entry;

export const suppressionsAnswer = z.strictObject({
  suppressions: z.array(entry).describe('In the order of addresses'),
  cursor: z.string().optional().describe('There may be more: ask again with it'),
});

export const removalAnswer = z.strictObject({
  address: z.string(),
  removed: z.literal(true),
  remaining: reason.nullable().describe('Why it is still on the list; null: it is not'),
});

export const addressParam = z.strictObject({ address: z.string().max(320) });

/** A fastify plugin. */
export function suppressionsApi(o: SuppressionsOptions): (app: FastifyInstance) => Promise<void> {
  return async (app) => {
    behindDoor(app, o.door);
    app.get(
      '/v1/suppressions',
      queried(suppressionsQuery),
      async (req): Promise<z.infer<typeof suppressionsAnswer>> => {
        const { limit, cursor: from } = read(suppressionsQuery, req.query);
        const page = o.suppressions.list(principalOf(req).did, {
          limit,
          ...(from !== undefined && { cursor: from }),
        });
        return { ...page, suppressions: page.suppressions.map(shown) };
      },
    );
    app.post('/v1/suppressions', { bodyLimit: 16 * 1024 }, async (req): Promise<z.infer<typeof entry>> => {
      const { address: asked, note } = read(suppressionRequest, req.body);
      const { did } = principalOf(req);
      const address =
        parseAddress(asked)?.address ?? refuse('INVALID_REQUEST', 'address: is not an address.');
      const evidence = note === undefined ? 'You added it.' : `You added it: ${note}`;
      o.suppressions.add({ did, address, reason: 'manual', evidence });
      return shown(o.suppressions.find(did, address)!);
    });
    app.delete('/v1/suppressions/:address', async (req): Promise<z.infer<typeof removalAnswer>> => {
      const { address } = read(addressParam, req.params);
      const { did } = principalOf(req);
      const removed = o.suppressions.remove(did, address, ownReasons);
      const remaining = o.suppressions.find(did, address)?.reason ?? null;
      if (removed.length > 0) return { address, removed: true, remaining };
      return remaining === null
        ? refuse('NOT_FOUND', `${address} is not on your list.`)
        : refuse('NOT_REMOVABLE', `${address}: ${remaining}.`);
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
