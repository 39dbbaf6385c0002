import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { promisify } from 'node:util';
import Database from 'libsql';
import {
  CorruptState,
  isCorruption,
  type Migration,
  openDatabase,
  transaction,
} from '../../appview/database.ts';

const root = mkdtempSync(join(tmpdir(), 'atmos-database-'));
after(() => rmSync(root, { recursive: true }));

let files = 0;
function newFile(): string {
  files += 1;
  return join(root, String(files), 'state.db');
}

const first: Migration = { number: 1, name: 'notes', sql: 'CREATE TABLE note (text TEXT NOT NULL) STRICT' };
const second: Migration = {
  number: 2,
  name: 'authors',
  sql: "ALTER TABLE note ADD COLUMN author TEXT DEFAULT 'x'",
};
const full = { synchronous: 'FULL' } as const;

type Db = ReturnType<typeof openDatabase>;
const version = (db: Db) =>
  (db.prepare('PRAGMA user_version').get() as { user_version: number }).user_version;
const notes = (db: Db) =>
  (db.prepare('SELECT text FROM note').all() as { text: string }[]).map(({ text }) => text);

/** A closed database of schema 1 with one note in it. */
function withNote(file: string): void {
  const db = openDatabase(file, [first], full);
  db.prepare('INSERT INTO note (text) VALUES (?)').run('kept');
  db.close();
}

test('a new database is made with its folder, its schema and the durability asked for', () => {
  const file = newFile();
  const db = openDatabase(file, [first, second], full);
  const pragma = (name: string) => Object.values(db.prepare(`PRAGMA ${name}`).get() as object)[0];
  assert.equal(version(db), 2);
  assert.equal(pragma('journal_mode'), 'wal');
  assert.equal(pragma('synchronous'), 2);
  assert.equal(pragma('foreign_keys'), 1);
  assert.equal(statSync(dirname(file)).mode & 0o777, 0o700);
  db.close();
  const relaxed = openDatabase(newFile(), [first], { synchronous: 'NORMAL' });
  assert.equal(Object.values(relaxed.prepare('PRAGMA synchronous').get() as object)[0], 1);
  relaxed.close();
});

test('a new file has the page size asked for, and one that exists keeps its own', () => {
  const file = newFile();
  for (const pageBytes of [8_192, 16_384]) {
    const db = openDatabase(file, [first], { ...full, pageBytes });
    assert.equal(Object.values(db.prepare('PRAGMA page_size').get() as object)[0], 8_192);
    db.close();
  }
});

test('an older schema is brought up to date, and a snapshot from before lies beside it', () => {
  const file = newFile();
  withNote(file);
  const db = openDatabase(file, [first, second], full);
  assert.equal(version(db), 2);
  assert.deepEqual(notes(db), ['kept']);
  db.close();

  assert.equal(statSync(`${file}.before-2`).mode & 0o777, 0o600);
  const snapshot = openDatabase(`${file}.before-2`, [first], full);
  assert.equal(version(snapshot), 1);
  assert.deepEqual(notes(snapshot), ['kept']);
  snapshot.close();
});

test('a database that is up to date or new is opened without a snapshot', () => {
  const file = newFile();
  withNote(file);
  const db = openDatabase(file, [first], full);
  assert.deepEqual(notes(db), ['kept']);
  db.close();
  assert.equal(existsSync(`${file}.before-1`), false);
});

test('a migration that fails leaves the schema before it and stops the program', () => {
  const file = newFile();
  withNote(file);
  const broken: Migration = {
    number: 2,
    name: 'broken',
    sql: 'CREATE TABLE extra (a TEXT); SELECT nonsense',
  };
  assert.throws(
    () => openDatabase(file, [first, broken], full),
    (error) => error instanceof Error && !isCorruption(error) && error.message.includes(`${file} cannot be`),
  );
  const db = openDatabase(file, [first], full);
  assert.equal(version(db), 1);
  assert.throws(() => db.prepare('SELECT 1 FROM extra'));
  assert.deepEqual(notes(db), ['kept']);
  db.close();
});

test('a schema newer than the program is refused by its number and stays as it is', () => {
  const file = newFile();
  openDatabase(file, [first, second], full).close();
  assert.throws(
    () => openDatabase(file, [first], full),
    (error) =>
      error instanceof CorruptState && /schema 2.*only 1/.test(error.message) && error.message.includes(file),
  );
  const db = openDatabase(file, [first, second], full);
  assert.equal(version(db), 2);
  db.close();
});

test('a file that is no database is refused by its name and never overwritten', () => {
  const file = newFile();
  mkdirSync(dirname(file));
  writeFileSync(file, 'this is not a database, and was somebody’s file\n'.repeat(100));
  const before = readFileSync(file);
  assert.throws(
    () => openDatabase(file, [first], full),
    (error) => error instanceof CorruptState && error.message.includes(file),
  );
  assert.deepEqual(readFileSync(file), before);
});

test('a database whose pages are damaged is refused', () => {
  const file = newFile();
  const db = openDatabase(
    file,
    [first, { number: 2, name: 'i', sql: 'CREATE INDEX i ON note (text)' }],
    full,
  );
  const insert = db.prepare('INSERT INTO note (text) VALUES (?)');
  transaction(db, () => {
    for (let n = 0; n < 2000; n++) insert.run(`note ${n} ${'x'.repeat(50)}`);
  });
  db.exec('PRAGMA wal_checkpoint(TRUNCATE)');
  db.close();
  const bytes = readFileSync(file);
  bytes.fill(0xff, 4096 * 3, 4096 * 8);
  writeFileSync(file, bytes);
  assert.throws(
    () => openDatabase(file, [first, { number: 2, name: 'i', sql: '' }], full),
    (error) => error instanceof CorruptState && /Restore it from a backup/.test(error.message),
  );
});

test('a transaction is all or nothing, and passes on what was thrown', () => {
  const db = openDatabase(':memory:', [first], full);
  const insert = db.prepare('INSERT INTO note (text) VALUES (?)');
  assert.throws(
    () =>
      transaction(db, () => {
        insert.run('lost');
        throw new RangeError('why');
      }),
    RangeError,
  );
  assert.deepEqual(notes(db), []);
  assert.equal(
    transaction(db, () => insert.run('kept').changes),
    1,
  );
  assert.deepEqual(notes(db), ['kept']);
  db.close();
});

test('damage is told from what passes, in whatever code it comes', () => {
  const coded = (code: string) => Object.assign(new Error(code), { code });
  for (const code of ['SQLITE_CORRUPT', 'SQLITE_CORRUPT_INDEX', 'SQLITE_CORRUPT_VTAB', 'SQLITE_NOTADB']) {
    assert.equal(isCorruption(coded(code)), true, code);
  }
  assert.equal(isCorruption(new CorruptState('x')), true);
  for (const code of ['SQLITE_BUSY', 'SQLITE_FULL', 'SQLITE_IOERR_READ', 'SQLITE_READONLY', 'ENOSPC']) {
    assert.equal(isCorruption(coded(code)), false, code);
  }
  for (const other of [new Error('SQLITE_CORRUPT'), undefined, null, 'SQLITE_CORRUPT', {}]) {
    assert.equal(isCorruption(other), false);
  }
});

test('damage that a statement meets is named as such by libsql itself', () => {
  const file = newFile();
  withNote(file);
  const db = openDatabase(file, [first], full);
  db.exec('PRAGMA writable_schema = ON');
  db.exec("UPDATE sqlite_schema SET rootpage = 999 WHERE name = 'note'");
  db.close();
  const again = new Database(file);
  assert.throws(() => again.prepare('SELECT * FROM note').all(), isCorruption);
  again.close();
});

test('a path that is no file, and a folder that cannot be made, say what to do and are no damage', () => {
  const file = newFile();
  mkdirSync(file, { recursive: true });
  const below = newFile();
  mkdirSync(dirname(below));
  writeFileSync(below, '');
  for (const path of [file, join(below, 'state.db')]) {
    assert.throws(
      () => openDatabase(path, [first], full),
      (error) => !isCorruption(error) && /must be a file, in a folder/.test((error as Error).message),
      path,
    );
  }
});

test('a database that another process holds says so, and is opened once that one is done', () => {
  const file = newFile();
  withNote(file);
  const holder = new Database(file);
  holder.exec('BEGIN IMMEDIATE');
  assert.throws(
    () => openDatabase(file, [first, second], { ...full, patienceMs: 20 }),
    (error) => !isCorruption(error) && /Another process holds it/.test((error as Error).message),
  );
  holder.exec('COMMIT');
  holder.close();
  const db = openDatabase(file, [first, second], full);
  assert.deepEqual(notes(db), ['kept']);
  db.close();
});

for (const kind of ['new', 'older'] as const) {
  test(`processes that open one ${kind} database at once all succeed`, { timeout: 60_000 }, async () => {
    const script = `
      import { openDatabase } from ${JSON.stringify(new URL('../../appview/database.ts', import.meta.url).href)};
      const [file, startAt] = process.argv.slice(1);
      while (Date.now() < Number(startAt));
      const migrations = ${JSON.stringify([first, second])};
      openDatabase(file, migrations, { synchronous: 'FULL' }).close();`;
    for (let round = 0; round < 3; round++) {
      const file = newFile();
      if (kind === 'older') withNote(file);
      const startAt = String(Date.now() + 700);
      const args = ['--input-type=module-typescript', '-e', script, file, startAt];
      const run = () => promisify(execFile)(process.execPath, args);
      await Promise.all([run(), run(), run(), run()]);
      const db = openDatabase(file, [first, second], full);
      assert.equal(version(db), 2);
      db.close();
      if (kind === 'new') continue;
      const snapshot = openDatabase(`${file}.before-2`, [first], full);
      assert.deepEqual(notes(snapshot), ['kept']);
      snapshot.close();
    }
  });
}

test('only the owner can read a database and the files beside it, an older one too', () => {
  const file = join(root, 'modes', 'new.db');
  const schema = [{ number: 1, name: 'one', sql: 'CREATE TABLE one (a)' }];
  for (const time of ['new', 'older']) {
    const db = openDatabase(file, schema, { synchronous: 'NORMAL' });
    for (const beside of ['', '-wal', '-shm'])
      assert.equal(statSync(file + beside).mode & 0o777, 0o600, time + beside);
    db.close();
    chmodSync(file, 0o644);
  }
});
