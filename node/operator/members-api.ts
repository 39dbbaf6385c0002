/**
 * What an operator does to a member while the node runs: its standing and tier, the category of its mail, and
 * where its bounces go.
 *
 * An operator's word sets a standing; it never confirms an address: the link goes to the owner of the address.
 */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { suspensionReasons } from '../../appview/labels/signal.ts';
import type { RecordEvents } from '../enforcement/event-log.ts';
import { type StandingState, states } from '../enforcement/standing.ts';
import { httpBody, problem } from '../errors.ts';
import { read, refuse } from '../http/refusal.ts';
import { categories } from '../members/category.ts';
import type { Members } from '../members/members.ts';
import type { MemberAddresses } from './member-addresses.ts';

export type MembersApiOptions = {
  setStanding(
    state: StandingState,
    o: {
      did: string;
      reason: string;
      until?: number;
      by: 'person';
      actor: string;
      evidence?: Record<string, unknown>;
    },
  ): 'done' | 'unchanged' | 'outranked' | 'unknown-member';
  members: Pick<Members, 'get' | 'domain' | 'setTier' | 'setCategory'>;
  /** Of the configuration. */
  tiers: readonly string[];
  record: RecordEvents;
  addresses: MemberAddresses;
};

const text = (max: number) => z.string().trim().min(1).max(max);

const standing = z.strictObject({
  did: text(256),
  state: z.enum(states),
  reason: text(500),
  /** Unix ms. */
  until: z.int().positive().optional(),
  /** For peers and, once published, for everyone. */
  code: z.enum(suspensionReasons).optional(),
  actor: text(100),
});
const forwardTo = z.strictObject({ domain: text(253), address: text(320) });
const unsuppress = z.strictObject({
  did: text(256),
  address: text(320),
  reason: text(500),
  actor: text(100),
});
const contact = z.strictObject({ did: text(256), address: text(320) });

const tier = z.strictObject({ did: text(256), tier: text(64), actor: text(100) });
const category = z.strictObject({ domain: text(253), category: z.enum(categories), actor: text(100) });

/** A fastify plugin. */
export function membersApi(o: MembersApiOptions): (app: FastifyInstance) => Promise<void> {
  return async (app) => {
    app.post('/members/standing', async (request, reply) => {
      const { state, code, ...measure } = read(standing, request.body);
      const evidence = code && { evidence: { code } };
      const outcome = o.setStanding(state, { ...measure, by: 'person', ...evidence });
      if (outcome === 'unknown-member')
        return reply.code(404).send(httpBody(problem('NOT_FOUND', `${measure.did} is not enrolled.`)));
      return { outcome };
    });
    app.post('/members/tier', async (request) => setTier(o, read(tier, request.body)));
    app.post('/members/category', async (request) => setCategory(o, read(category, request.body)));
    app.post('/members/forward-to', (request) => {
      const { domain, address } = read(forwardTo, request.body);
      return o.addresses.askForwardTo(domain, address);
    });
    app.post('/members/unsuppress', async (request) => {
      const wanted = read(unsuppress, request.body);
      const removed = o.addresses.removeSuppression(wanted);
      return removed.length > 0 ? { removed } : refuse('NOT_FOUND', `${wanted.address} is not on that list.`);
    });
    app.post('/members/contact', (request) => {
      const { did, address } = read(contact, request.body);
      return o.addresses.askContact(did, address);
    });
  };
}

/** @throws Refusal */
function setTier({ members, tiers, record }: MembersApiOptions, wanted: z.output<typeof tier>) {
  const { did, tier: name, actor } = wanted;
  if (!tiers.includes(name))
    refuse('INVALID_REQUEST', `There is no tier ${name}. The configuration has ${tiers.join(', ')}.`);
  if (!members.get(did)) refuse('NOT_FOUND', `${did} is not enrolled.`);
  const detail = { act: 'tier', tier: name, by: 'person', actor };
  record({ type: 'staff_act', did, detail }, () => void members.setTier(did, name));
  return { did, tier: name };
}

/** @throws Refusal */
function setCategory({ members, record }: MembersApiOptions, wanted: z.output<typeof category>) {
  const known = members.domain(wanted.domain) ?? refuse('NOT_FOUND', `${wanted.domain} is not enrolled.`);
  const detail = { act: 'category', category: wanted.category, by: 'person', actor: wanted.actor };
  record({ type: 'staff_act', did: known.did, domain: known.name, detail }, () => {
    members.setCategory(known.name, wanted.category);
  });
  return { domain: known.name, category: wanted.category };
}
