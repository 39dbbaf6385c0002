/** `GET /member/deliverability`: 14 days of sends, bounces and complaints, by domain and by mailbox provider. */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import type { RatesOf } from '../../enforcement/rates.ts';
import { behindDoor, type Door, principalOf } from '../../http/authenticated.ts';
import { refuse } from '../../http/refusal.ts';
import type { Member } from '../../members/members.ts';

export type DeliverabilityOptions = {
  door: Door;
  members: { get(did: string): Member | undefined };
  rates: RatesOf;
  /** Those that the member sent to within the window, busiest first. */
  providersOf: (did: string, window: '14d') => readonly string[];
};

const share = z.number().min(0).nullable().describe('Of the sends; null where there are none');
const figures = {
  sends: z.number(),
  delivered: z.number(),
  bounces: z.number(),
  invalidRecipients: z.number().describe('Recipients that do not exist; one counts once'),
  complaints: z.number(),
  bounceRate: share,
  complaintRate: share,
};

export const deliverabilityAnswer = z.strictObject({
  did: z.string(),
  window: z.literal('14d'),
  ...figures,
  domains: z.array(z.strictObject({ domain: z.string(), ...figures })),
  providers: z.array(z.strictObject({ provider: z.string(), ...figures })).describe('The busiest 50'),
});

/** A fastify plugin. */
export function deliverabilityApi(o: DeliverabilityOptions): (app: FastifyInstance) => Promise<void> {
  return async (app) => {
    behindDoor(app, o.door);
    app.get('/member/deliverability', async (req): Promise<z.infer<typeof deliverabilityAnswer>> => {
      const { did } = principalOf(req);
      const { domains } = o.members.get(did) ?? refuse('NOT_FOUND');
      const providers = o.providersOf(did, '14d').slice(0, 50);
      return {
        ...{ did, window: '14d' },
        ...over14Days(o.rates, { did }),
        domains: domains.map(({ name }) => ({ domain: name, ...over14Days(o.rates, { did, domain: name }) })),
        providers: providers.map((provider) => ({ provider, ...over14Days(o.rates, { did, provider }) })),
      };
    });
  };
}

function over14Days(rates: RatesOf, whose: { did: string; domain?: string; provider?: string }) {
  const of = rates({ ...whose, window: '14d' });
  const { sends, delivered, bounced: bounces, recipientInvalid: invalidRecipients, complaints } = of;
  const rate = (count: number) => (sends === 0 ? null : count / sends);
  return {
    ...{ sends, delivered, bounces, invalidRecipients, complaints },
    bounceRate: rate(bounces),
    complaintRate: rate(complaints),
  };
}
