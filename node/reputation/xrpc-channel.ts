/**
 * The private channel over XRPC: `email.atmos.reputation.subscribe` and `.query`, with service tokens.
 *
 * Promise: who is no peer that we guarantee or endorse hears one and the same refusal, and a peer that stops being
 * one hears nothing more from that moment. A subscriber gets each signal after its cursor in order; a slow one
 * skips what has changed again meanwhile, and costs no memory. Of one peer the newest two streams stand.
 * As a client: one connection to the peer's `#atproto_labeler`, a few frames at a time.
 */
import { on } from 'node:events';
import type { IncomingMessage } from 'node:http';
import type { Keypair } from '@atproto/crypto';
import { AuthRequiredError, ErrorFrame, MessageFrame, XrpcStreamServer } from '@atproto/xrpc-server';
import type { AddressRules } from '../../appview/identity/address.ts';
import { decodeSignalFrame, type Signal, type SignalFrame } from '../../appview/labels/signal.ts';
import { connect, endWhenSilent, streamUrl } from '../../appview/labels/stream-socket.ts';
import { unlessAborted } from '../../appview/labels/unless-aborted.ts';
import { email } from '../../lexicons/index.ts';
import { streamCursor } from '../web/stream-cursor.ts';
import { asksWhoCalls, knowsCaller } from '../web/subscriber-places.ts';
import type { Xrpc } from '../web/xrpc.ts';
import type { ReputationChannel, SignalListener, SignalLog } from './channel.ts';
import { type Callers, serviceToken } from './service-token.ts';

export type XrpcChannelOptions = {
  /** Ours. */
  did: string;
  /** Of `#atproto_label`, as it is now: signs our tokens. */
  key: () => Keypair;
  xrpc: Pick<Xrpc, 'open'>;
  callers: Pick<Callers, 'callerOf'>;
  /** Asked before each message: a stance may have changed. */
  serves: (did: string) => boolean;
  /** Base URL of the peer's `#atproto_labeler`. */
  endpointOf: (peer: string) => Promise<string>;
  rules: AddressRules;
  now: () => number;
  /** Silence for so long brings a ping, and twice as long ends a connection; default 30 s. */
  silenceMs?: number;
};

export const subscribeMethod = email.atmos.reputation.subscribe.$nsid;
export const queryMethod = email.atmos.reputation.query.$nsid;

const signalsPerMessage = 50;
const streamsPerPeer = 2;

export class XrpcChannel implements ReputationChannel {
  readonly #o: XrpcChannelOptions;
  /** By peer, oldest first: what ends each. */
  readonly #streams = new Map<string, AbortController[]>();

  constructor(options: XrpcChannelOptions) {
    this.#o = options;
  }

  async publish(log: SignalLog): Promise<void> {
    const server = await this.#o.xrpc.open();
    const handler = (request: IncomingMessage, signal: AbortSignal) =>
      this.#subscription(request, signal, log);
    // Subscribers have nothing to say to us.
    const stream = new XrpcStreamServer({ noServer: true, maxPayload: 1_024, handler });
    asksWhoCalls(stream.wss);
    server.subscriptions.set(subscribeMethod, stream);
    server.add(email.atmos.reputation.query.main, {
      handler: async ({ params, req }) => {
        const caller = await this.#o.callers.callerOf(req.headers.authorization, queryMethod);
        if (caller === undefined) throw refusal();
        const { subjects, limit = 50, cursor = 0 } = params;
        const { seq, signals } = await log.inForce({ limit, after: cursor, ...(subjects && { subjects }) });
        const next = signals.length === limit ? { cursor: seq } : {};
        return { encoding: 'application/json' as const, body: { signals: signals.map(onTheWire), ...next } };
      },
    });
  }

  /** @throws what the network says, FetchRefused among it */
  async follow(
    peer: string,
    cursor: number,
    { onOpen, onFrame }: SignalListener,
    signal: AbortSignal,
  ): Promise<void> {
    const { did, key, now, rules, silenceMs = 30_000 } = this.#o;
    const endpoint = await unlessAborted(this.#o.endpointOf(peer), signal);
    const url = streamUrl({ endpoint, method: subscribeMethod, cursor }, rules);
    const token = await serviceToken({ did, key: key(), to: peer, method: subscribeMethod, now: now() });
    const socket = connect(url, rules, { authorization: `Bearer ${token}` });
    const silence = endWhenSilent(socket, silenceMs);
    socket.once('open', onOpen);
    try {
      const messages = on(socket, 'message', {
        ...{ signal, close: ['close'], highWaterMark: 4, lowWaterMark: 1 },
      });
      for await (const [bytes, isBinary] of messages as AsyncIterable<[Buffer, boolean]>) {
        const frame: SignalFrame = isBinary ? decodeSignalFrame(bytes) : { kind: 'malformed' };
        await onFrame(frame);
        if (frame.kind === 'error') return;
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      clearInterval(silence);
      socket.terminate();
    }
  }

  async *#subscription(
    request: IncomingMessage,
    closed: AbortSignal,
    log: SignalLog,
  ): AsyncGenerator<ErrorFrame | MessageFrame, void, undefined> {
    const caller = await this.#o.callers.callerOf(request.headers.authorization, subscribeMethod);
    if (caller === undefined) {
      yield ErrorFrame.fromError(refusal());
      return;
    }
    // Left out, it is 0: a peer wants to know what is in force.
    const cursor = streamCursor(request) ?? 0;
    if (cursor === 'invalid') {
      yield new ErrorFrame({ error: 'InvalidRequest', message: 'cursor must be a non-negative integer' });
      return;
    }
    if (cursor > log.newest) {
      yield new ErrorFrame({ error: 'FutureCursor', message: `the newest signal is ${log.newest}` });
      return;
    }
    const replaced = this.#enter(caller);
    knowsCaller(request);
    try {
      yield* this.#signals(caller, cursor, log, AbortSignal.any([closed, replaced.signal]));
    } finally {
      this.#leave(caller, replaced);
    }
  }

  async *#signals(
    caller: string,
    cursor: number,
    log: SignalLog,
    over: AbortSignal,
  ): AsyncGenerator<MessageFrame, void, undefined> {
    const head = log.newest;
    let seq = cursor;
    while (!over.aborted) {
      const batch = await log.since(seq, signalsPerMessage, cursor === 0 && seq < head);
      if (!batch) {
        await nextAppended(log, seq, over);
        continue;
      }
      seq = batch.seq;
      if (!this.#o.serves(caller)) return;
      if (batch.signals.length === 0) continue;
      yield new MessageFrame({ seq, signals: batch.signals.map(onTheWire) }, { type: '#signals' });
    }
  }

  #enter(caller: string): AbortController {
    const own = new AbortController();
    const streams = [...(this.#streams.get(caller) ?? []), own];
    // A peer that comes back while its dead connection stands here.
    for (const old of streams.splice(0, streams.length - streamsPerPeer)) old.abort();
    this.#streams.set(caller, streams);
    return own;
  }

  #leave(caller: string, own: AbortController): void {
    const left = (this.#streams.get(caller) ?? []).filter((one) => one !== own);
    if (left.length > 0) this.#streams.set(caller, left);
    else this.#streams.delete(caller);
  }
}

function refusal(): AuthRequiredError {
  return new AuthRequiredError('This channel is for peers of this cooperative.', 'NotServed');
}

/** Of a signal, what its signature covers, and the signature. */
function onTheWire({ label, sig, ...words }: Signal): email.atmos.reputation.defs.Signal {
  return {
    $type: 'email.atmos.reputation.defs#signal',
    ...words,
    label,
    sig,
  } as email.atmos.reputation.defs.Signal;
}

/** Resolves with the next signal, or when the subscriber is gone. */
function nextAppended(log: SignalLog, seq: number, over: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const wake = () => {
      ended();
      over.removeEventListener('abort', wake);
      resolve();
    };
    const ended = log.onAppended(wake);
    over.addEventListener('abort', wake);
    if (over.aborted || log.newest > seq) wake();
  });
}
