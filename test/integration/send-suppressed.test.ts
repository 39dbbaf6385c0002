/** Recipients who are on the list, wherever they stand among the others, alone and in a batch. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { openApiWorld } from './api-world.ts';
import { reef } from './submission-world.ts';

const attempted: { recipients: number; refused: string }[] = [];
const tiers = { standard: { perHour: 1_000, perDay: 1_000 } };
const world = await openApiWorld({
  exemptPerRecipient: 1,
  caps: { warmingDays: 0, warming: [], tiers },
  intake: { attempted: (one) => attempted.push(one) },
});
after(() => world.close());
const { suppressions } = world;
suppressions.add({ did: reef, address: 'gone@dest.test', reason: 'bounce', evidence: 'x' });

const mail = { from: 'a@reef.test', subject: 'hello', text: 'body' };
type Sent = { accepted: { recipient: string; messageId: string }[]; rejected: { recipient: string }[] };

async function asOne(body: object): Promise<Sent> {
  const answer = await world.call('POST', '/v1/send', { body });
  assert.equal(answer.status, 200, answer.text);
  return answer.body;
}

async function asBatch(body: object): Promise<Sent> {
  const other = { ...mail, to: 'other@dest.test' };
  const answer = await world.call('POST', '/v1/send/batch', { body: { messages: [body, other] } });
  assert.equal(answer.status, 200, answer.text);
  assert.equal(answer.body.results[1].accepted.length, 1, answer.text);
  return answer.body.results[0];
}

for (const [name, send] of [
  ['one message', asOne],
  ['a batch', asBatch],
] as const) {
  test(`a suppressed first recipient takes nobody with it: ${name}`, async () => {
    const { accepted, rejected } = await send({ ...mail, to: ['gone@dest.test', 'good@dest.test'] });
    assert.deepEqual(
      [accepted.map(({ recipient }) => recipient), rejected.map(({ recipient }) => recipient)],
      [['good@dest.test'], ['gone@dest.test']],
    );
    const [queued] = await world.queuedAs(accepted[0]!.messageId);
    assert.match(queued!.message.toString(), /\r\n\r\nbody\r\n$/);
  });

  test(`a first recipient whose exempt mail of today is used up takes nobody with it: ${name}`, async () => {
    const left = `left-${name.replace(' ', '-')}@dest.test`;
    suppressions.add({ did: reef, address: left, reason: 'unsubscribe', evidence: 'x' });
    const exempt = { ...mail, to: [left, 'good@dest.test'], category: 'login-link' };
    assert.equal((await send(exempt)).accepted.length, 2);
    const second = await send(exempt);
    assert.deepEqual(
      [second.accepted.map(({ recipient }) => recipient), second.rejected.map(({ recipient }) => recipient)],
      [['good@dest.test'], [left]],
    );
    const [queued] = await world.queuedAs(second.accepted[0]!.messageId);
    assert.match(queued!.message.toString(), /\r\n\r\nbody\r\n$/);
  });
}

test('in a batch, exempt mail that is used up is no cap of the member, and is answered like a single one', async () => {
  const to = 'often@dest.test';
  suppressions.add({ did: reef, address: to, reason: 'unsubscribe', evidence: 'x' });
  const exempt = { ...mail, to, category: 'login-link' };
  attempted.length = 0;
  const messages = [exempt, exempt, { ...exempt, to: [to, 'good@dest.test'] }];
  const headers = { 'idempotency-key': 'used-up' };
  const first = await world.call('POST', '/v1/send/batch', { body: { messages }, headers });
  const codes = first.body.results.map((one: Sent & { code?: string }) => one.code ?? one.accepted.length);
  assert.deepEqual(codes, [1, 'RECIPIENT_SUPPRESSED', 1]);
  assert.match(first.body.results[1].error, /had 1 exempt/);
  assert.deepEqual(attempted, []);
  const again = await world.call('POST', '/v1/send/batch', { body: { messages }, headers });
  assert.equal(again.text, first.text);
  const single = await world.call('POST', '/v1/send', { body: exempt });
  assert.deepEqual([single.status, single.body.code], [403, 'RECIPIENT_SUPPRESSED']);
});

test('what a batch sends beyond a cap is reported with the cap itself, simulated recipients left out', async () => {
  const tight = await openApiWorld({
    caps: { warmingDays: 0, warming: [], tiers: { standard: { perHour: 1, perDay: 10 } } },
    intake: { attempted: (one) => attempted.push(one) },
  });
  try {
    attempted.length = 0;
    const to = ['a@dest.test', 'b@dest.test', 'delivered@simulator.harbor.test'];
    await tight.call('POST', '/v1/send/batch', { body: { messages: [{ ...mail, to }] } });
    await tight.call('POST', '/v1/send', { body: { ...mail, to } });
    assert.deepEqual(
      attempted.map(({ recipients, refused }) => [recipients, refused]),
      [
        [2, 'RATE_LIMITED'],
        [2, 'RATE_LIMITED'],
      ],
    );
  } finally {
    await tight.close();
  }
});
