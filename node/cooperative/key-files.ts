/**
 * Files that hold secrets: mode 0600, whole or not at all.
 *
 * Promise: a file that others may read stops the process with a message that names it and never its content.
 */
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  existsSync,
  fsyncSync,
  linkSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { CorruptState } from '../../appview/database.ts';

/**
 * Writes a new file of mode 0600, whole or not at all; an existing one stays as it is.
 *
 * A hard link is the one operation that is both atomic and refuses to replace.
 */
export async function createIfMissing(file: string, content: () => Promise<string>): Promise<void> {
  if (existsSync(file)) return;
  const draft = `${file}.${randomBytes(6).toString('hex')}.new`;
  try {
    writeDurably(draft, await content());
    linkSync(draft, file);
    syncFolder(file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    rmSync(draft, { force: true });
  }
}

/** @throws CorruptState when the file is missing or others may read it */
export function readPrivate(file: string): string {
  if (!existsSync(file)) {
    throw new CorruptState(
      `${file} is missing. Restore it from a backup: a new one would be another identity.`,
    );
  }
  if ((statSync(file).mode & 0o077) !== 0) {
    throw new CorruptState(`${file} can be read by other users of this machine. Run: chmod 600 ${file}`);
  }
  return readFileSync(file, 'utf8');
}

/** Replaces a file, or makes it: at every moment there is the old content or the new one. @param mode default 0600 */
export function replaceDurably(file: string, content: string, mode = 0o600): void {
  const draft = `${file}.${randomBytes(6).toString('hex')}.new`;
  try {
    writeDurably(draft, content);
    if (mode !== 0o600) chmodSync(draft, mode);
    renameSync(draft, file);
    syncFolder(file);
  } finally {
    rmSync(draft, { force: true });
  }
}

/** Gives a file the name of another, which it replaces: at every moment there is one of the two under it. */
export function renameDurably(file: string, name: string): void {
  renameSync(file, name);
  syncFolder(name);
}

/** A name is on disk only when its folder is. */
function syncFolder(file: string): void {
  const descriptor = openSync(dirname(file), 'r');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

function writeDurably(file: string, content: string): void {
  const descriptor = openSync(file, 'wx', 0o600);
  try {
    writeSync(descriptor, content);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
