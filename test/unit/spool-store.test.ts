/** What one transaction of the spool holds when parts of it go wrong. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
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
