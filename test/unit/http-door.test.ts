/** The door of the members' methods, by itself. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fastify from 'fastify';
import { pino } from 'pino';
import { problem } from '../../node/errors.ts';
import { behindDoor, principalOf } from '../../node/http/authenticated.ts';
import type { Authentication } from '../../node/members/authenticate.ts';

const did = 'did:plc:reef';
const authenticated: Authentication = {
  kind: 'authenticated',
  principal: { did, keyId: 'k', defaultCategory: null },
};

async function open(answer: Authentication, suspended = false) {
  const asked: (string | undefined)[][] = [];
  const app = fastify();
  behindDoor(app, {
    authenticator: {
      authenticate: async (...args) => {
        asked.push(args);
        return answer;
      },
    },
    admission: {
      member: () =>
        suspended ? { kind: 'refused', problem: problem('MEMBER_SUSPENDED', 'report 7') } : undefined,
    },
    log: pino({ level: 'silent' }),
  });
  app.all('/thing', async (req) => ({ did: principalOf(req).did }));
  const ask = (
    o: {
      method?: 'GET' | 'POST' | 'PUT' | 'DELETE';
      headers?: object;
      url?: string;
      remoteAddress?: string;
    } = {},
  ) =>
    app.inject({
      ...{ method: 'GET', url: '/thing' },
      headers: { 'x-atmos-did': did, authorization: 'Bearer key' },
      ...o,
    } as never);
  return { app, asked, ask };
}

const refusals = [
  ['failed', 401, 'AUTH_FAILED'],
  ['mismatch', 403, 'DID_MISMATCH'],
  ['busy', 503, 'AUTH_BUSY'],
  ['throttled', 429, 'AUTH_THROTTLED'],
] as const;
for (const [kind, status, code] of refusals) {
  test(`a login that is ${kind} is ${status} ${code}`, async () => {
    const { ask } = await open({ kind });
    const answer = await ask();
    assert.deepEqual([answer.statusCode, answer.json().code], [status, code]);
  });
}

for (const [method, status] of [
  ['GET', 200],
  ['DELETE', 200],
  ['POST', 403],
  ['PUT', 403],
] as const) {
  test(`${method} of a suspended member is ${status}`, async () => {
    const { ask } = await open(authenticated, true);
    const answer = await ask({ method });
    assert.equal(answer.statusCode, status);
    if (status === 403) assert.match(answer.json().error, /report 7/);
  });
}

test('a DID is in the header or in the address, and every one that is named must be the key’s own', async () => {
  const { ask } = await open(authenticated);
  const authorization = 'Bearer key';
  const status = async (o: Parameters<typeof ask>[0]) => (await ask(o)).json().code ?? 'ok';
  assert.equal(await status({ headers: { authorization }, url: `/thing?did=${did}` }), 'ok');
  assert.equal(await status({ url: `/thing?did=${did}` }), 'ok');
  assert.equal(await status({ url: '/thing?did=did:plc:other' }), 'DID_MISMATCH');
  assert.equal(await status({ url: `/thing?did=${did}&did=did:plc:other` }), 'INVALID_DID');
  assert.equal(await status({ url: '/thing?did=reef.test' }), 'INVALID_DID');
  assert.equal(await status({ headers: { authorization } }), 'AUTH_REQUIRED');
});

test('wrong logins are counted against the client, but not against a proxy on this machine', async () => {
  const { ask, asked } = await open(authenticated);
  await ask({ remoteAddress: '192.0.2.7' });
  await ask({ remoteAddress: '127.0.0.1' });
  await ask({ remoteAddress: '::1' });
  assert.deepEqual(
    asked.map(([, , address]) => address),
    ['192.0.2.7', undefined, undefined],
  );
});

test('an empty body that calls itself JSON is no body', async () => {
  const { ask } = await open(authenticated);
  const headers = { 'x-atmos-did': did, authorization: 'Bearer key', 'content-type': 'application/json' };
  for (const method of ['DELETE', 'POST'] as const)
    assert.equal((await ask({ method, headers })).statusCode, 200);
});

test('a route that forgot the door fails instead of serving nobody', async () => {
  const app = fastify();
  app.get('/thing', async (req) => ({ did: principalOf(req).did }));
  assert.equal((await app.inject('/thing')).statusCode, 500);
});
