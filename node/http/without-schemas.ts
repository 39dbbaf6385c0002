/**
 * For fastify(): no compilers of JSON Schema.
 *
 * Our routes check what they are given with zod. Ajv and fast-json-stringify, which Fastify else loads at its
 * start, are 3 MB.
 */
import type { FastifyServerOptions } from 'fastify';

export const withoutSchemas = {
  schemaController: { compilersFactory: { buildValidator: refuse, buildSerializer: refuse } },
} satisfies FastifyServerOptions;

/** Called for a route with a `schema`. */
function refuse(): never {
  throw new Error('routes of ours have no JSON Schema: they check with zod');
}
