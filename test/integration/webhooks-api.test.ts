import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { type TestContext, test } from 'node:test';
import fastify from 'fastify';
import { catalogue, problem } from '../../node/errors.ts';
import type { Door } from '../../node/http/authenticated.ts';
import type { Principal } from '../../node/members/authenticate.ts';
import { webhooksApi } from '../../node/webhooks/api.ts';
import { webhookOperations } from '../../node/webhooks/operations.ts';
import { bounced, log, queueId, type Received, receiver, reef, start, world } from './webhooks-world.ts';

const atoll = 'did:plc:atoll';

type Json = Record<string, unknown>;

async function api(t: TestContext, o: Parameters<typeof world>[1] & { suspended?: boolean } = {}) {
  const { suspended, ...options } = o;
  const base = world(t, options);
  const door: Door = {
    authenticator: {
      authenticate: async (did, key) =>
        key === `key-of-${did}`
          ? {
              kind: 'authenticated',
              principal: { did, keyId: 'k', defaultCategory: null } as unknown as Principal,
            }
          : { kind: 'failed' },
    },
    admission: {
      member: () => (suspended ? { kind: 'refused', problem: problem('MEMBER_SUSPENDED') } : undefined),
    },
    log,
  };
  const app = fastify();
  await app.register(webhooksApi({ door, ...base }));
  t.after(() => app.close());
  const call = async (method: 'GET' | 'POST' | 'PUT' | 'DELETE', path: string, body?: object, did = reef) => {
    const headers = { 'x-atmos-did': did, authorization: `Bearer key-of-${did}` };
    const response = await app.inject({ method, url: `/v1/webhooks${path}`, headers, ...(body && { body }) });
    return { status: response.statusCode, body: response.json() as Json };
  };
  const made = async (url: string, more: object = {}, did = reef) =>
    (await call('POST', '', { url, ...more }, did)).body as Json & { id: string; secret: string };
  return { ...base, app, call, made };
}

function isSignedBy(secret: string, { headers, body }: Received): boolean {
  const key = Buffer.from(secret.slice('whsec_'.length), 'base64');
  const text = `${headers['webhook-id']}.${headers['webhook-timestamp']}.${body}`;
  const expected = `v1,${createHmac('sha256', key).update(text).digest('base64')}`;
  return (headers['webhook-signature'] as string).split(' ').includes(expected);
}

const nowhere = 'http://127.0.0.1:9/hook';

test('a webhook is made, shown, set anew and removed; its secret is shown once', async (t) => {
  const { call } = await api(t);
  const created = await call('POST', '', { url: nowhere, types: ['message.bounced'], description: 'mine' });
  assert.equal(created.status, 200);
  const { secret, ...shown } = created.body;
  assert.match(secret as string, /^whsec_/);
  assert.deepEqual(shown, {
    ...{ id: shown.id, url: nowhere, description: 'mine', types: ['message.bounced'], state: 'enabled' },
    ...{ reason: null, failingSince: null, waiting: 0, createdAt: new Date(start).toISOString() },
  });
  assert.deepEqual((await call('GET', '')).body, { webhooks: [shown] });
  assert.deepEqual((await call('GET', `/${shown.id}`)).body, shown);
  const changed = await call('PUT', `/${shown.id}`, { url: `${nowhere}/2`, enabled: false });
  assert.deepEqual(changed.body, {
    ...shown,
    ...{
      url: `${nowhere}/2`,
      description: '',
      types: [],
      state: 'disabled',
      reason: 'disabled by the member',
    },
  });
  assert.deepEqual((await call('PUT', `/${shown.id}`, { url: nowhere })).body.state, 'enabled');
  assert.deepEqual((await call('DELETE', `/${shown.id}`)).body, { id: shown.id, removed: true });
  assert.deepEqual((await call('GET', '')).body, { webhooks: [] });
});

const refused: [name: string, body: Json, code: string, says: RegExp][] = [
  ['a private address', { url: 'https://10.0.0.1/' }, 'WEBHOOK_REFUSED', /not a public address/],
  ['no address', {}, 'INVALID_REQUEST', /url/],
  ['an unknown field', { url: nowhere, secret: 'mine' }, 'INVALID_REQUEST', /secret/],
  ['an unknown type', { url: nowhere, types: ['message.read'] }, 'INVALID_REQUEST', /types\.0/],
  ['a URL without end', { url: `${nowhere}/${'x'.repeat(2000)}` }, 'INVALID_REQUEST', /url/],
];
for (const [name, body, code, says] of refused) {
  test(`${name} is refused, at creation and in a change`, async (t) => {
    const { call, made } = await api(t);
    const { id } = await made(nowhere);
    for (const answer of [await call('POST', '', body), await call('PUT', `/${id}`, body)]) {
      assert.equal(answer.body.code, code);
      assert.match(answer.body.error as string, says);
    }
    assert.equal((await call('GET', `/${id}`)).body.url, nowhere);
  });
}

test('a member has at most five', async (t) => {
  const { made, call } = await api(t);
  for (let n = 0; n < 5; n++) assert.ok((await made(nowhere)).id);
  const { status, body } = await call('POST', '', { url: nowhere });
  assert.deepEqual([status, body.code], [400, 'WEBHOOK_REFUSED']);
  assert.match(body.error as string, /You may have 5/);
  assert.ok((await made(nowhere, {}, atoll)).id, 'another member has its own five');
});

test("another member's webhook is as unknown as none", async (t) => {
  const { made, call } = await api(t);
  const { id } = await made(nowhere);
  const answers = [
    ...[
      await call('GET', `/${id}`, undefined, atoll),
      await call('GET', `/${id}/deliveries`, undefined, atoll),
    ],
    ...[
      await call('PUT', `/${id}`, { url: nowhere }, atoll),
      await call('DELETE', `/${id}`, undefined, atoll),
    ],
    await call('POST', `/${id}/rotate`, {}, atoll),
    await call('POST', `/${id}/replay`, { since: '2023-01-01T00:00:00Z' }, atoll),
    ...[await call('POST', `/${id}/test`, {}, atoll), await call('GET', '/wh_none')],
  ];
  for (const { status, body } of answers) assert.deepEqual([status, body.code], [404, 'NOT_FOUND']);
});

test('without a key nothing is shown', async (t) => {
  const { app } = await api(t);
  const answer = await app.inject({ url: '/v1/webhooks', headers: { 'x-atmos-did': reef } });
  assert.equal((answer.json() as Json).code, 'AUTH_REQUIRED');
});

test('a suspended member sees and removes, and changes nothing', async (t) => {
  const { hook, call } = await api(t, { suspended: true });
  const { webhook } = hook(nowhere);
  assert.equal((await call('GET', `/${webhook.id}`)).status, 200);
  assert.equal((await call('POST', '', { url: nowhere })).body.code, 'MEMBER_SUSPENDED');
  assert.equal((await call('DELETE', `/${webhook.id}`)).status, 200);
});

test('after a change of secret both sign for a day, then the new one alone', async (t) => {
  const target = await receiver(t, () => ({ status: 200 }));
  const { made, call, clock, happen, sender } = await api(t);
  const { id, secret: old } = await made(target.url);
  sender.start();
  const { body } = await call('POST', `/${id}/rotate`, {});
  const secret = body.secret as string;
  assert.equal(body.oldSecretUntil, new Date(start + 86_400_000).toISOString());
  happen(bounced(1));
  await target.until(1);
  clock.at += 86_400_000;
  happen(bounced(2));
  await target.until(2);
  const [first, second] = target.received as [Received, Received];
  assert.deepEqual([isSignedBy(old, first), isSignedBy(secret, first)], [true, true]);
  assert.deepEqual([isSignedBy(old, second), isSignedBy(secret, second)], [false, true]);
});

test('a test is one signed request at once, and not too many', async (t) => {
  const target = await receiver(t, () => ({ status: 202, body: 'thanks\n\u001b[31m' }));
  const { made, call, clock } = await api(t);
  const { id, secret } = await made(target.url);
  const { body } = await call('POST', `/${id}/test`, {});
  assert.deepEqual(body, { delivered: true, status: 202, answer: 'thanks [31m' });
  const [request] = target.received;
  assert.ok(isSignedBy(secret, request!));
  assert.deepEqual(
    [JSON.parse(request!.body).type, JSON.parse(request!.body).data],
    ['webhook.test', { webhook: id }],
  );
  assert.equal((await call('POST', `/${id}/test`, {})).body.code, 'RATE_LIMITED');
  // However many webhooks a member makes.
  const { id: another } = await made(target.url);
  assert.equal((await call('POST', `/${another}/test`, {})).body.code, 'RATE_LIMITED');
  clock.at += 2_000;
  assert.equal((await call('POST', `/${id}/test`, {})).status, 200);
});

test('a test of an address where nobody listens says so', async (t) => {
  const { made, call } = await api(t);
  const { id } = await made(nowhere);
  const { body } = await call('POST', `/${id}/test`, {});
  assert.deepEqual([body.delivered, body.status], [false, null]);
  assert.match(body.answer as string, /ECONNREFUSED|EACCES|EPERM/);
});

test('deliveries are listed newest first, by state and page', async (t) => {
  const { made, call, happen, deliveries } = await api(t);
  const { id } = await made(nowhere);
  happen(...Array.from({ length: 5 }, (_, n) => bounced(n)));
  const all = deliveries.list(id, { limit: 9 });
  const delivery = all.at(-1)!;
  deliveries.finish({ delivery, isDelivered: true, nextAt: null, at: start, status: 200, answer: 'ok' });
  const first = await call('GET', `/${id}/deliveries?limit=3`);
  const page = first.body.deliveries as Json[];
  assert.deepEqual(
    page.map(({ messageId }) => messageId),
    [4, 3, 2].map(queueId),
  );
  assert.deepEqual(page[0], {
    ...{
      id: all[0]!.id,
      webhookId: `evt_${all[0]!.eventId}`,
      type: 'message.bounced',
      messageId: queueId(4),
    },
    ...{
      state: 'waiting',
      attempts: 0,
      nextAt: new Date(start).toISOString(),
      lastAt: null,
      status: null,
      answer: null,
    },
  });
  const second = await call('GET', `/${id}/deliveries?limit=3&cursor=${first.body.cursor}`);
  assert.deepEqual([(second.body.deliveries as Json[]).length, second.body.cursor], [2, undefined]);
  const delivered = await call('GET', `/${id}/deliveries?state=delivered`);
  assert.deepEqual(
    [(delivered.body.deliveries as Json[]).length, (delivered.body.deliveries as Json[])[0]!.answer],
    [1, 'ok'],
  );
  assert.equal((await call('GET', `/${id}/deliveries?cursor=x`)).body.code, 'INVALID_REQUEST');
});

test('replay answers how many, and refuses what it does not understand', async (t) => {
  const { made, call, happen } = await api(t);
  happen(bounced(1), bounced(2));
  const { id } = await made(nowhere);
  assert.deepEqual((await call('POST', `/${id}/replay`, { messageId: queueId(1) })).body, { queued: 1 });
  assert.deepEqual((await call('POST', `/${id}/replay`, { since: new Date(start - 1).toISOString() })).body, {
    queued: 0,
  });
  const all = { since: new Date(start - 1).toISOString(), until: new Date(start + 1).toISOString() };
  assert.deepEqual((await call('POST', `/${id}/replay`, all)).body, { queued: 1 });
  for (const body of [
    {},
    { deliveries: [] },
    { messageId: "' OR 1" },
    { since: 'yesterday' },
    { ...all, messageId: queueId(1) },
  ])
    assert.equal(
      (await call('POST', `/${id}/replay`, body)).body.code,
      'INVALID_REQUEST',
      JSON.stringify(body),
    );
  await call('PUT', `/${id}`, { url: nowhere, enabled: false });
  assert.match((await call('POST', `/${id}/replay`, all)).body.error as string, /enable it first/);
});

test('a webhook that was removed while its request was under way leaves nothing', async (t) => {
  const target = await receiver(t, () => 'silence');
  const { made, call, happen, sender, db, deliveries } = await api(t);
  const { id } = await made(target.url);
  sender.start();
  happen(bounced(1));
  await target.until(1);
  await call('DELETE', `/${id}`);
  await sender.stop();
  assert.deepEqual([deliveries.waiting(id), db.prepare('SELECT * FROM webhook_delivery').all()], [0, []]);
});

test('no secret is readable in the database', async (t) => {
  const { made, call, db } = await api(t);
  const { id, secret } = await made(nowhere);
  const second = (await call('POST', `/${id}/rotate`, {})).body.secret as string;
  const row = Buffer.from(JSON.stringify(db.prepare('SELECT * FROM webhook').all(), bufferText)).toString();
  for (const one of [secret, second]) {
    const raw = Buffer.from(one.slice(6), 'base64');
    assert.ok(!row.includes(one.slice(6)) && !row.includes(raw.toString('hex')));
  }
});

test('each method of the document is there, and each of its examples is taken', async (t) => {
  const { made, call, app } = await api(t, {
    rules: { allowLoopback: true, loopbackOnly: false, lookup: async () => ['9.9.9.9'] },
  });
  const { id } = await made(nowhere);
  for (const { method, path, examples = {}, errors } of webhookOperations) {
    const url = path.replace('{id}', ':id');
    assert.ok(app.hasRoute({ method: method.toUpperCase() as 'GET', url }), path);
    for (const code of errors) assert.ok(catalogue[code], code);
    const at = path.replace('/v1/webhooks', '').replace('{id}', id);
    for (const body of Object.values(examples)) {
      const answer = await call(method.toUpperCase() as 'POST', at, body as object);
      assert.equal(answer.status, 200, JSON.stringify(answer.body));
    }
  }
});

function bufferText(_key: string, value: unknown): unknown {
  return value instanceof Uint8Array
    ? Buffer.from(value).toString('hex') + Buffer.from(value).toString('latin1')
    : value;
}
