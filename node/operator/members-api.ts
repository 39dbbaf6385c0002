/**
 * What an operator does to a member while the node runs: its standing, and where its bounces go.
 *
 * An operator's word sets a standing; it never confirms an address: the link goes to the owner of the address.
 */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { type StandingState, states } from '../enforcement/standing.ts';
import { httpBody, problem } from '../errors.ts';
import type { AddressState } from '../members/contacts.ts';
import { read } from '../relay/api/refusal.ts';

export type MembersApiOptions = {
  setStanding(
    state: StandingState,
    o: { did: string; reason: string; until?: number; by: 'person'; actor: string },
  ): 'done' | 'unchanged' | 'outranked' | 'unknown-member';
  /** @throws with a catalogue problem when no letter may be sent now */
  askForwardTo(domain: string, address: string): Promise<AddressState>;
  askContact(did: string, address: string): Promise<AddressState>;
};

const text = (max: number) => z.string().trim().min(1).max(max);

const standing = z.strictObject({
  did: text(256),
  state: z.enum(states),
  reason: text(500),
  /** Unix ms. */
  until: z.int().positive().optional(),
  actor: text(100),
});
const forwardTo = z.strictObject({ domain: text(253), address: text(320) });
const contact = z.strictObject({ did: text(256), address: text(320) });

/** A fastify plugin. */
export function membersApi(o: MembersApiOptions): (app: FastifyInstance) => Promise<void> {
  return async (app) => {
    app.post('/members/standing', async (request, reply) => {
      const { state, ...measure } = read(standing, request.body);
      const outcome = o.setStanding(state, { ...measure, by: 'person' });
      if (outcome === 'unknown-member')
        return reply.code(404).send(httpBody(problem('NOT_FOUND', `${measure.did} is not enrolled.`)));
      return { outcome };
    });
    app.post('/members/forward-to', (request) => {
      const { domain, address } = read(forwardTo, request.body);
      return o.askForwardTo(domain, address);
    });
    app.post('/members/contact', (request) => {
      const { did, address } = read(contact, request.body);
      return o.askContact(did, address);
    });
  };
}
