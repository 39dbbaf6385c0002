/**
 * What stands below `/xrpc/`: the server of @atproto with its Express router.
 *
 * Made when it is first wanted: at the start by a role that has methods of its own, else by a request. A relay
 * alone has one method, which its peers ask for once a day, and the server with all it brings is 21 MB.
 */
import type { RequestListener } from 'node:http';
import type { Server as XrpcServer } from '@atproto/xrpc-server';
import { httpBody, problem } from '../errors.ts';

export const xrpcPath = '/xrpc/';

type Opened = { server: XrpcServer; router: RequestListener };
type Log = { error(fields: object, text: string): void };

export class Xrpc {
  readonly #addMethods: (server: XrpcServer) => void | Promise<void>;
  readonly #log: Log;
  readonly #alone = new Map<string, RequestListener>();
  #opening: Promise<Opened> | undefined;
  #opened: Opened | undefined;

  /** @param o.addMethods those of every node; called once, but for failures */
  constructor(o: { addMethods: (server: XrpcServer) => void | Promise<void>; log: Log }) {
    this.#addMethods = o.addMethods;
    this.#log = o.log;
  }

  async open(): Promise<XrpcServer> {
    // One that failed, for want of file descriptors perhaps, is none: the next who wants it tries again.
    this.#opening ??= this.#open().catch((error) => {
      this.#opening = undefined;
      throw error;
    });
    return (await this.#opening).server;
  }

  /** For a method that is asked so often that it goes past the router. @param nsid its name */
  answerAlone(nsid: string, listener: RequestListener): void {
    this.#alone.set(`${xrpcPath}${nsid}`, listener);
  }

  /** None before it is open: who subscribes to something has a role for it. */
  get subscriptions(): ReadonlyMap<string, Pick<Subscription, 'wss'>> {
    return this.#opened?.server.subscriptions ?? new Map();
  }

  readonly handle: RequestListener = async (request, reply) => {
    const alone = this.#alone.get(request.url!.split('?', 1)[0]!);
    if (alone) return alone(request, reply);
    try {
      await this.open();
      this.#opened!.router(request, reply);
    } catch (error) {
      this.#log.error({ err: error }, 'a request below /xrpc/ failed');
      if (!reply.headersSent) reply.writeHead(500, { 'content-type': 'application/json' });
      reply.end(JSON.stringify(httpBody(problem('INTERNAL_ERROR'))));
    }
  };

  async #open(): Promise<Opened> {
    const [{ createServer }, { default: express }] = await Promise.all([
      import('@atproto/xrpc-server'),
      import('express'),
    ]);
    const server = createServer();
    const router = express();
    for (const part of [router, server.router]) part.disable('x-powered-by');
    router.use(server.router);
    await this.#addMethods(server);
    this.#opened = { server, router: router as unknown as RequestListener };
    return this.#opened;
  }
}

type Subscription = XrpcServer['subscriptions'] extends Map<string, infer S> ? S : never;
