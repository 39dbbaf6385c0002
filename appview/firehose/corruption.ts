/** Tells damage of our own database, which ends the process, from what passes: a full disk, a lock, a bug in one frame. */
import { CorruptState } from '../database.ts';

export function isCorruption(error: unknown): boolean {
  const code = (error as { code?: unknown } | undefined)?.code;
  return error instanceof CorruptState || code === 'SQLITE_CORRUPT' || code === 'SQLITE_NOTADB';
}
