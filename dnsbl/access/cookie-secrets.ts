/**
 * The secrets behind the cookies, kept by the owner: one makes them, those before it are still known.
 *
 * From a file, as NSD keeps it: 32 hex digits a line, the first makes cookies, up to three more are
 * known. All servers behind one address share such a file; it is read again when it changes, and a change
 * that cannot be read keeps what was. Without a file: chance, renewed every day, so a restart makes all
 * cookies void, which costs each client one more exchange under a flood and nothing else.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';

const MAX_SECRETS = 4;
const MAX_FILE_OCTETS = 4096;
const ROTATE_MS = 24 * 3600 * 1000;

export type CookieSecretsOptions = {
  file?: string;
  now?: () => number;
};

export class CookieSecrets {
  readonly #options: CookieSecretsOptions;
  #secrets: readonly Buffer[];
  /** When they were made, or the file's own time. */
  #since: number;

  /** @throws when the file cannot be read or holds something else */
  constructor(options: CookieSecretsOptions = {}) {
    this.#options = options;
    const { file } = options;
    this.#since = file === undefined ? this.#now() : timeOf(file);
    this.#secrets = file === undefined ? [randomBytes(16)] : readSecrets(file);
  }

  /** 16 octets each; the first makes cookies. */
  get current(): readonly Buffer[] {
    return this.#secrets;
  }

  /**
   * To be called about once a minute.
   *
   * @returns whether they are others now
   * @throws when the file cannot be read or holds something else; the old ones stay
   */
  refresh(): boolean {
    const { file } = this.#options;
    return file === undefined ? this.#rotate() : this.#reread(file);
  }

  #rotate(): boolean {
    if (this.#now() - this.#since < ROTATE_MS) return false;
    this.#since = this.#now();
    this.#secrets = [randomBytes(16), this.#secrets[0]!];
    return true;
  }

  #reread(file: string): boolean {
    const since = timeOf(file);
    if (since === this.#since) return false;
    this.#secrets = readSecrets(file);
    this.#since = since;
    return true;
  }

  #now(): number {
    return (this.#options.now ?? Date.now)();
  }
}

function timeOf(file: string): number {
  return statSync(file).mtimeMs;
}

function readSecrets(file: string): Buffer[] {
  if (statSync(file).size > MAX_FILE_OCTETS) throw new Error(`${file} is too long for cookie secrets`);
  const lines = readFileSync(file, 'utf8')
    .split('\n')
    .map((line) => line.trim());
  const secrets = lines.filter((line) => line !== '' && !line.startsWith('#'));
  if (
    secrets.length === 0 ||
    secrets.length > MAX_SECRETS ||
    !secrets.every((line) => /^[0-9a-f]{32}$/i.test(line))
  ) {
    throw new Error(`${file} must hold 1 to ${MAX_SECRETS} lines of 32 hex digits each: cookie secrets`);
  }
  return secrets.map((line) => Buffer.from(line, 'hex'));
}
