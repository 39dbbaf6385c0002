/**
 * Opens a libsql database and brings its schema up to date.
 *
 * Promise: a database that is corrupt, or newer than this program, stops the process with a message
 * that names the file and the way out; it is never silently emptied. What passes (a lock, a full disk,
 * missing rights) is told apart and says so. Two processes may open the same new file at once. Before a
 * migration changes an existing database, a snapshot lies beside it (`<file>.before-<number>`). Only its
 * owner can read the files.
 *
 * libsql is synchronous: a commit blocks the calling thread for the length of an fsync.
 */
import { chmodSync, closeSync, existsSync, mkdirSync, openSync, renameSync, rmSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import Database from 'libsql';

export type { Database };

/** Migrations are numbered from 1, without gaps, and never edited once released. */
export type Migration = { number: number; name: string; sql: string };

export type OpenOptions = {
  /** FULL: a commit survives power loss. NORMAL: it survives a crash of the process; for what can be rebuilt. */
  synchronous: 'FULL' | 'NORMAL';
  /** How long a statement, the opening too, waits for another process's write; default 5,000. */
  patienceMs?: number;
  /** A file larger than this is not looked through at the start, which reads all of it. Default: each is. */
  checkedUpToBytes?: number;
  /** Of a new file; one that exists keeps its own. Default: SQLite's 4,096. */
  pageBytes?: number;
};

/** Our own state is not what this program wrote, or not for this program. Fatal: never caught to go on. */
export class CorruptState extends Error {
  override name = 'CorruptState';
}

/**
 * Tells damage of our own state, which ends the process, from what passes: a full disk, a lock, a bug in
 * one frame. SQLite finds damage when it reads a page, so it may come from any statement.
 */
export function isCorruption(error: unknown): boolean {
  return error instanceof CorruptState || /^SQLITE_(CORRUPT|NOTADB)/.test(codeOf(error));
}

/**
 * @param file path, or `:memory:` in tests
 * @throws CorruptState when the file is damaged, no database, or of a newer schema; Error, with what to do,
 *   for what is no damage: another process holds it, the rights are missing, the disk is full
 */
export function openDatabase(
  file: string,
  migrations: readonly Migration[],
  options: OpenOptions,
): Database.Database {
  const inMemory = file === ':memory:';
  let db: Database.Database | undefined;
  try {
    if (!inMemory) mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    const isNew = inMemory || !existsSync(file);
    // SQLite gives its -wal and -shm the mode of the database, so that one is right from the first byte.
    if (isNew && !inMemory) closeSync(openSync(file, 'a', 0o600));
    else if (!inMemory && (statSync(file).mode & 0o077) !== 0) chmodSync(file, 0o600);
    db = new Database(file);
    prepareConnection(db, options);
    if (!isNew && isChecked(file, options)) checkHealth(db, file);
    migrate(db, file, migrations, isNew);
    return db;
  } catch (error) {
    db?.close();
    throw explained(file, error as Error);
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

/** First of all the patience: even the other pragmas may meet a process that opens the same file. */
function prepareConnection(db: Database.Database, options: OpenOptions): void {
  const { synchronous, patienceMs = 5_000, pageBytes } = options;
  db.exec(`PRAGMA busy_timeout = ${patienceMs}`);
  if (pageBytes !== undefined) db.exec(`PRAGMA page_size = ${pageBytes}`);
  switchToWal(db, patienceMs);
  db.exec(`PRAGMA synchronous = ${synchronous}`);
  db.exec('PRAGMA foreign_keys = ON');
}

/** SQLite does not wait by itself here: two that switch a new database at once would deadlock. */
function switchToWal(db: Database.Database, patienceMs: number): void {
  const deadline = performance.now() + patienceMs;
  for (;;) {
    try {
      db.exec('PRAGMA journal_mode = WAL');
      return;
    } catch (error) {
      if (!/^SQLITE_(BUSY|LOCKED)/.test(codeOf(error)) || performance.now() > deadline) throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
    }
  }
}

function isChecked(file: string, { checkedUpToBytes = Number.POSITIVE_INFINITY }: OpenOptions): boolean {
  return statSync(file).size <= checkedUpToBytes;
}

function checkHealth(db: Database.Database, file: string): void {
  const [row] = db.prepare('PRAGMA quick_check(1)').all() as Record<string, string>[];
  const verdict = row && Object.values(row)[0];
  if (verdict !== 'ok') throw new CorruptState(`${file} is damaged (${verdict}). Restore it from a backup.`);
}

function migrate(
  db: Database.Database,
  file: string,
  migrations: readonly Migration[],
  isNew: boolean,
): void {
  const version = versionOf(db);
  const newest = migrations.at(-1)?.number ?? 0;
  if (version > newest) {
    throw new CorruptState(
      `${file} has schema ${version}, but this program knows only ${newest}. ` +
        'It was written by a newer version: run that one, or restore the snapshot from before the upgrade.',
    );
  }
  const pending = migrations.filter((migration) => migration.number > version);
  if (pending.length === 0) return;
  if (!isNew && version > 0) takeSnapshot(db, version, `${file}.before-${pending[0]!.number}`);
  for (const migration of pending) {
    transaction(db, () => {
      // Two processes may open the same file at once (a command beside the running node).
      if (versionOf(db) >= migration.number) return;
      db.exec(migration.sql);
      db.exec(`PRAGMA user_version = ${migration.number}`);
    });
  }
}

/** Read to the end: a statement that stands at its row keeps a migration from dropping tables. */
function versionOf(db: Database.Database): number {
  const [row] = db.prepare('PRAGMA user_version').all() as { user_version: number }[];
  return row!.user_version;
}

/** Another process may do the same at once: each writes a file of its own, and of an old schema alone. */
function takeSnapshot(db: Database.Database, version: number, target: string): void {
  const own = `${target}.${process.pid}`;
  try {
    rmSync(own, { force: true });
    // VACUUM INTO fills an empty file, and keeps its mode.
    closeSync(openSync(own, 'w', 0o600));
    db.prepare('VACUUM INTO ?').run(own);
    if (versionOf(db) === version) renameSync(own, target);
    else rmSync(own);
  } catch (error) {
    const { message } = error as Error;
    const failure = new Error(`no snapshot could be written to ${target}: ${message}`, { cause: error });
    throw Object.assign(failure, { code: codeOf(error) });
  }
}

/** The error for the operator: what happened to which file, and the way out. */
function explained(file: string, error: Error): Error {
  if (error instanceof CorruptState) return error;
  const what = `${file} cannot be opened: ${error.message}.`;
  if (isCorruption(error)) return new CorruptState(`${what} Restore it from a backup.`, { cause: error });
  return new Error(`${what} ${advice(error)}`, { cause: error });
}

/** Of what is no damage: after it the same file can be opened. */
function advice(error: unknown): string {
  const found = advices.find(([pattern]) => pattern.test(codeOf(error)));
  return found?.[1] ?? 'The file is not damaged and keeps what it had.';
}

const advices: readonly [code: RegExp, text: string][] = [
  [/^SQLITE_(BUSY|LOCKED)/, 'Another process holds it: stop that one, or try again.'],
  [/^(ENOSPC|EDQUOT|SQLITE_FULL)/, 'The disk is full: free some space and start again.'],
  [
    /^(EACCES|EPERM|EROFS|SQLITE_(READONLY|PERM|AUTH))/,
    'Give this user the right to write the file and its folder.',
  ],
  [
    /^(ENOTDIR|EEXIST|EISDIR|SQLITE_CANTOPEN)/,
    'Its path must be a file, in a folder, that this user may read and write.',
  ],
  [/^SQLITE_IOERR/, 'The disk failed: look at the log of the system.'],
];

/** libsql names most failures by SQLite's extended code; that of opening stands in its text alone. */
function codeOf(error: unknown): string {
  const { code, message } = (error ?? {}) as { code?: unknown; message?: unknown };
  if (typeof code === 'string' && code !== '') return code;
  const number = /^ConnectionFailed\(.*: (\d+)"\)$/.exec(String(message))?.[1];
  return { 14: 'SQLITE_CANTOPEN', 26: 'SQLITE_NOTADB', 11: 'SQLITE_CORRUPT' }[Number(number)] ?? '';
}
