/**
 * A file that is there whole or as it was: written beside, synced, then renamed over.
 *
 * commit() of several, and then syncFolder(), is one step for whoever looks at the folder only seldom.
 * One process writes a folder: what one that was killed left behind is written over by the next.
 */
import { createHash } from 'node:crypto';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';

const BLOCK_LETTERS = 256 * 1024;

export class AtomicFile {
  readonly path: string;
  readonly #temporary: string;
  readonly #handle: FileHandle;
  readonly #hash = createHash('sha256');
  #waiting: string[] = [];
  #letters = 0;

  private constructor(path: string, temporary: string, handle: FileHandle) {
    this.path = path;
    this.#temporary = temporary;
    this.#handle = handle;
  }

  /** @throws when the folder cannot be written */
  static async open(folder: string, name: string): Promise<AtomicFile> {
    const temporary = join(folder, `.${name}.new`);
    return new AtomicFile(join(folder, name), temporary, await open(temporary, 'w', 0o644));
  }

  /** @returns true when drain() must be awaited before more */
  add(text: string): boolean {
    this.#waiting.push(text);
    this.#letters += text.length;
    return this.#letters >= BLOCK_LETTERS;
  }

  async drain(): Promise<void> {
    const octets = Buffer.from(this.#waiting.join(''));
    this.#waiting = [];
    this.#letters = 0;
    this.#hash.update(octets);
    await this.#handle.writeFile(octets);
  }

  /** On disk, but not yet under its name. @returns its SHA-256, in hex */
  async close(): Promise<string> {
    await this.drain();
    await this.#handle.sync();
    await this.#handle.close();
    return this.#hash.digest('hex');
  }

  async commit(): Promise<void> {
    await rename(this.#temporary, this.path);
  }

  /** Nothing is left of it; what was there before stays. */
  async abandon(): Promise<void> {
    await this.#handle.close().catch(() => undefined);
    await rm(this.#temporary, { force: true });
  }
}

/** Makes the renames last. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** One small file, under its name; syncFolder() makes that last. @throws what the disk says, nothing has changed then */
export async function writeAtomically(path: string, text: string): Promise<void> {
  const file = await AtomicFile.open(dirname(path), path.slice(dirname(path).length + 1));
  try {
    file.add(text);
    await file.close();
    await file.commit();
  } catch (error) {
    await file.abandon();
    throw error;
  }
}
