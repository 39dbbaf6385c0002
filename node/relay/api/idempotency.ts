/**
 * `Idempotency-Key`: the same request again gets the same answer again, for 24 hours.
 *
 * The answer is stored in the commit of the message, so there is no moment in which one exists without the
 * other. It is asked for before admission: a repetition gets it also when the cap is reached meanwhile, or a
 * recipient suppressed. Requests that were refused are not remembered; they are judged anew.
 */
import { createHash } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import { read, refuse } from '../../http/refusal.ts';
import { idempotencyKey } from './send-schema.ts';

/** What this needs of the spool. */
export type Answers = {
  /** What the same key of this member got within 24 hours. */
  answerTo(o: {
    did: string;
    key: string;
    fingerprint: string;
  }): Promise<{ kind: 'repeated'; answer: string } | { kind: 'key-reused' } | undefined>;
};

export type Keyed = { key: string; fingerprint: string };

/**
 * @param request in the shape of its schema, so that it is no deeper than that
 * @returns undefined when there is no key. @throws Refusal for a malformed one
 */
export function keyedRequest(req: FastifyRequest, request: unknown): Keyed | undefined {
  const header = req.headers['idempotency-key'];
  if (header === undefined) return undefined;
  const { 'Idempotency-Key': key } = read(keyHeader, { 'Idempotency-Key': header });
  return { key, fingerprint: fingerprintOf(req.routeOptions.url ?? '', request) };
}

const keyHeader = z.object({ 'Idempotency-Key': idempotencyKey });

/** @returns the answer of the first time. @throws Refusal IDEMPOTENCY_CONFLICT */
export async function earlierAnswer(
  answers: Answers,
  did: string,
  keyed: Keyed | undefined,
): Promise<string | undefined> {
  const earlier = keyed && (await answers.answerTo({ did, ...keyed }));
  if (earlier?.kind === 'key-reused') return refuse('IDEMPOTENCY_CONFLICT');
  return earlier?.answer;
}

/** Of what the request says, not of its spelling: the order of fields and blanks do not matter. */
function fingerprintOf(method: string, request: unknown): string {
  return createHash('sha256')
    .update(`${method}\n${JSON.stringify(request, sortedKeys)}`)
    .digest('base64url');
}

function sortedKeys(_key: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}
