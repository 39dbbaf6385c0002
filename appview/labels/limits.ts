/** What one issuer may cost us, and how much misbehaviour is borne before its stream is quarantined. */

export type LabelLimits = {
  /** Labels a second that are verified; a faster stream waits in its socket. Bursts of as many are let through. */
  labelsPerSecond: number;
  /** Labels and frames within 24 h; more is an endless backlog. */
  labelsPerDay: number;
  /** For so long the stream may be behind without a pause; longer is an endless backlog. */
  maxLagMs: number;
  /** Labels stored at a time; what exceeds it is refused and counted, changes of what is stored are not. */
  maxStored: number;
  /** So often an hour each kind of fault is borne. */
  faultsPerHour: Record<Fault, number>;
};

/**
 * `bad_signature`: on a label that the present key should have signed. `foreign_src`: a label of somebody else.
 * `future_cts`: made more than five minutes ahead of our clock. `malformed`: a frame or a label that is none.
 * `too_large`: a message over the limit of frames; the connection is closed.
 */
export type Fault = 'bad_signature' | 'foreign_src' | 'future_cts' | 'malformed' | 'too_large';

/** A million labels are read in under ten minutes; nobody reaches a limit on faults by an accident or two. */
export const defaultLimits: LabelLimits = {
  labelsPerSecond: 2_000,
  labelsPerDay: 5_000_000,
  maxLagMs: 6 * 3_600_000,
  maxStored: 1_000_000,
  faultsPerHour: { bad_signature: 50, foreign_src: 50, future_cts: 100, malformed: 50, too_large: 3 },
};
