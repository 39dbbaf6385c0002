/** `POST /v1/send/batch`: many messages, one commit, each with its own answer. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { openApiWorld } from './api-world.ts';
import { reef } from './submission-world.ts';

const world = await openApiWorld();
after(() => world.close());

const mail = { from: 'a@reef.test', to: 'b@dest.test', subject: 'hello', text: 'body' };

const post = (messages: unknown, headers: object = {}, to = world) =>
  to.call('POST', '/v1/send/batch', { body: { messages }, headers });

test('each message has its own answer, in order, and one that is refused refuses none of the others', async () => {
  world.suppressions.add({ did: reef, address: 'gone@dest.test', reason: 'bounce', evidence: 'x' });
  const before = (await world.accepted()).length;
  const { status, body, text } = await post([
    mail,
    { ...mail, from: 'a@orchard.test' },
    { ...mail, to: ['c@dest.test', 'gone@dest.test'] },
    { ...mail, colour: 'red' },
    'nonsense',
    { ...mail, to: 'gone@dest.test' },
    { ...mail, to: 'd@dest.test' },
  ]);
  assert.equal(status, 200, text);
  const codes = body.results.map(
    (one: { code?: string; accepted?: unknown[] }) => one.code ?? one.accepted?.length,
  );
  assert.deepEqual(codes, [
    1,
    'DOMAIN_MISMATCH',
    1,
    'INVALID_REQUEST',
    'INVALID_REQUEST',
    'RECIPIENT_SUPPRESSED',
    1,
  ]);
  assert.match(body.results[3].error, /colour/);
  assert.equal(body.results[2].rejected[0].code, 'RECIPIENT_SUPPRESSED');
  assert.equal((await world.accepted()).length, before + 3);
  const ids = [0, 2, 6].map((index) => body.results[index].accepted[0].messageId);
  for (const id of ids) assert.equal((await world.queuedAs(id)).length, 1);
});

test('100 messages are one batch', async () => {
  const before = (await world.accepted()).length;
  const { status, body } = await post(
    Array.from({ length: 100 }, (_, n) => ({ ...mail, to: `u${n}@dest.test` })),
  );
  assert.equal(status, 200);
  assert.equal(body.results.length, 100);
  assert.deepEqual(
    body.results.map((one: { accepted: { recipient: string }[] }) => one.accepted[0]!.recipient),
    Array.from({ length: 100 }, (_, n) => `u${n}@dest.test`),
  );
  assert.equal((await world.accepted()).length, before + 100);
});

const refused: [name: string, body: unknown, code: string, says: RegExp][] = [
  ['101 messages', { messages: Array(101).fill(mail) }, 'INVALID_REQUEST', /messages/],
  ['no message', { messages: [] }, 'INVALID_REQUEST', /messages/],
  ['a bare list', [mail], 'INVALID_REQUEST', /object/],
  ['an unknown field', { messages: [mail], colour: 'red' }, 'INVALID_REQUEST', /"colour"/],
  [
    'more than 1,000 recipients, of whom none is an address',
    { messages: Array(11).fill({ ...mail, to: Array(100).fill('nonsense') }) },
    'TOO_MANY_RECIPIENTS',
    /1000/,
  ],
  [
    'more than 1,000 recipients',
    { messages: Array(11).fill({ ...mail, to: Array.from({ length: 100 }, (_, n) => `u${n}@dest.test`) }) },
    'TOO_MANY_RECIPIENTS',
    /1000/,
  ],
];
for (const [name, body, code, says] of refused) {
  test(`a batch with ${name} is refused as a whole`, async () => {
    const before = (await world.accepted()).length;
    const answer = await world.call('POST', '/v1/send/batch', { body });
    assert.deepEqual([answer.status, answer.body.code], [400, code]);
    assert.match(answer.body.error, says);
    assert.equal((await world.accepted()).length, before);
  });
}

test('a repeated batch gets the same answer, and each message is there once', async () => {
  const before = (await world.accepted()).length;
  const messages = [mail, { ...mail, from: 'a@orchard.test' }];
  const answers = await Promise.all(
    Array.from({ length: 5 }, () => post(messages, { 'idempotency-key': 'batch-1' })),
  );
  const later = await post(messages, { 'idempotency-key': 'batch-1' });
  for (const { status, text } of [...answers, later]) assert.deepEqual([status, text], [200, later.text]);
  assert.equal((await world.accepted()).length, before + 1);
  const other = await post([mail], { 'idempotency-key': 'batch-1' });
  assert.deepEqual([other.status, other.body.code], [409, 'IDEMPOTENCY_CONFLICT']);
});

test('a body of any depth is refused and breaks nothing, with a key or without', async () => {
  const deep = `${'['.repeat(200_000)}${']'.repeat(200_000)}`;
  for (const headers of [{}, { 'idempotency-key': 'deep' }]) {
    const single = await world.call('POST', '/v1/send', { body: deep, headers });
    assert.deepEqual([single.status, single.body.code], [400, 'INVALID_REQUEST']);
    const batch = await world.call('POST', '/v1/send/batch', { body: `{"messages":[${deep}]}`, headers });
    assert.equal(batch.status, 200);
    assert.equal(batch.body.results[0].code, 'INVALID_REQUEST');
  }
});

test('messages beyond the cap say so, those before are sent', async () => {
  const tiers = { standard: { perHour: 2, perDay: 10 } };
  const tight = await openApiWorld({ caps: { warmingDays: 0, warming: [], tiers } });
  try {
    const { status, body } = await post([mail, mail, mail], {}, tight);
    assert.equal(status, 200);
    const codes = body.results.map((one: { code?: string }) => one.code ?? 'accepted');
    assert.deepEqual(codes, ['accepted', 'accepted', 'RATE_LIMITED']);
    assert.equal((await tight.accepted()).length, 2);
  } finally {
    await tight.close();
  }
});

test('a suspended member is refused before the body is read', async () => {
  world.db.exec(`UPDATE member SET state = 'suspended', state_reason = 'report 7' WHERE did = '${reef}'`);
  const { status, body } = await world.call('POST', '/v1/send/batch', { body: '{' });
  world.db.exec(`UPDATE member SET state = 'active' WHERE did = '${reef}'`);
  assert.deepEqual([status, body.code], [403, 'MEMBER_SUSPENDED']);
});
