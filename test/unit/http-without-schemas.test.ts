import assert from 'node:assert/strict';
import { test } from 'node:test';
import fastify from 'fastify';
import { withoutSchemas } from '../../node/http/without-schemas.ts';

test('a route with a JSON Schema, which nobody would check, stops the start', async () => {
  const app = fastify(withoutSchemas);
  app.get('/plain', async () => ({ ok: true }));
  const said = await app.inject('/plain');
  assert.deepEqual([said.statusCode, said.json()], [200, { ok: true }]);

  for (const schema of [{ querystring: { type: 'object' } }, { response: { 200: { type: 'object' } } }]) {
    const other = fastify(withoutSchemas);
    other.get('/', { schema }, async () => ({}));
    await assert.rejects(async () => await other.ready(), /no JSON Schema/);
  }
});
