/**
 * Which labels a member should carry, compared with those it carries: a pure function.
 *
 * On the attestation's URI with its `cid` a label is the vote; on the DID it is for display, and stands
 * as long as one domain of the member earns it.
 */

import { relayMember, verifiedMailOperator } from '../../appview/label-values.ts';

/** The values that follow from DNS checks. Others are decided elsewhere and never touched here. */
const checkedValues = [verifiedMailOperator, relayMember] as const;
type CheckedValue = (typeof checkedValues)[number];

/** One attestation of the member's, in a domain that is enrolled here. */
export type AttestedDomain = {
  uri: string;
  cid: string;
  relayMember: boolean;
  /** `pending`: nothing is known (yet) about this `cid`, so its labels stay as they are. */
  verdict: 'passed' | 'failed' | 'pending';
};

export type Label = { uri: string; val: string; cid?: string };

export type Decision = { issue: Label[]; negate: Label[] };

/**
 * @param member undefined when it is not enrolled here (any more): everything is negated
 * @param inForce what we have issued on the DID and on the member's URIs, neither negated nor expired
 */
export function decide(
  did: string,
  member: { relay: boolean } | undefined,
  attested: readonly AttestedDomain[],
  inForce: readonly Label[],
): Decision {
  const ours = inForce.filter(({ val }) => (checkedValues as readonly string[]).includes(val));
  const wanted = member ? wantedLabels(did, member, attested, ours) : [];
  return {
    issue: wanted.filter((label) => !ours.some((other) => isSame(label, other) && label.cid === other.cid)),
    negate: ours.filter((label) => !wanted.some((other) => isSame(label, other))),
  };
}

function wantedLabels(
  did: string,
  member: { relay: boolean },
  attested: readonly AttestedDomain[],
  inForce: readonly Label[],
): Label[] {
  const onRecords = attested.flatMap((domain) =>
    domain.verdict === 'pending'
      ? inForce.filter(({ uri }) => uri === domain.uri)
      : earned(domain, member).map((val) => ({ uri: domain.uri, val, cid: domain.cid })),
  );
  const values = new Set(onRecords.map(({ val }) => val));
  return [...onRecords, ...[...values].map((val) => ({ uri: did, val }))];
}

function earned(domain: AttestedDomain, member: { relay: boolean }): CheckedValue[] {
  if (domain.verdict !== 'passed') return [];
  return domain.relayMember && member.relay ? [verifiedMailOperator, relayMember] : [verifiedMailOperator];
}

/** Label identity is (src, uri, val); src is always us. */
function isSame(a: Label, b: Label): boolean {
  return a.uri === b.uri && a.val === b.val;
}
