/**
 * The last serial of a zone on disk, so that a later run continues behind it.
 *
 * Written is a reservation of the next ones, so a burst of changes costs one write in 256.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';

const RESERVED_AT_ONCE = 256;
const MAX_SERIAL = 2 ** 32 - 1;

export class SerialFile {
  readonly #path: string;
  readonly #onFailure: (error: unknown) => void;
  #reserved: number;

  /**
   * @param onFailure told when a serial could not be kept; the zone goes on without
   * @throws Error when what is there is no serial
   */
  constructor(path: string, onFailure: (error: unknown) => void) {
    this.#path = path;
    this.#onFailure = onFailure;
    this.#reserved = read(path);
  }

  /** Behind which a zone continues; 0 where there was none. */
  get last(): number {
    return this.#reserved;
  }

  /** A zone is about to hand out this serial. */
  keep(serial: number): void {
    if (serial <= this.#reserved) return;
    const reserved = Math.min(serial + RESERVED_AT_ONCE, MAX_SERIAL);
    try {
      writeFileSync(`${this.#path}.new`, `${reserved}\n`, { flush: true });
      renameSync(`${this.#path}.new`, this.#path);
      this.#reserved = reserved;
    } catch (error) {
      this.#onFailure(error);
    }
  }
}

function read(path: string): number {
  try {
    const text = readFileSync(path, 'utf8').trim();
    if (/^\d{1,10}$/.test(text) && Number(text) <= MAX_SERIAL) return Number(text);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 0;
    throw error;
  }
  throw new Error(`${path} holds no serial. Write the last one that was served into it, or remove it.`);
}
