/**
 * `GET /v1/openapi.json`: the methods of members as OpenAPI 3.1.
 *
 * Made from the very schemas that judge requests, and from the error catalogue, so it cannot say anything else
 * than the node does. Its examples are sent by a test.
 */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { catalogue, type ErrorCode } from '../../errors.ts';
import type { Operation } from './operations.ts';
import { bodyLimit, errorAnswer } from './send-schema.ts';

export type OpenapiOptions = {
  publicUrl: string;
  /** Those of operations.ts, and those of other folders. */
  operations: readonly Operation[];
};

/** A fastify plugin; needs no login. */
export function openapiDocument(o: OpenapiOptions): (app: FastifyInstance) => Promise<void> {
  const text = JSON.stringify(documentOf(o));
  return async (app) => {
    app.get('/v1/openapi.json', (_req, reply) =>
      reply.type('application/json; charset=utf-8').header('cache-control', 'public, max-age=300').send(text),
    );
  };
}

function documentOf({ publicUrl, operations }: OpenapiOptions): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const operation of operations) {
    paths[operation.path] = { ...paths[operation.path], [operation.method]: described(operation) };
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Atmosphere Mail',
      version: '1',
      description: `Mail through a cooperative. A request has at most ${bodyLimit / 1024 / 1024} MiB. Every error is one of the catalogue at /errors.`,
    },
    servers: [{ url: publicUrl }],
    security: [{ apiKey: [], did: [] }],
    paths,
    components: {
      securitySchemes: {
        apiKey: { type: 'http', scheme: 'bearer', description: 'An API key: atmos_…' },
        did: { type: 'apiKey', in: 'header', name: 'X-Atmos-DID', description: 'Your DID; or ?did=' },
      },
      schemas: { Error: schemaOf(errorAnswer, 'output') },
    },
  };
}

function described(o: Operation): object {
  return {
    operationId: o.id,
    summary: o.summary,
    parameters: [
      ...parametersOf(o.path, o.params, 'path'),
      ...parametersOf(o.path, o.query, 'query'),
      ...headersOf(o),
    ],
    ...(o.body && {
      requestBody: {
        required: true,
        content: {
          'application/json': {
            schema: schemaOf(o.body, 'input'),
            ...(o.examples && { examples: namedExamples(o.examples) }),
          },
        },
      },
    }),
    responses: {
      200: {
        description: o.answers,
        content: { 'application/json': { schema: schemaOf(o.answer, 'output') } },
      },
      ...errorResponses(o.errors),
    },
  };
}

/** One response for each status: OpenAPI has no more room, and the codes stand in its text. */
function errorResponses(codes: readonly ErrorCode[]): Record<string, object> {
  const byStatus = Map.groupBy(codes, (code) => catalogue[code].http);
  return Object.fromEntries(
    [...byStatus].map(([status, same]) => [
      String(status),
      {
        description: same.map((code) => `\`${code}\`: ${catalogue[code].text}`).join('\n\n'),
        content: { 'application/json': { schema: { $ref: '#/components/schemas/Error' } } },
      },
    ]),
  );
}

type JsonSchema = { properties?: Record<string, JsonSchema>; required?: string[]; description?: string };

function parametersOf(path: string, schema: z.ZodType | undefined, place: 'path' | 'query'): object[] {
  if (!schema) return [];
  const { properties = {}, required = [] } = schemaOf(schema, 'input') as JsonSchema;
  return Object.entries(properties).map(([name, { description, ...rest }]) => ({
    ...{ name, in: place },
    required: place === 'path' ? path.includes(`{${name}}`) : required.includes(name),
    ...(description && { description }),
    schema: rest,
  }));
}

function headersOf({ headers = [] }: Operation): object[] {
  return headers.map(({ name, schema, description }) => ({
    ...{ name, in: 'header', required: false, description },
    schema: schemaOf(schema, 'input'),
  }));
}

function namedExamples(examples: Readonly<Record<string, unknown>>): Record<string, { value: unknown }> {
  return Object.fromEntries(Object.entries(examples).map(([name, value]) => [name, { value }]));
}

function schemaOf(schema: z.ZodType, io: 'input' | 'output'): object {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io, unrepresentable: 'any' });
  return rest;
}
