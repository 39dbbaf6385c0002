/** What one transaction of the spool holds when parts of it go wrong. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { openDatabase } from '../../appview/database.ts';
import { Bodies } from '../../node/spool/bodies.ts';
import { Claims } from '../../node/spool/claims.ts';
import type { NewMessage } from '../../node/spool/message.ts';
import { spoolMigrations } from '../../node/spool/schema.ts';
import { Store, type Write } from '../../node/spool/store.ts';
import { bodyFor, day, mail, start, temporaryFolder } from './spool-fixtures.ts';

const caps = [{ scope: 'did:plc:reef', perHour: 3, perDay: 3 }];
const accept = (message: NewMessage): Write => ({ kind: 'accept', at: start, message });

/** A message to `full@dest.test` does what a full disk does: SQLite rolls the whole transaction back under us. */
function storeWithFault(t: TestContext) {
  const folder = temporaryFolder(t);
  const db = openDatabase(':memory:', spoolMigrations, { synchronous: 'FULL' });
  db.exec(`CREATE TRIGGER full BEFORE INSERT ON recipient WHEN NEW.address = 'full@dest.test'
    BEGIN SELECT RAISE(ROLLBACK, 'database or disk is full'); END`);
  const store = new Store(db, new Bodies(folder), 30 * day, () => undefined);
  return { store, claims: new Claims(db), files: () => readdirSync(folder) };
}

test('a transaction that SQLite ends takes all its writes with it, files and counts included', (t) => {
  const { store, claims, files } = storeWithFault(t);
  const group = [
    mail({ caps }),
    mail({ caps, body: bodyFor('x', 300_000) }),
    mail({ caps, to: ['full@dest.test'] }),
  ];
  assert.throws(() => store.commit(group.map(accept)), /database or disk is full/);
  assert.deepEqual(claims.take(10, start, []), []);
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
  assert.ok(results.every((result) => result.kind === 'refused' || result.value?.kind === 'committed'));
  assert.deepEqual(files(), []);
  assert.equal(claims.take(10, start, []).length, 4);
});
