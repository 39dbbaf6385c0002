/**
 * Opens a libsql database and brings its schema up to date.
 *
 * Promise: a database that is corrupt, or newer than this program, stops the process with a message
 * that names the file and the way out; it is never silently emptied. Before a migration changes an
 * existing database, a snapshot lies beside it (`<file>.before-<number>`).
 *
 * libsql is synchronous: a commit blocks the calling thread for the length of an fsync.
 */
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import Database from 'libsql';

export type { Database };

/** Migrations are numbered from 1, without gaps, and never edited once released. */
export type Migration = { number: number; name: string; sql: string };

export type OpenOptions = {
  /** FULL: a commit survives power loss. NORMAL: it survives a crash of the process; for what can be rebuilt. */
  synchronous: 'FULL' | 'NORMAL';
};

/** Our own state is not what this program wrote, or not for this program. Fatal: never caught to go on. */
export class CorruptState extends Error {
  override name = 'CorruptState';
}

/**
 * @param file path, or `:memory:` in tests
 * @throws CorruptState when the file is not a healthy database of this program's schema or an older one
 */
export function openDatabase(
  file: string,
  migrations: readonly Migration[],
  options: OpenOptions,
): Database.Database {
  const inMemory = file === ':memory:';
  if (!inMemory) mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  const isNew = inMemory || !existsSync(file);
  try {
    const db = new Database(file);
    db.exec('PRAGMA journal_mode = WAL');
    db.exec(`PRAGMA synchronous = ${options.synchronous}`);
    db.exec('PRAGMA foreign_keys = ON');
    db.exec('PRAGMA busy_timeout = 5000');
    if (!isNew) checkHealth(db, file);
    migrate(db, file, migrations, isNew);
    return db;
  } catch (error) {
    if (error instanceof CorruptState) throw error;
    throw new CorruptState(
      `${file} cannot be opened: ${(error as Error).message}. Restore it from a backup.`,
      {
        cause: error,
      },
    );
  }
}

/** Runs `work` in one transaction; a throw rolls back and is passed on. Not reentrant. */
export function transaction<T>(db: Database.Database, work: () => T): T {
  db.exec('BEGIN IMMEDIATE');
  try {
    const result = work();
    db.exec('COMMIT');
    return result;
  } catch (error) {
    if (db.inTransaction) db.exec('ROLLBACK');
    throw error;
  }
}

function checkHealth(db: Database.Database, file: string): void {
  const row = db.prepare('PRAGMA quick_check(1)').get() as Record<string, string> | undefined;
  const verdict = row && Object.values(row)[0];
  if (verdict !== 'ok') throw new CorruptState(`${file} is damaged (${verdict}). Restore it from a backup.`);
}

function migrate(
  db: Database.Database,
  file: string,
  migrations: readonly Migration[],
  isNew: boolean,
): void {
  const row = db.prepare('PRAGMA user_version').get() as { user_version: number };
  const newest = migrations.at(-1)?.number ?? 0;
  if (row.user_version > newest) {
    throw new CorruptState(
      `${file} has schema ${row.user_version}, but this program knows only ${newest}. ` +
        'It was written by a newer version: run that one, or restore the snapshot from before the upgrade.',
    );
  }
  const pending = migrations.filter((migration) => migration.number > row.user_version);
  if (pending.length === 0) return;
  if (!isNew && row.user_version > 0) takeSnapshot(db, `${file}.before-${pending[0]!.number}`);
  for (const migration of pending) {
    transaction(db, () => {
      // Two processes may open the same file at once (a command beside the running node).
      const now = db.prepare('PRAGMA user_version').get() as { user_version: number };
      if (now.user_version >= migration.number) return;
      db.exec(migration.sql);
      db.exec(`PRAGMA user_version = ${migration.number}`);
    });
  }
}

function takeSnapshot(db: Database.Database, target: string): void {
  rmSync(target, { force: true });
  try {
    db.prepare('VACUUM INTO ?').run(target);
  } catch (error) {
    throw new CorruptState(
      `No snapshot could be written to ${basename(target)}: ${(error as Error).message}`,
      {
        cause: error,
      },
    );
  }
}
