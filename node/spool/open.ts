/** Opens spool.db for this process alone, and looks whether what belongs to it is there. */
import { existsSync } from 'node:fs';
import { CorruptState, type Database, openDatabase } from '../../appview/database.ts';
import type { Bodies } from './bodies.ts';
import type { Lookup } from './lookup.ts';
import { spoolMigrations } from './schema.ts';

/** Looking through a whole gigabyte would take longer than all the rest of a start. */
const checkedUpToBytes = 64 * 1024 * 1024;
/** A body of 100 KB is half as many writes as with SQLite's own pages: 0.39 instead of 0.45 ms of the thread's CPU. */
const pageBytes = 8_192;
/** In pages: a checkpoint that comes seldom writes once what was written often since the last one. */
const checkpointPages = 2_000;
/** What is read again soon is read from the log in the kernel's memory anyway. */
const cacheKib = 4 * 1024;

/** Two processes on one spool would send everything twice, so the file is locked for as long as we live. */
export function openSpool(file: string): Database.Database {
  const existed = existsSync(file);
  try {
    const db = openDatabase(file, spoolMigrations, { synchronous: 'FULL', checkedUpToBytes, pageBytes });
    db.exec(`PRAGMA wal_autocheckpoint = ${checkpointPages}`);
    db.exec(`PRAGMA cache_size = -${cacheKib}`);
    db.exec('PRAGMA locking_mode = EXCLUSIVE');
    db.exec('BEGIN IMMEDIATE; COMMIT');
    return db;
  } catch (error) {
    const text = (error as Error).message;
    if (existed && /locked|busy/i.test(text)) throw new Error(`${file} is in use by another process`);
    throw error;
  }
}

/** @throws CorruptState when the body file of a message that waits is missing */
export function checkFiles(lookup: Lookup, bodies: Bodies): void {
  const missing = [...lookup.filesWanted()].filter((queueId) => !bodies.has(queueId));
  if (missing.length === 0) return;
  throw new CorruptState(
    `the spool lost ${missing.length} of its body files (spool/${missing[0]}). Restore it from a backup.`,
  );
}
