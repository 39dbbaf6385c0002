/** Scheduled, held, cancelled, failed, refused, repeated: what becomes of a message besides being tried. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { recipientId } from '../../node/spool/ids.ts';
import { Spool } from '../../node/spool/spool.ts';
import {
  bodyFor,
  Clock,
  day,
  delivered,
  due,
  mail,
  minute,
  openSpool,
  putOff,
  silent,
  start,
  temporaryFolder,
} from './spool-fixtures.ts';

const ops = { by: 'ops', reason: 'looked at' };
const hour = 60 * minute;

async function clocked(t: Parameters<typeof openSpool>[0], options: Parameters<typeof openSpool>[1] = {}) {
  const clock = new Clock();
  const spool = await openSpool(t, { ...options, now: clock.now });
  const state = async (queueId: string) => (await spool.message(queueId))!.recipients.map((one) => one.state);
  const states = async () =>
    (await spool.eventsAfter('0', 100)).flatMap(({ type, detail }) =>
      type === 'delivery_result' ? [detail.state] : [],
    );
  return { clock, spool, state, states };
}

test('a scheduled message is due at its time, and the time until then does not count against its lifetime', async (t) => {
  const { clock, spool, state, states } = await clocked(t);
  const message = mail({ sendAt: start + 2 * day });
  await spool.accept(message);
  assert.deepEqual(await state(message.queueId), ['scheduled']);
  assert.deepEqual(await states(), ['scheduled']);
  assert.equal(await spool.nextDueAt(), start + 2 * day);
  assert.deepEqual(await due(spool, 1, start + 2 * day - 1), []);
  clock.forward(2 * day);
  assert.deepEqual(await state(message.queueId), ['accepted']);
  const [claim] = await due(spool, 1, clock.at);
  assert.equal(claim!.expiresAt, message.expiresAt + 2 * day);
  assert.equal((await spool.message(message.queueId))!.sendAt, start + 2 * day);
});

test('a member cancels what is scheduled, nobody else’s, not what is due, and not twice', async (t) => {
  const { clock, spool, state, states } = await clocked(t);
  const message = mail({ sendAt: start + hour, to: ['a@dest.test', 'b@dest.test'] });
  const late = mail({ sendAt: start + hour });
  for (const one of [message, late]) await spool.accept(one);
  assert.equal(await spool.cancelScheduled('did:plc:other', message.queueId), 'unknown');
  assert.equal(await spool.cancelScheduled(message.did, message.queueId), 'cancelled');
  assert.equal(await spool.cancelScheduled(message.did, message.queueId), 'not-scheduled');
  assert.deepEqual(await state(message.queueId), ['cancelled', 'cancelled']);
  assert.equal(await spool.body(message.queueId), undefined);
  assert.equal((await states()).filter((one) => one === 'cancelled').length, 2);
  const [recipient] = (await spool.message(message.queueId))!.recipients;
  assert.deepEqual(recipient!.acts, [
    { at: start, act: 'cancelled', by: message.did, reason: 'cancelled by the member' },
  ]);
  clock.forward(hour);
  assert.equal(await spool.cancelScheduled(late.did, late.queueId), 'not-scheduled');
  assert.equal((await due(spool, 9, clock.at)).length, 1);
});

test('held mail waits however long, goes on where it was, and the time does not count', async (t) => {
  const { clock, spool, state, states } = await clocked(t);
  const message = mail({ keyId: 'k1' });
  const other = mail({ keyId: 'k2' });
  for (const one of [message, other]) await spool.accept(one);
  assert.equal(await spool.hold({ keyId: 'k1' }, ops), 1);
  assert.equal(await spool.hold({ keyId: 'k1' }, ops), 0, 'already held');
  assert.deepEqual(await state(message.queueId), ['held']);
  assert.deepEqual(
    (await due(spool, 9, start)).map(({ queueId }) => queueId),
    [other.queueId],
  );
  clock.forward(10 * day);
  assert.equal(await spool.unhold({ did: message.did }, ops), 1);
  const [claim] = await due(spool, 9, clock.at);
  assert.deepEqual([claim!.queueId, claim!.expiresAt], [message.queueId, message.expiresAt + 10 * day]);
  assert.deepEqual(await states(), ['held', 'accepted']);
  const [recipient] = (await spool.message(message.queueId))!.recipients;
  assert.deepEqual(
    recipient!.acts.map(({ act, by, reason }) => [act, by, reason]),
    [
      ['held', 'ops', 'looked at'],
      ['released', 'ops', 'looked at'],
    ],
  );
});

test('held from the start, scheduled or not: not due, and a restart keeps it so', async (t) => {
  const dir = temporaryFolder(t);
  const first = await Spool.open({ dir, log: silent, now: () => start });
  const messages = [mail({ hold: 'probation' }), mail({ hold: 'probation', sendAt: start + hour })];
  for (const one of messages) await first.accept(one);
  await first.close();
  const { clock, spool, states } = await clocked(t, { dir });
  assert.equal(await spool.nextDueAt(), undefined);
  assert.deepEqual(await states(), ['held', 'held']);
  clock.forward(3 * hour);
  assert.equal(await spool.unhold({ states: ['held'] }, ops), 2);
  const claims = await due(spool, 9, clock.at);
  assert.deepEqual(
    claims.map(({ expiresAt, receivedAt }) => expiresAt - receivedAt - 4 * day),
    [3 * hour, hour + 2 * hour],
  );
});

test('a hold during a try takes effect when it ends, unless it was delivered', async (t) => {
  const { spool, state } = await clocked(t);
  const message = mail({ to: ['a@dest.test', 'b@dest.test'] });
  await spool.accept(message);
  const [a, b] = await due(spool, 9, start);
  assert.equal(await spool.hold({ ids: [message.queueId] }, ops), 2);
  const next = { state: 'deferred', at: start + minute } as const;
  await spool.settle({ recipientId: a!.recipientId, attempt: putOff(), next });
  await spool.settle({ recipientId: b!.recipientId, attempt: delivered(), next: { state: 'sent' } });
  assert.deepEqual(await state(message.queueId), ['held', 'sent']);
  assert.equal(await spool.nextDueAt(), undefined);
  await spool.unhold({ ids: [a!.recipientId] }, ops);
  assert.equal(await spool.nextDueAt(), start + minute);
});

test('cancelled during a try: it ends cancelled unless delivered, also when given back or after a crash', async (t) => {
  const dir = temporaryFolder(t);
  const spool = await Spool.open({ dir, log: silent, now: () => start });
  const message = mail({ to: ['a@dest.test', 'b@dest.test', 'c@dest.test', 'd@dest.test'] });
  await spool.accept(message);
  const [a, b, c] = await due(spool, 9, start);
  assert.equal(await spool.cancel({ did: message.did }, ops), 4);
  const next = { state: 'deferred', at: start } as const;
  await spool.settle({ recipientId: a!.recipientId, attempt: putOff(), next });
  await spool.settle({ recipientId: b!.recipientId, attempt: delivered(), next: { state: 'sent' } });
  await spool.release([c!.recipientId]);
  await spool.close();
  const again = await openSpool(t, { dir });
  assert.deepEqual(await due(again, 9, start), []);
  await again.forgetEvents('0');
  const { recipients } = (await again.message(message.queueId))!;
  assert.deepEqual(
    recipients.map((one) => one.state),
    ['cancelled', 'sent', 'cancelled', 'cancelled'],
  );
  assert.equal(await again.body(message.queueId), undefined);
});

test('a failed recipient is handed out at once with its reason, held, scheduled or waiting', async (t) => {
  const { spool } = await clocked(t);
  const messages = [mail({ sendAt: start + day }), mail({ hold: 'x' }), mail()];
  for (const one of messages) await spool.accept(one);
  assert.equal(await spool.fail({ domain: 'reef.test' }, ops), 3);
  const claims = await due(spool, 9, start);
  assert.deepEqual(
    claims.map(({ failReason }) => failReason),
    ['looked at', 'looked at', 'looked at'],
  );
});

test('retry now, reroute and back: only what waits, and it stands in the timeline', async (t) => {
  const { spool } = await clocked(t);
  const message = mail();
  await spool.accept(message);
  const [claim] = await due(spool, 1, start);
  const next = { state: 'deferred', at: start + hour } as const;
  const attempt = { ...putOff(), source: '192.0.2.1' };
  await spool.settle({ recipientId: claim!.recipientId, attempt, next, delayNoticed: true });
  assert.equal(await spool.reroute({ recipientDomain: 'dest.test' }, { by: 'ops', to: 'mx.other:26' }), 1);
  assert.equal(await spool.retryNow({ site: 'dest.test', before: start }, { by: 'ops' }), 0);
  assert.equal(await spool.retryNow({ site: 'dest.test', before: start + 1 }, { by: 'ops' }), 1);
  const [again] = await due(spool, 1, start);
  assert.deepEqual(
    [again!.reroute, again!.lastSource, again!.delayNoticed, again!.attempts],
    ['mx.other:26', '192.0.2.1', true, 1],
  );
  await spool.release([again!.recipientId]);
  assert.equal(await spool.reroute({ ids: [message.queueId] }, { by: 'ops', to: null }), 1);
  const [last] = await due(spool, 1, start);
  assert.equal(last!.reroute, undefined);
  const acts = (await spool.message(message.queueId))!.recipients[0]!.acts;
  assert.deepEqual(
    acts.map(({ act }) => act),
    ['rerouted', 'retry', 'rerouted'],
  );
});

test('a selection without a field selects nothing, and one over all takes several steps', async (t) => {
  const { spool } = await clocked(t);
  const to = Array.from({ length: 600 }, (_, n) => `u${n}@dest${n % 7}.test`);
  await Promise.all([spool.accept(mail({ to })), spool.accept(mail({ to, did: 'did:plc:two' }))]);
  assert.equal(await spool.cancel({}, ops), 0);
  assert.equal(await spool.hold({ states: ['accepted', 'deferred'] }, ops), 1200);
  assert.equal(await spool.unhold({ did: 'did:plc:two' }, ops), 600);
  assert.equal((await due(spool, 2000, start)).length, 600);
});

test('a refused recipient is taken and ended in one commit, with its notice, and the rest goes on', async (t) => {
  const { spool, states } = await clocked(t);
  const message = mail({ to: ['gone@dest.test', 'ann@dest.test'] });
  const notice = mail({ kind: 'dsn', to: ['owner@reef.test'] });
  message.recipients[0]!.refused = {
    ...putOff(),
    outcome: 'failed',
    status: '5.7.1',
    summary: 'unsubscribed',
    suppressed: true,
  };
  message.notices = [notice];
  assert.equal((await spool.accept(message)).kind, 'committed');
  assert.deepEqual(await states(), ['bounced']);
  const events = await spool.eventsAfter('0', 9);
  assert.deepEqual(
    events.map(({ type, recipientId: id, detail }) => [type, id!.split('.')[1], detail.suppressed]),
    [
      ['relay_attempt', '1', true],
      ['relay_attempt', '2', undefined],
      ['delivery_result', '1', true],
    ],
  );
  const claims = await due(spool, 9, start);
  assert.deepEqual(
    claims.map(({ recipientId: id }) => id).sort(),
    [recipientId(message.queueId, 2), recipientId(notice.queueId, 1)].sort(),
  );
  const alone = mail({ body: bodyFor('x', 300_000) });
  alone.recipients[0]!.refused = message.recipients[0]!.refused;
  await spool.accept(alone);
  assert.equal(await spool.body(alone.queueId), undefined);
  assert.equal((await spool.message(alone.queueId))!.recipients[0]!.timeline[0]!.summary, 'unsubscribed');
});

test('the same request with its key gets the same answer for 24 hours, another one is refused, each member apart', async (t) => {
  const dir = temporaryFolder(t);
  const first = await Spool.open({ dir, log: silent, now: () => start });
  const idempotency = { key: 'k', fingerprint: 'f', answer: 'the answer' };
  assert.equal((await first.accept(mail({ idempotency, to: [] }))).kind, 'failed');
  assert.equal((await first.accept(mail({ idempotency }))).kind, 'committed');
  await first.close();
  const { clock, spool } = await clocked(t, { dir });
  assert.deepEqual(await spool.accept(mail({ idempotency })), { kind: 'repeated', answer: 'the answer' });
  assert.deepEqual(await spool.accept(mail({ idempotency: { ...idempotency, fingerprint: 'g' } })), {
    kind: 'key-reused',
  });
  assert.equal((await spool.accept(mail({ idempotency, did: 'did:plc:two' }))).kind, 'committed');
  assert.equal((await due(spool, 9, start)).length, 2);
  clock.forward(day);
  assert.equal((await spool.accept(mail({ idempotency, receivedAt: clock.at }))).kind, 'committed');
});

test('many repetitions at once are one message', async (t) => {
  const { spool } = await clocked(t);
  const idempotency = { key: 'k', fingerprint: 'f', answer: 'a' };
  const answers = await Promise.all(Array.from({ length: 20 }, () => spool.accept(mail({ idempotency }))));
  assert.equal(answers.filter(({ kind }) => kind === 'committed').length, 1);
  assert.equal((await due(spool, 30, start)).length, 1);
});

test('a batch is one commit with an answer for each, and a repetition gets the same', async (t) => {
  const { spool } = await clocked(t);
  const caps = [{ scope: 'did:plc:reef', perHour: 2, perDay: 2 }];
  const item = (name: string) => ({
    message: mail({ caps }),
    answers: { committed: `${name} ok`, 'over-cap': `${name} cap`, 'queue-full': `${name} full` },
  });
  const items = [item('a'), { answer: 'b wrong' }, item('c'), item('d')];
  const idempotency = { key: 'k', fingerprint: 'f' };
  const answers = ['a ok', 'b wrong', 'c ok', 'd cap'];
  const first = await spool.acceptBatch({ did: 'did:plc:reef', items, idempotency });
  assert.ok(first.kind === 'done');
  assert.deepEqual(first.answers, answers);
  assert.deepEqual(
    first.outcomes.map((outcome) => outcome?.kind),
    ['committed', undefined, 'committed', 'over-cap'],
  );
  const repeated = await spool.acceptBatch({ did: 'did:plc:reef', items: [item('x')], idempotency });
  assert.deepEqual(repeated, { kind: 'repeated', answers });
  const reused = { did: 'did:plc:reef', items, idempotency: { key: 'k', fingerprint: 'g' } };
  assert.deepEqual(await spool.acceptBatch(reused), { kind: 'key-reused' });
  const broken = [
    { ...item('y'), message: mail({ caps: [], to: [] }) },
    { ...item('z'), message: mail() },
  ];
  assert.equal((await spool.acceptBatch({ did: 'did:plc:reef', items: broken })).kind, 'failed');
  assert.equal((await due(spool, 9, start)).length, 2);
});

test('quotas by messages and octets, of a member and of all, are counted over restarts and freed at the end', async (t) => {
  const dir = temporaryFolder(t);
  const quotas = { all: { messages: 4, bytes: 10_000 }, perMember: { messages: 3, bytes: 5_000 } };
  const first = await Spool.open({ dir, log: silent, now: () => start, quotas });
  const send = async (spool: Spool, did: string, size = 10) => {
    const accepted = await spool.accept(mail({ did, body: bodyFor('x', size) }));
    return accepted.kind === 'queue-full' ? accepted.whose : accepted.kind;
  };
  assert.equal(await send(first, 'a', 5_001), 'member');
  for (const did of ['a', 'a', 'a']) assert.equal(await send(first, did), 'committed');
  assert.equal(await send(first, 'a'), 'member');
  assert.equal(await send(first, 'b'), 'committed');
  await first.close();
  const { spool } = await clocked(t, { dir, quotas });
  assert.equal(await send(spool, 'b'), 'all');
  assert.equal(
    (await spool.accept(mail({ kind: 'dsn' }))).kind,
    'committed',
    'our own mail is never refused',
  );
  for (const { recipientId: id } of await due(spool, 9, start))
    await spool.settle({ recipientId: id, attempt: delivered(), next: { state: 'sent' } });
  for (const did of ['a', 'a', 'a', 'b']) assert.equal(await send(spool, did), 'committed');
  assert.equal(await send(spool, 'b'), 'all');
});

test('simulated mail has a tenth of its own beside the member’s quota, and our own letters have none', async (t) => {
  const dir = temporaryFolder(t);
  const quotas = { all: { messages: 9, bytes: 50_000 }, perMember: { messages: 20, bytes: 50_000 } };
  const first = await Spool.open({ dir, log: silent, now: () => start, quotas });
  const simulated = (to = ['delivered@simulator.test']) => {
    const message = mail({ did: 'a', to });
    message.recipients[0]!.simulated = true;
    return message;
  };
  const kindOf = async (spool: Spool, message: ReturnType<typeof mail>) => {
    const accepted = await spool.accept(message);
    return accepted.kind === 'queue-full' ? accepted.whose : accepted.kind;
  };
  for (const message of [simulated(), simulated(), mail({ did: 'a', kind: 'dsn' })])
    assert.equal(await kindOf(first, message), 'committed');
  assert.equal(await kindOf(first, simulated()), 'member');
  await first.close();
  const { spool } = await clocked(t, { dir, quotas });
  assert.equal(await kindOf(spool, simulated()), 'member');
  // With one real recipient it is the member's mail.
  assert.equal(await kindOf(spool, simulated(['x@simulator.test', 'real@dest.test'])), 'committed');
  for (const { recipientId: id } of await due(spool, 9, start))
    await spool.settle({ recipientId: id, attempt: delivered(), next: { state: 'sent' } });
  for (const expected of ['committed', 'committed', 'member'])
    assert.equal(await kindOf(spool, simulated()), expected);
});

test('a domain’s recipients move to its site, those that wait and those to come, and stay after a restart', async (t) => {
  const dir = temporaryFolder(t);
  const first = await Spool.open({ dir, log: silent, now: () => start });
  await first.accept(mail({ to: Array.from({ length: 1_100 }, (_, n) => `u${n}@dest.test`) }));
  await first.assignSite('dest.test', 'mx.big');
  await first.close();
  const spool = await openSpool(t, { dir });
  await spool.accept(mail({ to: ['later@dest.test', 'else@other.test'] }));
  const sites = Map.groupBy(await due(spool, 2_000, start), ({ site }) => site);
  assert.deepEqual([sites.get('mx.big')!.length, sites.get('other.test')!.length], [1_101, 1]);
});

test('what a source sent to a site is counted by day, and simulated mail is not', async (t) => {
  const { clock, spool } = await clocked(t);
  for (const simulated of [false, false, true]) {
    const message = mail();
    message.recipients[0]!.simulated = simulated;
    await spool.accept(message);
  }
  const attempt = { ...delivered(), source: '192.0.2.1', site: 'mx.big' };
  for (const { recipientId: id } of await due(spool, 3, start))
    await spool.settle({ recipientId: id, attempt, next: { state: 'sent' } });
  clock.forward(day);
  const dayNumber = Math.floor(start / day);
  assert.deepEqual(await spool.sourceUse(), [
    { source: '192.0.2.1', firstAt: start, provider: 'mx.big', day: dayNumber, sent: 2 },
  ]);
});

test('a settlement may bring a complaint, and says that it was simulated', async (t) => {
  const { spool } = await clocked(t);
  const message = mail({ category: 'bulk', tags: ['welcome'] });
  message.recipients[0]!.simulated = true;
  await spool.accept(message);
  const [claim] = await due(spool, 1, start);
  const next = { state: 'sent' } as const;
  const { recipientId: id } = claim!;
  await spool.settle({ recipientId: id, attempt: delivered(), next, emit: 'complaint_received' });
  const events = await spool.eventsAfter('0', 9);
  assert.deepEqual(
    events.map(({ type, detail: { simulated, category, tags } }) => [type, simulated, category, tags]),
    ['relay_attempt', 'delivery_result', 'complaint_received'].map((type) => [
      type,
      true,
      'bulk',
      ['welcome'],
    ]),
  );
});

test('a claim carries what delivery needs: small bodies, and what the member asked for', async (t) => {
  const { spool } = await clocked(t);
  const message = mail({ requireTls: true, ret: 'hdrs', envid: 'e1', keyId: 'k', category: 'bulk' });
  Object.assign(message.recipients[0]!, { notify: ['success', 'delay'], orcpt: 'rfc822;x@y' });
  await spool.accept(message);
  const [claim] = await due(spool, 1, start);
  const { body, requireTls, ret, envid, keyId, category, notify, orcpt, site, simulated, size } = claim!;
  assert.deepEqual(
    { body, requireTls, ret, envid, keyId, category, notify, orcpt, site, simulated, size },
    {
      ...{ body: message.body, requireTls: true, ret: 'hdrs', envid: 'e1', keyId: 'k', category: 'bulk' },
      ...{ notify: ['success', 'delay'], orcpt: 'rfc822;x@y', site: 'dest.test', simulated: false },
      size: message.body.length,
    },
  );
  for (const size of [256 * 1024, 256 * 1024 + 1]) await spool.accept(mail({ body: bodyFor('x', size) }));
  const bodies = (await due(spool, 9, start)).map((one) => one.body?.length);
  assert.deepEqual(bodies, [256 * 1024, undefined]);
  await Promise.all(Array.from({ length: 20 }, () => spool.accept(mail({ body: bodyFor('x', 250_000) }))));
  const many = await due(spool, 30, start);
  assert.equal(many.filter((one) => one.body).length, 16, 'four MiB a call');
});

test('a message without an octet, and one whose first recipient ended before the second, keep their bytes', async (t) => {
  const { spool } = await clocked(t);
  const empty = mail({ body: Buffer.alloc(0), signatures: '', prefix: '' });
  await spool.accept(empty);
  const [claim] = await due(spool, 1, start);
  assert.deepEqual(
    [claim!.body, claim!.prefix, claim!.signatures].map((one) => one!.length),
    [0, 0, 0],
  );
  assert.equal((await spool.body(empty.queueId))!.length, 0);
  const two = mail({ to: ['a@dest.test', 'b@dest.test'], signatures: 'DKIM-Signature: x\r\n' });
  await spool.accept(two);
  const [a, b] = await due(spool, 2, start);
  await spool.settle({ recipientId: a!.recipientId, attempt: delivered(), next: { state: 'sent' } });
  await spool.release([b!.recipientId]);
  const [again] = await due(spool, 2, start);
  assert.deepEqual([again!.body, again!.prefix], [two.body, two.recipients[1]!.prefix]);
  assert.deepEqual(await spool.body(two.queueId), two.body);
});

test('a clock that is set back does not make what waits wait longer, over a restart too', async (t) => {
  const dir = temporaryFolder(t);
  const { clock, spool } = await clocked(t, { dir });
  clock.forward(day);
  const [message, put, later] = [mail, mail, mail].map((make) => make({ receivedAt: clock.at }));
  later!.sendAt = start + 2 * day;
  for (const one of [message, put, later]) await spool.accept(one!);
  const claims = await due(spool, 9, clock.at);
  const claim = claims.find(({ queueId }) => queueId === put!.queueId)!;
  const next = { state: 'deferred', at: clock.at + 5 * minute } as const;
  await spool.settle({ recipientId: claim.recipientId, attempt: putOff(), next });
  await spool.release(claims.map(({ recipientId: id }) => id));
  clock.forward(-day);
  assert.deepEqual(
    (await due(spool, 9, clock.at)).map(({ queueId }) => queueId),
    [message!.queueId],
  );
  assert.equal(await spool.nextDueAt(), start + 5 * minute);
  await spool.close();
  const again = await openSpool(t, { dir, now: () => start - 30 * day });
  const first = await due(again, 9, start - 30 * day);
  assert.deepEqual(
    first.map(({ queueId }) => queueId),
    [message!.queueId, put!.queueId],
  );
});

for (const [where, size] of [
  ['a row', 1_000],
  ['a file', 300_000],
] as const) {
  test(`of a body in ${where} as much is read as is asked for`, async (t) => {
    const { spool } = await clocked(t);
    const message = mail({ body: bodyFor('x', size) });
    await spool.accept(message);
    assert.deepEqual(await spool.body(message.queueId, 10), message.body.subarray(0, 10));
    assert.deepEqual(await spool.body(message.queueId, 2 * size), message.body);
    assert.deepEqual(await spool.body(message.queueId), message.body);
  });
}
