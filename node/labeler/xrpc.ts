/**
 * The labeler's two public methods: `com.atproto.label.queryLabels` and `.subscribeLabels`.
 *
 * Promise: a subscriber gets each label after its cursor exactly once and in order; each frame is encoded
 * once for all subscribers; a subscriber that stops reading costs a socket for a minute and no memory,
 * because everyone reads the log at its own pace.
 * How many may be connected is the HTTP server's limit.
 */
import type { IncomingMessage } from 'node:http';
import {
  ErrorFrame,
  InvalidRequestError,
  MessageFrame,
  type Server,
  XrpcStreamServer,
} from '@atproto/xrpc-server';
import type { WebSocket } from 'ws';
import type { Database } from '../../appview/database.ts';
import { com } from '../../lexicons/index.ts';
import type { IssuedLabel, IssuedLabels } from './issued-labels.ts';
import { queryLabels } from './label-query.ts';

export type LabelerXrpcOptions = {
  /** node.db. */
  db: Database.Database;
  issued: IssuedLabels;
  now: () => number;
  count: (what: string, reason?: string) => void;
  /** A subscriber that answers no ping between two of these is cut off. Default 30,000. */
  heartbeatMs?: number;
};

export function registerLabeler(server: Server, options: LabelerXrpcOptions): void {
  registerQuery(server, options);
  registerSubscription(server, options);
}

function registerQuery(server: Server, { db, issued, now }: LabelerXrpcOptions): void {
  server.add(com.atproto.label.queryLabels.main, {
    handler: async ({ params }) => {
      const { uriPatterns, sources, limit = 50, cursor } = params;
      const isOurs = !sources || (sources as string[]).includes(issued.did);
      const page = queryLabels(db, { uriPatterns, limit, ...(cursor && { cursor }) }, now());
      if (page.kind === 'bad-query') throw new InvalidRequestError(page.why);
      const { labels, cursor: next } = isOurs ? page : { labels: [] };
      return {
        encoding: 'application/json' as const,
        body: { labels: labels as com.atproto.label.defs.Label[], ...(next && { cursor: next }) },
      };
    },
  });
}

/** Not `server.add`: that encodes each frame anew for every subscriber (facts: half the fan-out). */
function registerSubscription(server: Server, options: LabelerXrpcOptions): void {
  const handler = (request: IncomingMessage, signal: AbortSignal, socket: WebSocket) =>
    frames(request, signal, socket, options);
  // Subscribers have nothing to say to us.
  const stream = new XrpcStreamServer({ noServer: true, maxPayload: 1_024, handler });
  server.subscriptions.set(com.atproto.label.subscribeLabels.$nsid, stream);
}

async function* frames(
  request: IncomingMessage,
  signal: AbortSignal,
  socket: WebSocket,
  { issued, count, heartbeatMs = 30_000 }: LabelerXrpcOptions,
): AsyncGenerator<ErrorFrame | SharedFrame, void, undefined> {
  const cursor = cursorOf(request);
  if (cursor === 'invalid') {
    yield new ErrorFrame({ error: 'InvalidRequest', message: 'cursor must be a non-negative integer' });
    return;
  }
  if (cursor !== undefined && cursor > issued.newest) {
    yield new ErrorFrame({ error: 'FutureCursor', message: `the newest label is ${issued.newest}` });
    return;
  }
  const endHeartbeat = beat(socket, heartbeatMs, () => count('subscribers_dropped', 'unresponsive'));
  try {
    for await (const entry of issued.follow(cursor ?? issued.newest, signal)) yield new SharedFrame(entry);
  } finally {
    endHeartbeat();
  }
}

/** A message whose bytes are made once, however many read it. */
class SharedFrame extends MessageFrame {
  readonly #entry: IssuedLabel;

  constructor(entry: IssuedLabel) {
    super({ seq: entry.seq, labels: [] }, { type: '#labels' });
    this.#entry = entry;
  }

  override toBytes(): Uint8Array {
    return this.#entry.frame;
  }
}

function cursorOf(request: IncomingMessage): number | 'invalid' | undefined {
  const text = new URL(request.url ?? '', 'http://localhost').searchParams.get('cursor');
  // An empty value is what clients send for "none".
  if (text === null || text === '') return undefined;
  const cursor = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  return Number.isSafeInteger(cursor) ? cursor : 'invalid';
}

/** Pings wait behind unread frames, so this also ends a subscriber that is connected but does not read. */
function beat(socket: WebSocket, everyMs: number, onDead: () => void): () => void {
  let isAlive = true;
  socket.on('pong', () => {
    isAlive = true;
  });
  const timer = setInterval(() => {
    if (isAlive) {
      isAlive = false;
      socket.ping();
      return;
    }
    onDead();
    socket.terminate();
  }, everyMs);
  return () => clearInterval(timer);
}
