import assert from 'node:assert/strict';
import { test } from 'node:test';
import { classify, type Stage } from '../../node/delivery/reply.ts';
import { cpuMs } from './cpu-time.ts';

const cases: [reply: string, stage: Stage, permanent: boolean, status: string, recipientInvalid: boolean][] =
  [
    // The enhanced code decides.
    ['550 5.1.1 No such user', 'recipient', true, '5.1.1', true],
    [
      '550-5.1.1 The email account that you tried to reach\n550 5.1.1 does not exist',
      'recipient',
      true,
      '5.1.1',
      true,
    ],
    ['550 5.2.1 The account is disabled', 'recipient', true, '5.2.1', true],
    ['550 5.1.10 RESOLVER.ADR.RecipientNotFound', 'recipient', true, '5.1.10', true],
    ['552 5.2.2 Mailbox full', 'recipient', true, '5.2.2', false],
    ['550 5.7.1 Unknown user, or so we say', 'recipient', true, '5.7.1', false],
    ['554 5.6.0 Content rejected', 'data', true, '5.6.0', false],
    // Then the text.
    ['550 User unknown', 'recipient', true, '5.0.0', true],
    ['550 5.0.0 mailbox unavailable', 'recipient', true, '5.0.0', true],
    ['550 Requested action not taken: address not found', 'data', true, '5.0.0', true],
    ['550 go away', 'recipient', true, '5.0.0', false],
    // A reply that blames us never blames the recipient.
    ['550 5.1.1 blocked using zen.spamhaus.org', 'recipient', true, '5.1.1', false],
    ['550 mailbox unavailable, your IP has a poor reputation', 'recipient', true, '5.0.0', false],
    ['550 5.1.1 Recipient rejected: SPF failed', 'recipient', true, '5.1.1', false],
    // Nor one to MAIL FROM.
    ['550 5.1.1 Unknown user', 'mail', true, '5.1.1', false],
    ['553 5.1.8 Sender domain does not exist', 'mail', true, '5.1.8', false],
    // For now.
    ['450 4.2.0 Greylisted, try again', 'recipient', false, '4.2.0', false],
    ['421 4.7.0 Too many connections', 'data', false, '4.7.0', false],
    ['451', 'data', false, '4.0.0', false],
    // The whole session refused says nothing about this message.
    ['554 5.7.1 No SMTP service for you', 'session', false, '5.7.1', false],
    // A status of another class than the code is a mistake of the peer's.
    ['550 4.2.2 over quota', 'recipient', true, '5.0.0', false],
    ['450 5.1.1 User unknown', 'recipient', false, '4.0.0', false],
  ];

for (const [reply, stage, permanent, status, recipientInvalid] of cases) {
  test(`${stage}: ${JSON.stringify(reply)} is ${permanent ? 'final' : 'for now'}, ${status}`, () => {
    assert.deepEqual(classify(reply, stage), { permanent, status, recipientInvalid });
  });
}

test('a reply made to be slow to read is not', () => {
  const hostile = `550 ${'user '.repeat(60_000)}`;
  // Once through it for each `user` would take minutes.
  assert.ok(cpuMs(() => classify(hostile, 'recipient')) < 5_000);
});
