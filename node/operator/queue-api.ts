/**
 * The queue tools as JSON over HTTP, for the command line and for scripts.
 *
 * Whoever reaches it may do everything: it stands on the control socket only (control.ts).
 */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { httpBody, problem } from '../errors.ts';
import { read } from '../http/refusal.ts';
import { recipientStates } from '../spool/states.ts';
import { acts, type QueueTools } from './queue-tools.ts';

const text = (max: number) => z.string().min(1).max(max);

export const selection = z.strictObject({
  ids: z.array(text(40)).min(1).max(1000).optional(),
  did: text(256).optional(),
  keyId: text(64).optional(),
  domain: text(253).optional(),
  recipientDomain: text(253).optional(),
  site: text(300).optional(),
  states: z.array(z.enum(recipientStates)).min(1).optional(),
  kind: z.enum(['mail', 'dsn', 'notice']).optional(),
  heldBy: text(100).optional(),
  /** Unix ms: accepted before. */
  before: z.number().int().min(0).optional(),
});

const page = { limit: z.int().min(1).max(500).optional(), cursor: text(200).optional() };
const listing = z.strictObject({ ...selection.shape, ...page });

const act = z.strictObject({
  act: z.enum(acts),
  selection,
  by: text(100),
  reason: text(500).optional(),
  to: z.union([text(300), z.null()]).optional(),
});

const flush = z.strictObject({ site: text(300), by: text(100) });

/** A fastify plugin. */
export function queueApi(tools: QueueTools): (app: FastifyInstance) => Promise<void> {
  return async (app) => {
    app.get('/queue', () => tools.overview());
    app.post('/queue/list', (request) => {
      const { limit, cursor, ...wanted } = read(listing, request.body ?? {});
      return tools.list(wanted, { limit, cursor });
    });
    app.get<{ Params: { id: string } }>('/queue/messages/:id', async (request, reply) => {
      const found = await tools.show(request.params.id);
      return found ?? reply.code(404).send(httpBody(problem('NOT_FOUND')));
    });
    app.post('/queue/act', async (request) => ({ changed: await tools.act(read(act, request.body)) }));
    app.post('/queue/flush', async (request) => {
      const { site, by } = read(flush, request.body);
      return { changed: await tools.flush(site, by) };
    });
  };
}
