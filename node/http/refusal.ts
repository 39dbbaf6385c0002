/** How an error leaves the API: always an entry of the catalogue, never our own details. */
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import type { z } from 'zod';
import { type ErrorCode, httpBody, type Problem, problem } from '../errors.ts';
import { internalError } from '../internal-error.ts';

/** A refusal on its way to the error handler. */
export class Refusal extends Error {
  readonly problem: Problem;
  /** Fields that stand in the answer beside the error. */
  readonly beside: object;

  constructor(why: Problem, beside: object = {}) {
    super(why.entry.text);
    this.problem = why;
    this.beside = beside;
  }
}

/** @throws Refusal always */
export function refuse(code: ErrorCode, detail?: string): never {
  throw new Refusal(problem(code, detail));
}

/**
 * What came from outside, in the shape that the schema promises.
 *
 * @throws Refusal INVALID_REQUEST, naming the field
 */
export function read<T extends z.ZodType>(schema: T, input: unknown): z.output<T> {
  const parsed = schema.safeParse(input);
  if (!parsed.success) return refuse('INVALID_REQUEST', describe(parsed.error));
  return parsed.data;
}

/** The error handler of a plugin. */
export function answerErrors(log: Logger) {
  return (error: Error, req: FastifyRequest, reply: FastifyReply): FastifyReply => {
    const why = problemOf(error, req, log);
    const beside = error instanceof Refusal ? error.beside : {};
    return reply.code(why.entry.http).send({ ...httpBody(why), ...beside });
  };
}

function problemOf(error: Error, req: FastifyRequest, log: Logger): Problem {
  if (error instanceof Refusal) return error.problem;
  const { statusCode = 500 } = error as FastifyError;
  if (statusCode === 413)
    return problem('MESSAGE_TOO_LARGE', `The limit of a request is ${octets(req.routeOptions.bodyLimit)}.`);
  if (statusCode < 500) return problem('INVALID_REQUEST', error.message);
  return internalError(error, log);
}

function octets(limit: number): string {
  const mib = limit / 1024 / 1024;
  return mib >= 1 ? `${mib} MiB` : `${limit / 1024} KiB`;
}

/** The first fault, with the place where it stands: `attachments.0.cid: is not …` */
function describe(error: z.ZodError): string {
  return error.issues[0] ? describeIssue(error.issues[0], []) : 'The request is malformed.';
}

function describeIssue(issue: z.core.$ZodIssue, above: readonly PropertyKey[]): string {
  const path = [...above, ...issue.path];
  // Of a key that is refused, and of alternatives that all fail, zod tells the reason one floor down.
  if (issue.code === 'invalid_key') return describeIssue(issue.issues[0]!, path);
  const deeper = issue.code === 'invalid_union' ? deepest(issue.errors) : undefined;
  if (deeper && deeper.path.length > 0) return describeIssue(deeper, path);
  const where = path.map(String).join('.');
  return where ? `${where}: ${issue.message}.` : `${issue.message}.`;
}

function deepest(branches: readonly (readonly z.core.$ZodIssue[])[]): z.core.$ZodIssue | undefined {
  return branches.flat().sort((a, b) => b.path.length - a.path.length)[0];
}
