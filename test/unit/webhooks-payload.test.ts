import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Event } from '../../node/enforcement/events.ts';
import { payloadOf } from '../../node/webhooks/payload.ts';

const event = (type: Event['type'], detail: Record<string, unknown>): Event => ({
  ...{ id: '1', type, at: 1_700_000_000_000, did: 'did:plc:reef', domain: 'reef.test' },
  ...{ messageId: 'm', recipientId: 'm.1', detail },
});
const recipient = 'ana@harbor.example';

const told: [type: Event['type'], detail: Record<string, unknown>, name: string | undefined][] = [
  ['relay_attempt', { recipient }, 'message.accepted'],
  ['relay_attempt', { refused: 'RATE_LIMITED', recipients: 3 }, undefined],
  ['delivery_result', { state: 'sent', recipient }, 'message.sent'],
  ['delivery_result', { state: 'deferred', recipient }, 'message.deferred'],
  ['delivery_result', { state: 'bounced', recipient }, 'message.bounced'],
  ['delivery_result', { state: 'cancelled', recipient }, 'message.cancelled'],
  ['delivery_result', { state: 'held', recipient }, undefined],
  ['bounce_received', { recipient }, 'message.bounced'],
  ['complaint_received', { recipient }, 'message.complained'],
  ['unsubscribe', { recipient }, 'recipient.unsubscribed'],
  ['staff_act', { act: 'standing', state: 'held' }, 'member.standing'],
  ['staff_act', { act: 'webhook disabled' }, undefined],
  ['auth_failure', {}, undefined],
  ['peer_signal', {}, undefined],
];
for (const [type, detail, name] of told) {
  test(`${type} ${JSON.stringify(detail)} is ${name ?? 'not told'}`, () => {
    assert.equal(payloadOf(event(type, detail))?.type, name);
  });
}

test('a bounce says what a DSN would say', () => {
  const said = { status: '5.1.1', reply: '550 5.1.1 No such user', host: 'mx.harbor.example' };
  const detail = { state: 'bounced', recipient, ...said, summary: 'refused', recipientInvalid: true };
  assert.deepEqual(payloadOf(event('delivery_result', { ...detail, counted: true })), {
    type: 'message.bounced',
    timestamp: '2023-11-14T22:13:20.000Z',
    data: {
      ...{ domain: 'reef.test', messageId: 'm', recipientId: 'm.1', recipient },
      ...{ ...said, summary: 'refused', recipientInvalid: true },
    },
  });
});

test('who works for the cooperative, and what only it should know, stays here', () => {
  const detail = { act: 'standing', state: 'held', from: 'active', reason: 'why', until: null, by: 'person' };
  const payload = payloadOf(
    event('staff_act', { ...detail, actor: 'mira', breaker: 'door', note: 'secret' }),
  );
  assert.deepEqual(Object.keys(payload!.data).sort(), [
    ...['by', 'domain', 'from', 'messageId', 'reason', 'recipientId', 'state', 'until'],
  ]);
});
