/**
 * One HTTP port for everything: pages and the send API on fastify, XRPC on @atproto/xrpc-server.
 *
 * xrpc-server brings an Express router and WebSocket servers of its own; requests below `/xrpc/` go
 * there before fastify sees them, and upgrades go to the subscription that they name.
 */
import { createServer, type IncomingMessage, type RequestListener } from 'node:http';
import type { Socket } from 'node:net';
import type { Server as XrpcServer } from '@atproto/xrpc-server';
import express from 'express';
import fastify, { type FastifyInstance } from 'fastify';
import { httpBody, problem } from '../errors.ts';

export type HttpOptions = {
  xrpc: XrpcServer;
  /** Open WebSockets over all subscriptions; the next one is refused with 503. */
  maxSubscribers: number;
  count: (what: string, reason?: string) => void;
  log: { error(fields: object, text: string): void };
};

/** @returns a fastify instance without routes, not yet listening */
export function createHttp({ xrpc, maxSubscribers, count, log }: HttpOptions): FastifyInstance {
  const router = express();
  router.disable('x-powered-by');
  router.use(xrpc.router);

  const app = fastify({
    bodyLimit: 1024 * 1024,
    // A request that drips its header or body is cut off, not kept.
    requestTimeout: 30_000,
    connectionTimeout: 60_000,
    routerOptions: { maxParamLength: 253 },
    serverFactory: (handler) =>
      createServer({ requestTimeout: 30_000, headersTimeout: 10_000 }, (request, reply) =>
        isXrpc(request) ? (router as unknown as RequestListener)(request, reply) : handler(request, reply),
      ),
  });

  let subscribers = 0;
  app.server.on('upgrade', (request, socket: Socket, head) => {
    const subscription = xrpc.subscriptions.get(pathOf(request).slice('/xrpc/'.length));
    if (!subscription) return refuse(socket, '404 Not Found');
    if (subscribers >= maxSubscribers) {
      count('subscribers_refused');
      return refuse(socket, '503 Service Unavailable');
    }
    subscribers += 1;
    socket.once('close', () => {
      subscribers -= 1;
    });
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

/** Ends open WebSockets, so that closing the port does not wait for their readers. */
export function closeSubscribers(xrpc: XrpcServer): void {
  for (const { wss } of xrpc.subscriptions.values()) {
    for (const client of wss.clients) client.close(1001, 'going away');
  }
}

function isXrpc(request: IncomingMessage): boolean {
  return request.url?.startsWith('/xrpc/') ?? false;
}

function pathOf(request: IncomingMessage): string {
  return (request.url ?? '/').split('?', 1)[0]!;
}

function refuse(socket: Socket, status: string): void {
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
}
