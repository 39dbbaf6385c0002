/**
 * Where an issuer's labels come from.
 *
 * Two kinds exist: a peer's `com.atproto.label.*` (websocket.ts), and our own labeler in the same process, which
 * the node provides. A consumer treats both alike and trusts neither.
 */
import type { Frame } from './codec.ts';

export interface LabelSource {
  /**
   * Hands over every frame after `cursor`, in order, one at a time: the next when `onFrame`'s promise
   * has resolved. Replay and live come without a gap between them.
   *
   * Resolves when the stream has ended: after an error frame, when the other side closes, or on
   * `signal`. Rejects when it cannot be reached, and with what `onFrame` rejected with; the caller then
   * follows again from its stored cursor.
   *
   * @param cursor the `seq` of the last frame that was stored; 0 for everything from the oldest on,
   *   undefined for what comes from now on
   */
  follow(
    cursor: number | undefined,
    onFrame: (frame: Frame) => Promise<void>,
    signal: AbortSignal,
  ): Promise<void>;

  /**
   * One page of what the issuer stands by now. A source whose stream cannot lose anything has none.
   *
   * @throws when there is no answer, or one that is no page
   */
  query?(question: LabelQuestion, signal: AbortSignal): Promise<LabelAnswer>;
}

export type LabelQuestion = {
  /** URIs, or prefixes of them followed by `*`. */
  uriPatterns: readonly string[];
  /** DID of the issuer. */
  src: string;
  /** From the page before. */
  cursor?: string;
};

/** `labels` are as they came, in JSON and unchecked: parseJsonLabel() says what each is. */
export type LabelAnswer = { labels: readonly unknown[]; cursor?: string };
