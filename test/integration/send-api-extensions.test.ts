/** What `POST /v1/send` takes beyond the contract of old: attachments, cc, bcc, keys, times, tags. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { openApiWorld } from './api-world.ts';
import { reef } from './submission-world.ts';

const hourMs = 3_600_000;
const clock = { now: Date.now() };
const world = await openApiWorld({ now: () => clock.now });
const { call, queuedAs } = world;
after(() => world.close());

const mail = { from: 'a@reef.test', to: 'b@dest.test', subject: 'hello', text: 'body' };

const post = (body: unknown, headers: object = {}) => call('POST', '/v1/send', { body, headers });

async function sent(body: unknown) {
  const answer = await post(body);
  assert.equal(answer.status, 200, answer.text);
  const claims = await queuedAs(answer.body.accepted[0].messageId);
  return { answer: answer.body, claims, message: claims[0]!.message.toString('latin1') };
}

test('cc stands in the header and gets the message', async () => {
  const { claims, message } = await sent({ ...mail, cc: ['Cé <c@dest.test>', 'd@dest.test'] });
  assert.deepEqual(claims.map(({ address }) => address).sort(), [
    'b@dest.test',
    'c@dest.test',
    'd@dest.test',
  ]);
  assert.match(message, /^Cc: =\?UTF-8\?B\?Q8Op\?= <c@dest\.test>, d@dest\.test\r$/m);
});

test('bcc gets the message and stands in nobody’s', async () => {
  const { answer, claims } = await sent({ ...mail, bcc: 'Secret <hidden@dest.test>' });
  assert.deepEqual(
    answer.accepted.map(({ recipient }: { recipient: string }) => recipient),
    ['b@dest.test', 'hidden@dest.test'],
  );
  assert.equal(claims.length, 2);
  for (const claim of claims) assert.doesNotMatch(claim.message.toString('latin1'), /hidden|^bcc/im);
});

test('a recipient in several lists gets one message', async () => {
  const { claims } = await sent({ ...mail, cc: 'b@dest.test', bcc: ['B <b@dest.test>', 'b@DEST.test'] });
  assert.equal(claims.length, 1);
});

test('recipients of all three lists count together', async () => {
  const many = (name: string, count: number) =>
    Array.from({ length: count }, (_, n) => `${name}${n}@dest.test`);
  const { status, body } = await post({ ...mail, to: many('t', 50), cc: many('c', 50), bcc: many('b', 1) });
  assert.deepEqual([status, body.code], [400, 'TOO_MANY_RECIPIENTS']);
});

test('an attachment arrives byte for byte', async () => {
  const content = Buffer.from(Array.from({ length: 2000 }, (_, n) => n % 256));
  const { message } = await sent({
    ...mail,
    attachments: [{ filename: 'Größe.bin', content: content.toString('base64') }],
  });
  assert.match(message, /^Content-Type: multipart\/mixed/m);
  assert.match(message, /^Content-Disposition: attachment;\s+filename\*0\*=utf-8''Gr%C3%B6%C3%9Fe\.bin/im);
  const part = message.split(/^Content-Type: application\/octet-stream/m)[1]!;
  const encoded = part.slice(part.indexOf('\r\n\r\n') + 4).split('\r\n--')[0]!;
  assert.deepEqual(Buffer.from(encoded, 'base64'), content);
});

test('an attachment with a cid is shown inside the HTML', async () => {
  const { message } = await sent({
    ...mail,
    html: '<img src="cid:logo">',
    attachments: [
      { filename: 'logo.gif', contentType: 'image/gif', cid: 'logo', content: 'R0lGODlhAQABAAAAACw=' },
    ],
  });
  assert.match(message, /^Content-Type: multipart\/related/m);
  assert.match(message, /^Content-Id: <logo>\r$/im);
  assert.match(message, /^Content-Disposition: inline;/im);
});

test('no line of a composed message is longer than 998 octets', async () => {
  const { message } = await sent({
    ...mail,
    subject: `${'s'.repeat(900)} ${'ü'.repeat(90)}`,
    headers: { 'X-Long': `${'h'.repeat(900)} ${'h '.repeat(3000)}` },
    text: 'x'.repeat(5000),
    html: `<p>${'y'.repeat(5000)}</p>`,
    attachments: [{ filename: 'z'.repeat(255), content: Buffer.alloc(5000).toString('base64') }],
  });
  for (const line of message.split('\r\n')) assert.ok(line.length <= 998, line.slice(0, 80));
});

for (const [name, change] of Object.entries({
  subject: { subject: 's'.repeat(901) },
  header: { headers: { 'X-Long': 'h'.repeat(901) } },
})) {
  test(`a ${name} that cannot be folded is refused`, async () => {
    const { status, body } = await post({ ...mail, ...change });
    assert.deepEqual([status, body.code], [400, 'INVALID_REQUEST']);
    assert.match(body.error, /without a blank/);
  });
}

test('attachments of several megabytes fit', async () => {
  const content = Buffer.alloc(6 * 1024 * 1024, 7).toString('base64');
  const { claims } = await sent({ ...mail, attachments: [{ filename: 'big', content }] });
  assert.ok(claims[0]!.body!.length > 8 * 1024 * 1024);
});

const attachment = { filename: 'a.txt', content: 'aGk=' };
const refusedAttachments: [name: string, change: object, says: RegExp][] = [
  ['no base64', { content: 'not base64!' }, /attachments\.0\.content: is not base64/],
  ['base64 with a hole', { content: 'aGk' }, /base64/],
  ['no filename', { filename: undefined }, /attachments\.0\.filename/],
  ['a line break in the filename', { filename: 'a\r\nX-Evil: 1' }, /line break/],
  ['a type that is none', { contentType: 'text' }, /type\/subtype/],
  ['a line break in the type', { contentType: 'text/plain; x=\r\n y' }, /line break/],
  ['a multipart', { contentType: 'multipart/mixed; boundary=x' }, /holds other parts/],
  ['a message', { contentType: 'message/rfc822' }, /holds other parts/],
  ['a cid with brackets', { cid: '<a>' }, /content id/],
  ['a path in place of content', { path: '/etc/passwd' }, /"path"/],
  ['a URL in place of content', { href: 'http://127.0.0.1/' }, /"href"/],
];
for (const [name, change, says] of refusedAttachments) {
  test(`an attachment with ${name} is refused`, async () => {
    const { status, body } = await post({ ...mail, attachments: [{ ...attachment, ...change }] });
    assert.deepEqual([status, body.code], [400, 'INVALID_REQUEST']);
    assert.match(body.error, says);
  });
}

test('two attachments with one cid are refused', async () => {
  const twice = { ...attachment, cid: 'x' };
  const { body } = await post({ ...mail, html: 'x', attachments: [twice, twice] });
  assert.match(body.error, /same cid/);
});

test('tags are kept with the message and are not in it', async () => {
  const { answer, message } = await sent({ ...mail, tags: ['report', 'q.4-x_1', 'report'] });
  const status = await world.spool.message(answer.accepted[0].messageId);
  assert.deepEqual(status?.tags, ['report', 'q.4-x_1']);
  assert.doesNotMatch(message, /q\.4-x_1/);
});

for (const tags of [
  ['with blank'],
  [''],
  ['x'.repeat(65)],
  Array.from({ length: 11 }, (_, n) => `t${n}`),
  'one',
]) {
  test(`tags ${JSON.stringify(tags).slice(0, 30)} are refused`, async () => {
    const { status, body } = await post({ ...mail, tags });
    assert.deepEqual([status, body.code], [400, 'INVALID_REQUEST']);
    assert.match(body.error, /tags/);
  });
}

test('a message with sendAt waits until then', async () => {
  const at = clock.now + 2 * hourMs;
  const { status, body } = await post({ ...mail, sendAt: new Date(at).toISOString() });
  assert.equal(status, 200);
  const { messageId } = body.accepted[0];
  assert.equal((await queuedAs(messageId)).length, 0);
  assert.equal((await world.spool.message(messageId))!.recipients[0]!.state, 'scheduled');
  clock.now = at + 1;
  assert.equal((await queuedAs(messageId)).length, 1);
});

test('sendAt may carry an offset, and may be some minutes ago', async () => {
  const past = new Date(clock.now - 60_000 + 2 * hourMs).toISOString().replace('Z', '+02:00');
  const { claims } = await sent({ ...mail, sendAt: past });
  assert.equal(claims.length, 1);
});

const times: [name: string, sendAt: () => unknown, says: RegExp][] = [
  ['more than 72 hours ahead', () => new Date(clock.now + 72 * hourMs + 1000).toISOString(), /72 hours/],
  ['an hour ago', () => new Date(clock.now - hourMs).toISOString(), /past/],
  ['without a zone', () => '2026-11-20T12:00:00', /sendAt/],
  ['a number', () => 1763618400, /sendAt/],
  ['a word', () => 'tomorrow', /sendAt/],
];
for (const [name, sendAt, says] of times) {
  test(`sendAt ${name} is refused`, async () => {
    const { status, body } = await post({ ...mail, sendAt: sendAt() });
    assert.deepEqual([status, body.code], [400, 'INVALID_REQUEST']);
    assert.match(body.error, says);
  });
}

test('the same request with the same key gets the same answer, and there is one message', async () => {
  const before = (await world.accepted()).length;
  const first = await post(mail, { 'idempotency-key': 'order-1' });
  const second = await post(mail, { 'idempotency-key': 'order-1' });
  assert.equal(first.status, 200);
  assert.equal(second.status, 200);
  assert.equal(second.text, first.text);
  assert.equal(second.headers['content-type'], first.headers['content-type']);
  assert.equal((await world.accepted()).length, before + 1);
});

test('the order of fields does not make another request', async () => {
  const key = { 'idempotency-key': 'order-2' };
  const first = await post({ ...mail, headers: { 'X-A': '1', 'X-B': '2' } }, key);
  const { subject, ...rest } = mail;
  const second = await post({ headers: { 'X-B': '2', 'X-A': '1' }, subject, ...rest }, key);
  assert.equal(second.text, first.text);
});

test('repetitions at the same moment give one message and one answer', async () => {
  const before = (await world.accepted()).length;
  const answers = await Promise.all(
    Array.from({ length: 20 }, () => post(mail, { 'idempotency-key': 'at-once' })),
  );
  assert.equal(new Set(answers.map(({ status, text }) => `${status} ${text}`)).size, 1);
  assert.equal(answers[0]!.status, 200);
  assert.equal((await world.accepted()).length, before + 1);
});

test('the same key with another body is 409 IDEMPOTENCY_CONFLICT, and nothing is stored', async () => {
  const key = { 'idempotency-key': 'order-3' };
  await post(mail, key);
  const before = (await world.accepted()).length;
  const { status, body } = await post({ ...mail, subject: 'other' }, key);
  assert.deepEqual([status, body.code], [409, 'IDEMPOTENCY_CONFLICT']);
  const batch = await call('POST', '/v1/send/batch', { body: { messages: [mail] }, headers: key });
  assert.deepEqual([batch.status, batch.body.code], [409, 'IDEMPOTENCY_CONFLICT']);
  assert.equal((await world.accepted()).length, before);
});

test('a repetition gets its answer also when the message would be refused by now', async () => {
  const key = { 'idempotency-key': 'order-4' };
  const soon = { ...mail, to: 'later@dest.test', sendAt: new Date(clock.now + hourMs).toISOString() };
  const first = await post(soon, key);
  assert.equal(first.status, 200);
  world.suppressions.add({ did: reef, address: 'later@dest.test', reason: 'bounce', evidence: 'x' });
  clock.now += 3 * hourMs;
  assert.equal((await post(soon)).status, 400);
  assert.equal((await post(soon, key)).text, first.text);
});

test('whatever stands in a request, no line is longer than 998 octets', async () => {
  const words = `${'word '.repeat(1_600)}`.trim();
  const body = {
    ...mail,
    from: `${'Name '.repeat(150)} <a@reef.test>`,
    subject: 'ä'.repeat(900),
    text: `${'x'.repeat(3_000)}\nä${'y'.repeat(3_000)}`,
    html: `<p>${'z'.repeat(3_000)}</p>`,
    headers: { 'X-Words': words, References: '<a@b.test> '.repeat(700).trim() },
    attachments: [{ filename: `${'f'.repeat(250)}.txt`, content: 'aGk=' }],
  };
  const { status, body: answer, text } = await post(body);
  assert.equal(status, 200, text);
  const [queued] = await queuedAs(answer.accepted[0].messageId);
  const longest = Math.max(
    ...queued!.message
      .toString('latin1')
      .split('\r\n')
      .map(({ length }) => length),
  );
  assert.ok(longest <= 998, `${longest}`);
});

test('what is composed of a request counts as a message over SMTP does', async () => {
  const content = Buffer.alloc(1_500).toString('base64');
  const small = await openApiWorld({ limits: { maxMessageBytes: 2_000 } });
  try {
    const { status, body } = await small.call('POST', '/v1/send', {
      body: { ...mail, attachments: [{ filename: 'a', content }] },
    });
    assert.deepEqual([status, body.code], [413, 'MESSAGE_TOO_LARGE']);
    assert.equal((await small.call('POST', '/v1/send', { body: mail })).status, 200);
  } finally {
    await small.close();
  }
});

test('a key is the member’s own', async () => {
  const key = { 'idempotency-key': 'order-5' };
  const first = await post(mail, key);
  const orchards = await call('POST', '/v1/send', {
    body: { ...mail, from: 'a@orchard.test' },
    headers: key,
    as: { 'x-atmos-did': 'did:plc:orchardorchardorchardorc', authorization: `Bearer ${world.orchardKey}` },
  });
  assert.equal(orchards.status, 200);
  assert.notEqual(orchards.text, first.text);
});

test('a request that was refused is judged anew', async () => {
  const key = { 'idempotency-key': 'order-6' };
  world.suppressions.add({ did: reef, address: 'back@dest.test', reason: 'bounce', evidence: 'x' });
  assert.equal((await post({ ...mail, to: 'back@dest.test' }, key)).status, 403);
  world.suppressions.remove(reef, 'back@dest.test');
  assert.equal((await post({ ...mail, to: 'back@dest.test' }, key)).status, 200);
});

test('after 24 hours a key is free again', async () => {
  const key = { 'idempotency-key': 'order-7' };
  const first = await post(mail, key);
  clock.now += 24 * hourMs - 1000;
  assert.equal((await post(mail, key)).text, first.text);
  clock.now += 2000;
  assert.notEqual((await post(mail, key)).text, first.text);
});

for (const key of ['x'.repeat(257), 'with blank', '']) {
  test(`a key of ${key.length} characters "${key.slice(0, 10)}" is refused by its name`, async () => {
    const { status, body } = await post(mail, { 'idempotency-key': key });
    assert.deepEqual([status, body.code], [400, 'INVALID_REQUEST']);
    assert.match(body.error, /Idempotency-Key/);
  });
}

test('a key has up to 256 characters', async () => {
  assert.equal((await post(mail, { 'idempotency-key': 'x'.repeat(256) })).status, 200);
});
