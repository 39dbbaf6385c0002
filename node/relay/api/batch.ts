/**
 * `POST /v1/send/batch`: up to 100 messages in one request and one commit, each with its own answer.
 *
 * Promise: what is answered as accepted is on disk, all of it by one sync; a message that is refused refuses
 * none of the others. With an `Idempotency-Key` the whole request has one answer, the same again for 24 hours.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { httpBody } from '../../errors.ts';
import { behindDoor, type Door, principalOf } from '../../http/authenticated.ts';
import { Refusal, read, refuse } from '../../http/refusal.ts';
import type { Principal } from '../../members/authenticate.ts';
import type { Intake, Part } from '../intake.ts';
import { answerOf, type Draft, draft, refusalOf } from './draft.ts';
import type { HeldBodies } from './held-body.ts';
import { type Answers, earlierAnswer, keyedRequest } from './idempotency.ts';
import { asJson } from './send.ts';
import { batchRequest, bodyLimit, maxBatchRecipients, type SendRequest, sendRequest } from './send-schema.ts';

export type BatchOptions = {
  door: Door;
  intake: Pick<Intake, 'admission' | 'takeBatch'>;
  answers: Answers;
  bodies: HeldBodies;
  now: () => number;
};

/** A fastify plugin. */
export function batchApi(o: BatchOptions): (app: FastifyInstance) => Promise<void> {
  return async (app) => {
    behindDoor(app, o.door);
    o.bodies.guard(app);
    app.post('/v1/send/batch', { bodyLimit }, (req, reply) =>
      o.bodies.whileHeld(req, () => sendBatch(o, req, reply)),
    );
  };
}

/** @throws Refusal when the request as a whole is refused */
async function sendBatch(o: BatchOptions, req: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const principal = principalOf(req);
  const { did } = principal;
  const mails = read(batchRequest, req.body).messages.map(tryRead);
  const keyed = keyedRequest(req, mails.map(comparable));
  const earlier = await earlierAnswer(o.answers, did, keyed);
  if (earlier !== undefined) return answer(reply, JSON.parse(earlier) as string[]);
  refuseCrowd(mails.map(entriesOf));
  const drafts: (Draft | Refusal)[] = [];
  for (const mail of mails) {
    drafts.push(await tryDraft(o, principal, mail));
    // Each is some work without a pause: others get their turn between.
    await nextTurn();
  }
  refuseCrowd(drafts.map((one) => (one instanceof Refusal ? 0 : one.submission.recipients.length)));
  const parts = drafts.map(partOf);
  const taken = await o.intake.takeBatch({ did, parts, ...(keyed && { idempotency: keyed }) });
  if (taken.kind === 'refused') throw new Refusal(taken.problem);
  return answer(reply, taken.answers);
}

/** What refuses one message alone is a value. */
function tryRead(message: unknown): SendRequest | Refusal {
  try {
    return read(sendRequest, message);
  } catch (error) {
    return asValue(error);
  }
}

async function tryDraft(
  o: BatchOptions,
  principal: Principal,
  mail: SendRequest | Refusal,
): Promise<Draft | Refusal> {
  if (mail instanceof Refusal) return mail;
  const drafting = draft(mail, { principal, admission: o.intake.admission, now: o.now() });
  return drafting.catch(asValue);
}

function asValue(error: unknown): Refusal {
  if (error instanceof Refusal) return error;
  throw error;
}

/** Of a malformed message only what is wrong with it: it may be of any depth, and its answer says no more. */
function comparable(mail: SendRequest | Refusal): unknown {
  return mail instanceof Refusal ? mail.problem.detail : mail;
}

/** @param recipients of each message. @throws Refusal */
function refuseCrowd(recipients: readonly number[]): void {
  if (recipients.reduce((sum, one) => sum + one, 0) > maxBatchRecipients)
    refuse('TOO_MANY_RECIPIENTS', `The limit of a batch is ${maxBatchRecipients}.`);
}

/** Recipients before any is read: each entry of a list is one at least. */
function entriesOf(mail: SendRequest | Refusal): number {
  if (mail instanceof Refusal) return 0;
  return [mail.to, mail.cc ?? [], mail.bcc ?? []].flat().length;
}

function partOf(drafted: Draft | Refusal): Part {
  if (drafted instanceof Refusal) return { answer: refusalText(drafted) };
  return {
    submission: drafted.submission,
    answer: (taken) =>
      taken.kind === 'refused'
        ? refusalText(refusalOf(drafted, taken.problem))
        : JSON.stringify(answerOf(drafted, taken.queueId, taken.refused)),
  };
}

/** The answers are JSON already. */
function answer(reply: FastifyReply, answers: readonly string[]): FastifyReply {
  return asJson(reply, `{"results":[${answers.join(',')}]}`);
}

function refusalText(refusal: Refusal): string {
  return JSON.stringify({ ...httpBody(refusal.problem), ...refusal.beside });
}
