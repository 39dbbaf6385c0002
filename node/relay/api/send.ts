/**
 * `POST /v1/send`: the same road as SMTP, for programs that have no MIME of their own.
 *
 * Promise: 200 only after the commit, with one entry for each recipient, `accepted` or `rejected`.
 * Credentials are judged before the body is read, and it is read only as far as the byte budget has room for it.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { behindDoor, type Door, principalOf } from '../../http/authenticated.ts';
import { read } from '../../http/refusal.ts';
import type { Intake } from '../intake.ts';
import { answerOf, draft, refusalOf } from './draft.ts';
import type { HeldBodies } from './held-body.ts';
import { type Answers, earlierAnswer, keyedRequest } from './idempotency.ts';
import { bodyLimit, type SendAnswer, sendRequest } from './send-schema.ts';

export type SendOptions = {
  door: Door;
  intake: Pick<Intake, 'admission' | 'take'>;
  answers: Answers;
  bodies: HeldBodies;
  now: () => number;
};

/** A fastify plugin. */
export function sendApi(o: SendOptions): (app: FastifyInstance) => Promise<void> {
  return async (app) => {
    behindDoor(app, o.door);
    o.bodies.guard(app);
    app.post('/v1/send', { bodyLimit }, (req, reply) => o.bodies.whileHeld(req, () => send(o, req, reply)));
  };
}

/** @throws Refusal */
async function send(
  o: SendOptions,
  req: FastifyRequest,
  reply: FastifyReply,
): Promise<SendAnswer | FastifyReply> {
  const principal = principalOf(req);
  const mail = read(sendRequest, req.body);
  const keyed = keyedRequest(req, mail);
  const earlier = await earlierAnswer(o.answers, principal.did, keyed);
  if (earlier !== undefined) return asJson(reply, earlier);
  const drafted = await draft(mail, { principal, admission: o.intake.admission, now: o.now() });
  const taken = await o.intake.take({
    ...drafted.submission,
    ...(keyed && {
      idempotency: {
        ...keyed,
        answer: (queueId, refused) => JSON.stringify(answerOf(drafted, queueId, refused)),
      },
    }),
  });
  if (taken.kind === 'refused') throw refusalOf(drafted, taken.problem);
  if (taken.kind === 'repeated') return asJson(reply, taken.answer);
  return answerOf(drafted, taken.queueId, taken.refused);
}

/** An answer that was stored as text goes out as it is. */
export function asJson(reply: FastifyReply, text: string): FastifyReply {
  return reply.type('application/json; charset=utf-8').send(text);
}
