/**
 * The labeler's two public methods: `com.atproto.label.queryLabels` and `.subscribeLabels`.
 *
 * Promise: a subscriber gets each label after its cursor exactly once and in order; each frame is encoded
 * once for all subscribers. Who stops reading costs a socket with one batch of frames for a minute and is
 * then cut off; meanwhile and afterwards the log waits for it on disk, where everyone reads at its own pace.
 * Who was away so long that history behind its cursor is gone is told so (OutdatedCursor).
 * How many may be connected is the HTTP server's limit.
 */
import type { IncomingMessage } from 'node:http';
import { ErrorFrame, MessageFrame, XrpcStreamServer } from '@atproto/xrpc-server';
import type { WebSocket } from 'ws';
import type { Database } from '../../appview/database.ts';
import { com } from '../../lexicons/index.ts';
import { streamCursor } from '../web/stream-cursor.ts';
import type { Xrpc } from '../web/xrpc.ts';
import type { IssuedLabels } from './issued-labels.ts';
import type { LabelsFrame } from './label-frame.ts';
import { LabelQueries } from './label-query.ts';
import { queryRoute } from './query-route.ts';

export type LabelerXrpcOptions = {
  /** node.db. */
  db: Database.Database;
  issued: IssuedLabels;
  now: () => number;
  count: (what: string, reason?: string) => void;
  log: { error(fields: object, text: string): void };
  /** A subscriber that answers no ping between two of these is cut off. Default 30,000. */
  heartbeatMs?: number;
};

/** What one subscriber has under way at most. */
const batchBytes = 64 * 1024;

export async function registerLabeler(xrpc: Xrpc, options: LabelerXrpcOptions): Promise<void> {
  const { db, issued, now, log } = options;
  const queries = new LabelQueries(db, issued);
  xrpc.answerAlone(com.atproto.label.queryLabels.$nsid, queryRoute({ queries, did: issued.did, now, log }));
  const handler = (request: IncomingMessage, signal: AbortSignal, socket: WebSocket) =>
    subscription(request, signal, socket, options);
  // Subscribers have nothing to say to us. Not `server.add`: that encodes each frame anew for every subscriber.
  const stream = new XrpcStreamServer({ noServer: true, maxPayload: 1_024, handler });
  (await xrpc.open()).subscriptions.set(com.atproto.label.subscribeLabels.$nsid, stream);
}

/** Yields what is said once; the labels themselves go out in batches. */
async function* subscription(
  request: IncomingMessage,
  signal: AbortSignal,
  socket: WebSocket,
  { issued, count, heartbeatMs = 30_000 }: LabelerXrpcOptions,
): AsyncGenerator<ErrorFrame | MessageFrame, void, undefined> {
  const cursor = streamCursor(request);
  if (cursor === 'invalid') {
    yield new ErrorFrame({ error: 'InvalidRequest', message: 'cursor must be a non-negative integer' });
    return;
  }
  if (cursor !== undefined && cursor > issued.newest) {
    yield new ErrorFrame({ error: 'FutureCursor', message: `the newest label is ${issued.newest}` });
    return;
  }
  const from = cursor ?? issued.newest;
  const endHeartbeat = beat(socket, heartbeatMs, () => count('subscribers_dropped', 'unresponsive'));
  try {
    if (issued.isOutdated(from)) yield outdated();
    for await (const frames of issued.follow(from, signal)) {
      for (const batch of batches(frames)) if (!(await sendAll(request, socket, batch, signal))) return;
    }
  } finally {
    endHeartbeat();
  }
}

function outdated(): MessageFrame {
  const message = 'labels behind this cursor are gone; queryLabels has what stands';
  return new MessageFrame({ name: 'OutdatedCursor', message }, { type: '#info' });
}

function* batches(frames: readonly LabelsFrame[]): Generator<LabelsFrame[], void, undefined> {
  let batch: LabelsFrame[] = [];
  let bytes = 0;
  for (const frame of frames) {
    batch.push(frame);
    bytes += frame.bytes.length;
    if (bytes < batchBytes) continue;
    yield batch;
    batch = [];
    bytes = 0;
  }
  if (batch.length > 0) yield batch;
}

/**
 * Past the WebSocket's own sender, which would make each message anew: whole messages, so its pings fall between.
 *
 * Resolves when the batch is with the system, so a slow reader holds one batch.
 *
 * @returns false when the subscriber is gone
 */
function sendAll(
  { socket: raw }: IncomingMessage,
  socket: WebSocket,
  batch: readonly LabelsFrame[],
  signal: AbortSignal,
): Promise<boolean> {
  return new Promise((resolve) => {
    const gone = () => resolve(false);
    const sent = (error?: Error | null) => {
      signal.removeEventListener('abort', gone);
      resolve(!error);
    };
    // After our goodbye nothing may follow.
    if (signal.aborted || socket.readyState !== socket.OPEN) return gone();
    signal.addEventListener('abort', gone);
    raw.cork();
    for (const { message } of batch.slice(0, -1)) raw.write(message);
    raw.write(batch.at(-1)!.message, sent);
    raw.uncork();
  });
}

/**
 * Pings wait behind unread frames, so this also ends a subscriber that is connected but does not read. Where we were
 * too busy to look in time, we were too busy to hear its answer: nobody is judged then.
 */
function beat(socket: WebSocket, everyMs: number, onDead: () => void): () => void {
  let isAlive = true;
  let lookedAt = performance.now();
  socket.on('pong', () => {
    isAlive = true;
  });
  const timer = setInterval(() => {
    const sinceMs = performance.now() - lookedAt;
    lookedAt += sinceMs;
    if (isAlive || sinceMs > 1.2 * everyMs) {
      isAlive = false;
      socket.ping();
      return;
    }
    onDead();
    socket.terminate();
  }, everyMs);
  return () => clearInterval(timer);
}
