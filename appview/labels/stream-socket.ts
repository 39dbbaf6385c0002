/**
 * The client's side of a peer's event stream: where it may be connected to, and when it is given up.
 *
 * Promise: connects only to addresses that identity/address.ts allows, takes no message over maxFrameBytes, and
 * notices a peer that went away without a word.
 */
import { isIP } from 'node:net';
import { WebSocket } from 'ws';
import { type AddressRules, addressAllowed } from '../identity/address.ts';
import { checkedLookup, FetchRefused } from '../identity/fetch.ts';
import { maxFrameBytes } from './codec.ts';

const handshakeTimeoutMs = 10_000;

export function connect(url: URL, rules: AddressRules, headers: Record<string, string> = {}): WebSocket {
  const socket = new WebSocket(url, {
    headers,
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

/** @param o.method NSID of the subscription. @throws FetchRefused */
export function streamUrl(
  o: { endpoint: string; method: string; cursor: number | undefined },
  rules: AddressRules,
): URL {
  const { endpoint, method, cursor } = o;
  if (!URL.canParse(endpoint)) throw new FetchRefused('not a URL');
  const url = new URL(`/xrpc/${method}`, endpoint);
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

/** Silence for so long brings a ping, and twice as long ends the connection. */
export function endWhenSilent(socket: WebSocket, silenceMs: number): NodeJS.Timeout {
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
