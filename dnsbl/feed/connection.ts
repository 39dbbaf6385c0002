/**
 * One connection to an AppView's `email.atmos.listing.subscribe`.
 *
 * Promise: messages come one at a time, and the next is not read before the last is done with, so a fast
 * AppView waits in TCP and not in our memory. One that went away without a word is noticed.
 * When to connect again is feed.ts's business.
 */
import { createWebSocketStream, WebSocket } from 'ws';
import { MAX_FRAME_OCTETS } from './frame.ts';

export type ConnectionOptions = {
  url: URL;
  signal: AbortSignal;
  /** Something came, if only the answer to a ping. */
  onHeard: () => void;
  /** A ping that is not answered before the next ends the connection; default 20 s. */
  pingEveryMs?: number;
};

const HANDSHAKE_MS = 10_000;
const FRAMES_AHEAD = 4;

/** @throws what the network says */
export async function* messages({
  url,
  signal,
  onHeard,
  pingEveryMs = 20_000,
}: ConnectionOptions): AsyncGenerator<Buffer> {
  const socket = new WebSocket(url, {
    handshakeTimeout: HANDSHAKE_MS,
    maxPayload: MAX_FRAME_OCTETS,
    // A small compressed message can be a large one.
    perMessageDeflate: false,
    followRedirects: false,
  });
  // The stream passes the first error on; one that comes after its end tells nobody anything.
  socket.on('error', () => undefined);
  socket.on('message', onHeard).on('pong', onHeard).on('ping', onHeard);
  const frames = createWebSocketStream(socket, {
    readableObjectMode: true,
    readableHighWaterMark: FRAMES_AHEAD,
    signal,
  });
  const heart = keepAlive(socket, pingEveryMs);
  try {
    for await (const frame of frames) yield typeof frame === 'string' ? Buffer.from(frame) : frame;
  } finally {
    clearInterval(heart);
    frames.destroy();
    socket.terminate();
  }
}

function keepAlive(socket: WebSocket, everyMs: number): NodeJS.Timeout {
  let isAlive = true;
  socket.on('pong', () => {
    isAlive = true;
  });
  return setInterval(() => {
    // While we read nothing, no pong can reach us.
    if (socket.readyState !== WebSocket.OPEN || socket.isPaused) return;
    if (!isAlive) return socket.terminate();
    isAlive = false;
    socket.ping();
  }, everyMs);
}

/**
 * The operator names the AppView, so any host is allowed, but nobody on the way may change what is listed.
 *
 * @throws Error for what is no base URL, or not encrypted on its way
 */
export function feedUrl(from: string, cursor: number, insecure: boolean): URL {
  if (!URL.canParse(from)) throw new Error(`${from} is no URL`);
  const url = new URL('/xrpc/email.atmos.listing.subscribe', from);
  url.protocol = url.protocol.replace(/^http/, 'ws');
  const isLoopback = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(url.hostname);
  if (url.protocol !== 'ws:' && url.protocol !== 'wss:') throw new Error(`${from} is no https URL`);
  if (url.protocol === 'ws:' && !isLoopback && !insecure) {
    throw new Error(`${from} is not encrypted: use https, or say --insecure`);
  }
  url.searchParams.set('cursor', String(cursor));
  return url;
}
