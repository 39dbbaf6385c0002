import assert from 'node:assert/strict';
import { test } from 'node:test';
import { classify, type ReplyCause, type Stage } from '../../node/delivery/reply.ts';
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
    const verdict = classify(reply, stage);
    assert.deepEqual(
      [verdict.permanent, verdict.status, verdict.recipientInvalid],
      [permanent, status, recipientInvalid],
    );
  });
}

test('a reply made to be slow to read is not', () => {
  const hostile = `550 ${'user '.repeat(60_000)}`;
  // Once through it for each `user` would take minutes.
  assert.ok(cpuMs(() => classify(hostile, 'recipient')) < 5_000);
});

/** As their servers say it, with addresses replaced. */
const said: [who: string, reply: string, stage: Stage, cause: ReplyCause, slowDown: boolean][] = [
  [
    'Gmail',
    "550-5.1.1 The email account that you tried to reach does not exist. Please try\n550-5.1.1 double-checking the recipient's email address for typos or\n550 5.1.1 unnecessary spaces. gsmtp",
    'recipient',
    'recipient',
    false,
  ],
  [
    'Gmail',
    '550-5.2.1 The email account that you tried to reach is inactive. gsmtp',
    'recipient',
    'recipient',
    false,
  ],
  [
    'Gmail',
    "452-4.2.2 The recipient's inbox is out of storage space. gsmtp",
    'recipient',
    'mailbox-full',
    false,
  ],
  ['Gmail', '552-5.2.2 The email account is over quota. gsmtp', 'recipient', 'mailbox-full', false],
  [
    'Gmail',
    '450-4.2.1 The user you are trying to contact is receiving mail at a rate that\n450-4.2.1 prevents additional messages from being delivered. gsmtp',
    'recipient',
    'temporary',
    false,
  ],
  [
    'Gmail',
    '421-4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your IP address. gsmtp',
    'data',
    'rate',
    true,
  ],
  [
    'Gmail',
    '550-5.7.1 Gmail has detected that this message is likely suspicious due to the very low reputation of the sending IP address. gsmtp',
    'data',
    'reputation',
    false,
  ],
  [
    'Gmail',
    '550-5.7.26 This mail has been blocked because the sender is unauthenticated. gsmtp',
    'data',
    'auth',
    false,
  ],
  [
    'Gmail',
    '550-5.7.25 The IP address sending this message does not have a PTR record setup. gsmtp',
    'data',
    'auth',
    false,
  ],
  ['Gmail', '552-5.3.4 Your message exceeded Google message size limits. gsmtp', 'data', 'content', false],
  [
    'Microsoft',
    '550 5.7.1 Unfortunately, messages from [192.0.2.1] weren’t sent. Please contact your Internet service provider since part of their network is on our block list (S3150).',
    'mail',
    'reputation',
    false,
  ],
  [
    'Microsoft',
    '550 5.7.606 Access denied, banned sending IP [192.0.2.1]. To request removal from this list please visit https://sender.office.com/',
    'recipient',
    'reputation',
    false,
  ],
  [
    'Microsoft',
    '451 4.7.650 The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation. (S775)',
    'mail',
    'rate',
    true,
  ],
  [
    'Microsoft',
    '550 5.4.1 Recipient address rejected: Access denied. AS(201806281)',
    'recipient',
    'recipient',
    false,
  ],
  [
    'Microsoft',
    '550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient ann@dest.test not found by SMTP address lookup',
    'data',
    'recipient',
    false,
  ],
  [
    'Microsoft',
    '550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302).',
    'recipient',
    'recipient',
    false,
  ],
  [
    'Microsoft',
    '550 5.7.509 Access denied, sending domain reef.test does not pass DMARC verification',
    'data',
    'auth',
    false,
  ],
  [
    'Microsoft',
    '550 5.7.515 Access denied, sending domain reef.test does not meet the required authentication level.',
    'data',
    'auth',
    false,
  ],
  [
    'Microsoft',
    '451 4.7.500 Server busy. Please try again later from [192.0.2.1]. (AS77713)',
    'recipient',
    'rate',
    true,
  ],
  [
    'Yahoo',
    '421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or user complaints - 4.16.55.1',
    'mail',
    'rate',
    true,
  ],
  [
    'Yahoo',
    '553 5.7.1 [BL21] Connections will not be accepted from 192.0.2.1, because the ip is in Spamhaus list; see https://postmaster.yahooinc.com',
    'session',
    'reputation',
    false,
  ],
  [
    'Yahoo',
    "554 delivery error: dd This user doesn't have a yahoo.com account (ann@yahoo.test) [0] - mta1.mail",
    'data',
    'recipient',
    false,
  ],
  ['Yahoo', '554 5.7.9 Message not accepted for policy reasons.', 'data', 'policy', false],
  ['Yahoo', '552 1 Requested mail action aborted, mailbox not found', 'recipient', 'recipient', false],
  ['iCloud', '550 5.1.1 <ann@icloud.test>: user does not exist', 'recipient', 'recipient', false],
  ['iCloud', '550 5.7.1 [CS01] Message rejected due to local policy.', 'data', 'content', false],
  ['iCloud', '552 5.2.2 <ann@icloud.test>: user is over quota', 'recipient', 'mailbox-full', false],
  ['iCloud', '450 4.7.1 [HVIP] Too many messages from your IP. Please slow down.', 'mail', 'rate', true],
  [
    'Proofpoint',
    '554 Blocked - see https://ipcheck.proofpoint.com/?ip=192.0.2.1',
    'session',
    'reputation',
    false,
  ],
  ['Proofpoint', '550 5.7.0 Local Policy Violation', 'data', 'policy', false],
  ['Proofpoint', '550 5.1.1 User Unknown', 'recipient', 'recipient', false],
  [
    'Mimecast',
    '550 Invalid Recipient - https://community.mimecast.com/docs/DOC-1369#550 [x]',
    'recipient',
    'recipient',
    false,
  ],
  [
    'Mimecast',
    '451 Internal resources are temporarily unavailable - https://community.mimecast.com/docs/DOC-1369#451 [x]',
    'recipient',
    'greylisted',
    false,
  ],
  [
    'Mimecast',
    '550 Administrative prohibition - envelope blocked - https://community.mimecast.com/docs/DOC-1369#550 [x]',
    'recipient',
    'policy',
    false,
  ],
  [
    'Cisco',
    "554-mx.dest.test\n554 Your access to this mail system has been rejected due to the sending MTA's poor reputation.",
    'session',
    'reputation',
    false,
  ],
  [
    'Postfix',
    '550 5.1.1 <ann@dest.test>: Recipient address rejected: User unknown in local recipient table',
    'recipient',
    'recipient',
    false,
  ],
  [
    'Postfix',
    '450 4.1.1 <ann@dest.test>: Recipient address rejected: unverified address: timed out',
    'recipient',
    'temporary',
    false,
  ],
  [
    'Postfix, postgrey',
    '450 4.2.0 <ann@dest.test>: Recipient address rejected: Greylisted, see http://postgrey.schweikert.ch/help/dest.test.html',
    'recipient',
    'greylisted',
    false,
  ],
  ['Postfix', '554 5.7.1 <ann@dest.test>: Relay access denied', 'recipient', 'policy', false],
  [
    'Postfix',
    '554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org',
    'recipient',
    'reputation',
    false,
  ],
  ['Postfix', '421 4.7.0 mx.dest.test Error: too many connections from 192.0.2.1', 'session', 'rate', true],
  [
    'Postfix',
    '450 4.7.1 Client host rejected: cannot find your reverse hostname, [192.0.2.1]',
    'recipient',
    'auth',
    false,
  ],
  ['Postfix', '452 4.3.1 Insufficient system storage', 'mail', 'temporary', false],
  ['Postfix', '530 5.7.0 Must issue a STARTTLS command first', 'mail', 'tls', false],
  ['Postfix', '451 4.3.0 <ann@dest.test>: Temporary lookup failure', 'recipient', 'temporary', false],
  ['Exim', '550 Unrouteable address', 'recipient', 'recipient', false],
  ['Exim', '550 Unknown user', 'recipient', 'recipient', false],
  ['Exim', '451 Temporary local problem - please try later', 'recipient', 'temporary', false],
  [
    'Exim',
    '421 mx.dest.test: Too many concurrent SMTP connections; please try again later',
    'session',
    'rate',
    true,
  ],
  ['Exim', '550 Sender verify failed', 'recipient', 'sender', false],
  ['Exim', '550 This message was classified as SPAM and may not be delivered', 'data', 'content', false],
  [
    'Exim',
    '550-Rejected because 192.0.2.1 is in a black list at bl.spamcop.net',
    'recipient',
    'reputation',
    false,
  ],
  ['qmail', '550 sorry, no mailbox here by that name. (#5.1.1)', 'recipient', 'recipient', false],
  [
    'qmail',
    "553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)",
    'recipient',
    'policy',
    false,
  ],
  ['qmail', '451 qq temporary problem (#4.3.0)', 'data', 'temporary', false],
  [
    'GMX',
    '554-gmx.test (mxgmx001) Nemesis ESMTP Service not available\n554-No SMTP service\n554 Bad DNS PTR resource record.',
    'session',
    'auth',
    false,
  ],
  [
    'T-Online',
    '554 IP=192.0.2.1 - A problem occurred. (Ask your postmaster for help or to contact tosa@rx.t-online.de to clarify.)',
    'session',
    'reputation',
    false,
  ],
  [
    'Comcast',
    '421 4.1.0 192.0.2.1 Throttled - try again later. Please see https://postmaster.comcast.net/smtp-error-codes.php#RL000001',
    'mail',
    'rate',
    true,
  ],
  ['a busy one', '421 4.3.2 shutting down', 'mail', 'temporary', true],
  ['a shy one', '450 please try again later', 'mail', 'rate', true],
];

for (const [who, reply, stage, cause, slowDown] of said) {
  test(`${who}: ${reply.slice(0, 70).replaceAll('\n', ' ')}… means ${cause}`, () => {
    const verdict = classify(reply, stage);
    assert.deepEqual([verdict.cause, verdict.slowDown], [cause, slowDown]);
    // Nothing but a recipient that does not exist ever suppresses.
    assert.equal(verdict.recipientInvalid, cause === 'recipient' && reply.startsWith('5'));
  });
}
