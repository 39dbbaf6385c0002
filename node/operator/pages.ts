/**
 * The operator's pages: the queue, with the same acts as the command line.
 *
 * They stand on a listener of their own, which a firewall keeps from the public. Promise: nothing is shown or
 * done without a session (sessions.ts); a form of another site changes nothing (SameSite, and the Origin is
 * compared); a GET never changes anything.
 */
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import { z } from 'zod';
import { durationMs } from '../duration.ts';
import { httpBody } from '../errors.ts';
import { Refusal, read, refuse } from '../http/refusal.ts';
import { withoutSchemas } from '../http/without-schemas.ts';
import { type Html, html, textOf } from '../web/html.ts';
import { layout } from '../web/layout.ts';
import { registerStyle, stylePath } from '../web/style.ts';
import { selection } from './queue-api.ts';
import { loginPage, messagePage, navigation, queuePage, recipientsPage } from './queue-pages.ts';
import { type ActRequest, acts, type QueueTools } from './queue-tools.ts';
import type { OperatorSessions } from './sessions.ts';

export type OperatorPagesOptions = {
  tools: QueueTools;
  sessions: OperatorSessions;
  /** Of the cooperative, for the head of each page. */
  name: string;
  log: Pick<Logger, 'error'>;
  now: () => number;
};

const cookieName = 'atmos-operator';

/** @returns a fastify instance, not yet listening */
export function operatorPages(o: OperatorPagesOptions): FastifyInstance {
  const app = fastify({ ...withoutSchemas, bodyLimit: 64 * 1024, requestTimeout: 30_000 });
  app.addContentTypeParser(
    'application/x-www-form-urlencoded',
    { parseAs: 'string' },
    (_request, body, done) => done(null, new URLSearchParams(body as string)),
  );
  protect(app, o);
  routes(app, o);
  return app;
}

function protect(app: FastifyInstance, { sessions, log, name }: OperatorPagesOptions): void {
  app.decorateRequest('operator', '');
  app.addHook('onRequest', async (request, reply) => {
    reply.headers({
      'content-security-policy':
        "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
      'x-content-type-options': 'nosniff',
      // Not no-referrer: with it browsers send `Origin: null`, and every form of ours would be another site's.
      'referrer-policy': 'same-origin',
      'cache-control': 'no-store',
    });
    if (request.method === 'POST' && !isSameOrigin(request)) return reply.code(403).send('wrong origin');
    const operator = sessions.operatorOf(cookieOf(request) ?? '');
    request.setDecorator('operator', operator ?? '');
    const isOpen = request.routeOptions.url === '/login' || request.routeOptions.url === stylePath;
    if (operator === undefined && !isOpen) {
      const words = html`<p>Run <code>atmos operator link</code> on the machine of the node, and open what it prints.</p>`;
      return page(reply.code(403), name, 'Who are you?', words);
    }
  });
  app.setErrorHandler((error: Error & { statusCode?: number }, _request, reply) => {
    if (error instanceof Refusal) {
      const { error: words } = httpBody(error.problem);
      return page(reply.code(error.problem.entry.http), name, 'Not done', html`<p>${words}</p>`);
    }
    if ((error.statusCode ?? 500) < 500)
      return page(reply.code(error.statusCode!), name, 'Not done', html`<p>${error.message}</p>`);
    log.error({ err: error }, 'an operator page failed');
    return page(reply.code(500), name, 'It failed', html`<p>The log of the node says why.</p>`);
  });
}

function routes(app: FastifyInstance, o: OperatorPagesOptions): void {
  const { tools, sessions, name, now } = o;
  registerStyle(app);
  app.get<{ Querystring: { t?: string } }>('/login', (request, reply) =>
    page(reply, name, 'Operator', loginPage(request.query.t ?? '')),
  );
  app.post<{ Body: URLSearchParams }>('/login', (request, reply) => {
    const session = sessions.redeem(request.body?.get('t') ?? '');
    if (!session)
      return page(
        reply.code(403),
        name,
        'This link is over',
        html`<p>Make a new one: <code>atmos operator link</code>.</p>`,
      );
    const cookie = `${cookieName}=${session}; HttpOnly; SameSite=Strict; Path=/; Max-Age=43200`;
    return reply.header('set-cookie', cookie).redirect('/', 303);
  });
  app.post('/logout', (request, reply) => {
    sessions.end(cookieOf(request) ?? '');
    return reply.redirect('/login', 303);
  });

  app.get('/', async (_request, reply) =>
    page(reply, name, 'Queue', queuePage(await tools.overview(), now())),
  );
  app.get('/recipients', async (request, reply) => {
    // Not request.query, which joins what a form says twice.
    const filters = new URLSearchParams(request.url.split('?', 2)[1]);
    const cursor = filters.get('cursor');
    const found = await tools.list(selectionOf(filters, now()), { limit: 100, ...(cursor && { cursor }) });
    return page(reply, name, 'Recipients', recipientsPage(found, filters, now()));
  });
  app.get<{ Params: { id: string } }>('/messages/:id', async (request, reply) => {
    const message = await tools.show(request.params.id);
    if (!message) return page(reply.code(404), name, 'Unknown', html`<p>There is no such message.</p>`);
    return page(reply, name, message.queueId, messagePage(message, now()));
  });
  app.post<{ Body: URLSearchParams }>('/flush', async (request, reply) => {
    const by = request.getDecorator<string>('operator');
    const changed = await tools.flush(request.body?.get('site') ?? '', by);
    return page(reply, name, 'Done', html`<p>Due now: ${changed}. <a href="/">Back to the queue</a></p>`);
  });
  app.post<{ Body: URLSearchParams }>('/act', async (request, reply) => {
    const by = request.getDecorator<string>('operator');
    const wanted = actOf(request.body ?? new URLSearchParams(), by, now());
    const changed = await tools.act(wanted);
    const why =
      changed === 0 &&
      wanted.act === 'release' &&
      'Mail of a member who may not send goes on when that is over. ';
    const words = html`<p>Changed: ${changed}. ${why}<a href="/">Back to the queue</a></p>`;
    return page(reply, name, 'Done', words);
  });
}

/** Empty fields of a form say nothing. @throws Refusal */
function selectionOf(form: URLSearchParams, now: number): ActRequest['selection'] {
  const ids = form.getAll('id').filter(Boolean);
  const states = form.getAll('state').filter(Boolean);
  const one = (key: string) => form.get(key)?.trim() || undefined;
  return read(selection, {
    ...(ids.length > 0 && { ids }),
    ...(states.length > 0 && { states }),
    did: one('did'),
    keyId: one('keyId'),
    before: beforeOf(one('olderThan'), now),
    domain: one('domain'),
    recipientDomain: one('recipientDomain'),
    site: one('site'),
  });
}

/** @throws Refusal */
function beforeOf(age: string | undefined, now: number): number | undefined {
  if (age === undefined) return undefined;
  return now - (durationMs(age) ?? refuse('INVALID_REQUEST', `${age}: write an age as 30m, 2h or 3d.`));
}

/** @throws Refusal */
function actOf(form: URLSearchParams, by: string, now: number): ActRequest {
  const act = read(z.enum(acts), form.get('act'));
  const reason = form.get('reason')?.trim() || undefined;
  // Without a host, by the way that DNS names again.
  const to = act === 'reroute' ? { to: form.get('to')?.trim() || null } : {};
  return { act, selection: selectionOf(form, now), by, ...(reason && { reason }), ...to };
}

function page(reply: FastifyReply, cooperative: string, title: string, body: Html): FastifyReply {
  const isIn = reply.request.getDecorator<string>('operator') !== '';
  const frame = { title, cooperative, ...(isIn && { nav: navigation }) };
  return reply.type('text/html; charset=utf-8').send(textOf(layout(frame, body)));
}

/** Browsers send Origin with every POST; a program that sends none is not one of our forms. */
function isSameOrigin(request: FastifyRequest): boolean {
  const { origin, host } = request.headers;
  return origin === `http://${host}` || origin === `https://${host}`;
}

function cookieOf(request: FastifyRequest): string | undefined {
  const cookies = request.headers.cookie?.split(/;\s*/) ?? [];
  return cookies.find((cookie) => cookie.startsWith(`${cookieName}=`))?.slice(cookieName.length + 1);
}
