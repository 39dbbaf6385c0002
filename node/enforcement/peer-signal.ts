/**
 * A peer's private signal as an event on a member's timeline.
 *
 * Who hears, stores and tells signals is node/reputation's business.
 */
import type { SignalFigures, SignalValue } from '../../appview/labels/signal.ts';

/** Who acts in the name of a peer's signal; in the event's `actor`. */
export const peerSignalActor = 'peer-signal';

/** Detail of the event `peer_signal`: what a peer says in private of one of our members. */
export type PeerSignalDetail = {
  /** DID of the peer that says so. */
  src: string;
  val: SignalValue;
  uri: string;
  /** RFC 3339. */
  cts: string;
  exp?: string;
  reason?: string;
  evidence?: string;
  figures?: SignalFigures[];
  /** By what it was found. */
  by: 'did' | 'domain' | 'domain-of-did';
};

/** For a person's eyes. */
export function peerSignalText({
  src,
  val,
  uri,
  reason,
  evidence,
  exp,
  figures,
  by,
}: PeerSignalDetail): string {
  const how = {
    did: '',
    domain: ', by its domain',
    'domain-of-did': ', by another account with this domain',
  }[by];
  const until = exp === undefined ? '' : `, until ${exp}`;
  const sums = (figures ?? []).map(
    ({ window, sends, bounces, complaints }) =>
      ` ${window}: ${sends} sent, ${bounces} bounced, ${complaints} complaints.`,
  );
  return `${src} says ${val} of ${uri}${how} (${reason ?? 'no reason'}, from ${evidence ?? 'no evidence'}${until}).${sums.join('')}`;
}
