/**
 * Syncs and checkpoints of a database that the thread with the connection does not wait for.
 *
 * A checkpoint syncs twice: inside a commit, where SQLite makes it by itself, it stops the event loop for as long
 * as the disk takes, which is 30 to 100 ms where others write too. Here the thread pool and libsql's own threads wait.
 */
import { open } from 'node:fs/promises';
import AsyncDatabase from 'libsql/promise';

/**
 * Resolves when all that was committed before is on disk, also with `synchronous = NORMAL`: it stands in the
 * write-ahead log, or a checkpoint has synced it.
 *
 * @param file of a database in WAL mode that is open
 * @throws what the disk says; nothing is known to be durable then
 */
export async function syncLog(file: string): Promise<void> {
  const log = await open(`${file}-wal`, 'r');
  try {
    await log.datasync();
  } finally {
    await log.close();
  }
}

/**
 * Moves the write-ahead log into the database, as far as readers allow, so that it does not grow. Others read
 * and write meanwhile.
 *
 * @param file of a database in WAL mode that this process has open: then closing ours deletes no log
 */
export async function checkpoint(file: string): Promise<void> {
  const db = new AsyncDatabase(file, {});
  try {
    await db.exec('PRAGMA wal_checkpoint(PASSIVE)');
  } finally {
    db.close();
  }
}
