/** The OpenAPI document says what the node does: its examples are sent, and its methods are asked. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { catalogue } from '../../node/errors.ts';
import { operations } from '../../node/relay/api/operations.ts';
import { openApiWorld } from './api-world.ts';
import { reef } from './submission-world.ts';

const world = await openApiWorld();
const { call } = world;
after(() => world.close());
const { body: document, status } = await call('GET', '/v1/openapi.json', { as: {} });
/** Of the member of the examples, as the member of this test has it. */
const ours = (example: unknown) =>
  JSON.parse(JSON.stringify(example).replaceAll('reef.example', 'reef.test'));

test('the document is served without a login and is OpenAPI 3.1', () => {
  assert.equal(status, 200);
  assert.equal(document.openapi, '3.1.0');
  assert.deepEqual(document.servers, [{ url: 'https://harbor.test' }]);
});

test('its operations have names of their own, and its references lead somewhere', () => {
  const ids = Object.values(document.paths).flatMap((methods) =>
    Object.values(methods as Record<string, { operationId: string }>).map(({ operationId }) => operationId),
  );
  assert.equal(new Set(ids).size, operations.length);
  for (const [, name] of JSON.stringify(document).matchAll(/"\$ref":"#\/components\/schemas\/(\w+)"/g))
    assert.ok(document.components.schemas[name!], name);
});

for (const { id, method, path, body, examples, answer } of operations) {
  if (!body) continue;
  const shown = document.paths[path][method].requestBody.content['application/json'].examples;
  for (const name of Object.keys(examples ?? {})) {
    test(`${id}: the example "${name}" is accepted and answered as the document says`, async () => {
      const as = method === 'post' ? 'POST' : 'PUT';
      const got = await call(as, path, { body: ours(shown[name].value) });
      assert.equal(got.status, 200, got.text);
      answer.parse(got.body);
      assert.doesNotMatch(got.text, /"code"/);
    });
  }
  test(`${id}: a field that the document does not have is refused`, async () => {
    const value = ours(Object.values(examples!)[0]);
    const as = method === 'post' ? 'POST' : 'PUT';
    const got = await call(as, path, { body: { ...value, notInTheDocument: 1 } });
    assert.equal(got.status, 400);
    assert.match(got.body.error, /"notInTheDocument"/);
  });
}

for (const { id, method, path, answer } of operations) {
  if (method !== 'get') continue;
  test(`${id}: the answer is what the document says`, async () => {
    const sent = await call('POST', '/v1/send', {
      body: { from: 'a@reef.test', to: 'b@dest.test', subject: 's', text: 't' },
    });
    world.suppressions.add({ did: reef, address: 'gone@dest.test', reason: 'manual', evidence: 'x' });
    const got = await call('GET', path.replace('{id}', sent.body.accepted[0].messageId));
    assert.equal(got.status, 200, got.text);
    answer.parse(got.body);
  });
}

for (const { id, method, path } of operations) {
  test(`${id}: a field of the address that nobody knows is refused`, async () => {
    const url = `${path.replace(/\{\w+\}/, 'x')}?notInTheDocument=1`;
    const got = await call(method.toUpperCase() as 'GET', url, {
      ...(method === 'get' || method === 'delete' ? {} : { body: {} }),
    });
    assert.deepEqual([got.status, got.body.code], [400, 'INVALID_REQUEST']);
    assert.match(got.body.error, /"notInTheDocument"/);
  });
}

for (const { id, method, path, errors } of operations) {
  test(`${id}: there is such a method, behind the door, and its errors are of the catalogue`, async () => {
    const url = path.replace(/\{\w+\}/, 'x');
    const got = await call(method.toUpperCase() as 'GET', url, {
      ...{ as: {} },
      ...(method === 'get' || method === 'delete' ? {} : { body: {} }),
    });
    assert.deepEqual([got.status, got.body.code], [400, 'AUTH_REQUIRED']);
    const responses = document.paths[path][method].responses;
    for (const code of errors) assert.match(responses[catalogue[code].http].description, new RegExp(code));
  });
}
