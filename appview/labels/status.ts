/** What is shown of one issuer's stream. */
import type { QuarantineReason } from './issuers.ts';

export type ConsumerState = 'idle' | 'following' | 'waiting' | 'quarantined' | 'stopped';

/** Times are Unix ms. */
export type ConsumerStatus = {
  state: ConsumerState;
  /** Of the quarantine. */
  reason?: QuarantineReason;
  detail?: string;
  quarantinedAt?: number;
  /** What ended the last connection, while there is no other. */
  lastError?: string;
  /** `seq` of the last frame stored. */
  cursor?: number;
  /** For how long the stream has been behind without a pause. */
  lagMs: number;
  lastLabelAt?: number;
  /** Labels held of it, negated and waiting ones included. */
  held: number;
  /** Labels and frames refused within the last day. */
  refusedToday: number;
  /** A `did:key` that the issuer has now, and whose labels wait. */
  newKey?: string;
  newKeyCountsFrom?: number;
  reconciledAt?: number;
};
