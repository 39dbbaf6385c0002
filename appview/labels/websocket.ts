/**
 * A peer's labels over the network: `com.atproto.label.subscribeLabels` on a WebSocket, `queryLabels` beside it.
 *
 * Promise: connects only to addresses that identity/address.ts allows, holds a few frames of at most
 * maxFrameBytes at a time while the consumer works, and notices a peer that went away without a word, or whose
 * document names another address. What is not a frame is told of as broken. When to connect again is the
 * consumer's business.
 */
import { on } from 'node:events';
import type { WebSocket } from 'ws';
import type { AddressRules } from '../identity/address.ts';
import type { GuardedFetch } from '../identity/fetch.ts';
import { decodeFrame, type Frame } from './codec.ts';
import type { LabelAnswer, LabelQuestion, LabelSource } from './source.ts';
import { connect, endWhenSilent, streamUrl } from './stream-socket.ts';
import { unlessAborted } from './unless-aborted.ts';

export type WsLabelSourceOptions = {
  /** Base URL of the labeler, http(s) or ws(s); asked before each connection, for a peer may move. */
  endpoint: () => Promise<string>;
  rules: AddressRules;
  /** For queryLabels. */
  fetch: GuardedFetch;
  count: (what: string, reason?: string) => void;
  /** Silence for so long brings a ping, and twice as long ends the connection; default 30 s. */
  silenceMs?: number;
  /** So often the endpoint is asked for while a connection stands; default 5 min. */
  endpointEveryMs?: number;
};

const subscribeLabels = 'com.atproto.label.subscribeLabels';
/** What the lexicon of queryLabels allows. */
const labelsPerPage = 250;
/** 250 labels with the longest URIs, in JSON. */
const maxPageBytes = 1024 * 1024;

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
    const url = streamUrl({ endpoint, method: subscribeLabels, cursor }, this.#options.rules);
    const socket = connect(url, this.#options.rules);
    const silence = endWhenSilent(socket, this.#options.silenceMs ?? 30_000);
    const move = this.#endWhenMoved(socket, endpoint);
    try {
      await this.#read(socket, onFrame, signal);
    } catch (error) {
      if (signal.aborted) return;
      if (!isTooLarge(error)) throw error;
      await onFrame({ kind: 'broken', why: 'too_large' });
    } finally {
      clearInterval(silence);
      clearInterval(move);
      socket.terminate();
    }
  }

  /** @throws FetchRefused, FetchFailed, and Error when the answer is no page of labels */
  async query({ uriPatterns, src, cursor }: LabelQuestion, signal: AbortSignal): Promise<LabelAnswer> {
    const endpoint = await unlessAborted(this.#options.endpoint(), signal);
    const url = new URL('/xrpc/com.atproto.label.queryLabels', endpoint);
    for (const pattern of uriPatterns) url.searchParams.append('uriPatterns', pattern);
    url.searchParams.set('sources', src);
    url.searchParams.set('limit', String(labelsPerPage));
    if (cursor !== undefined) url.searchParams.set('cursor', cursor);
    const headers = { accept: 'application/json' };
    const { status, body } = await this.#options.fetch(url.href, { maxBytes: maxPageBytes, headers, signal });
    if (status !== 200) throw new Error(`queryLabels answered ${status}`);
    return pageOf(JSON.parse(Buffer.from(body).toString('utf8')));
  }

  /** A peer that moved is still connected to at its old address, which may say nothing any more. */
  #endWhenMoved(socket: WebSocket, connectedTo: string): NodeJS.Timeout {
    return setInterval(
      async () => {
        // Who cannot be asked has not moved as far as we know.
        const endpoint = await this.#options.endpoint().catch(() => connectedTo);
        if (endpoint === connectedTo) return;
        this.#options.count('label_stream_moved');
        socket.terminate();
      },
      this.#options.endpointEveryMs ?? 5 * 60_000,
    );
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
      const frame = (isBinary ? decodeFrame(bytes) : undefined) ?? { kind: 'broken', why: 'malformed' };
      await onFrame(frame);
      if (frame.kind === 'error') return;
    }
  }
}

function isTooLarge(error: unknown): boolean {
  return (error as { code?: unknown }).code === 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH';
}

function pageOf(answer: unknown): LabelAnswer {
  const { labels, cursor } = (answer ?? {}) as { labels?: unknown; cursor?: unknown };
  if (!Array.isArray(labels) || labels.length > labelsPerPage) throw new Error('no page of labels');
  return typeof cursor === 'string' && cursor.length <= 4096 ? { labels, cursor } : { labels };
}
