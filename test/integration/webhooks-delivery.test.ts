import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { test } from 'node:test';
import { defaultWaitsMs } from '../../node/webhooks/sender.ts';
import { bounced, queueId, type Received, receiver, reef, start, world } from './webhooks-world.ts';

const hour = 3_600_000;
const day = 24 * hour;

function isSignedBy(secret: string, { headers, body }: Received): boolean {
  const key = Buffer.from(secret.slice('whsec_'.length), 'base64');
  const text = `${headers['webhook-id']}.${headers['webhook-timestamp']}.${body}`;
  const expected = `v1,${createHmac('sha256', key).update(text).digest('base64')}`;
  return (headers['webhook-signature'] as string).split(' ').includes(expected);
}

test('an event reaches the member, signed, with what a DSN would say', async (t) => {
  const target = await receiver(t, () => ({ status: 204 }));
  const { sender, hook, happen, commit, deliveries } = world(t);
  const { webhook, secret } = hook(target.url);
  sender.start();
  const committed = commit();
  happen(bounced(1));
  await target.until(1);
  const [request] = target.received;
  assert.ok(isSignedBy(secret, request!));
  assert.equal(request!.headers['content-type'], 'application/json');
  assert.equal(request!.headers['webhook-timestamp'], String(start / 1000));
  assert.deepEqual(JSON.parse(request!.body), {
    type: 'message.bounced',
    timestamp: new Date(start).toISOString(),
    data: {
      ...{ messageId: queueId(1), recipientId: `${queueId(1)}.1`, recipient: 'r1@harbor.example' },
      ...{ status: '5.1.1', reply: '550 no' },
    },
  });
  await committed;
  const [delivery] = deliveries.list(webhook.id, { limit: 10 });
  assert.deepEqual([delivery!.state, delivery!.status, delivery!.attempts], ['delivered', 204, 1]);
  assert.equal(deliveries.waiting(webhook.id), 0);
});

test('a member is told of its own mail only, and of what it asked for', async (t) => {
  const target = await receiver(t, () => ({ status: 200 }));
  const { sender, hook, happen } = world(t);
  hook(target.url, ['message.bounced']);
  sender.start();
  happen(
    bounced(1, 'did:plc:atoll'),
    { ...bounced(2), detail: { state: 'sent', recipient: 'x@y.example' } },
    bounced(3),
  );
  await target.until(1);
  await sender.stop();
  assert.deepEqual(
    target.received.map(({ body }) => JSON.parse(body).data.messageId),
    [queueId(3)],
  );
});

test('it is tried again after exactly the waits of the schedule, with one id, and then it is over', async (t) => {
  const target = await receiver(t, () => ({ status: 503, body: 'busy' }));
  const { sender, hook, happen, commit, deliveries, clock } = world(t, { patienceMs: 1000 * day });
  const { webhook } = hook(target.url);
  sender.start();
  let committed = commit();
  happen(bounced(1));
  await committed;
  for (const [index, wait] of defaultWaitsMs.entries()) {
    const [delivery] = deliveries.list(webhook.id, { limit: 1 });
    assert.deepEqual([delivery!.state, delivery!.nextAt], ['waiting', clock.at + wait], `wait ${index}`);
    clock.at += wait - 1;
    sender.wake();
    assert.equal(target.received.length, index + 1, 'not a moment early');
    clock.at += 1;
    committed = commit();
    sender.wake();
    await committed;
    assert.equal(target.received.length, index + 2);
  }
  const [delivery] = deliveries.list(webhook.id, { limit: 1 });
  assert.deepEqual([delivery!.state, delivery!.status, delivery!.answer], ['failed', 503, 'busy']);
  assert.deepEqual(
    defaultWaitsMs.map((ms) => ms / 1000),
    [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400],
  );
  assert.equal(new Set(target.received.map(({ headers }) => headers['webhook-id'])).size, 1);
  const times = target.received.map(({ headers }) => Number(headers['webhook-timestamp']));
  assert.equal(times.at(-1)! - times[0]!, defaultWaitsMs.reduce((sum, ms) => sum + ms) / 1000);
});

test('after five days without an answer it is disabled, and the member is told', async (t) => {
  const target = await receiver(t, () => ({ status: 500 }));
  const { sender, hook, happen, commit, endpoints, deliveries, clock, db } = world(t);
  const { webhook } = hook(target.url);
  sender.start();
  let committed = commit();
  happen(bounced(1));
  await committed;
  assert.equal(endpoints.get(webhook.id)!.failingSince, start);
  clock.at += 5 * day - 1;
  committed = commit();
  sender.wake();
  await committed;
  assert.equal(endpoints.get(webhook.id)!.disabledAt, null);
  clock.at += 1;
  committed = commit();
  happen(bounced(2));
  await committed;
  assert.match(endpoints.get(webhook.id)!.disabledReason!, /^No delivery arrived since 2023-11-14T22:13:20/);
  const told = db.prepare("SELECT did, detail FROM event WHERE type = 'staff_act'").all() as {
    did: string;
    detail: string;
  }[];
  assert.deepEqual([told.length, told[0]!.did, JSON.parse(told[0]!.detail).webhook], [1, reef, webhook.id]);
  assert.deepEqual(
    deliveries.list(webhook.id, { limit: 10 }).map(({ state }) => state),
    ['failed', 'failed'],
  );
  happen(bounced(3));
  assert.equal(deliveries.waiting(webhook.id), 0, 'nothing is queued for it any more');
});

test('one success ends the patience of before', async (t) => {
  const target = await receiver(t, (nth) => ({ status: nth === 2 ? 200 : 500 }));
  const { sender, hook, happen, commit, endpoints, clock } = world(t);
  const { webhook } = hook(target.url);
  sender.start();
  for (const expected of [start, null]) {
    const committed = commit();
    happen(bounced(1));
    await committed;
    assert.equal(endpoints.get(webhook.id)!.failingSince, expected);
  }
  clock.at += 6 * day;
  const committed = commit();
  happen(bounced(3));
  await committed;
  assert.equal(endpoints.get(webhook.id)!.disabledAt, null);
});

test('410 Gone disables at once', async (t) => {
  const target = await receiver(t, () => ({ status: 410 }));
  const { sender, hook, happen, commit, endpoints } = world(t);
  const { webhook } = hook(target.url);
  sender.start();
  const committed = commit();
  happen(bounced(1));
  await committed;
  assert.match(endpoints.get(webhook.id)!.disabledReason!, /410/);
});

const redirects = [301, 302, 303, 307, 308];
for (const status of redirects) {
  test(`a redirect (${status}) is not followed, wherever it points`, async (t) => {
    const elsewhere = await receiver(t, () => ({ status: 200 }));
    const target = await receiver(t, () => ({ status, headers: { location: elsewhere.url } }));
    const { sender, hook, happen, commit, deliveries } = world(t);
    const { webhook } = hook(target.url);
    sender.start();
    const committed = commit();
    happen(bounced(1));
    await committed;
    assert.equal(elsewhere.received.length, 0);
    const [delivery] = deliveries.list(webhook.id, { limit: 1 });
    assert.deepEqual([delivery!.state, delivery!.status], ['waiting', status]);
    assert.match(delivery!.answer!, /redirect is not followed/);
  });
}

test('a name that turns to a private address after it was accepted gets no byte', async (t) => {
  const target = await receiver(t, () => ({ status: 200 }));
  const port = new URL(target.url).port;
  const dns = { address: '9.9.9.9' };
  const rules = { allowLoopback: false, loopbackOnly: false, lookup: async () => [dns.address] };
  const { sender, endpoints, hook, happen, commit, deliveries } = world(t, { rules });
  const url = `https://hook.harbor.example:${port}/`;
  assert.equal(await endpoints.refusal(url), undefined);
  const { webhook } = hook(url);
  for (const address of ['127.0.0.1', '10.1.2.3', '169.254.169.254', '::1', 'fd00::1', '::ffff:10.0.0.1']) {
    dns.address = address;
    assert.match((await endpoints.refusal(url))!, /not a public address/, address);
  }
  dns.address = '127.0.0.1';
  sender.start();
  const committed = commit();
  happen(bounced(1));
  await committed;
  const [delivery] = deliveries.list(webhook.id, { limit: 1 });
  assert.deepEqual([delivery!.state, target.received.length], ['waiting', 0]);
  assert.match(delivery!.answer!, /not a public address/);
});

test('what is no public https address is refused, in every spelling', async (t) => {
  const dns = { addresses: ['10.0.0.1'] };
  const rules = { allowLoopback: false, loopbackOnly: false, lookup: async () => dns.addresses };
  const { endpoints } = world(t, { rules });
  const refused = [
    ...['http://harbor.example/', 'ftp://harbor.example/', 'https://u:p@harbor.example/', 'nonsense', ''],
    ...[
      'https://10.0.0.1/',
      'https://[::1]/',
      'https://127.0.0.1/',
      'https://localhost/',
      'https://2130706433/',
    ],
    ...['https://0x7f.1/', 'https://harbor.example/', 'https://[fe80::1]/', 'https://169.254.169.254/latest'],
  ];
  for (const url of refused) assert.ok(await endpoints.refusal(url), url);
  dns.addresses = [];
  assert.match((await endpoints.refusal('https://harbor.example/'))!, /has no address/);
  // Of several addresses only the public ones are connected to.
  dns.addresses = ['10.0.0.1', '9.9.9.9'];
  assert.equal(await endpoints.refusal('https://harbor.example/'), undefined);
});

test('where only loopback is allowed, only loopback is', async (t) => {
  const { endpoints } = world(t);
  assert.equal(await endpoints.refusal('http://127.0.0.1:8080/hook'), undefined);
  assert.equal(await endpoints.refusal('http://localhost:8080/hook'), undefined);
  assert.match((await endpoints.refusal('https://9.9.9.9/'))!, /not a public address/);
  assert.match((await endpoints.refusal('https://harbor.example/'))!, /only loopback/);
});

test('of an answer without end a little is read, and its status counts', async (t) => {
  const target = await receiver(t, () => ({ status: 200, body: 'x'.repeat(5_000_000) }));
  const { sender, hook, happen, commit, deliveries } = world(t);
  const { webhook } = hook(target.url);
  sender.start();
  const committed = commit();
  happen(bounced(1));
  await committed;
  const [delivery] = deliveries.list(webhook.id, { limit: 1 });
  assert.deepEqual([delivery!.state, delivery!.answer], ['delivered', 'x'.repeat(200)]);
});

test('silence is a failure after the time-out', async (t) => {
  const target = await receiver(t, () => 'silence');
  const { sender, hook, happen, commit, deliveries } = world(t, { timeoutMs: 50 });
  const { webhook } = hook(target.url);
  sender.start();
  const committed = commit();
  happen(bounced(1));
  await committed;
  const [delivery] = deliveries.list(webhook.id, { limit: 1 });
  assert.deepEqual([delivery!.state, delivery!.status, delivery!.attempts], ['waiting', null, 1]);
});

test('an address that is silent holds up no other', async (t) => {
  const silent = await receiver(t, () => 'silence');
  const quick = await receiver(t, () => ({ status: 200 }));
  const { sender, hook, happen } = world(t, { concurrency: 4, perEndpoint: 2 });
  hook(silent.url);
  hook(quick.url, [], 'did:plc:atoll');
  sender.start();
  happen(...Array.from({ length: 20 }, (_, n) => bounced(n)));
  await silent.until(2);
  happen(...Array.from({ length: 20 }, (_, n) => bounced(n, 'did:plc:atoll')));
  await quick.until(20);
  assert.equal(silent.received.length, 2, 'no more than its share at once');
});

test('addresses that fail have half of the connections together, and one each', async (t) => {
  const silent = await receiver(t, () => 'silence');
  const { sender, hook, happen, endpoints } = world(t, { concurrency: 4, perEndpoint: 4 });
  const members = ['did:plc:a', 'did:plc:b', 'did:plc:c', 'did:plc:d'];
  for (const did of members) endpoints.noteHealth(hook(silent.url, [], did).webhook.id, false);
  const quick = await receiver(t, () => ({ status: 200 }));
  hook(quick.url);
  sender.start();
  for (const did of members) happen(bounced(1, did), bounced(2, did));
  await silent.until(2);
  happen(...Array.from({ length: 8 }, (_, n) => bounced(n)));
  await quick.until(8);
  assert.equal(silent.received.length, 2);
});

test('a full queue takes no more, says so, and what it missed can be replayed', async (t) => {
  const target = await receiver(t, () => ({ status: 200 }));
  const { sender, hook, happen, deliveries, counted, commit } = world(t, { maxWaiting: 3 });
  const { webhook } = hook(target.url);
  happen(...Array.from({ length: 5 }, (_, n) => bounced(n)));
  assert.equal(deliveries.waiting(webhook.id), 3);
  assert.equal(counted.filter((what) => what === 'webhook_events_not_queued').length, 2);
  sender.start();
  await target.until(3);
  await commit().then(() => undefined);
  while (deliveries.waiting(webhook.id) > 0) await commit();
  const { queued } = await deliveries.replay(webhook, { messageId: queueId(4) });
  assert.equal(queued, 1);
  await target.until(4);
  assert.equal(JSON.parse(target.received.at(-1)!.body).data.messageId, queueId(4));
});

test('replay by id, by message and by time sends again with the id of the first time', async (t) => {
  const target = await receiver(t, () => ({ status: 200 }));
  const { sender, hook, happen, deliveries, clock, db, commit } = world(t);
  const { webhook } = hook(target.url);
  const settle = async (count: number) => {
    await target.until(count);
    while (deliveries.waiting(webhook.id) > 0) await commit();
  };
  sender.start();
  happen(bounced(1), bounced(2));
  clock.at += day;
  happen(bounced(3));
  await settle(3);
  const [third, second] = deliveries.list(webhook.id, { limit: 10 });
  assert.equal(deliveries.replayIds(webhook.id, [second!.id, 999]), 1);
  await settle(4);
  assert.equal((await deliveries.replay(webhook, { messageId: third!.messageId! })).queued, 1);
  await settle(5);
  assert.equal((await deliveries.replay(webhook, { since: start - 1, until: start + 1 })).queued, 2);
  await settle(7);
  const ids = target.received.map(({ headers }) => headers['webhook-id']);
  assert.deepEqual([new Set(ids).size, ids[3], ids[4]], [3, ids[1], ids[2]]);
  assert.deepEqual(ids.slice(5).sort(), ids.slice(0, 2).sort());
  assert.equal((db.prepare('SELECT count(*) AS n FROM webhook_delivery').get() as { n: number }).n, 3);
});

test('a replay that fills the queue says where to go on', async (t) => {
  const { hook, happen, deliveries, clock } = world(t, { maxWaiting: 4 });
  for (let n = 0; n < 10; n++) {
    happen(bounced(n));
    clock.at += hour;
  }
  const { webhook } = hook('http://127.0.0.1:1/');
  const first = await deliveries.replay(webhook, { since: start, until: clock.at });
  assert.deepEqual(first, { queued: 4, since: start + 4 * hour });
});

test("a replay never reaches another member's deliveries", async (t) => {
  const { hook, happen, deliveries } = world(t);
  const { webhook } = hook('http://127.0.0.1:1/');
  const other = hook('http://127.0.0.1:1/', [], 'did:plc:atoll').webhook;
  happen(bounced(1));
  const [delivery] = deliveries.list(webhook.id, { limit: 1 });
  deliveries.giveUp(webhook.id, 'for the test');
  assert.equal(deliveries.replayIds(other.id, [delivery!.id]), 0);
  assert.deepEqual(await deliveries.replay(other, { messageId: queueId(1) }), { queued: 0 });
});

test('what was under way when the node stopped is sent at the next start', async (t) => {
  const target = await receiver(t, (nth) => (nth === 1 ? 'silence' : { status: 200 }));
  const { sender, makeSender, hook, happen, deliveries, commit } = world(t);
  const { webhook } = hook(target.url);
  sender.start();
  happen(bounced(1));
  await target.until(1);
  await sender.stop();
  assert.equal(deliveries.list(webhook.id, { limit: 1 })[0]!.attempts, 0);
  const next = makeSender();
  const committed = commit();
  next.start();
  await committed;
  await next.stop();
  assert.equal(deliveries.list(webhook.id, { limit: 1 })[0]!.state, 'delivered');
});

test('outcomes that cannot be stored are offered again', async (t) => {
  const target = await receiver(t, () => ({ status: 200 }));
  let failures = 1;
  const stored = Promise.withResolvers<void>();
  const base = world(t, {
    record: (recorded, change) => {
      if (failures-- > 0) throw new Error('the disk is full');
      base.events.record(recorded, change);
      stored.resolve();
    },
  });
  const { webhook } = base.hook(target.url);
  base.sender.start();
  base.happen(bounced(1));
  await stored.promise;
  const [delivery] = base.deliveries.list(webhook.id, { limit: 1 });
  assert.deepEqual([delivery!.state, delivery!.attempts], ['delivered', 1]);
  assert.equal(target.received.length, 1, 'and nobody is told twice for it');
});

test('an event that is gone is given up', async (t) => {
  const { sender, hook, happen, commit, deliveries, db } = world(t);
  const { webhook } = hook('http://127.0.0.1:1/');
  happen(bounced(1));
  db.exec('DELETE FROM event');
  const committed = commit();
  sender.start();
  await committed;
  assert.deepEqual(
    deliveries.list(webhook.id, { limit: 1 }).map(({ state, answer }) => [state, answer]),
    [['failed', 'the event is past its retention']],
  );
});

test('what arrived is forgotten after 3 days, all else after 30', async (t) => {
  const { hook, happen, deliveries, clock, now } = world(t);
  const { webhook } = hook('http://127.0.0.1:1/');
  happen(bounced(1), bounced(2));
  const [, first] = deliveries.list(webhook.id, { limit: 2 });
  deliveries.finish({
    delivery: first!,
    isDelivered: true,
    nextAt: null,
    at: now(),
    status: 200,
    answer: '',
  });
  const left = () => deliveries.list(webhook.id, { limit: 9 }).length;
  clock.at += 3 * day;
  deliveries.housekeep();
  assert.equal(left(), 2);
  clock.at += 1;
  deliveries.housekeep();
  assert.equal(left(), 1);
  clock.at = start + 30 * day + 1;
  deliveries.housekeep();
  assert.deepEqual([left(), deliveries.waiting(webhook.id)], [0, 0]);
});
