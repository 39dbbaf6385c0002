/**
 * `GET /member/status`: how a member stands, what it sent, what it may still send, and what is missing.
 *
 * Reads only. A suspended member gets it too: it says why.
 */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import type { RatesOf, RateWindow } from '../../enforcement/rates.ts';
import { type Standing, type StandingOf, states } from '../../enforcement/standing.ts';
import { behindDoor, type Door, principalOf } from '../../http/authenticated.ts';
import { iso } from '../../http/common-schema.ts';
import { refuse } from '../../http/refusal.ts';
import type { Contacts } from '../../members/contacts.ts';
import type { Member, MemberDomain } from '../../members/members.ts';
import type { Budget, Cap } from '../../spool/message.ts';
import { capOf } from '../admission.ts';

export type MemberStatusOptions = {
  door: Door;
  members: { get(did: string): Member | undefined };
  standingOf: StandingOf;
  queue: { budget(caps: readonly Cap[], now: number): Promise<Budget[]> };
  rates: RatesOf;
  contacts: Pick<Contacts, 'state'>;
  /** As in the caps policy: when a domain's first days are over. */
  warmingDays: number;
  now: () => number;
};

const windows = ['1h', '24h', '7d', '30d'] as const satisfies readonly RateWindow[];

const figures = z.strictObject({
  sends: z.number(),
  delivered: z.number(),
  bounces: z.number(),
  invalidRecipients: z.number().describe('Recipients that do not exist; one counts once'),
  complaints: z.number(),
});

const window = z.strictObject({ used: z.number(), left: z.number() });

const budget = z.strictObject({
  scope: z.string().describe('`domain:…` while that domain warms up, else your DID: all domains share it'),
  domains: z.array(z.string()),
  perHour: z.number(),
  perDay: z.number(),
  burst: z.number().optional(),
  hour: window,
  day: window,
});

const addressState = z.strictObject({
  confirmed: z.string().nullable().describe('In force'),
  pending: z.string().nullable().describe('Waits until its owner follows the mailed link'),
});

export const statusAnswer = z.strictObject({
  did: z.string(),
  handle: z.string().nullable(),
  standing: z.strictObject({
    state: z.enum(states),
    reason: z.string().nullable(),
    until: z.iso.datetime().nullable(),
    by: z.enum(['automatic', 'person']),
    tier: z.string(),
  }),
  rates: z.strictObject({ '1h': figures, '24h': figures, '7d': figures, '30d': figures }),
  budget: z.array(budget),
  domains: z.array(
    z.strictObject({
      domain: z.string(),
      tier: z.string(),
      warming: z
        .strictObject({ day: z.number(), of: z.number(), until: z.iso.datetime() })
        .nullable()
        .describe('Null when its first days are over'),
      defaultCategory: z.string(),
      rates: z.strictObject({ '24h': figures, '7d': figures }),
      forwardTo: addressState,
      bouncesGoTo: z.enum(['forward-to', 'contact', 'nowhere']),
    }),
  ),
  contact: addressState,
  notices: z.array(z.string()).describe('What needs your attention, for people'),
});

export type StatusAnswer = z.infer<typeof statusAnswer>;

const dayMs = 86_400_000;

/** A fastify plugin. */
export function memberStatusApi(o: MemberStatusOptions): (app: FastifyInstance) => Promise<void> {
  return async (app) => {
    behindDoor(app, o.door);
    app.get('/member/status', (req) => status(o, principalOf(req).did));
  };
}

async function status(o: MemberStatusOptions, did: string): Promise<StatusAnswer> {
  const member = o.members.get(did) ?? refuse('NOT_FOUND');
  const standing = o.standingOf(did);
  const contact = o.contacts.state(did, { kind: 'contact' });
  const domains = member.domains.map((domain) => domainStatus(o, domain, contact.confirmed !== null));
  return {
    did,
    handle: member.handle,
    standing: shownStanding(standing),
    rates: ratesOver(o.rates, { did }, windows),
    budget: await budgets(o, did, member.domains),
    domains,
    contact,
    notices: [...standingNotices(standing), ...domains.flatMap(domainNotices)],
  };
}

function domainStatus(o: MemberStatusOptions, domain: MemberDomain, hasContact: boolean) {
  const { did, name, enrolledAt, defaultCategory } = domain;
  const { tier } = o.standingOf(did, name);
  const forwardTo = o.contacts.state(did, { kind: 'forward-to', domain: name });
  const elsewhere = hasContact ? ('contact' as const) : ('nowhere' as const);
  return {
    domain: name,
    tier,
    warming: tier === 'warming' ? warmingOf(enrolledAt, o) : null,
    defaultCategory,
    rates: ratesOver(o.rates, { did, domain: name }, ['24h', '7d']),
    forwardTo,
    bouncesGoTo: forwardTo.confirmed === null ? elsewhere : ('forward-to' as const),
  };
}

function warmingOf(enrolledAt: number, { warmingDays, now }: MemberStatusOptions) {
  const day = Math.floor((now() - enrolledAt) / dayMs) + 1;
  return { day, of: warmingDays, until: iso(enrolledAt + warmingDays * dayMs) };
}

/** What two domains share stands once. */
async function budgets(o: MemberStatusOptions, did: string, domains: readonly MemberDomain[]) {
  const caps = new Map<string, { cap: Cap; domains: string[] }>();
  for (const { name } of domains) {
    const cap = capOf(o.standingOf(did, name), name);
    const known = caps.get(cap.scope);
    if (known) known.domains.push(name);
    else caps.set(cap.scope, { cap, domains: [name] });
  }
  const shared = [...caps.values()];
  const used = await o.queue.budget(
    shared.map(({ cap }) => cap),
    o.now(),
  );
  return shared.map(({ cap, domains: names }, index) => {
    const { scope, perHour, perDay, burst } = cap;
    const { hour, day } = used[index]!;
    return { scope, domains: names, perHour, perDay, ...(burst !== undefined && { burst }), hour, day };
  });
}

function shownStanding({ state, reason, until, by, tier }: Standing): StatusAnswer['standing'] {
  return { state, reason, until: until === null ? null : iso(until), by, tier };
}

function standingNotices({ state, reason, until }: Standing): string[] {
  if (state === 'active') return [];
  const end = until === null ? '' : ` Until ${iso(until)}.`;
  return [`You are ${state}: ${reason ?? 'no reason was recorded'}.${end}`];
}

function domainNotices({ domain, forwardTo, bouncesGoTo }: StatusAnswer['domains'][number]): string[] {
  if (forwardTo.pending !== null)
    return [
      `${forwardTo.pending} was sent a link: bounces of ${domain} go there once its owner followed it.`,
    ];
  if (bouncesGoTo !== 'nowhere') return [];
  return [
    `Bounces of ${domain} have nowhere to go: they stand on the timeline of each message alone. Name an address with PUT /member/forward-to.`,
  ];
}

/** The figures of each window, by its name. */
function ratesOver<W extends RateWindow>(
  rates: RatesOf,
  whose: { did: string; domain?: string; provider?: string },
  over: readonly W[],
): Record<W, z.infer<typeof figures>> {
  const all = over.map((name) => {
    const { sends, delivered, bounced, recipientInvalid, complaints } = rates({ ...whose, window: name });
    const figuresThen = {
      sends,
      delivered,
      bounces: bounced,
      invalidRecipients: recipientInvalid,
      complaints,
    };
    return [name, figuresThen] as const;
  });
  return Object.fromEntries(all) as Record<W, z.infer<typeof figures>>;
}
