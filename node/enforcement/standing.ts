/**
 * A member's standing: what the cooperative lets it do now, and why.
 *
 * Owned here; the relay asks `standingOf` and never looks at its sources: the member's state and tier in
 * node.db, and the age of the domain, which warms up first. measures.ts changes it; labels follow it (../labeler).
 * Counting against the caps is the spool's business, in the commit of each message.
 */
import { CorruptState, type Database } from '../../appview/database.ts';

/** From the mildest to the hardest. */
export const states = ['active', 'throttled', 'probation', 'held', 'suspended', 'removed'] as const;
export type StandingState = (typeof states)[number];

/** Recipients accepted per window. `burst`: what unused time may save up for one moment; absent: an hour's. */
export type Caps = { perHour: number; perDay: number; burst?: number };

export type Standing = {
  did: string;
  state: StandingState;
  /** A key of `caps.tiers` in the configuration, or `warming`. */
  tier: string;
  caps: Caps;
  reason: string | null;
  /** Unix ms, or null where it has no end. */
  until: number | null;
  by: 'automatic' | 'person';
};

/**
 * Asked by everyone who acts on a member. Without a domain the caps are the tier's, as after warming.
 * Throws when the member is not enrolled: ask `members` first.
 */
export type StandingOf = (did: string, domain?: string) => Standing;

export type CapsPolicy = {
  /** Days from a domain's enrolment in which `warming` applies; 0 turns warming off. */
  warmingDays: number;
  /** The first step whose `untilDay` is ahead counts; a warming day behind the last step has the last one's caps. */
  warming: readonly (Caps & { untilDay: number })[];
  /** By tier name. A member's tier must be among them. */
  tiers: Readonly<Record<string, Caps>>;
};

export type StandingsOptions = {
  /** node.db. */
  db: Database.Database;
  policy: CapsPolicy;
  /** What is left of the caps of a throttled member. Default 0.25. */
  throttleFactor?: number;
  now: () => number;
};

const dayMs = 86_400_000;
const columns = 'm.state, m.state_reason AS reason, m.state_until AS until, m.state_by AS by, m.tier';

/**
 * @returns the function that everyone asks. It throws RangeError when the DID is not enrolled or the domain
 *   is not this member's, CorruptState when the member's state or tier is none that this node knows
 */
export function standings({ db, policy, throttleFactor = 0.25, now }: StandingsOptions): StandingOf {
  const byMember = db.prepare(
    `SELECT ${columns}, NULL AS enrolledAt, 0 AS warmedDays FROM member m WHERE m.did = ?`,
  );
  const byDomain = db.prepare(
    `SELECT ${columns}, d.enrolled_at AS enrolledAt, d.warmed_days AS warmedDays
     FROM member m JOIN domain d ON d.did = m.did WHERE m.did = ? AND d.name = ?`,
  );
  return (did, domain) => {
    const row = domain === undefined ? byMember.get(did) : byDomain.get(did, domain);
    if (!row) throw new RangeError(`${domain ?? 'no domain'} is not enrolled for ${did}`);
    return toStanding(did, row as StandingRow, { policy, throttleFactor }, now());
  };
}

/** @throws Error at a start, when a member has a tier that the configuration does not have (any more) */
export function checkTiers(db: Database.Database, tiers: CapsPolicy['tiers']): void {
  const rows = db
    .prepare('SELECT tier, min(did) AS did, count(*) AS members FROM member GROUP BY tier')
    .all();
  for (const { tier, did, members } of rows as { tier: string; did: string; members: number }[]) {
    if (tiers[tier]) continue;
    const who = members === 1 ? `${did} has` : `${did} and ${members - 1} more have`;
    throw new Error(
      `${who} the tier "${tier}", which caps.tiers in the configuration does not have: add it.`,
    );
  }
}

type StandingRow = {
  state: string;
  reason: string | null;
  until: number | null;
  by: 'automatic' | 'person';
  tier: string;
  /** Of the domain, Unix ms; null where none was asked for. */
  enrolledAt: number | null;
  /** Of warming that it was spared, for what a trusted peer said of it. */
  warmedDays: number;
};

type Figures = { policy: CapsPolicy; throttleFactor: number };

function toStanding(
  did: string,
  row: StandingRow,
  { policy, throttleFactor }: Figures,
  now: number,
): Standing {
  const state = states.find((known) => known === row.state);
  if (!state) throw new CorruptState(`member ${did} has the unknown state "${row.state}" in node.db`);
  const sending = capsOf(did, row, policy, now);
  // A measure with an end is over at its end, without anybody's act.
  const isOver = row.until !== null && row.until <= now;
  if (state === 'active' || isOver)
    return { did, state: 'active', ...sending, reason: null, until: null, by: row.by };
  const caps = state === 'throttled' ? lowered(sending.caps, throttleFactor) : sending.caps;
  return { did, state, tier: sending.tier, caps, reason: row.reason, until: row.until, by: row.by };
}

/** Never to nothing: that would be a suspension. */
function lowered({ perHour, perDay, burst }: Caps, factor: number): Caps {
  const less = (cap: number) => Math.max(1, Math.floor(cap * factor));
  return { perHour: less(perHour), perDay: less(perDay), ...(burst !== undefined && { burst: less(burst) }) };
}

function capsOf(
  did: string,
  row: StandingRow,
  policy: CapsPolicy,
  now: number,
): Pick<Standing, 'tier' | 'caps'> {
  const day =
    row.enrolledAt === null
      ? policy.warmingDays
      : Math.floor((now - row.enrolledAt) / dayMs) + row.warmedDays;
  const step = policy.warming.find(({ untilDay }) => day < untilDay) ?? policy.warming.at(-1);
  if (day < policy.warmingDays && step) {
    const { untilDay: _, ...caps } = step;
    return { tier: 'warming', caps };
  }
  const caps = policy.tiers[row.tier];
  if (!caps) {
    throw new CorruptState(
      `member ${did} has the tier "${row.tier}", which the configuration does not have: add it under caps.tiers`,
    );
  }
  return { tier: row.tier, caps };
}
