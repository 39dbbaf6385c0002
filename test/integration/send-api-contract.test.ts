/** `POST /v1/send` as its members know it: one test for each field and code of the public contract. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { openApiWorld } from './api-world.ts';
import { orchard, reef, type WorldOptions } from './submission-world.ts';

const world = await openApiWorld();
const { queuedAs } = world;
after(() => world.close());

const mail = { from: 'a@reef.test', to: 'b@dest.test', subject: 'hello', text: 'body' };

test('the answer names each accepted recipient with the id under which it is queued', async () => {
  const { status, body } = await post({ ...mail, to: ['b@dest.test', 'Cé <c@dest.test>'] });
  assert.equal(status, 200);
  const [messageId] = body.accepted.map((one: { messageId: string }) => one.messageId);
  assert.match(messageId, /^[0-9a-v]{16}$/);
  assert.deepEqual(body, {
    accepted: [
      { recipient: 'b@dest.test', messageId },
      { recipient: 'c@dest.test', messageId },
    ],
    rejected: [],
  });
  assert.equal((await queuedAs(messageId)).length, 2);
});

test('a malformed recipient is in `rejected` and does not refuse the others', async () => {
  const { status, body } = await post({ ...mail, to: ['b@dest.test', 'nonsense', 'c@[127.0.0.1]'] });
  assert.equal(status, 200);
  assert.deepEqual(
    body.accepted.map((one: { recipient: string }) => one.recipient),
    ['b@dest.test'],
  );
  assert.deepEqual(
    body.rejected.map(({ recipient, code }: { recipient: string; code: string }) => [recipient, code]),
    [
      ['nonsense', 'INVALID_RECIPIENT'],
      ['c@[127.0.0.1]', 'INVALID_RECIPIENT'],
    ],
  );
});

const fields: [field: string, change: Record<string, unknown>, in_: 'header' | 'body', expected: RegExp][] = [
  ['from', { from: 'Reef PDS <a@reef.test>' }, 'header', /^From: Reef PDS <a@reef\.test>\r$/m],
  ['from, from the other domain', { from: 'a@news.reef.test' }, 'header', /^From: a@news\.reef\.test\r$/m],
  ['to as a string', {}, 'header', /^To: b@dest\.test\r$/m],
  ['to as an array', { to: ['b@dest.test', 'c@dest.test'] }, 'header', /^To: b@dest\.test, c@dest\.test\r$/m],
  ['subject', { subject: 'Grüße' }, 'header', /^Subject: =\?UTF-8\?Q\?Gr=C3=BC=C3=9Fe\?=\r$/m],
  ['text', { text: 'one\ntwo\rthree\r\nfour' }, 'body', /^one\r\ntwo\r\nthree\r\nfour\r\n$/],
  ['html', { text: undefined, html: '<p>hi</p>' }, 'header', /^Content-Type: text\/html/m],
  ['text and html', { html: '<p>hi</p>' }, 'header', /^Content-Type: multipart\/alternative/m],
  ['replyTo', { replyTo: 'Help <help@else.test>' }, 'header', /^Reply-To: Help <help@else\.test>\r$/m],
  ['headers', { headers: { 'X-Foo': 'bar' } }, 'header', /^X-Foo: bar\r$/m],
  [
    'category',
    { category: 'password-reset' },
    'header',
    /^Feedback-ID: [^:]+:[^:]+:password-reset:harbor\.test\r$/m,
  ],
  ['no category', {}, 'header', /^Feedback-ID: [^:]+:[^:]+:bulk:harbor\.test\r$/m],
  [
    'X-Atmos-Category in headers',
    { headers: { 'X-Atmos-Category': 'login-link' } },
    'header',
    /^Feedback-ID: [^:]+:[^:]+:login-link:/m,
  ],
];
for (const [field, change, in_, expected] of fields) {
  test(`field ${field}`, async () => {
    const { status, body } = await post({ ...mail, ...change });
    assert.equal(status, 200, JSON.stringify(body));
    const [claim] = await queuedAs(body.accepted[0].messageId);
    const message = claim!.message.toString();
    const split = message.indexOf('\r\n\r\n');
    assert.match(in_ === 'header' ? `${message.slice(0, split)}\r\n` : message.slice(split + 4), expected);
    assert.equal(message.match(/^DKIM-Signature:/gm)?.length, 3);
    assert.doesNotMatch(message.slice(0, split), /^X-Atmos-Category/m);
  });
}

const requests: [name: string, body: unknown, status: number, code: string, text: RegExp][] = [
  ['a foreign From', { ...mail, from: 'a@orchard.test' }, 403, 'DOMAIN_MISMATCH', /orchard\.test/],
  [
    'a foreign display name',
    { ...mail, from: '"ceo@evil.test" <a@reef.test>' },
    403,
    'DOMAIN_MISMATCH',
    /evil/,
  ],
  ['two From', { ...mail, from: 'a@reef.test, b@reef.test' }, 400, 'INVALID_REQUEST', /from/],
  ['no From', { ...mail, from: undefined }, 400, 'INVALID_REQUEST', /from/],
  ['no to', { ...mail, to: [] }, 400, 'INVALID_REQUEST', /to/],
  ['a wrong type', { ...mail, to: 7 }, 400, 'INVALID_REQUEST', /to/],
  ['no subject', { ...mail, subject: undefined }, 400, 'INVALID_REQUEST', /subject/],
  ['neither text nor html', { ...mail, text: undefined }, 400, 'INVALID_REQUEST', /text or html/],
  ['an unknown field', { ...mail, colour: 'red' }, 400, 'INVALID_REQUEST', /"colour"/],
  [
    'an unknown field inside',
    { ...mail, attachments: [{ filename: 'a', content: '', path: '/etc/passwd' }] },
    400,
    'INVALID_REQUEST',
    /attachments\.0: .*"path"/,
  ],
  ['an unknown category', { ...mail, category: 'spam' }, 400, 'INVALID_REQUEST', /category/],
  [
    'a line break in the subject',
    { ...mail, subject: 'a\r\nBcc: x@y.test' },
    400,
    'INVALID_REQUEST',
    /subject/,
  ],
  [
    'a line break in a header',
    { ...mail, headers: { 'X-A': 'a\r\nB: c' } },
    400,
    'INVALID_REQUEST',
    /headers/,
  ],
  ['a header name that is none', { ...mail, headers: { 'X A': 'a' } }, 400, 'INVALID_REQUEST', /headers/],
  [
    'From as a header',
    { ...mail, headers: { from: 'b@evil.test' } },
    400,
    'INVALID_REQUEST',
    /from.*reserved/,
  ],
  [
    'Content-Type as a header',
    { ...mail, headers: { 'content-type': 'x' } },
    400,
    'INVALID_REQUEST',
    /reserved/,
  ],
  [
    'a field twice that may stand once',
    { ...mail, headers: { References: '<a@b.test>', references: '<c@d.test>' } },
    400,
    'INVALID_MESSAGE',
    /references/,
  ],
  ['only malformed recipients', { ...mail, to: 'nonsense' }, 400, 'INVALID_RECIPIENT', /./],
  [
    '101 recipients',
    { ...mail, to: Array.from({ length: 101 }, (_, n) => `u${n}@dest.test`) },
    400,
    'TOO_MANY_RECIPIENTS',
    /100/,
  ],
  ['a body that is no object', [mail], 400, 'INVALID_REQUEST', /./],
  ['a body that is no JSON', '{', 400, 'INVALID_REQUEST', /./],
  ['no body', '', 400, 'INVALID_REQUEST', /./],
  ['more than 10 MiB', { ...mail, text: 'x'.repeat(10 * 1024 * 1024) }, 413, 'MESSAGE_TOO_LARGE', /10 MiB/],
];
for (const [name, body, status, code, text] of requests) {
  test(`${name} is ${status} ${code}`, async () => {
    const before = (await world.accepted()).length;
    const answer = await post(body);
    assert.deepEqual([answer.status, answer.body.code], [status, code], JSON.stringify(answer.body));
    assert.match(answer.body.error, text);
    assert.equal((await world.accepted()).length, before);
  });
}

const credentials: [name: string, headers: Record<string, string>, status: number, code: string][] = [
  ['no credentials', {}, 400, 'AUTH_REQUIRED'],
  ['no DID', { authorization: `Bearer ${world.reefKey}` }, 400, 'AUTH_REQUIRED'],
  ['no key', { 'x-atmos-did': reef }, 400, 'AUTH_REQUIRED'],
  ['another scheme', { 'x-atmos-did': reef, authorization: `Basic ${world.reefKey}` }, 400, 'AUTH_REQUIRED'],
  [
    'a malformed DID',
    { 'x-atmos-did': 'reef.test', authorization: `Bearer ${world.reefKey}` },
    400,
    'INVALID_DID',
  ],
  ['a wrong key', { 'x-atmos-did': reef, authorization: 'Bearer atmos_wrong' }, 401, 'AUTH_FAILED'],
  [
    'a wrong key for no account',
    { 'x-atmos-did': 'did:plc:nobody', authorization: 'Bearer x' },
    401,
    'AUTH_FAILED',
  ],
  [
    'a known DID with the key of another',
    { 'x-atmos-did': orchard, authorization: `Bearer ${world.reefKey}` },
    403,
    'DID_MISMATCH',
  ],
  [
    'an unknown DID with a valid key',
    { 'x-atmos-did': 'did:plc:nobody', authorization: `Bearer ${world.reefKey}` },
    403,
    'DID_MISMATCH',
  ],
];
for (const [name, headers, status, code] of credentials) {
  test(`${name} is ${status} ${code}, before the body is read`, async () => {
    const answer = await post('{', headers);
    assert.deepEqual([answer.status, answer.body.code], [status, code]);
  });
}

for (const did of [orchard, 'did:plc:nobody']) {
  test(`another DID in the address than in the header is 403 DID_MISMATCH (${did})`, async () => {
    const answer = await post(mail, reefHeaders(), `/v1/send?did=${did}`);
    assert.deepEqual([answer.status, answer.body.code], [403, 'DID_MISMATCH']);
  });
}

test('the DID may stand in the address', async () => {
  const headers = { authorization: `Bearer ${world.reefKey}` };
  assert.equal((await post(mail, headers, `/v1/send?did=${encodeURIComponent(reef)}`)).status, 200);
});

test('an error has `error` for people and `code` for programs', async () => {
  const { body } = await post(mail, {});
  assert.deepEqual(Object.keys(body), ['error', 'code', 'action']);
});

const troubles: [name: string, options: WorldOptions, status: number, code: string][] = [
  [
    'a cap that is reached',
    { caps: { warmingDays: 0, warming: [], tiers: { standard: { perHour: 0, perDay: 0 } } } },
    429,
    'RATE_LIMITED',
  ],
  [
    'a queue that is full',
    { queue: () => ({ accept: async () => ({ kind: 'queue-full', whose: 'all' }) }) },
    503,
    'QUEUE_FULL',
  ],
  [
    'a spool that fails',
    { queue: () => ({ accept: async () => ({ kind: 'failed', reason: 'x' }) }) },
    503,
    'STORAGE_FAILED',
  ],
  [
    'a signature that fails',
    { signer: () => ({ sign: async () => ({ kind: 'failed', reason: 'x' }) }) },
    503,
    'SIGNING_FAILED',
  ],
  [
    'a bug of ours',
    { queue: () => ({ accept: () => Promise.reject(new Error('secret detail')) }) },
    500,
    'INTERNAL_ERROR',
  ],
];
for (const [name, options, status, code] of troubles) {
  test(`${name} is ${status} ${code}`, async () => {
    const other = await openApiWorld(options);
    try {
      const answer = await other.call('POST', '/v1/send', { body: mail });
      assert.deepEqual([answer.status, answer.body.code], [status, code]);
      assert.doesNotMatch(answer.text, /secret detail/);
    } finally {
      await other.close();
    }
  });
}

test('a suspended member is 403 MEMBER_SUSPENDED with the reason', async () => {
  world.db.exec(`UPDATE member SET state = 'suspended', state_reason = 'report 7' WHERE did = '${reef}'`);
  const { status, body } = await post(mail);
  world.db.exec(`UPDATE member SET state = 'active' WHERE did = '${reef}'`);
  assert.deepEqual([status, body.code], [403, 'MEMBER_SUSPENDED']);
  assert.match(body.error, /report 7/);
});

test('a member on hold is 503 MEMBER_HELD, to be tried again', async () => {
  world.db.exec(`UPDATE member SET state = 'held', state_reason = 'too many bounces' WHERE did = '${reef}'`);
  const { status, body } = await post(mail);
  world.db.exec(`UPDATE member SET state = 'active' WHERE did = '${reef}'`);
  assert.deepEqual([status, body.code], [503, 'MEMBER_HELD']);
  assert.match(body.error, /too many bounces/);
});

test('a suppressed recipient is in `rejected`, with the reason, and the others are accepted', async () => {
  world.suppressions.add({
    did: reef,
    address: 'gone@dest.test',
    reason: 'bounce',
    evidence: '550 no such user',
  });
  const { status, body } = await post({ ...mail, to: ['b@dest.test', 'Gone@dest.test'] });
  assert.equal(status, 200, JSON.stringify(body));
  assert.deepEqual(
    body.accepted.map((one: { recipient: string }) => one.recipient),
    ['b@dest.test'],
  );
  assert.equal(body.rejected.length, 1);
  assert.equal(body.rejected[0].recipient, 'Gone@dest.test');
  assert.equal(body.rejected[0].code, 'RECIPIENT_SUPPRESSED');
  assert.equal((await queuedAs(body.accepted[0].messageId)).length, 1);
});

test('where every recipient is suppressed, it is 403 RECIPIENT_SUPPRESSED with the same list', async () => {
  for (const address of ['gone@dest.test', 'never@dest.test'])
    world.suppressions.add({ did: reef, address, reason: 'complaint', evidence: 'ARF' });
  const before = (await world.accepted()).length;
  const { status, body } = await post({ ...mail, to: ['gone@dest.test', 'never@dest.test', 'nonsense'] });
  assert.deepEqual([status, body.code], [403, 'RECIPIENT_SUPPRESSED']);
  assert.deepEqual(
    body.rejected.map(({ recipient, code }: { recipient: string; code: string }) => [recipient, code]),
    [
      ['nonsense', 'INVALID_RECIPIENT'],
      ['gone@dest.test', 'RECIPIENT_SUPPRESSED'],
      ['never@dest.test', 'RECIPIENT_SUPPRESSED'],
    ],
  );
  assert.equal((await world.accepted()).length, before);
});

test('one who unsubscribed gets no bulk mail, and still gets a login link', async () => {
  world.suppressions.add({
    did: reef,
    address: 'left@dest.test',
    reason: 'unsubscribe',
    evidence: 'the link',
  });
  const to = ['b@dest.test', 'left@dest.test'];
  const bulk = await post({ ...mail, to });
  assert.deepEqual(
    bulk.body.rejected.map(({ recipient, code }: { recipient: string; code: string }) => [recipient, code]),
    [['left@dest.test', 'RECIPIENT_SUPPRESSED']],
  );
  const exempt = await post({ ...mail, to, category: 'login-link' });
  assert.deepEqual([exempt.status, exempt.body.accepted.length, exempt.body.rejected], [200, 2, []]);
});

test('the simulator has four recipients, and others are malformed', async () => {
  const to = ['delivered@simulator.harbor.test', 'someone@simulator.harbor.test'];
  const { status, body } = await post({ ...mail, to });
  assert.equal(status, 200);
  assert.deepEqual(
    body.rejected.map(({ recipient, code }: { recipient: string; code: string }) => [recipient, code]),
    [['someone@simulator.harbor.test', 'INVALID_RECIPIENT']],
  );
  const [claim] = await queuedAs(body.accepted[0].messageId);
  assert.equal(claim!.simulated, true);
});

test('another member’s suppression is not ours', async () => {
  world.suppressions.add({ did: orchard, address: 'free@dest.test', reason: 'bounce', evidence: 'x' });
  assert.equal((await post({ ...mail, to: 'free@dest.test' })).status, 200);
});

function reefHeaders(): Record<string, string> {
  return { ...world.login };
}

function post(body: unknown, as: object = world.login, url = '/v1/send') {
  return world.call('POST', url, { body, as });
}
