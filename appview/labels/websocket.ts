/**
 * A peer's `com.atproto.label.subscribeLabels` over a WebSocket.
 *
 * Promise: connects only to addresses that identity/address.ts allows, holds a few frames of at most
 * maxFrameBytes at a time while the consumer works, and notices a peer that went away without a word.
 * What is not a frame is dropped and counted. When to connect again is the consumer's business.
 */
import { on } from 'node:events';
import { isIP } from 'node:net';
import { WebSocket } from 'ws';
import { type AddressRules, addressAllowed } from '../identity/address.ts';
import { checkedLookup, FetchRefused } from '../identity/fetch.ts';
import { decodeFrame, type Frame, maxFrameBytes } from './codec.ts';
import type { LabelSource } from './source.ts';
import { unlessAborted } from './unless-aborted.ts';

export type WsLabelSourceOptions = {
  /** Base URL of the labeler, http(s) or ws(s); asked before each connection, for a peer may move. */
  endpoint: () => Promise<string>;
  rules: AddressRules;
  count: (what: string, reason?: string) => void;
  /** Silence for so long brings a ping, and twice as long ends the connection; default 30 s. */
  silenceMs?: number;
};

const handshakeTimeoutMs = 10_000;

export class WsLabelSource implements LabelSource {
  readonly #options: WsLabelSourceOptions;

  constructor(options: WsLabelSourceOptions) {
    this.#options = options;
  }

  /** @throws FetchRefused when the rules forbid the endpoint, and what the network says otherwise */
  async follow(
    cursor: number | undefined,
    onFrame: (frame: Frame) => Promise<void>,
    signal: AbortSignal,
  ): Promise<void> {
    const endpoint = await unlessAborted(this.#options.endpoint(), signal);
    const url = streamUrl(endpoint, cursor, this.#options.rules);
    const socket = connect(url, this.#options.rules);
    const watch = endWhenSilent(socket, this.#options.silenceMs ?? 30_000);
    try {
      await this.#read(socket, onFrame, signal);
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      clearInterval(watch);
      socket.terminate();
    }
  }

  async #read(
    socket: WebSocket,
    onFrame: (frame: Frame) => Promise<void>,
    signal: AbortSignal,
  ): Promise<void> {
    // Above the high mark the socket is paused, so that a fast peer waits in TCP and not in our memory.
    const messages = on(socket, 'message', {
      ...{ signal, close: ['close'], highWaterMark: 4, lowWaterMark: 1 },
    });
    for await (const [bytes, isBinary] of messages as AsyncIterable<[Buffer, boolean]>) {
      const frame = isBinary ? decodeFrame(bytes) : undefined;
      if (frame) await onFrame(frame);
      else this.#options.count('label_frames_dropped', 'malformed');
      if (frame?.kind === 'error') return;
    }
  }
}

function connect(url: URL, rules: AddressRules): WebSocket {
  const socket = new WebSocket(url, {
    handshakeTimeout: handshakeTimeoutMs,
    maxPayload: maxFrameBytes,
    // A small compressed message can be a large one.
    perMessageDeflate: false,
    lookup: checkedLookup(rules),
  });
  // The reader hears of errors while it reads; one after that must not end the process.
  socket.on('error', () => undefined);
  return socket;
}

/** @throws FetchRefused */
function streamUrl(endpoint: string, cursor: number | undefined, rules: AddressRules): URL {
  if (!URL.canParse(endpoint)) throw new FetchRefused('not a URL');
  const url = new URL('/xrpc/com.atproto.label.subscribeLabels', endpoint);
  url.protocol = url.protocol.replace(/^http/, 'ws');
  const loopback = rules.allowLoopback || rules.loopbackOnly;
  if (url.protocol !== 'wss:' && !(url.protocol === 'ws:' && loopback)) {
    throw new FetchRefused(`${url.protocol} is not connected to`);
  }
  // An address in the URL itself never passes through `lookup`.
  const literal = url.hostname.replace(/^\[|\]$/g, '');
  if (isIP(literal) && !addressAllowed(literal, rules)) throw new FetchRefused(`${literal} is not public`);
  if (cursor !== undefined) url.searchParams.set('cursor', String(cursor));
  return url;
}

function endWhenSilent(socket: WebSocket, silenceMs: number): NodeJS.Timeout {
  let heard = true;
  const alive = () => {
    heard = true;
  };
  socket.on('message', alive).on('pong', alive).on('ping', alive);
  return setInterval(() => {
    if (!heard && socket.readyState === socket.OPEN) socket.terminate();
    if (socket.readyState === socket.OPEN && !socket.isPaused) socket.ping();
    heard = socket.isPaused;
  }, silenceMs);
}
