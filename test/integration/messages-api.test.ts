/** What a member sees of its mail: messages with timelines, cancelling, the suppression list. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { messageAnswer, messagesAnswer } from '../../node/relay/api/messages.ts';
import { suppressionsAnswer } from '../../node/relay/api/suppressions.ts';
import { openApiWorld } from './api-world.ts';
import { orchard, reef } from './submission-world.ts';

const hourMs = 3_600_000;
const clock = { now: Date.UTC(2026, 10, 20, 12) };
const world = await openApiWorld({ now: () => clock.now });
const { call } = world;
after(() => world.close());

const mail = { from: 'a@reef.test', to: 'b@dest.test', subject: 'hello', text: 'body' };
const orchards = { 'x-atmos-did': orchard, authorization: `Bearer ${world.orchardKey}` };

async function send(change: object = {}, as: object = world.login): Promise<string> {
  clock.now += 1000;
  const { status, body, text } = await call('POST', '/v1/send', { body: { ...mail, ...change }, as });
  assert.equal(status, 200, text);
  return body.accepted[0].messageId;
}

/** What a destination answered to the one recipient of a message. */
async function answered(messageId: string, outcome: 'delivered' | 'deferred' | 'failed', reply: string) {
  clock.now += 1000;
  const claims = await world.spool.due({ limit: 100, now: clock.now, exceptSites: [], exceptMembers: [] });
  const claim = claims.find(({ queueId }) => queueId === messageId)!;
  await world.spool.release(claims.filter((one) => one !== claim).map(({ recipientId }) => recipientId));
  const next = { delivered: { state: 'sent' }, failed: { state: 'bounced' }, deferred: undefined } as const;
  await world.spool.settle({
    recipientId: claim.recipientId,
    attempt: {
      ...{ at: clock.now, durationMs: 12, outcome, counted: true, reply, status: reply.split(' ')[1]! },
      ...{ host: 'mx.dest.test', address: '192.0.2.7', summary: 'what happened' },
      tls: { version: 'TLSv1.3', cipher: 'TLS_AES_256_GCM_SHA384' },
    },
    next: next[outcome] ?? { state: 'deferred', at: clock.now + 60_000 },
  });
}

test('a message has the timeline of each recipient, with the peer’s own words', async () => {
  const messageId = await send({ to: 'timeline@dest.test', tags: ['one'], category: 'transactional' });
  const said = '450 4.2.0 greylisted,\r\n450 4.2.0 come back in 5 min';
  await answered(messageId, 'deferred', said);
  clock.now += 61_000;
  await answered(messageId, 'delivered', '250 2.0.0 ok queued as 12345');
  const { status, body } = await call('GET', `/v1/messages/${messageId}`);
  assert.equal(status, 200);
  const message = messageAnswer.parse(body);
  const { subject, category, tags, from, domain, via } = message;
  assert.deepEqual(
    { subject, category, tags, from, domain, via },
    {
      ...{ subject: 'hello', category: 'transactional', tags: ['one'], from: 'a@reef.test' },
      ...{ domain: 'reef.test', via: 'http' },
    },
  );
  const [recipient] = message.recipients;
  assert.deepEqual(
    [recipient!.recipient, recipient!.state, recipient!.nextAttemptAt],
    ['timeline@dest.test', 'sent', null],
  );
  assert.deepEqual(
    recipient!.timeline.map((entry) => [entry.what, 'reply' in entry && entry.reply]),
    [
      ['attempt', said],
      ['attempt', '250 2.0.0 ok queued as 12345'],
    ],
  );
});

test('a hold and its release stand between the tries, in order', async () => {
  const messageId = await send({ to: 'held@dest.test' });
  await answered(messageId, 'deferred', '450 4.0.0 later');
  clock.now += 1000;
  await world.spool.hold({ ids: [messageId] }, { by: 'ana', reason: 'looking at it' });
  clock.now += 1000;
  await world.spool.unhold({ ids: [messageId] }, { by: 'ana', reason: 'all is well' });
  clock.now += 61_000;
  await answered(messageId, 'delivered', '250 2.0.0 ok');
  const { body } = await call('GET', `/v1/messages/${messageId}`);
  const timeline = messageAnswer.parse(body).recipients[0]!.timeline;
  assert.deepEqual(
    timeline.map((entry) => [entry.what, 'by' in entry && entry.by]),
    [
      ['attempt', false],
      ['held', 'ana'],
      ['released', 'ana'],
      ['attempt', false],
    ],
  );
});

test('another member’s message does not exist, neither to look at nor to cancel', async () => {
  const messageId = await send({ sendAt: new Date(clock.now + hourMs).toISOString() });
  for (const method of ['GET', 'DELETE'] as const) {
    const { status, body } = await call(method, `/v1/messages/${messageId}`, { as: orchards });
    assert.deepEqual([status, body.code], [404, 'NOT_FOUND']);
  }
  assert.equal((await call('GET', `/v1/messages/${messageId}`)).body.recipients[0].state, 'scheduled');
});

for (const id of ['nothing', 'x'.repeat(64), '%00', "a'--"]) {
  test(`the id ${id.slice(0, 10)} names nothing`, async () => {
    const { status, body } = await call('GET', `/v1/messages/${id}`);
    assert.deepEqual([status, body.code], [404, 'NOT_FOUND']);
  });
}

test('a scheduled message ends `cancelled`, once, and is never sent', async () => {
  const messageId = await send({ sendAt: new Date(clock.now + hourMs).toISOString() });
  const { status, body } = await call('DELETE', `/v1/messages/${messageId}`);
  assert.deepEqual([status, body], [200, { messageId, state: 'cancelled' }]);
  const [recipient] = messageAnswer.parse((await call('GET', `/v1/messages/${messageId}`)).body).recipients;
  assert.equal(recipient!.state, 'cancelled');
  assert.deepEqual(
    recipient!.timeline.map(({ what }) => what),
    ['cancelled'],
  );
  const again = await call('DELETE', `/v1/messages/${messageId}`);
  assert.deepEqual([again.status, again.body.code], [409, 'NOT_CANCELLABLE']);
  clock.now += 2 * hourMs;
  assert.equal((await world.queuedAs(messageId)).length, 0);
});

test('a message that is not scheduled is 409 NOT_CANCELLABLE', async () => {
  const messageId = await send();
  const { status, body } = await call('DELETE', `/v1/messages/${messageId}`);
  assert.deepEqual([status, body.code], [409, 'NOT_CANCELLABLE']);
  assert.equal((await world.queuedAs(messageId)).length, 1);
});

async function listed(query: string, as: object = world.login): Promise<string[]> {
  const { status, body, text } = await call('GET', `/v1/messages?${query}`, { as });
  assert.equal(status, 200, text);
  return messagesAnswer.parse(body).messages.map(({ messageId }) => messageId);
}

test('messages are found by tag, recipient, state and time', async () => {
  const from = clock.now + 1;
  const first = await send({ tags: ['find-me'], to: 'first@dest.test' });
  const between = clock.now + 1;
  const second = await send({ tags: ['find-me', 'more'], to: ['second@dest.test', 'x@dest.test'] });
  const third = await send({ to: 'third@bücher.test' });
  await answered(third, 'failed', '550 5.1.1 no such user');
  const time = (at: number) => encodeURIComponent(new Date(at).toISOString());
  assert.deepEqual(await listed('tag=find-me'), [second, first]);
  assert.deepEqual(await listed('tag=more'), [second]);
  assert.deepEqual(await listed('recipient=Second@DEST.test'), [second]);
  assert.deepEqual(await listed(`recipient=${encodeURIComponent('third@BÜCHER.test')}`), [third]);
  assert.deepEqual(await listed(`state=bounced&since=${time(from)}`), [third]);
  assert.deepEqual(await listed(`since=${time(from)}&until=${time(between)}`), [first]);
  assert.deepEqual(await listed(`since=${time(from)}`), [third, second, first]);
  assert.deepEqual(await listed('tag=find-me', orchards), []);
});

test('pages follow each other by their cursor and show each message once', async () => {
  const all: string[] = [];
  for (let n = 0; n < 7; n++) all.unshift(await send({ tags: ['paged'] }));
  const seen: string[] = [];
  let next: string | undefined = '';
  for (let pages = 0; next !== undefined && pages < 20; pages++) {
    const from = next && `&cursor=${encodeURIComponent(next)}`;
    const { body } = await call('GET', `/v1/messages?tag=paged&limit=3${from}`);
    const page = messagesAnswer.parse(body);
    assert.ok(page.messages.length <= 3);
    seen.push(...page.messages.map(({ messageId }) => messageId));
    next = page.cursor;
  }
  assert.deepEqual(seen, all);
});

const badQueries: [query: string, says: RegExp][] = [
  ['state=lost', /state/],
  ['limit=0', /limit/],
  ['limit=101', /limit/],
  ['limit=ten', /limit/],
  ['since=yesterday', /since/],
  ['colour=red', /"colour"/],
  ['tag=a&tag=b', /tag/],
  ['cursor=', /cursor/],
  ['cursor=nonsense', /cursor/],
  ['cursor=9999999999999999', /cursor/],
];
for (const [query, says] of badQueries) {
  test(`?${query} is refused by its name`, async () => {
    const { status, body } = await call('GET', `/v1/messages?${query}`);
    assert.deepEqual([status, body.code], [400, 'INVALID_REQUEST']);
    assert.match(body.error, says);
  });
}

test('what reads or takes back answers a suspended member; what sends is refused with the reason', async () => {
  const messageId = await send({ sendAt: new Date(clock.now + hourMs).toISOString() });
  world.db.exec(`UPDATE member SET state = 'suspended', state_reason = 'report 7' WHERE did = '${reef}'`);
  try {
    assert.equal((await call('GET', '/v1/messages')).status, 200);
    assert.equal((await call('GET', `/v1/messages/${messageId}`)).status, 200);
    assert.equal((await call('GET', '/v1/suppressions')).status, 200);
    assert.equal((await call('DELETE', `/v1/messages/${messageId}`)).status, 200);
    const sent = await call('POST', '/v1/send', { body: mail });
    assert.deepEqual([sent.status, sent.body.code], [403, 'MEMBER_SUSPENDED']);
    assert.match(sent.body.error, /report 7/);
  } finally {
    world.db.exec(`UPDATE member SET state = 'active' WHERE did = '${reef}'`);
  }
});

test('the suppression list shows reason, evidence and message of each address, page by page', async () => {
  const orchardsList = { did: orchard, address: 'zz@dest.test', reason: 'manual', evidence: 'x' } as const;
  world.suppressions.add(orchardsList);
  for (const n of [1, 2, 3])
    world.suppressions.add({
      ...{ did: reef, address: `s${n}@dest.test`, reason: 'bounce', evidence: '550 5.1.1 unknown' },
      messageId: 'm1',
    });
  const first = suppressionsAnswer.parse((await call('GET', '/v1/suppressions?limit=2')).body);
  assert.deepEqual(
    first.suppressions.map(({ address }) => address),
    ['s1@dest.test', 's2@dest.test'],
  );
  const { since, until, ...rest } = first.suppressions[0]!;
  assert.deepEqual(rest, {
    ...{ address: 's1@dest.test', reason: 'bounce', evidence: '550 5.1.1 unknown', messageId: 'm1' },
  });
  assert.equal(Date.parse(until!) - Date.parse(since), 30 * 24 * hourMs);
  const cursor = encodeURIComponent(first.cursor!);
  const second = suppressionsAnswer.parse(
    (await call('GET', `/v1/suppressions?limit=2&cursor=${cursor}`)).body,
  );
  assert.deepEqual(
    second.suppressions.map(({ address }) => address),
    ['s3@dest.test'],
  );
  assert.equal(second.cursor, undefined);
});

test('what a recipient asked for stays, whatever the member removes', async () => {
  const address = 'asked@dest.test';
  const url = `/v1/suppressions/${address}`;
  for (const reason of ['unsubscribe', 'complaint'] as const) {
    world.suppressions.add({ did: reef, address, reason, evidence: 'x' });
    const refused = await call('DELETE', url);
    assert.deepEqual([refused.status, refused.body.code], [409, 'NOT_REMOVABLE']);
    assert.match(refused.body.error, new RegExp(reason));
    assert.equal(world.suppressions.find(reef, address)?.reason, reason);
  }
  world.suppressions.add({ did: reef, address, reason: 'bounce', evidence: 'x' });
  const { body } = await call('DELETE', url);
  assert.deepEqual(body, { address, removed: true, remaining: 'complaint' });
  assert.equal(world.suppressions.has(reef, address, 'bounce'), false);
  assert.equal(world.suppressions.has(reef, address, 'unsubscribe'), true);
});

test('a member adds an address of its own, and removes it', async () => {
  const asked = { address: 'Nobody@DEST.test', note: 'asked by telephone' };
  const added = await call('POST', '/v1/suppressions', { body: asked });
  assert.equal(added.status, 200, added.text);
  assert.deepEqual(
    [added.body.address, added.body.reason, added.body.evidence, added.body.until],
    ['nobody@dest.test', 'manual', 'You added it: asked by telephone', null],
  );
  const refused = await call('POST', '/v1/send', {
    body: { from: 'a@reef.test', to: 'nobody@dest.test', subject: 's', text: 't', category: 'login-link' },
  });
  assert.deepEqual([refused.status, refused.body.code], [403, 'RECIPIENT_SUPPRESSED']);
  assert.equal((await call('DELETE', '/v1/suppressions/nobody@dest.test')).status, 200);
  const wrong = await call('POST', '/v1/suppressions', { body: { address: 'nobody' } });
  assert.deepEqual([wrong.status, wrong.body.code], [400, 'INVALID_REQUEST']);
});

test('an address that is taken off the list gets mail again', async () => {
  world.suppressions.add({ did: reef, address: 'back@dest.test', reason: 'bounce', evidence: 'x' });
  const url = `/v1/suppressions/${encodeURIComponent('Back@dest.test')}`;
  const foreign = await call('DELETE', url, { as: orchards });
  assert.deepEqual([foreign.status, foreign.body.code], [404, 'NOT_FOUND']);
  const removed = await call('DELETE', url);
  assert.deepEqual(
    [removed.status, removed.body],
    [200, { address: 'Back@dest.test', removed: true, remaining: null }],
  );
  await send({ to: 'back@dest.test' });
  assert.equal((await call('DELETE', url)).status, 404);
});
