/**
 * A state folder has one list server: two would hand out the same serials, and write each other's journals and
 * feed states.
 *
 * Promise: the lock ends with the process, however that ends. It is SQLite's, as the spool's is: the kernel keeps
 * it, and Node has none of its own.
 */
import { join } from 'node:path';
import { openDatabase } from '../../appview/database.ts';

/** @param stateDir absolute. @returns what gives it back. @throws Error when another process has it, or the disk refuses */
export function lockState(stateDir: string): () => void {
  const db = openDatabase(join(stateDir, 'dns.lock'), [], { synchronous: 'NORMAL', patienceMs: 0 });
  try {
    // A transaction that stays open: closing alone gives nothing back before garbage is collected.
    db.exec('BEGIN IMMEDIATE');
  } catch (error) {
    db.close();
    if (!/locked|busy/i.test((error as Error).message)) throw error;
    throw new Error(`${stateDir} is in use by another list server. Stop it, or choose another --state.`);
  }
  return () => {
    db.exec('ROLLBACK');
    db.close();
  };
}
