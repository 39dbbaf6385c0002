/**
 * Large message bodies as files beside the database.
 *
 * Promise: after write() the file and its name survive power loss, so a row that refers to it may be
 * committed. A crash between the two leaves a file without a row; sweep() removes it after the next start.
 */
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  opendirSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';

/** A look into the database each. */
const sweptAtOnce = 100;

export class Bodies {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  }

  /** @throws the file system's error; nothing is left under the final name then */
  write(queueId: string, bytes: Uint8Array): void {
    const temporary = join(this.#folder, `${queueId}.part`);
    try {
      writeSynced(temporary, bytes);
      renameSync(temporary, join(this.#folder, queueId));
      syncFolder(this.#folder);
    } catch (error) {
      this.remove(queueId);
      throw error;
    }
  }

  /** The first `octets` of it. @throws ENOENT and the like */
  read(queueId: string, octets: number): Buffer {
    const path = join(this.#folder, queueId);
    const { size } = statSync(path);
    return octets >= size ? readFileSync(path) : beginningOf(path, octets);
  }

  /** Absent is as good as removed; what cannot be removed now is swept after the next start. */
  remove(queueId: string): void {
    for (const name of [queueId, `${queueId}.part`]) {
      try {
        rmSync(join(this.#folder, name), { force: true });
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === undefined) throw error;
      }
    }
  }

  has(queueId: string): boolean {
    return existsSync(join(this.#folder, queueId));
  }

  /**
   * Removes files that nobody wants, some at each step, so that nothing waits for it.
   *
   * Whoever writes a file and its row between two steps is not disturbed: at a step both are there.
   */
  *sweep(isWanted: (queueId: string) => boolean): Generator<void> {
    const folder = opendirSync(this.#folder);
    try {
      for (let seen = 1; ; seen++) {
        const entry = folder.readSync();
        if (!entry) return;
        if (!isWanted(entry.name)) rmSync(join(this.#folder, entry.name), { force: true });
        if (seen % sweptAtOnce === 0) yield;
      }
    } finally {
      folder.closeSync();
    }
  }
}

function beginningOf(path: string, octets: number): Buffer {
  const file = openSync(path, 'r');
  try {
    const bytes = Buffer.alloc(octets);
    return bytes.subarray(0, readSync(file, bytes));
  } finally {
    closeSync(file);
  }
}

function writeSynced(path: string, bytes: Uint8Array): void {
  const file = openSync(path, 'w', 0o600);
  try {
    // On a full disk a write may be short without an error; the next one then throws.
    for (let offset = 0; offset < bytes.length; ) offset += writeSync(file, bytes, offset);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/** A rename is durable only when the folder that holds the name is. */
function syncFolder(path: string): void {
  const folder = openSync(path, 'r');
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}
