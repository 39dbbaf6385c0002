/** From a change of a standing to the signal that peers get, over a real node.db. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { verifySignal } from '../../appview/labels/signal.ts';
import { Measures } from '../../node/enforcement/measures.ts';
import { peerSignalActor } from '../../node/enforcement/peer-signal.ts';
import { hour, log, reef } from './enforcement-fixtures.ts';
import { cooperative, harbor, issuingWorld, short } from './reputation-fixtures.ts';

const due = (db: Awaited<ReturnType<typeof issuingWorld>>['db']) =>
  (db.prepare('SELECT count(*) AS n FROM reputation_due').get() as { n: number }).n;

for (const [state, val] of [
  ['throttled', 'warned'],
  ['held', 'warned'],
  ['probation', 'probation'],
  ['suspended', 'suspended'],
  ['removed', 'removed'],
] as const) {
  test(`${state} is told as ${val}, on the DID and on the record of the domain`, async () => {
    const { setStanding, signals, all, own } = await issuingWorld();
    setStanding(state);
    await signals.publishDue();
    const issued = await all();
    assert.deepEqual(issued.map(short), [val, `${val} *`]);
    assert.ok(issued.every((one) => verifySignal(one, own.key.did()) && one.label.src === harbor));
  });
}

test('a measure of the guard makes its signal due in its own commit', async () => {
  const { db, events, now, signals, all, clock } = await issuingWorld();
  const queue = { hold: async () => undefined, release: async () => undefined };
  const measures = new Measures({ db, record: events.record, queue, now, log, count: () => undefined });
  const until = clock.at + hour;
  const evidence = { breaker: 'unknown-users' };
  measures.suspend({ did: reef, reason: 'words', until, by: 'automatic', actor: 'guard', evidence });
  assert.equal(due(db), 1);
  await signals.publishDue();
  assert.equal(due(db), 0);
  const [first] = await all();
  assert.equal(first!.label.exp, new Date(until).toISOString());
  assert.deepEqual([first!.reason, first!.evidence], ['list-quality', 'figures']);
  assert.deepEqual(first!.figures, [{ window: '7d', sends: 40, bounces: 3, complaints: 1 }]);
  clock.at = until;
  await measures.settle();
  await signals.publishDue();
  assert.equal(due(db), 0);
  assert.deepEqual((await signals.inForce({ after: 0, limit: 10 })).signals, []);
  await measures.stop();
});

test('a change that is undone leaves nothing to tell', async () => {
  const { db, events } = await issuingWorld();
  const detail = { act: 'standing', state: 'suspended' };
  const record = () =>
    events.record({ type: 'staff_act', did: reef, detail }, () => {
      throw new Error('undone');
    });
  assert.throws(record, /undone/);
  assert.equal(due(db), 0);
});

test('what a person named is the reason; free words stay at home', async () => {
  const { setStanding, signals, all } = await issuingWorld();
  setStanding('suspended', { code: 'phishing', reason: 'wrote to ana@example.org' });
  await signals.publishDue();
  const issued = await all();
  assert.deepEqual([issued[0]!.reason, issued[0]!.evidence], ['phishing', 'review']);
  assert.doesNotMatch(JSON.stringify(issued), /ana@/);
});

test('one signal follows another: the earlier one ends', async () => {
  const { setStanding, signals, all } = await issuingWorld();
  setStanding('suspended');
  setStanding('probation');
  await signals.publishDue();
  assert.deepEqual((await all()).map(short), ['-suspended', '-suspended *', 'probation', 'probation *']);
  assert.deepEqual((await signals.inForce({ after: 0, limit: 10 })).signals.map(short), [
    'probation',
    'probation *',
  ]);
});

test('a hold that rests on a peer’s signal is not told on', async () => {
  const { setStanding, signals, db } = await issuingWorld();
  setStanding('held', { actor: peerSignalActor, by: 'automatic' });
  assert.equal(due(db), 0);
  await signals.publishDue();
  assert.equal(signals.newest, 0);
});

test('who begins hears what is in force, and not what was', async () => {
  const { setStanding, signals } = await issuingWorld();
  setStanding('suspended');
  setStanding('active');
  await signals.publishDue();
  assert.deepEqual((await signals.since(0, 100, true))!.signals, []);
  assert.equal((await signals.since(0, 100, false))!.signals.length, 2);
});

test('the log has one row of each subject and value, and a later cts each time', async () => {
  const { setStanding, signals, db, all } = await issuingWorld();
  const times: string[] = [];
  for (let n = 0; n < 5; n++) {
    setStanding('suspended');
    await signals.publishDue();
    times.push((await all())[0]!.label.cts);
    setStanding('active');
    await signals.publishDue();
  }
  assert.equal((db.prepare('SELECT count(*) AS n FROM issued_signal').get() as { n: number }).n, 2);
  assert.deepEqual(times, [...new Set(times)].sort());
  assert.equal(signals.newest, 20);
});

test('with another label key the signals are signed anew when they are read', async () => {
  const { setStanding, signals, all, keys } = await issuingWorld();
  setStanding('suspended');
  await signals.publishDue();
  keys.now = (await cooperative(harbor)).key;
  for (const one of await all()) assert.equal(verifySignal(one, keys.now.did()), true);
});

test('a query is by DID, by domain, or of all, in pages', async () => {
  const { setStanding, signals } = await issuingWorld();
  setStanding('suspended');
  await signals.publishDue();
  const query = async (o: { subjects?: string[]; after?: number; limit?: number }) =>
    (await signals.inForce({ after: 0, limit: 10, ...o })).signals.map(short);
  assert.deepEqual(await query({ subjects: [reef] }), ['suspended', 'suspended *']);
  assert.deepEqual(await query({ subjects: ['reef.test'] }), ['suspended *']);
  assert.deepEqual(await query({ subjects: ['other.test'] }), []);
  assert.deepEqual(await query({ limit: 1 }), ['suspended']);
  assert.deepEqual(await query({ after: 1 }), ['suspended *']);
});
