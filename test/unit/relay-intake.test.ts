/** What becomes of a message and of each of its recipients, with a spool that answers what the test wants. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pino } from 'pino';
import type { Standing } from '../../node/enforcement/standing.ts';
import { smtpText } from '../../node/errors.ts';
import type { Category } from '../../node/members/category.ts';
import { Admission } from '../../node/relay/admission.ts';
import {
  type BounceNotice,
  Intake,
  type IntakeOptions,
  type Submission,
  type SubmittedRecipient,
  type Taken,
} from '../../node/relay/intake.ts';
import { ReturnPaths } from '../../node/relay/return-path.ts';
import type { Accepted, NewMessage } from '../../node/spool/message.ts';

const reef = 'did:plc:reef';
const now = Date.UTC(2026, 10, 20, 12);

type Reason = 'unsubscribe' | 'bounce' | 'complaint' | 'manual';
type Options = {
  suppressed?: Record<string, Reason>;
  standing?: Partial<Standing>;
  domainCategory?: Category;
  exemptPerRecipient?: number;
  /** One after another; then `committed`. */
  answers?: Accepted[];
  intake?: Partial<IntakeOptions>;
};

function setUp(o: Options = {}) {
  const offered: NewMessage[] = [];
  const bounced: BounceNotice[] = [];
  const counted: string[] = [];
  const attempted: object[] = [];
  const signedFor: number[] = [];
  const answers = o.answers ?? [];
  const standing: Standing = {
    ...{ did: reef, state: 'active', tier: 'standard', caps: { perHour: 200, perDay: 2000 } },
    ...{ reason: null, until: null, by: 'automatic' },
    ...o.standing,
  };
  const admission = new Admission({
    directory: {
      get: (did) => (did === reef ? { relay: true } : undefined),
      domain: (name) =>
        ['reef.test', 'news.reef.test'].includes(name)
          ? { did: reef, defaultCategory: o.domainCategory ?? 'bulk' }
          : undefined,
    },
    standingOf: () => standing,
    suppressions: {
      find: (_did, address) => {
        const reason = o.suppressed?.[address];
        return reason && { reason };
      },
    },
    poolDomain: 'harbor.test',
    ...(o.exemptPerRecipient !== undefined && { exemptPerRecipient: o.exemptPerRecipient }),
  });
  const intake = new Intake({
    admission,
    signer: {
      sign: async ({ prefixes }) => {
        signedFor.push(prefixes.length);
        return {
          kind: 'signed',
          signatures: prefixes.map((_, n) => Buffer.from(`S: ${n}\r\n`)),
          signedAt: now,
        };
      },
    },
    queue: {
      accept: async (message) => {
        offered.push(structuredClone(message));
        return answers.shift() ?? { kind: 'committed' };
      },
      acceptBatch: async () => ({ kind: 'failed', reason: 'not asked for' }),
    },
    returnPaths: new ReturnPaths({ key: Buffer.alloc(32), poolDomain: 'harbor.test' }),
    unsubscribeLink: ({ address }) => `https://harbor.test/u/${address}`,
    bounceNotice: async (notice) => {
      bounced.push(notice);
      return { ...notice.message, queueId: `dsn-of-${notice.recipient.address}`, recipients: [] };
    },
    attempted: (what) => attempted.push(what),
    ...{ hostname: 'harbor.test', poolDomain: 'harbor.test', now: () => now },
    log: pino({ level: 'silent' }),
    count: (what, reason) => counted.push(`${what} ${reason}`),
    ...o.intake,
  });
  const take = (submission: Partial<Submission> = {}): Promise<Taken> =>
    intake.take({
      principal: { did: reef, keyId: 'key', defaultCategory: null },
      ...{ via: 'smtp', protocol: 'ESMTPSA', mailFrom: 'a@reef.test', smtpUtf8: false },
      recipients: to('b@dest.test'),
      bytes: Buffer.from('From: a@reef.test\r\nSubject: =?utf-8?q?caf=C3=A9?=\r\n\r\nbody\r\n'),
      ...submission,
    });
  return { admission, intake, take, offered, bounced, counted, attempted, signedFor };
}

const to = (...addresses: string[]): SubmittedRecipient[] => addresses.map((address) => ({ address }));
const tagged = (category: string): Buffer =>
  Buffer.from(`From: a@reef.test\r\nX-Atmos-Category: ${category}\r\n\r\nb\r\n`);

function assertRefused(taken: Taken, reply: RegExp): void {
  assert.ok(taken.kind === 'refused', taken.kind);
  assert.match(`${taken.problem.entry.smtp.code} ${smtpText(taken.problem)}`, reply);
}

test('what the member asked for goes into the spool with the message', async () => {
  const { take, offered } = setUp();
  const taken = await take({
    recipients: [
      { address: 'b@dest.test', notify: ['success'], orcpt: 'rfc822;b@dest.test' },
      ...to('c@dest.test'),
    ],
    ...{ ret: 'hdrs', envid: 'e1', requireTls: true, sendAt: now + 1000, tags: ['x'], category: 'mfa-otp' },
  });
  const [message] = offered;
  assert.ok(taken.kind === 'accepted' && message);
  const { ret, envid, requireTls, sendAt, tags, category, keyId, subject } = message;
  assert.deepEqual(
    { ret, envid, requireTls, sendAt, tags, category, keyId, subject },
    {
      ...{ ret: 'hdrs', envid: 'e1', requireTls: true, sendAt: now + 1000, tags: ['x'] },
      ...{ category: 'mfa-otp', keyId: 'key', subject: 'café' },
    },
  );
  const [first, second] = message.recipients;
  assert.deepEqual([first!.notify, first!.orcpt], [['success'], 'rfc822;b@dest.test']);
  assert.ok(!('notify' in second!) && !('orcpt' in second!));
  assert.deepEqual(message.caps, [{ scope: reef, perHour: 200, perDay: 2000 }]);
});

test('the category is the API’s, else the message’s, else the key’s, else the domain’s', async () => {
  const { take, offered } = setUp({ domainCategory: 'verification' });
  const key = { did: reef, keyId: 'key', defaultCategory: 'transactional' as const };
  await take({ category: 'login-link', bytes: tagged('mfa-otp'), principal: key });
  await take({ bytes: tagged(' MFA-OTP '), principal: key });
  await take({ bytes: tagged('nonsense'), principal: key });
  await take();
  assert.deepEqual(
    offered.map(({ category }) => category),
    ['login-link', 'mfa-otp', 'transactional', 'verification'],
  );
});

test('bulk mail has each recipient’s own link to unsubscribe, exempt mail has none', async () => {
  const { take, offered } = setUp();
  await take({ recipients: to('b@dest.test', 'c@dest.test') });
  await take({ bytes: tagged('login-link') });
  const prefixes = offered.map(({ recipients }) =>
    recipients.map(({ prefix }) => Buffer.from(prefix).toString()),
  );
  assert.match(prefixes[0]![0]!, /List-Unsubscribe:\s+<https:\/\/harbor\.test\/u\/b@dest\.test>/);
  assert.match(prefixes[0]![1]!, /u\/c@dest\.test>/);
  assert.doesNotMatch(prefixes[1]![0]!, /List-Unsubscribe/);
});

for (const reason of ['bounce', 'complaint', 'manual'] as const) {
  test(`over SMTP a recipient suppressed by a ${reason} is refused at RCPT, for exempt mail too`, () => {
    const { admission } = setUp({ suppressed: { 'gone@dest.test': reason } });
    const refused = admission.suppressed(reef, 'gone@dest.test');
    assertRefused(refused!, /^550 5\.7\.1 .*gone@dest\.test/);
    assert.equal(admission.suppressed(reef, 'b@dest.test'), undefined);
    const verdict = admission.verdict(reef, 'login-link', { address: 'gone@dest.test', recipientId: 'x' });
    assert.equal(verdict.kind, 'refused');
  });
}

test('over SMTP one who only unsubscribed is taken at RCPT; alone, bulk mail is 550 behind the dot', async () => {
  const { admission, take, offered, counted } = setUp({ suppressed: { 'left@dest.test': 'unsubscribe' } });
  assert.equal(admission.suppressed(reef, 'left@dest.test'), undefined);
  assertRefused(await take({ recipients: to('left@dest.test') }), /^550 5\.7\.1 .*unsubscribed/);
  assert.deepEqual([offered, counted], [[], ['messages_refused RECIPIENT_SUPPRESSED']]);
});

test('over SMTP one who unsubscribed among others ends bounced, with a DSN in the same commit', async () => {
  const suppressed = { 'left@dest.test': 'unsubscribe' } as const;
  const { take, offered, bounced, signedFor } = setUp({ suppressed });
  const recipients = to('b@dest.test', 'left@dest.test', 'c@dest.test');
  const taken = await take({ recipients });
  assert.ok(taken.kind === 'accepted');
  assert.deepEqual(taken.refused, []);
  const [message] = offered;
  const states = message!.recipients.map(({ id, address, refused }) => [id, address, refused?.status]);
  assert.deepEqual(states, [
    [`${taken.queueId}.1`, 'b@dest.test', undefined],
    [`${taken.queueId}.3`, 'c@dest.test', undefined],
    [`${taken.queueId}.2`, 'left@dest.test', '5.7.1'],
  ]);
  assert.equal(message!.recipients[2]!.refused!.outcome, 'failed');
  assert.match(message!.recipients[2]!.refused!.summary, /unsubscribed/);
  assert.deepEqual(
    message!.notices!.map(({ queueId }) => queueId),
    ['dsn-of-left@dest.test'],
  );
  assert.deepEqual(
    bounced.map(({ recipient }) => recipient.address),
    ['left@dest.test'],
  );
  assert.deepEqual(signedFor, [2], 'what is never tried is not signed');
});

test('over HTTP suppressed recipients come back refused, and the others are accepted', async () => {
  const suppressed = { 'left@dest.test': 'unsubscribe', 'gone@dest.test': 'bounce' } as const;
  const { take, offered, bounced } = setUp({ suppressed });
  const recipients = to('left@dest.test', 'b@dest.test', 'gone@dest.test');
  const answer = (queueId: string, refused: readonly { address: string }[]) =>
    `${queueId}: ${refused.map(({ address }) => address)}`;
  const idempotency = { key: 'k', fingerprint: 'f', answer };
  const taken = await take({ via: 'http', recipients, idempotency });
  assert.ok(taken.kind === 'accepted');
  const refused = taken.refused.map(({ address, problem }) => [address, problem.entry.code]);
  assert.deepEqual(refused, [
    ['left@dest.test', 'RECIPIENT_SUPPRESSED'],
    ['gone@dest.test', 'RECIPIENT_SUPPRESSED'],
  ]);
  assert.deepEqual(
    offered[0]!.recipients.map(({ address }) => address),
    ['b@dest.test'],
  );
  assert.deepEqual(offered[0]!.idempotency, {
    ...{ key: 'k', fingerprint: 'f', answer: `${taken.queueId}: left@dest.test,gone@dest.test` },
  });
  assert.deepEqual(bounced, []);
});

test('exempt mail passes an unsubscribe, counted for that recipient alone', async () => {
  const { take, offered } = setUp({ suppressed: { 'Left@dest.test': 'unsubscribe' } });
  await take({ bytes: tagged('verification'), recipients: to('b@dest.test', 'Left@dest.test') });
  const { caps, recipients } = offered[0]!;
  const cap = {
    scope: `exempt:${reef}:left@dest.test`,
    perHour: 5,
    perDay: 5,
    burst: 5,
    only: recipients[1]!.id,
  };
  assert.deepEqual(caps[1], cap);
  assert.ok(!recipients.some(({ refused }) => refused));
});

test('where exempt mail passes nothing, one who unsubscribed gets nothing', async () => {
  const { take } = setUp({ suppressed: { 'left@dest.test': 'unsubscribe' }, exemptPerRecipient: 0 });
  const taken = await take({ bytes: tagged('verification'), recipients: to('left@dest.test') });
  assertRefused(taken, /^550 5\.7\.1 /);
});

for (const via of ['smtp', 'http'] as const) {
  test(`exempt mail of today used up refuses that recipient alone, by ${via}`, async () => {
    const suppressed = { 'left@dest.test': 'unsubscribe' } as const;
    const answers: Accepted[] = [];
    const { take, offered, attempted } = setUp({ suppressed, answers });
    const accept = { via, bytes: tagged('mfa-otp'), recipients: to('left@dest.test', 'b@dest.test') };
    // The spool names the cap; here it is known beforehand but for the recipient's id.
    const usedUp: Accepted = {
      kind: 'used-up',
      get caps() {
        return offered.at(-1)!.caps.filter(({ only }) => only);
      },
    };
    answers.push(usedUp);
    const taken = await take(accept);
    assert.ok(taken.kind === 'accepted');
    assert.equal(offered.length, 2);
    const [, second] = offered;
    assert.deepEqual(
      second!.caps.map(({ scope }) => scope),
      [reef],
    );
    const left = second!.recipients.find(({ address }) => address === 'left@dest.test');
    if (via === 'smtp') {
      assert.equal(left!.refused!.status, '5.7.1');
      assert.equal(second!.notices!.length, 1);
    } else {
      assert.equal(left, undefined);
      assert.deepEqual(
        taken.refused.map(({ problem }) => problem.entry.code),
        ['RECIPIENT_SUPPRESSED'],
      );
    }
    assert.deepEqual(attempted, []);
    // Alone it refuses the message.
    answers.push(usedUp);
    assertRefused(await take({ ...accept, recipients: to('left@dest.test') }), /^550 5\.7\.1 .*had 5 exempt/);
  });
}

const outcomes: [answer: Accepted, reply: RegExp][] = [
  [{ kind: 'queue-full', whose: 'all' }, /^451 4\.4\.2 The queue is full\.$/],
  [{ kind: 'queue-full', whose: 'member' }, /^451 4\.4\.2 .*your own/],
  [{ kind: 'failed', reason: 'disk' }, /^452 4\.3\.1 (?!.*disk)/],
  [{ kind: 'key-reused' }, /^550 5\.5\.4 .*Idempotency-Key/],
];
for (const [answer, reply] of outcomes) {
  test(`the spool’s "${answer.kind}" is answered and counted`, async () => {
    const { take, counted, attempted } = setUp({ answers: [answer] });
    assertRefused(await take(), reply);
    assert.equal(counted.length, 1);
    assert.deepEqual(attempted, []);
  });
}

test('over the cap the answer says when there is room, and the attempt is told to the guard', async () => {
  const cap = { scope: 'domain:reef.test', perHour: 5, perDay: 50 };
  const { take, attempted } = setUp({ answers: [{ kind: 'over-cap', cap, retryAt: now + 60_000 }] });
  const taken = await take({ recipients: to('b@dest.test', 'c@dest.test') });
  assertRefused(
    taken,
    /^451 4\.7\.1 .*reef\.test is warming up: 5 .* room again at 2026-11-20T12:01:00\.000Z/,
  );
  const expected = { did: reef, domain: 'reef.test', recipients: 2, keyId: 'key', refused: 'RATE_LIMITED' };
  assert.deepEqual(attempted, [expected]);
});

test('a repeated request gets the answer of the first time, and is not counted again', async () => {
  const { take, counted } = setUp({ answers: [{ kind: 'repeated', answer: '{"x":1}' }] });
  const idempotency = { key: 'k', fingerprint: 'f', answer: () => '{"x":2}' };
  assert.deepEqual(await take({ via: 'http', idempotency }), { kind: 'repeated', answer: '{"x":1}' });
  assert.deepEqual(counted, []);
});

test('simulator recipients are marked, in no suppression list, and only the four exist', async () => {
  const address = 'bounced@simulator.harbor.test';
  const { admission, take, offered } = setUp({ suppressed: { [address]: 'bounce' } });
  assert.equal(admission.suppressed(reef, address), undefined);
  await take({ recipients: to(address, 'b@dest.test') });
  assert.deepEqual(
    offered[0]!.recipients.map(({ simulated }) => simulated),
    [true, undefined],
  );
  for (const name of ['delivered', 'bounced', 'deferred', 'complained', 'Complained'])
    assert.equal(admission.recipient(`${name}@Simulator.Harbor.test`, false).kind, 'recipient', name);
  const refused = admission.recipient('else@simulator.harbor.test', false);
  assert.ok(refused.kind === 'refused');
  assertRefused(refused, /^553 5\.1\.3 /);
});

test('a member on hold is 451, a suspended one 521, each with the reason', async () => {
  for (const [state, reply] of [
    ['held', /^451 4\.7\.1 .*held: report 7/],
    ['suspended', /^521 5\.7\.1 .*suspended: report 7/],
    ['removed', /^521 5\.7\.1 .*removed: report 7/],
  ] as const) {
    const { take } = setUp({ standing: { state, reason: 'report 7' } });
    assertRefused(await take(), reply);
  }
});

const headers: [name: string, header: string, reply: RegExp | undefined][] = [
  ['a foreign Sender', 'From: a@reef.test\nSender: x@evil.test', /^550 5\.1\.0 .*Sender.*evil\.test/],
  ['a foreign Resent-From', 'From: a@reef.test\nResent-From: x@evil.test', /^550 5\.1\.0 .*Resent-From/],
  ['a foreign Resent-Sender', 'From: a@reef.test\nResent-Sender: x@evil.test', /^550 5\.1\.0 /],
  [
    'one foreign of two',
    'From: a@reef.test\nResent-From: a@reef.test\nResent-From: x@evil.test',
    /^550 5\.1\.0 /,
  ],
  ['a Sender that is no address', 'From: a@reef.test\nSender: nonsense', /^550 5\.6\.0 .*Sender/],
  ['two Senders in one field', 'From: a@reef.test\nSender: a@reef.test, b@reef.test', /^550 5\.6\.0 /],
  ['two authors without Sender', 'From: a@reef.test, b@reef.test', /^550 5\.6\.0 .*Sender/],
  ['a disguise in Sender', 'From: a@reef.test\nSender: "ceo@evil.test" <a@reef.test>', /^550 5\.1\.0 /],
  ['two authors with Sender', 'From: a@reef.test, b@news.reef.test\nSender: b@reef.test', undefined],
  ['a foreign Reply-To', 'From: a@reef.test\nReply-To: x@else.test', undefined],
];
for (const [name, header, reply] of headers) {
  test(`${reply ? 'refused' : 'accepted'}: ${name}`, async () => {
    const { take } = setUp();
    const taken = await take({ bytes: Buffer.from(`${header}\n\nb\n`.replaceAll('\n', '\r\n')) });
    if (reply) assertRefused(taken, reply);
    else assert.equal(taken.kind, 'accepted');
  });
}

const word = (text: string): string => `=?utf-8?b?${Buffer.from(text).toString('base64')}?=`;
const disguises: [name: string, shown: string, isRefused: boolean][] = [
  ['blanks around the @', '"ceo @ evil.test"', true],
  ['a blank before the @', '"ceo @evil.test"', true],
  ['a no-break space', word('ceo @ evil.test'), true],
  ['an ideographic full stop', word('ceo@evil。test'), true],
  ['a halfwidth ideographic full stop', word('ceo@evil｡test'), true],
  ['a fullwidth @', word('ceo＠evil.test'), true],
  ['a small @', word('ceo﹫evil.test'), true],
  ['a one dot leader', word('ceo@evil․test'), true],
  ['a middle dot', word('ceo@evil·test'), true],
  ['a zero-width space', word('ceo@​evil.​test'), true],
  ['a combining grapheme joiner', word('ceo@evil͏.test'), true],
  ['a variation selector', word('ceo@️evil.test'), true],
  ['a soft hyphen', word('ceo@e­vil.test'), true],
  ['a combining mark', word('ceo@e̲vil.test'), true],
  ['a control character', word('ceo@\u0001evil.test'), true],
  ['its own, with blanks', '"me @ reef.test"', false],
  ['no address', '"Reef @ Work"', false],
  ['a price', word('2 @ 3.50 €'), false],
];
for (const [name, shown, isRefused] of disguises) {
  test(`a display name with ${name} is ${isRefused ? 'refused' : 'accepted'}`, async () => {
    const { take } = setUp();
    const taken = await take({ bytes: Buffer.from(`From: ${shown} <a@reef.test>\r\n\r\nb\r\n`) });
    if (isRefused) assertRefused(taken, /^550 5\.1\.0 /);
    else assert.equal(taken.kind, 'accepted');
  });
}

test('10 MB to 30 recipients: the body is handed on as it is, and the loop turns meanwhile', async () => {
  let turns = 0;
  const bytes = Buffer.concat([
    Buffer.from('From: a@reef.test\r\n\r\n'),
    Buffer.from(`${'x'.repeat(76)}\r\n`.repeat(134_000)),
  ]);
  const bodies = new Set<Buffer>();
  const { take } = setUp({
    intake: {
      signer: {
        sign: async ({ prefixes, body }) => {
          bodies.add(body);
          // Somebody else's work, which is served before the signatures are there.
          await new Promise<void>((resolve) => setImmediate(() => setImmediate(resolve)));
          assert.ok(turns > 0);
          return { kind: 'signed', signatures: prefixes.map(() => Buffer.alloc(0)), signedAt: now };
        },
      },
      queue: {
        accept: async ({ body, recipients }) => {
          bodies.add(body);
          assert.equal(recipients.length, 30);
          return { kind: 'committed' };
        },
        acceptBatch: async () => ({ kind: 'failed', reason: 'not asked for' }),
      },
    },
  });
  setImmediate(() => {
    turns += 1;
  });
  const recipients = to(...Array.from({ length: 30 }, (_, n) => `b${n}@dest.test`));
  assert.equal((await take({ bytes, recipients, isClean: true })).kind, 'accepted');
  assert.equal(bodies.size, 1);
  assert.equal([...bodies][0]!.buffer, bytes.buffer, 'not a copy');
});
