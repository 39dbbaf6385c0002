/**
 * The last serial of a zone on disk, so that a later run continues behind it.
 *
 * Written is a reservation of the next ones, so a burst of changes costs one write in 256. A disk that
 * fails is left alone for half a minute, for each try stops the zone's thread.
 */
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { isAfter, SERIALS } from './serial.ts';

const RESERVED_AT_ONCE = 256;
/** Before the disk is tried again after it failed. */
const RETRY_MS = 30_000;

export class SerialFile {
  readonly #path: string;
  readonly #onFailure: (error: unknown) => void;
  readonly #now: () => number;
  #reserved: number;
  #failedAtMs = -Infinity;

  /**
   * @param onFailure told when a serial could not be kept; the zone goes on without
   * @param now Unix ms
   * @throws Error when what is there is no serial
   */
  constructor(path: string, onFailure: (error: unknown) => void, now: () => number) {
    this.#path = path;
    this.#onFailure = onFailure;
    this.#now = now;
    this.#reserved = read(path);
  }

  /** Behind which a zone continues; 0 where there was none. */
  get last(): number {
    return this.#reserved;
  }

  /** A clock that was set back must not leave it alone for hours. */
  get #isLeftAlone(): boolean {
    return Math.abs(this.#now() - this.#failedAtMs) < RETRY_MS;
  }

  /** A zone is about to hand out this serial. */
  keep(serial: number): void {
    const isReserved = this.#reserved !== 0 && !isAfter(serial, this.#reserved);
    if (isReserved || this.#isLeftAlone) return;
    const reserved = (serial + RESERVED_AT_ONCE) % SERIALS;
    try {
      write(this.#path, reserved);
      this.#reserved = reserved;
    } catch (error) {
      this.#failedAtMs = this.#now();
      this.#onFailure(error);
    }
  }
}

function write(path: string, serial: number): void {
  writeFileSync(`${path}.new`, `${serial}\n`, { flush: true });
  renameSync(`${path}.new`, path);
  const folder = openSync(dirname(path), 'r');
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}

function read(path: string): number {
  try {
    const text = readFileSync(path, 'utf8').trim();
    if (/^\d{1,10}$/.test(text) && Number(text) < SERIALS) return Number(text);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 0;
    throw error;
  }
  throw new Error(`${path} holds no serial. Write the last one that was served into it, or remove it.`);
}
