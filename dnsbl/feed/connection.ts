/**
 * One connection to an event stream over a WebSocket: an AppView's listings, or the firehose.
 *
 * Promise: messages come one at a time, and the next is not read before the last is done with, so a fast
 * source waits in TCP and not in our memory. One that went away without a word is noticed.
 * What a message means, and when to connect again, is the caller's business.
 * https://atproto.com/specs/event-stream
 */
import type { LookupFunction } from 'node:net';
import { createWebSocketStream, WebSocket } from 'ws';

export type ConnectionOptions = {
  url: URL | string;
  signal: AbortSignal;
  /** Of one message; a longer one ends the connection. */
  maxOctets: number;
  /** A ping that is not answered before the next ends the connection. */
  pingEveryMs: number;
  /** Finds the source's addresses; default: the system's resolver. */
  lookup?: LookupFunction | undefined;
  /** Something came, if only the answer to a ping. */
  onHeard?: () => void;
};

const HANDSHAKE_MS = 10_000;
/** Read before their turn; with `maxOctets` this bounds the memory of a source. */
const FRAMES_AHEAD = 4;

/** Text is never valid in an event stream; it comes as octets, which are no CBOR. @throws what the network says */
export async function* messages(options: ConnectionOptions): AsyncGenerator<Buffer> {
  const { url, signal, maxOctets, pingEveryMs, lookup, onHeard } = options;
  const socket = new WebSocket(url, {
    handshakeTimeout: HANDSHAKE_MS,
    maxPayload: maxOctets,
    // A small compressed message can be a large one.
    perMessageDeflate: false,
    followRedirects: false,
    ...(lookup && { lookup }),
  });
  // The stream passes the first error on; one that comes after its end tells nobody anything.
  socket.on('error', () => undefined);
  if (onHeard) socket.on('message', onHeard).on('pong', onHeard).on('ping', onHeard);
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
