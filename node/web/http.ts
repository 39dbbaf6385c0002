/**
 * One HTTP port for everything: pages and the send API on fastify, XRPC on @atproto/xrpc-server.
 *
 * xrpc-server brings an Express router and WebSocket servers of its own; requests below `/xrpc/` go
 * there (xrpc.ts) before fastify sees them, and upgrades go to the subscription that they name.
 */
import { createServer, type IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import fastify, { type FastifyInstance, type FastifyReply } from 'fastify';
import { httpBody, problem } from '../errors.ts';
import { withoutSchemas } from '../http/without-schemas.ts';
import { SubscriberPlaces } from './subscriber-places.ts';
import { type Xrpc, xrpcPath } from './xrpc.ts';

export type HttpOptions = {
  xrpc: Xrpc;
  /** Open WebSockets over all public subscriptions; the next one is refused with 503 (subscriber-places.ts). */
  maxSubscribers: number;
  /** Reverse proxies whose X-Forwarded-For is believed. Default none. */
  proxies?: readonly string[];
  count: (what: string, reason?: string) => void;
  log: { error(fields: object, text: string): void };
};

/** @returns a fastify instance without routes, not yet listening */
export function createHttp({ xrpc, maxSubscribers, proxies = [], count, log }: HttpOptions): FastifyInstance {
  const app = fastify({
    ...withoutSchemas,
    trustProxy: proxies.length > 0 && [...proxies],
    bodyLimit: 1024 * 1024,
    // A request that drips its header or body is cut off, not kept.
    requestTimeout: 30_000,
    connectionTimeout: 60_000,
    routerOptions: { maxParamLength: 253 },
    serverFactory: (handler) =>
      createServer({ requestTimeout: 30_000, headersTimeout: 10_000 }, (request, reply) => {
        request.url = originForm(request.url);
        if (isXrpc(request)) xrpc.handle(request, reply);
        else handler(request, reply);
      }),
    // A URL that does not parse: no route was found, so no route's error handler is asked.
    frameworkErrors: (error, _request, reply: FastifyReply) => {
      reply.code(400).send(httpBody(problem('INVALID_REQUEST', error.message)));
    },
  });

  const places = new SubscriberPlaces(maxSubscribers, proxies);
  app.server.on('upgrade', (request, socket: Socket, head) => {
    const path = pathOf(request);
    const subscription = path.startsWith(xrpcPath) && xrpc.subscriptions.get(path.slice(xrpcPath.length));
    if (!subscription) return refuse(socket, '404 Not Found');
    if (closing.has(app.server) || !places.take(subscription.wss, request, socket)) {
      count('subscribers_refused');
      return refuse(socket, '503 Service Unavailable');
    }
    subscription.wss.handleUpgrade(request, socket, head, (ws) => {
      subscription.wss.emit('connection', ws, request);
    });
  });

  app.addHook('onSend', async (_request, reply) => {
    reply.headers({
      'content-security-policy':
        "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'no-referrer',
    });
  });
  app.setNotFoundHandler((_request, reply) => {
    reply.code(404).send(httpBody(problem('NOT_FOUND')));
  });
  app.setErrorHandler((error: Error & { statusCode?: number }, request, reply) => {
    const status = error.statusCode ?? 500;
    if (status === 413)
      return reply.code(413).send(httpBody(problem('MESSAGE_TOO_LARGE', 'The limit is 1 MiB.')));
    if (status < 500) return reply.code(400).send(httpBody(problem('INVALID_REQUEST', error.message)));
    log.error({ err: error, route: request.routeOptions.url }, 'a request failed');
    return reply.code(500).send(httpBody(problem('INTERNAL_ERROR')));
  });
  return app;
}

/**
 * Takes nothing new, lets requests under way end for up to 3 s, and then ends what is left.
 *
 * A WebSocket gets a second to answer our goodbye: one whose reader is gone would keep the port open.
 */
export async function closeHttp(app: FastifyInstance, xrpc: Xrpc): Promise<void> {
  closing.add(app.server);
  const sockets = () => [...xrpc.subscriptions.values()].flatMap(({ wss }) => [...wss.clients]);
  for (const socket of sockets()) socket.close(1001, 'going away');
  const goodbye = setTimeout(() => {
    for (const socket of sockets()) socket.terminate();
  }, goodbyeMs);
  const patience = setTimeout(() => app.server.closeAllConnections(), requestGraceMs);
  app.server.closeIdleConnections();
  await app.close();
  clearTimeout(goodbye);
  clearTimeout(patience);
}

/** Servers that take no more subscribers, though a connection from before may still ask. */
const closing = new WeakSet<object>();
const goodbyeMs = 1_000;
const requestGraceMs = 3_000;

/** RFC 9112 §3.2.2: a server accepts the absolute form, `GET http://host/path`, too. */
function originForm(url: string | undefined): string {
  if (url === undefined || url.startsWith('/') || !URL.canParse(url)) return url ?? '/';
  const { pathname, search } = new URL(url);
  return pathname + search;
}

function isXrpc(request: IncomingMessage): boolean {
  return request.url?.startsWith(xrpcPath) ?? false;
}

function pathOf(request: IncomingMessage): string {
  return originForm(request.url).split('?', 1)[0]!;
}

function refuse(socket: Socket, status: string): void {
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
}
