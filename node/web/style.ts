/** The one stylesheet, for every page that this node shows: the public ones, those behind mailed links, the operator's. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { FastifyInstance } from 'fastify';

export const stylePath = '/assets/style.css';

export function registerStyle(app: FastifyInstance): void {
  const style = readFileSync(join(import.meta.dirname, 'style.css'), 'utf8');
  app.get(stylePath, (_request, reply) =>
    reply.type('text/css; charset=utf-8').header('cache-control', 'public, max-age=3600').send(style),
  );
}
