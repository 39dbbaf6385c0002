/**
 * A member's standing: what the cooperative lets it do now, and why.
 *
 * Owned here; the relay asks `standingOf` and never looks at its sources: the member's state and tier in
 * node.db, and the age of the domain, which warms up first. Labels do not follow a standing yet.
 * Counting against the caps is the spool's business, in the commit of each message.
 */
import { CorruptState, type Database } from '../../appview/database.ts';

export type StandingState = 'active' | 'throttled' | 'probation' | 'held' | 'suspended' | 'removed';

/** Recipients accepted per window. */
export type Caps = { perHour: number; perDay: number };

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

/** Asked by everyone who acts on a member. Throws when the member is not enrolled: ask `members` first. */
export type StandingOf = (did: string, domain: string) => Standing;

export type CapsPolicy = {
  /** Days from a domain's enrolment in which `warming` applies; 0 turns warming off. */
  warmingDays: number;
  /** The first step whose `untilDay` is ahead counts; a warming day behind the last step has the last one's caps. */
  warming: readonly (Caps & { untilDay: number })[];
  /** By tier name. A member's tier must be among them. */
  tiers: Readonly<Record<string, Caps>>;
};

const dayMs = 86_400_000;

/**
 * @param db node.db
 * @returns the function that everyone asks. It throws RangeError when the DID is not enrolled or the domain
 *   is not this member's, CorruptState when the member's state or tier is none that this node knows
 */
export function standings(o: { db: Database.Database; policy: CapsPolicy; now: () => number }): StandingOf {
  const find = o.db.prepare(
    `SELECT m.state, m.state_reason AS reason, m.state_until AS until, m.state_by AS by, m.tier,
            d.enrolled_at AS enrolledAt
     FROM member m JOIN domain d ON d.did = m.did WHERE m.did = ? AND d.name = ?`,
  );
  return (did, domain) => {
    const row = find.get(did, domain) as StandingRow | undefined;
    if (!row) throw new RangeError(`${domain} is not enrolled for ${did}`);
    return toStanding(did, row, o.policy, o.now());
  };
}

type StandingRow = {
  state: string;
  reason: string | null;
  until: number | null;
  by: 'automatic' | 'person';
  tier: string;
  /** Of the domain, Unix ms. */
  enrolledAt: number;
};

const states: readonly StandingState[] = ['active', 'throttled', 'probation', 'held', 'suspended', 'removed'];

function toStanding(did: string, row: StandingRow, policy: CapsPolicy, now: number): Standing {
  const state = states.find((known) => known === row.state);
  if (!state) throw new CorruptState(`member ${did} has the unknown state "${row.state}" in node.db`);
  const sending = capsOf(did, row, policy, now);
  // A measure with an end is over at its end, without anybody's act.
  const isOver = row.until !== null && row.until <= now;
  if (state === 'active' || isOver)
    return { did, state: 'active', ...sending, reason: null, until: null, by: row.by };
  return { did, state, ...sending, reason: row.reason, until: row.until, by: row.by };
}

function capsOf(
  did: string,
  row: StandingRow,
  policy: CapsPolicy,
  now: number,
): Pick<Standing, 'tier' | 'caps'> {
  const day = Math.floor((now - row.enrolledAt) / dayMs);
  const step = policy.warming.find(({ untilDay }) => day < untilDay) ?? policy.warming.at(-1);
  if (day < policy.warmingDays && step)
    return { tier: 'warming', caps: { perHour: step.perHour, perDay: step.perDay } };
  const caps = policy.tiers[row.tier];
  if (!caps) {
    throw new CorruptState(
      `member ${did} has the tier "${row.tier}", which the configuration does not have: add it under caps.tiers`,
    );
  }
  return { tier: row.tier, caps };
}
