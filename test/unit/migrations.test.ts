/** Numbered changes of the schemas: what landed once is never edited, for a database that has it will not run it again. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { test } from 'node:test';
import { openDatabase } from '../../appview/database.ts';
import { appviewMigrations, ledgerMigrations } from '../../appview/migrations.ts';
import { nodeMigrations } from '../../node/migrations.ts';
import { spoolMigrations } from '../../node/spool/schema.ts';
import { temporaryFolder } from './spool-fixtures.ts';

/** The first octets of the SHA-256 of each; a new one is added behind. */
const landed = {
  node: [
    ...['d15716ef', 'b300290e', '7c2e6ddb', '4bf708a8', '8439bf05', '74c86a11', 'df4ad9b0', 'eec48601'],
    ...['6edb6bab', '87f6ce31', '906cb512', 'bb60ccc5', '3fa26204'],
  ],
  spool: ['3273bc2e', '3fd26c43'],
  appview: ['1784f87a', '99410912', '8bb5bb2d'],
  ledger: ['970e0b25', 'b056947d', '87026409'],
};
const all = {
  node: nodeMigrations,
  spool: spoolMigrations,
  appview: appviewMigrations,
  ledger: ledgerMigrations,
};

for (const [name, migrations] of Object.entries(all)) {
  test(`${name}: what landed stays as it was`, () => {
    const digests = migrations.map(({ sql }) => createHash('sha256').update(sql).digest('hex').slice(0, 8));
    assert.deepEqual(digests, landed[name as keyof typeof landed]);
  });
}

test('a node.db whose events had counted syncs has the same tables as a new one', (t) => {
  const dir = temporaryFolder(t);
  const columns = (file: string) => {
    const db = openDatabase(join(dir, file), nodeMigrations, { synchronous: 'NORMAL' });
    t.after(() => db.close());
    db.exec('INSERT INTO event_position (outbox, id) VALUES (3, 7) ON CONFLICT DO NOTHING');
    return (db.prepare('PRAGMA table_info(event_position)').all() as { name: string }[]).map(
      (one) => one.name,
    );
  };
  openDatabase(join(dir, 'old.db'), nodeMigrations.slice(0, 7), { synchronous: 'NORMAL' }).close();
  assert.deepEqual(columns('old.db'), ['outbox', 'id']);
  assert.deepEqual(columns('new.db'), ['outbox', 'id']);
});
