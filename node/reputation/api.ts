/**
 * Publishing a suspension and taking it back, as JSON over HTTP for the command line.
 *
 * It stands on the control socket only (operator/control.ts): whoever reaches it may do everything.
 */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { suspensionReasons } from '../../appview/labels/signal.ts';
import { read, refuse } from '../http/refusal.ts';
import { normalizeDomain } from '../members/domain-name.ts';
import type { PublicationRefusal, PublishedSuspensions } from './published-suspensions.ts';

const text = (max: number) => z.string().trim().min(1).max(max);
const publication = z.strictObject({
  did: text(256),
  domain: text(253),
  reason: z.enum(suspensionReasons),
  /** Unix ms. */
  until: z.int().positive(),
  by: text(100),
});
const withdrawal = z.strictObject({ did: text(256), by: text(100) });

/** A fastify plugin. */
export function reputationApi(
  published: Pick<PublishedSuspensions, 'publishSuspension' | 'withdrawSuspension'>,
): (app: FastifyInstance) => Promise<void> {
  return async (app) => {
    app.post('/members/publish-suspension', async (request) => {
      const wanted = read(publication, request.body);
      const domain = normalizeDomain(wanted.domain) ?? wanted.domain;
      const issued = await published.publishSuspension({ ...wanted, domain });
      if (typeof issued === 'string') return refuse('INVALID_REQUEST', refusalText(issued, wanted));
      return { labels: issued.map(({ label: { uri, val, exp } }) => ({ uri, val, exp })) };
    });
    app.post('/members/withdraw-suspension', async (request) => {
      const { did, by } = read(withdrawal, request.body);
      const negated = await published.withdrawSuspension({ did, by });
      if (negated.length === 0) refuse('NOT_FOUND', `No suspension of ${did} is public.`);
      return { labels: negated.map(({ label: { uri, val } }) => ({ uri, val })) };
    });
  };
}

function refusalText(why: PublicationRefusal, { did, domain }: { did: string; domain: string }): string {
  switch (why) {
    case 'not-enrolled':
      return `${domain} is not a domain of ${did} here.`;
    case 'not-suspended':
      return `${did} is not suspended here. What is made public is a suspension that is in force.`;
    case 'term':
      return 'The term ends in the future, within 366 days.';
  }
}
