/** What one transaction of the spool holds when parts of it go wrong. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { Claims } from '../../node/spool/claims.ts';
import { Fresh } from '../../node/spool/fresh.ts';
import type { NewMessage } from '../../node/spool/message.ts';
import { openStates, type RecipientState, recipientStates, terminalStates } from '../../node/spool/states.ts';
import type { Write } from '../../node/spool/store.ts';
import { bodyFor, day, delivered, mail, minute, start, storeInMemory } from './spool-fixtures.ts';

const caps = [{ scope: 'did:plc:reef', perHour: 3, perDay: 3 }];
const accept = (message: NewMessage): Write => ({ call: 'accept', at: start, args: [message] });
const everything = { limit: 10, now: start, exceptSites: [], exceptMembers: [] };

/** A message to `full@dest.test` does what a full disk does: SQLite rolls the whole transaction back under us. */
function storeWithFault(t: TestContext) {
  const made = storeInMemory(t);
  made.db.exec(`CREATE TRIGGER full BEFORE INSERT ON recipient WHEN NEW.address = 'full@dest.test'
    BEGIN SELECT RAISE(ROLLBACK, 'database or disk is full'); END`);
  return { ...made, files: () => readdirSync(made.folder) };
}

test('a transaction that SQLite ends takes all its writes with it, files and counts included', (t) => {
  const { store, claims, files } = storeWithFault(t);
  const group = [
    mail({ caps }),
    mail({ caps, body: bodyFor('x', 300_000) }),
    mail({ caps, to: ['full@dest.test'] }),
  ];
  assert.throws(() => store.commit(group.map(accept)), /database or disk is full/);
  assert.deepEqual(claims.take(everything), []);
  assert.deepEqual(files(), []);
  // Nothing was counted, so all three fit, and the store works as before.
  for (let i = 0; i < 3; i++) {
    assert.deepEqual(store.commit([accept(mail({ caps }))]), [
      { kind: 'done', value: { kind: 'committed' } },
    ]);
  }
});

test('a write that cannot be done takes no neighbour with it, and leaves no file and no count', (t) => {
  const { store, claims, files } = storeWithFault(t);
  const taken = mail();
  store.commit([accept(taken)]);
  const large = mail({ caps, body: bodyFor('x', 300_000), to: ['a@dest.test', 'b@dest.test'] });
  // Its second recipient has the id of its first.
  large.recipients[1]!.id = large.recipients[0]!.id;
  const results = store.commit([mail({ caps }), large, taken, mail({ caps }), mail({ caps })].map(accept));
  assert.deepEqual(
    results.map(({ kind }) => kind),
    ['done', 'refused', 'refused', 'done', 'done'],
  );
  const answers = results.flatMap((result) => (result.kind === 'done' ? result.value : []));
  assert.deepEqual(answers, [{ kind: 'committed' }, { kind: 'committed' }, { kind: 'committed' }]);
  assert.deepEqual(files(), []);
  assert.equal(claims.take(everything).length, 4);
});

test('while a pass over old history removes a full batch, each commit goes on, and then none', (t) => {
  const { db, store } = storeWithFault(t);
  const messages = Array.from({ length: 450 }, () => mail());
  store.commit(messages.map(accept));
  const settle = ({ queueId }: NewMessage): Write => ({
    call: 'settle',
    at: start,
    args: [{ recipientId: `${queueId}.1`, attempt: delivered(), next: { state: 'sent' } }],
  });
  store.commit(messages.map(settle));
  const later = start + 31 * day;
  const seen = [later, later + 1, later + 2, later + 3].map((at) => {
    store.commit([{ call: 'housekeep', at, args: [] }]);
    return [count(db, 'message'), store.isBehind];
  });
  assert.deepEqual(seen, [
    [250, true],
    [50, true],
    [0, false],
    [0, false],
  ]);
});

test('a pass that the disk refuses is not repeated before its time', (t) => {
  const { db, store } = storeWithFault(t);
  const messages = Array.from({ length: 250 }, () => mail());
  store.commit(messages.map(accept));
  db.exec(
    `UPDATE message SET open = 0, finished_at = ${start}; UPDATE recipient SET state = 'sent', next_at = NULL`,
  );
  store.commit([{ call: 'housekeep', at: start + 31 * day, args: [] }]);
  assert.equal(store.isBehind, true);
  assert.throws(() => store.commit([accept(mail({ to: ['full@dest.test'] }))]), /full/);
  assert.equal(store.isBehind, false);
  store.commit([{ call: 'housekeep', at: start + 31 * day + minute, args: [] }]);
  assert.equal(count(db, 'message'), 0);
});

for (const state of recipientStates) {
  const settled = openStates.includes(state) ? 'settled' : 'not-open';
  test(`a recipient that is ${state}: ${settled}`, (t) => {
    const { db, store } = storeWithFault(t);
    const message = mail();
    store.commit([accept(message)]);
    const at = terminalStates.has(state) ? null : start;
    db.prepare('UPDATE recipient SET state = ?, next_at = ?').run([state satisfies RecipientState, at]);
    const attempt = delivered();
    const settlement = { recipientId: `${message.queueId}.1`, attempt, next: { state: 'sent' } } as const;
    assert.deepEqual(store.commit([{ call: 'settle', at: start, args: [settlement] }]), [
      { kind: 'done', value: settled },
    ]);
  });
}

function count(db: ReturnType<typeof storeWithFault>['db'], table: string): number {
  return (db.prepare(`SELECT COUNT(*) AS n FROM ${table}`).get() as { n: number }).n;
}

test('siblings that are cancelled in one step take the message, its body and its share of the quota with them', (t) => {
  const { db, store, accept: take, act, write } = storeInMemory(t);
  const to = ['a@x.test', 'b@y.test', 'c@x.test'];
  const queueIdOf = ([id]: string[]) => id!.split('.')[0]!;
  const scheduled = queueIdOf(take({ to, sendAt: start + minute }));
  write({ call: 'cancelScheduled', at: start, args: ['did:plc:reef', scheduled] });
  const waiting = queueIdOf(take({ to, body: bodyFor('x', 300_000) }));
  act({ selection: { ids: [waiting] }, act: 'cancelled', by: 'ops', reason: 'why' });
  assert.deepEqual(db.prepare('SELECT seq FROM content').all(), []);
  assert.deepEqual(db.prepare('SELECT open, finished_at AS at FROM message').all(), [
    { open: 0, at: start },
    { open: 0, at: start },
  ]);
  assert.deepEqual(store.quotas.total, { messages: 0, bytes: 0 });
});

for (const next of [{ state: 'sent' }, { state: 'deferred', at: start + minute }] as const) {
  test(`an outcome that nobody had claimed counts: ${next.state}, it is not handed out as it was`, (t) => {
    const { claims, accept: take, settle } = storeInMemory(t);
    const [first, second] = take({ to: ['a@x.test', 'b@x.test'] });
    settle(first!, next);
    const ids = (now: number) => claims.take({ ...everything, now }).map(({ recipientId }) => recipientId);
    assert.deepEqual(ids(start), [second]);
    assert.deepEqual(ids(start + minute), next.state === 'sent' ? [] : [first]);
  });
}

test('answers past their 24 hours go however many there are, a batch with each commit', (t) => {
  const { db, store } = storeInMemory(t);
  const answered = (n: number) =>
    mail({ idempotency: { key: `k${n}`, fingerprint: 'f', answer: 'a' }, to: ['a@x.test'] });
  for (let n = 0; n < 1_500; n++) store.commit([accept(answered(n))]);
  store.commit([{ call: 'housekeep', at: start + day + 1, args: [] }]);
  assert.equal(store.isBehind, true);
  store.commit([{ call: 'housekeep', at: start + day + 2, args: [] }]);
  assert.equal(store.isBehind, false);
  assert.deepEqual(db.prepare('SELECT key FROM idempotency').all(), []);
});

test('what was held by a clock that was ahead does not wait for that time when it is released', (t) => {
  const { claims, accept: take, act } = storeInMemory(t);
  const at = start + 3 * day;
  const [id] = take({ receivedAt: at });
  const held = { selection: { ids: [id!] }, by: 'ops', reason: 'why' };
  act({ ...held, act: 'held' }, at);
  act({ ...held, act: 'released' }, start);
  assert.equal(claims.take(everything).length, 1);
});

test('what fails once a transaction is on disk is no refusal: the spool stops, and a start finds all of it', (t) => {
  const { db, store, claims } = storeInMemory(t);
  claims.apply = () => {
    throw new Error('disk I/O error');
  };
  const message = mail();
  assert.throws(() => store.commit([accept(message)]), { name: 'CorruptState' });
  const [claim] = new Claims(db, new Fresh()).take(everything);
  assert.equal(claim!.queueId, message.queueId);
});
