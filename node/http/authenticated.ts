/**
 * The door of every member's method: whose request is this, and may that member act now?
 *
 * Promise: credentials are judged before an octet of the body is read. Every DID that the request names, in
 * `X-Atmos-DID` or in `?did=`, must be the one that the API key belongs to: any other, known or not, is
 * DID_MISMATCH. What only reads (GET) or takes back (DELETE) answers a suspended member too, who must be able
 * to see why; everything else is refused as the standing says.
 *
 *     behindDoor(app, door);
 *     app.get('/v1/things', queried(thingsQuery), (req) => thingsOf(principalOf(req).did));
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import type { z } from 'zod';
import { isLoopback } from '../../appview/identity/address.ts';
import { type Problem, problem } from '../errors.ts';
import type { Authentication, Principal } from '../members/authenticate.ts';
import { didSyntax } from '../members/members.ts';
import { didQuery } from './common-schema.ts';
import { answerErrors, Refusal, read, refuse } from './refusal.ts';

export type Door = {
  authenticator: {
    /** @param address of the client, for the account of wrong logins */
    authenticate(user: string, password: string, address?: string): Promise<Authentication>;
  };
  /** May the member act now? */
  admission: { member(did: string): { problem: Problem } | undefined };
  log: Logger;
};

const principals = new WeakMap<FastifyRequest, Principal>();

/** @returns an onRequest hook. It throws Refusal, which answerErrors() turns into the answer */
export function authenticated({ authenticator, admission }: Door): (req: FastifyRequest) => Promise<void> {
  return async (req) => {
    const principal = await authenticate(authenticator, req);
    if (req.method !== 'GET' && req.method !== 'HEAD' && req.method !== 'DELETE') {
      const refused = admission.member(principal.did);
      if (refused) throw new Refusal(refused.problem);
    }
    principals.set(req, principal);
  };
}

/** Of a request that passed the hook. @throws Error where a route forgot the hook */
export function principalOf(req: FastifyRequest): Principal {
  const principal = principals.get(req);
  if (!principal) throw new Error(`${req.routeOptions.url} is not behind authenticated()`);
  return principal;
}

/** Options of a route whose address may say more than `?did=`. */
export function queried(query: z.ZodType): { config: { query: z.ZodType } } {
  return { config: { query } };
}

/** Puts the door and the error answers on a plugin's own instance; a field of an address that no route knows is refused. */
export function behindDoor(app: FastifyInstance, door: Door): void {
  app.addHook('onRequest', authenticated(door));
  app.addHook('onRequest', async (req) => {
    const { query = didQuery } = req.routeOptions.config as { query?: z.ZodType };
    read(query, req.query);
  });
  app.setErrorHandler(answerErrors(door.log));
  // Many clients name JSON on every request, also where there is no body: that is no error of its own.
  const parse = app.getDefaultJsonParser('error', 'error');
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (req, body, done) => {
    if (body === '') done(null, undefined);
    else parse(req, body as string, done);
  });
}

const codes = {
  failed: 'AUTH_FAILED',
  mismatch: 'DID_MISMATCH',
  busy: 'AUTH_BUSY',
  throttled: 'AUTH_THROTTLED',
} as const;

async function authenticate(authenticator: Door['authenticator'], req: FastifyRequest): Promise<Principal> {
  const named = [req.headers['x-atmos-did'], (req.query as { did?: unknown }).did].filter(
    (did) => did !== undefined,
  );
  const key = /^Bearer +(\S+)$/i.exec(req.headers.authorization ?? '')?.[1];
  if (named.length === 0 || key === undefined) return refuse('AUTH_REQUIRED');
  if (!named.every(isDid)) return refuse('INVALID_DID');
  const answer = await authenticator.authenticate(named[0]!, key, clientOf(req));
  if (answer.kind !== 'authenticated') throw new Refusal(problem(codes[answer.kind]));
  if (named.some((did) => did !== answer.principal.did)) return refuse('DID_MISMATCH');
  return answer.principal;
}

/** Whom wrong logins are counted against. A proxy on this machine stands for everybody, so it counts for nobody. */
function clientOf(req: FastifyRequest): string | undefined {
  return isLoopback(req.ip) ? undefined : req.ip;
}

function isDid(text: unknown): text is string {
  return typeof text === 'string' && didSyntax.test(text);
}
