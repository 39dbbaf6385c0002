/**
 * The private channel between cooperatives, as the rest of the node knows it.
 *
 * What carries it is behind this interface: XRPC with service tokens now (xrpc-channel.ts), atproto's permissioned
 * spaces when they are released. Whatever carries it, signals are signed by their issuer and checked by the reader.
 */
import type { Signal, SignalFrame } from '../../appview/labels/signal.ts';

/** `seq` of the last of them. */
export type SignalBatch = { seq: number; signals: Signal[] };

/** What a channel publishes: the newest signal of each (uri, val), in the order in which they came. */
export interface SignalLog {
  /** `seq` of the last signal; 0 before the first. */
  readonly newest: number;
  /**
   * The next signals after `seq`.
   *
   * @param beginner skips what was over before: who knows nothing has nothing to forget
   * @returns without signals when all of them were skipped; undefined when there are no more
   */
  since(seq: number, limit: number, beginner: boolean): Promise<SignalBatch | undefined>;
  /** In force, of these subjects (DIDs or domains) or of all, by `seq`. @param after a `seq` */
  inForce(o: { subjects?: readonly string[]; after: number; limit: number }): Promise<SignalBatch>;
  /** @returns what ends it */
  onAppended(callback: () => void): () => void;
}

export type SignalListener = {
  /** The peer answers; what it has to say may come. */
  onOpen(): void;
  /** The next comes when this has resolved. */
  onFrame(frame: SignalFrame): Promise<void>;
};

export interface ReputationChannel {
  /** Serves the log to peers who may read it, from now on. */
  publish(log: SignalLog): Promise<void>;
  /**
   * Hands over every frame of a peer after `cursor`, in order.
   *
   * Resolves when the stream has ended; rejects when it cannot be reached, and with what `onFrame` rejected with.
   *
   * @param cursor of the last frame that was stored; 0 for all that is in force
   */
  follow(peer: string, cursor: number, listener: SignalListener, signal: AbortSignal): Promise<void>;
}
