/**
 * Which labels a member should carry, compared with those it carries: a pure function.
 *
 * On the attestation's URI with its `cid` a label is the vote; on the DID it is for display, and stands
 * as long as one domain of the member earns it. They follow the member's standing: who is warned is no clean
 * sender, who is stopped carries nothing, and who waits for a person's review earns nothing new and keeps what it has.
 */

import { cleanSender, relayMember, verifiedMailOperator } from '../../appview/label-values.ts';

/** The values that are decided here. Others are decided elsewhere and never touched. */
const decidedValues = [verifiedMailOperator, relayMember, cleanSender] as const;
type DecidedValue = (typeof decidedValues)[number];

/** One attestation of the member's, in a domain that is enrolled here. */
export type AttestedDomain = {
  uri: string;
  cid: string;
  relayMember: boolean;
  /** By the figures of this relay (clean-sender.ts). */
  cleanSender: boolean;
  /** `pending`: nothing is known (yet) about this `cid`, so its labels stay as they are. */
  verdict: 'passed' | 'failed' | 'pending';
};

/**
 * `in-review`: held for what a peer said, and nobody here has decided; `warned`: any other measure is in force;
 * `stopped`: it is suspended or removed.
 */
export type StandingNow = 'good' | 'in-review' | 'warned' | 'stopped';

export type MemberNow = {
  /** May send through this relay. */
  relay: boolean;
  standing: StandingNow;
};

export type Label = {
  uri: string;
  val: string;
  cid?: string;
  /** RFC 3339. */
  exp?: string;
};

export type Decision = { issue: Label[]; negate: Label[] };

/**
 * @param member undefined when it is not enrolled here (any more): everything is negated
 * @param inForce what we have issued on the DID and on the member's URIs, neither negated nor expired
 * @param isDue whether a label that is earned is issued again, to live longer
 */
export function decide(
  did: string,
  member: MemberNow | undefined,
  attested: readonly AttestedDomain[],
  inForce: readonly Label[],
  isDue: (label: Label) => boolean = () => false,
): Decision {
  const ours = inForce.filter(({ val }) => (decidedValues as readonly string[]).includes(val));
  const wanted = member && member.standing !== 'stopped' ? wantedLabels(did, member, attested, ours) : [];
  // Of a pending domain the very label in force is wanted: it is left as it is, and not renewed.
  const stands = (label: Label) =>
    ours.some((other) => {
      return label === other || (isSame(label, other) && label.cid === other.cid && !isDue(other));
    });
  return {
    issue: member?.standing === 'in-review' ? [] : wanted.filter((label) => !stands(label)),
    negate: ours.filter((label) => !wanted.some((other) => isSame(label, other))),
  };
}

function wantedLabels(
  did: string,
  member: MemberNow,
  attested: readonly AttestedDomain[],
  inForce: readonly Label[],
): Label[] {
  const onRecords = attested.flatMap((domain) =>
    domain.verdict === 'pending'
      ? inForce.filter(({ uri, val }) => uri === domain.uri && mayKeep(val, member))
      : earned(domain, member).map((val) => ({ uri: domain.uri, val, cid: domain.cid })),
  );
  const values = new Set(onRecords.map(({ val }) => val));
  return [...onRecords, ...[...values].map((val) => ({ uri: did, val }))];
}

function earned(domain: AttestedDomain, member: MemberNow): DecidedValue[] {
  if (domain.verdict !== 'passed') return [];
  // Figures pause during a review, so they are no reason to take it away.
  const isClean = (domain.cleanSender || member.standing === 'in-review') && mayKeep(cleanSender, member);
  return [
    verifiedMailOperator,
    ...(domain.relayMember && member.relay ? [relayMember] : []),
    ...(isClean ? [cleanSender] : []),
  ] as DecidedValue[];
}

/** It rests on what is measured here, of a member in good standing. */
function mayKeep(val: string, { relay, standing }: MemberNow): boolean {
  return val !== cleanSender || (relay && standing !== 'warned');
}

/** Label identity is (src, uri, val); src is always us. */
function isSame(a: Label, b: Label): boolean {
  return a.uri === b.uri && a.val === b.val;
}
