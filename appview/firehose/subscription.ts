/**
 * Follows one com.atproto.sync.subscribeRepos stream for as long as it is told to.
 *
 * Promise: frames reach the handler one at a time and in order, and the next is not read before the
 * handler is done, so a slow reader slows the source and never fills our memory. A lost, silent or broken
 * connection is opened again, from the cursor that stands then, after a growing and scattered pause.
 * What a frame means is the handler's business.
 */
import type { LookupFunction } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { messages } from '../../dnsbl/feed/connection.ts';
import { maxFrameBytes } from './frame.ts';

export type SubscriptionOptions = {
  /** Base URL, ws or wss. */
  source: string;
  /** Asked at each connection: the last seq that is done with. 0 reads from the oldest that is kept. */
  cursor: () => number;
  /** A rejection closes the connection; the frame comes again with the next one. */
  onFrame: (frame: Buffer) => Promise<void>;
  signal: AbortSignal;
  /** Finds the source's addresses; default: the system's resolver. */
  lookup?: LookupFunction;
  log: Logger;
  count: (what: string, reason?: string) => void;
  /** The pause after the first failure, ms; default 1 s. It doubles up to 60 s. */
  firstPauseMs?: number;
  /** A ping that is not answered before the next ends the connection; default 30 s. */
  pingEveryMs?: number;
};

const maxPauseMs = 60_000;

/** Resolves when the signal is aborted; rejects only with what `isFatal` picks from the handler's errors. */
export async function follow(o: SubscriptionOptions, isFatal: (error: unknown) => boolean): Promise<void> {
  const { signal, lookup, pingEveryMs = 30_000 } = o;
  let failures = 0;
  while (!o.signal.aborted) {
    const url = `${o.source.replace(/\/+$/, '')}/xrpc/com.atproto.sync.subscribeRepos?cursor=${o.cursor()}`;
    let framesRead = 0;
    try {
      for await (const frame of messages({ url, signal, maxOctets: maxFrameBytes, lookup, pingEveryMs })) {
        await o.onFrame(frame);
        framesRead++;
      }
    } catch (error) {
      if (isFatal(error)) throw error;
      if (!o.signal.aborted) o.log.warn({ source: o.source, err: error }, 'firehose interrupted');
    }
    if (o.signal.aborted) return;
    o.count('firehose_reconnects');
    failures = framesRead > 0 ? 1 : failures + 1;
    await sleep(pauseMs(o.firstPauseMs ?? 1_000, failures), undefined, { signal: o.signal }).catch(() => {
      // Aborted: the loop's condition sees it.
    });
  }
}

/** Half of it is chance, so that readers of one fallen relay do not return together. */
function pauseMs(first: number, failures: number): number {
  const full = Math.min(first * 2 ** (failures - 1), maxPauseMs);
  return full / 2 + (Math.random() * full) / 2;
}
