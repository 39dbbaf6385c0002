/**
 * `POST /v1/send/batch`: up to 100 messages in one request and one commit, each with its own answer.
 *
 * Promise: what is answered as accepted is on disk, all of it by one sync; a message that is refused refuses
 * none of the others. With an `Idempotency-Key` the whole request has one answer, the same again for 24 hours.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { httpBody, type Problem, problem } from '../../errors.ts';
import type { Principal } from '../../members/authenticate.ts';
import type { Batch, BatchAccepted, BatchItem } from '../../spool/message.ts';
import type { ByteBudget } from '../byte-budget.ts';
import type { Intake } from '../intake.ts';
import { behindDoor, type Door, principalOf } from './authenticated.ts';
import { answerOf, type Draft, draft, refusalOf } from './draft.ts';
import { holdBodies, whileHeld } from './held-body.ts';
import { type Answers, earlierAnswer, keyedRequest } from './idempotency.ts';
import { Refusal, read, refuse } from './refusal.ts';
import { asJson } from './send.ts';
import { batchRequest, bodyLimit, maxBatchRecipients, type SendRequest, sendRequest } from './send-schema.ts';

export type BatchOptions = {
  door: Door;
  intake: Pick<Intake, 'admission' | 'prepare' | 'report'>;
  queue: Answers & { acceptBatch(batch: Batch): Promise<BatchAccepted> };
  budget: ByteBudget;
  now: () => number;
};

/** Messages of one batch that are composed and signed at once, so that others get their turn between. */
const atOnce = 4;

/** A fastify plugin. */
export function batchApi(o: BatchOptions): (app: FastifyInstance) => Promise<void> {
  return async (app) => {
    behindDoor(app, o.door);
    holdBodies(app, o.budget);
    app.post('/v1/send/batch', { bodyLimit }, (req, reply) => whileHeld(req, () => sendBatch(o, req, reply)));
  };
}

/** @throws Refusal when the request as a whole is refused */
async function sendBatch(o: BatchOptions, req: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const principal = principalOf(req);
  const { did } = principal;
  const mails = read(batchRequest, req.body).messages.map(tryRead);
  const keyed = keyedRequest(req, mails.map(comparable));
  const earlier = await earlierAnswer(o.queue, did, keyed);
  if (earlier !== undefined) return answer(reply, JSON.parse(earlier) as string[]);
  const drafts = await inTurn(mails, (mail) => tryDraft(o, principal, mail));
  refuseCrowd(drafts);
  const items = await inTurn(drafts, (drafted) => prepare(o, drafted));
  const accepted = await o.queue.acceptBatch({ did, items, ...(keyed && { idempotency: keyed }) });
  if (accepted.kind === 'key-reused') return refuse('IDEMPOTENCY_CONFLICT');
  if (accepted.kind === 'failed') return refuse('STORAGE_FAILED');
  if (accepted.kind === 'done') report(o, items, accepted.answers);
  return answer(reply, accepted.answers);
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

/** @throws Refusal */
function refuseCrowd(drafts: readonly (Draft | Refusal)[]): void {
  const recipients = drafts.reduce(
    (sum, one) => sum + (one instanceof Refusal ? 0 : one.submission.recipients.length),
    0,
  );
  if (recipients > maxBatchRecipients)
    refuse('TOO_MANY_RECIPIENTS', `The limit of a batch is ${maxBatchRecipients}.`);
}

async function prepare(o: BatchOptions, drafted: Draft | Refusal): Promise<BatchItem> {
  if (drafted instanceof Refusal) return { answer: refusalText(drafted) };
  const prepared = await o.intake.prepare(drafted.submission);
  if (prepared.kind === 'refused') return { answer: refusalText(refusalOf(drafted, prepared.problem)) };
  const { message, refused } = prepared;
  return {
    message,
    answers: {
      committed: JSON.stringify(answerOf(drafted, message.queueId, refused)),
      'over-cap': problemText(problem('RATE_LIMITED')),
      'queue-full': problemText(problem('QUEUE_FULL')),
    },
  };
}

/** The answers are JSON already. */
function answer(reply: FastifyReply, answers: readonly string[]): FastifyReply {
  return asJson(reply, `{"results":[${answers.join(',')}]}`);
}

function refusalText(refusal: Refusal): string {
  return JSON.stringify({ ...httpBody(refusal.problem), ...refusal.beside });
}

function problemText(why: Problem): string {
  return JSON.stringify(httpBody(why));
}

/** Each message for itself: log, counters and the guard's account do not know of batches. */
function report(
  { intake, now }: BatchOptions,
  items: readonly BatchItem[],
  answers: readonly string[],
): void {
  for (const [index, item] of items.entries()) {
    if (!('message' in item)) continue;
    const { message, answers: possible } = item;
    const given = answers[index];
    if (given === possible.committed) intake.report(message, { kind: 'committed' });
    else if (given === possible['queue-full']) intake.report(message, { kind: 'queue-full', whose: 'all' });
    else intake.report(message, { kind: 'over-cap', cap: message.caps[0]!, retryAt: now() });
  }
}

/** Like Promise.all over map, a few at a time, in order. */
async function inTurn<T, R>(from: readonly T[], work: (one: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (let at = 0; at < from.length; at += atOnce) {
    results.push(...(await Promise.all(from.slice(at, at + atOnce).map(work))));
  }
  return results;
}
