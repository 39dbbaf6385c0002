/**
 * Who is listed, and how high: the rules of DESIGN.md's "Votes" and "The zone", as one pure function.
 *
 * Promise: the same attestations, labels, policy and time give the same verdict; nothing is read or
 * kept here. An attestation without a counting vote competes with nobody.
 */
import type { Kind, Listing, Trust } from '../../dnsbl/listing.ts';
import type { AttestationRow } from '../firehose/attestations.ts';
import { relayMember, verifiedMailOperator } from '../label-values.ts';
import type { SignedLabel } from '../labels/codec.ts';
import type { StoredLabel } from '../labels/store.ts';

export type Policy = {
  /** DIDs whose votes count: this cooperative and the peers that it guarantees. */
  roots: readonly string[];
  /** Label values that are a vote. */
  voteValues: readonly string[];
  /** Label values that say: our relay carries this domain's mail. */
  carrierValues: readonly string[];
  /** Trust is 0 for so many days from the first sight of a vote. */
  newcomerDays: number;
  /** Names that are never listed: pool domains, which sign for everyone. */
  neverListed: readonly string[];
};

export const defaultPolicy: Omit<Policy, 'roots'> = {
  voteValues: [verifiedMailOperator],
  carrierValues: [relayMember],
  newcomerDays: 14,
  neverListed: [],
};

/** `firstSeen`: Unix ms, from the ledger. */
export type SightedLabel = StoredLabel & { firstSeen: number };

/** An attestation of the domain by an active account, with the labels in force on its URI. */
export type Candidate = { attestation: AttestationRow; labels: readonly SightedLabel[] };

export type Vote = {
  label: SignedLabel;
  issuer: string;
  /** The root under which it counts. */
  root: string;
  /** Unix ms. */
  firstSeen: number;
};

/** What a listing says, without what only the feed knows. */
export type Verdict = {
  listing: Omit<Listing, 'url' | 'seq' | 'removed'>;
  attestation: AttestationRow;
  votes: Vote[];
};

export type Decision = {
  /** Undefined: not vouched for now. */
  verdict?: Verdict;
  /** Unix ms when, with nothing else happening, the answer may become another; absent: never. */
  changesAt?: number;
};

const dayMs = 86_400_000;

/** email.atmos.listing.defs#listing, which the feed carries, holds no more. */
const maxVouchers = 64;

/**
 * @param candidates all attestations of `domain` that anyone labelled
 * @param now Unix ms
 */
export function decide(
  domain: string,
  candidates: readonly Candidate[],
  policy: Policy,
  now: number,
): Decision {
  if (policy.neverListed.includes(domain)) return {};
  const voted = candidates
    .map((candidate) => weigh(candidate, policy, now))
    .filter((one) => one.votes.length > 0);
  const boundaries = voted.flatMap((one) => one.boundaries).filter((at) => at > now);
  const changesAt = boundaries.length > 0 ? { changesAt: Math.min(...boundaries) } : {};
  // Two accounts with counting votes: which of them the domain means is not for us to guess.
  const [winner, rival] = voted;
  if (!winner || rival) return changesAt;
  return { verdict: verdictOf(domain, winner, policy, now), ...changesAt };
}

type Weighed = { attestation: AttestationRow; votes: Vote[]; carried: boolean; boundaries: number[] };

/** Labels count on exactly this version of the record, from a root, while they are in force. */
function weigh({ attestation, labels }: Candidate, policy: Policy, now: number): Weighed {
  const counting = labels.filter(
    ({ label, expiresAt }) =>
      policy.roots.includes(label.src) &&
      label.uri === attestation.uri &&
      label.cid === attestation.cid &&
      !label.neg &&
      (expiresAt ?? Infinity) > now,
  );
  const votes = counting.filter(({ label }) => policy.voteValues.includes(label.val)).map(voteOf);
  const expiries = counting.flatMap(({ expiresAt }) => expiresAt ?? []);
  return {
    attestation,
    votes,
    carried: counting.some(({ label }) => policy.carrierValues.includes(label.val)),
    boundaries: [...expiries, ...votes.map((vote) => vote.firstSeen + policy.newcomerDays * dayMs)],
  };
}

function voteOf({ label, firstSeen }: SightedLabel): Vote {
  return { label, issuer: label.src, root: label.src, firstSeen };
}

function verdictOf(domain: string, winner: Weighed, policy: Policy, now: number): Verdict {
  const { attestation, votes, carried } = winner;
  const kind: Kind = carried ? 3 : 4;
  return {
    attestation,
    votes,
    listing: {
      name: domain,
      list: 'vouched',
      kind,
      trust: trustOf(votes, policy, now),
      mailTypes: ['transaction'],
      coverSubdomains: false,
      did: attestation.did,
      vouchers: [...new Set(votes.map((vote) => vote.issuer))].sort().slice(0, maxVouchers),
    },
  };
}

/** One root's vote is enough for 1, so the oldest of them decides. */
function trustOf(votes: readonly Vote[], policy: Policy, now: number): Trust {
  const since = Math.min(...votes.map((vote) => vote.firstSeen));
  return now >= since + policy.newcomerDays * dayMs ? 1 : 0;
}
