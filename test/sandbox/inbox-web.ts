/**
 * The web side of the sandbox: the inbox's pages, its JSON, and the control of the DNS world.
 *
 *   GET    /api/messages          newest first: id, from, to, subject, receivedAt, mailFrom
 *   GET    /api/messages/:id      the same with bytes, tls and the verdict on each DKIM signature
 *   GET    /api/messages/:id/raw  the message as it came
 *   DELETE /api/messages          forgets all
 *   GET    /api/dns               all record sets: name, type, values
 *   PUT    /api/dns               replaces one record set; no values takes it away
 *
 * No login: it listens on 127.0.0.1 and answers only to names of this machine, so that a page elsewhere
 * cannot reach it by DNS rebinding. It allows no other origin, so none can write.
 */
import fastify, { type FastifyInstance, type FastifyReply } from 'fastify';
import { type Html, textOf } from '../../node/web/html.ts';
import type { CaughtMessage, Inbox } from './inbox.ts';
import { listPage, messagePage, notFoundPage, styles } from './inbox-pages.ts';
import { BadRecord, type RecordSet, recordTypes, type Zone } from './zone.ts';

const ownNames = ['127.0.0.1', 'localhost'];

const recordSetSchema = {
  type: 'object',
  required: ['name', 'type', 'values'],
  additionalProperties: false,
  properties: {
    name: { type: 'string', maxLength: 255 },
    type: { enum: recordTypes },
    values: { type: 'array', items: { type: 'string', maxLength: 4096 }, maxItems: 32 },
  },
} as const;

/** A body is as the schema says or is refused; nothing is converted or dropped. */
const exact = { customOptions: { removeAdditional: false, coerceTypes: false } } as const;

export type InboxWeb = { url: string; stop(): Promise<void> };

/**
 * @param port 0 takes a free one
 * @throws when the port is taken
 */
export async function startInboxWeb(o: { inbox: Inbox; zone: Zone; port: number }): Promise<InboxWeb> {
  const app = fastify({ bodyLimit: 256 * 1024, forceCloseConnections: true, ajv: exact });
  guard(app);
  addMessages(app, o.inbox);
  addDns(app, o.zone);
  addPages(app, o.inbox);
  const url = await app.listen({ host: '127.0.0.1', port: o.port });
  return { url, stop: () => app.close() };
}

function guard(app: FastifyInstance): void {
  app.addHook('onRequest', async (request, reply) => {
    if (!ownNames.includes(request.hostname)) {
      return reply.code(421).send({ error: `This server is not ${request.hostname}.` });
    }
  });
  app.addHook('onSend', async (_request, reply) => {
    reply.headers({
      'content-security-policy': "default-src 'none'; style-src 'self'",
      'x-content-type-options': 'nosniff',
      'x-frame-options': 'DENY',
      'referrer-policy': 'no-referrer',
      'cache-control': 'no-store',
    });
  });
}

type ById = { Params: { id: string } };

function addMessages(app: FastifyInstance, inbox: Inbox): void {
  app.get('/api/messages', async () => inbox.messages().map(summaryOf));
  app.delete('/api/messages', async (_request, reply) => {
    inbox.clear();
    return reply.code(204).send();
  });
  app.get<ById>('/api/messages/:id', async ({ params }, reply) => {
    const message = inbox.message(params.id);
    if (!message) return reply.code(404).send({ error: 'no such message' });
    const { tls, raw, signatures } = message;
    return { ...summaryOf(message), tls, bytes: raw.length, signatures: await signatures };
  });
  app.get<ById>('/api/messages/:id/raw', async ({ params }, reply) => {
    const message = inbox.message(params.id);
    if (!message) return reply.code(404).send({ error: 'no such message' });
    return reply.type('message/rfc822').send(message.raw);
  });
}

function summaryOf({ id, from, to, subject, receivedAt, mailFrom }: CaughtMessage) {
  return { id, from, to, subject, receivedAt: new Date(receivedAt).toISOString(), mailFrom };
}

function addDns(app: FastifyInstance, zone: Zone): void {
  app.get('/api/dns', async () => zone.all());
  app.put<{ Body: RecordSet }>('/api/dns', { schema: { body: recordSetSchema } }, async ({ body }, reply) => {
    try {
      zone.set(body.name, body.type, body.values);
    } catch (error) {
      if (error instanceof BadRecord) return reply.code(400).send({ error: error.message });
      throw error;
    }
    return reply.code(204).send();
  });
}

function addPages(app: FastifyInstance, inbox: Inbox): void {
  app.get('/', (_request, reply) => sendPage(reply, listPage(inbox.messages())));
  app.get<ById>('/messages/:id', async ({ params }, reply) => {
    const message = inbox.message(params.id);
    if (!message) return sendPage(reply.code(404), notFoundPage());
    return sendPage(reply, messagePage(message, await message.signatures));
  });
  app.get('/style.css', (_request, reply) => reply.type('text/css; charset=utf-8').send(styles));
}

function sendPage(reply: FastifyReply, page: Html): FastifyReply {
  return reply.type('text/html; charset=utf-8').send(textOf(page));
}
