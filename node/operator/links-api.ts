/** Makes links to the operator's pages, for whoever may open the control socket. */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { read } from '../http/refusal.ts';
import type { OperatorSessions } from './sessions.ts';

const request = z.strictObject({ name: z.string().min(1).max(100) });

/** A fastify plugin. */
export function operatorLinks(sessions: OperatorSessions): (app: FastifyInstance) => Promise<void> {
  return async (app) => {
    app.post('/operator/links', async (asked) => ({ t: sessions.newLink(read(request, asked.body).name) }));
  };
}
