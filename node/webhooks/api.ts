/**
 * `/v1/webhooks`: members set where they are told of their mail, see what arrived, and have it told again.
 *
 * Promise: a member meets its own webhooks only; another's id is as unknown as none. A secret leaves in the
 * answer that made it and in no other.
 */
import { randomBytes } from 'node:crypto';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { z } from 'zod';
import { behindDoor, type Door, principalOf, queried } from '../http/authenticated.ts';
import { iso } from '../http/common-schema.ts';
import { read, refuse } from '../http/refusal.ts';
import {
  type createdAnswer,
  type deliveriesAnswer,
  deliveriesQuery,
  idParam,
  type removedAnswer,
  type replayAnswer,
  replayRequest,
  type rotatedAnswer,
  type testAnswer,
  type webhookAnswer,
  webhookRequest,
  type webhooksAnswer,
} from './api-schema.ts';
import type { Deliveries, Delivery } from './deliveries.ts';
import type { Endpoints, Webhook } from './endpoints.ts';
import type { WebhookSender } from './sender.ts';

export type WebhooksApiOptions = {
  door: Door;
  endpoints: Endpoints;
  deliveries: Deliveries;
  sender: Pick<WebhookSender, 'post' | 'wake'>;
  now: () => number;
};

/** Tests of one member: each holds a request open, and makes this machine call an address. */
const testEveryMs = 2_000;

/** A fastify plugin. */
export function webhooksApi(o: WebhooksApiOptions): (app: FastifyInstance) => Promise<void> {
  return async (app) => {
    behindDoor(app, o.door);
    settings(app, o);
    deliveries(app, o);
  };
}

function settings(app: FastifyInstance, o: WebhooksApiOptions): void {
  const { endpoints } = o;
  app.get('/v1/webhooks', async (req): Promise<z.infer<typeof webhooksAnswer>> => {
    return { webhooks: endpoints.of(principalOf(req).did).map((webhook) => shown(o, webhook)) };
  });
  app.post('/v1/webhooks', async (req): Promise<z.infer<typeof createdAnswer>> => {
    const { enabled, ...wanted } = read(webhookRequest, req.body);
    await refuseAddress(o, wanted.url);
    const created = endpoints.create({ did: principalOf(req).did, ...wanted });
    if (!created) return refuse('WEBHOOK_REFUSED', `You may have ${endpoints.limit}.`);
    const webhook = enabled ? created.webhook : endpoints.change(created.webhook, { enabled });
    return { ...shown(o, webhook), secret: created.secret };
  });
  app.get('/v1/webhooks/:id', async (req): Promise<z.infer<typeof webhookAnswer>> => {
    return shown(o, own(o, req));
  });
  app.put('/v1/webhooks/:id', async (req): Promise<z.infer<typeof webhookAnswer>> => {
    const change = read(webhookRequest, req.body);
    own(o, req);
    await refuseAddress(o, change.url);
    // Asked again: it may have changed, or gone, meanwhile.
    const webhook = own(o, req);
    const { enabled, ...rest } = change;
    const isSame = enabled === (webhook.disabledAt === null);
    const changed = endpoints.change(webhook, isSame ? rest : change);
    o.sender.wake();
    return shown(o, changed);
  });
  app.delete('/v1/webhooks/:id', async (req): Promise<z.infer<typeof removedAnswer>> => {
    const webhook = own(o, req);
    endpoints.remove(webhook);
    o.deliveries.recount();
    return { id: webhook.id, removed: true };
  });
  app.post('/v1/webhooks/:id/rotate', async (req): Promise<z.infer<typeof rotatedAnswer>> => {
    const { secret, oldSecretUntil } = endpoints.rotate(own(o, req));
    return { secret, oldSecretUntil: iso(oldSecretUntil) };
  });
}

function deliveries(app: FastifyInstance, o: WebhooksApiOptions): void {
  const ofDeliveries = queried(deliveriesQuery);
  app.get(
    '/v1/webhooks/:id/deliveries',
    ofDeliveries,
    async (req): Promise<z.infer<typeof deliveriesAnswer>> => {
      const { id } = own(o, req);
      const { state, limit, cursor } = read(deliveriesQuery, req.query);
      const page = o.deliveries.list(id, { state, limit, before: cursor ? Number(cursor) : undefined });
      const last = page.length === limit ? page.at(-1) : undefined;
      return { deliveries: page.map(shownDelivery), ...(last && { cursor: String(last.id) }) };
    },
  );
  app.post('/v1/webhooks/:id/replay', async (req): Promise<z.infer<typeof replayAnswer>> => {
    const webhook = own(o, req);
    const wanted = read(replayRequest, req.body);
    if (webhook.disabledAt !== null) return refuse('WEBHOOK_REFUSED', 'It is disabled: enable it first.');
    if ('deliveries' in wanted) return { queued: o.deliveries.replayIds(webhook.id, wanted.deliveries) };
    const what = 'messageId' in wanted ? wanted : { since: wanted.since, until: wanted.until ?? o.now() };
    const { queued, since } = await o.deliveries.replay(webhook, what);
    return { queued, ...(since !== undefined && { since: iso(since) }) };
  });
  const testedAt = new Map<string, number>();
  app.post('/v1/webhooks/:id/test', async (req): Promise<z.infer<typeof testAnswer>> => {
    const webhook = own(o, req);
    const { did } = webhook;
    if (o.now() - (testedAt.get(did) ?? 0) < testEveryMs)
      return refuse('RATE_LIMITED', 'One test in two seconds.');
    // Bounded: what is older than that says nothing any more.
    if (testedAt.size > 1_000) testedAt.clear();
    testedAt.set(did, o.now());
    const id = `test_${randomBytes(12).toString('base64url')}`;
    const payload = { type: 'webhook.test', timestamp: iso(o.now()), data: { webhook: webhook.id } } as const;
    const { isSuccess, status, text } = await o.sender.post(webhook, id, payload);
    return { delivered: isSuccess, status, answer: text };
  });
}

/** @throws Refusal */
async function refuseAddress({ endpoints }: WebhooksApiOptions, url: string): Promise<void> {
  const why = await endpoints.refusal(url);
  if (why) refuse('WEBHOOK_REFUSED', why);
}

/** @throws Refusal when the member has none of that id */
function own({ endpoints }: WebhooksApiOptions, req: FastifyRequest): Webhook {
  const { id } = read(idParam, req.params);
  const webhook = endpoints.get(id);
  return webhook && webhook.did === principalOf(req).did ? webhook : refuse('NOT_FOUND', 'No such webhook.');
}

function shown({ deliveries }: WebhooksApiOptions, webhook: Webhook): z.infer<typeof webhookAnswer> {
  const { id, url, description, types, disabledAt, disabledReason, failingSince, createdAt } = webhook;
  return {
    ...{ id, url, description, types: [...types] },
    state: disabledAt === null ? 'enabled' : 'disabled',
    reason: disabledReason,
    failingSince: failingSince === null ? null : iso(failingSince),
    waiting: deliveries.waiting(id),
    createdAt: iso(createdAt),
  };
}

function shownDelivery(delivery: Delivery): z.infer<typeof deliveriesAnswer>['deliveries'][number] {
  const { id, eventId, type, messageId, state, attempts, nextAt, lastAt, status, answer } = delivery;
  return {
    ...{ id, webhookId: `evt_${eventId}`, type, messageId, state, attempts, status, answer },
    nextAt: nextAt === null ? null : iso(nextAt),
    lastAt: lastAt === null ? null : iso(lastAt),
  };
}
