/**
 * What the relay asks of node.db for every message, remembered until node.db changes.
 *
 * Promise: an answer is never older than the last commit to the database, whoever made it, this process or
 * a command beside it; and never older than a second, for what changes with time alone. Whether there was a
 * commit is asked once in a turn of the event loop, which replaces a dozen questions a message.
 */
import Database from 'libsql';
import type { StandingOf } from '../enforcement/standing.ts';
import type { Credentials } from '../members/authenticate.ts';
import type { Directory, SuppressionList } from './admission.ts';

export type AdmissionMemoryOptions = {
  /** Differs after each commit. */
  version: () => number;
  /** Monotonic ms. Default performance.now. */
  clock?: () => number;
  /** Default 1 s. */
  maxAgeMs?: number;
  /** Answers of each kind. Default 10,000. */
  maxEntries?: number;
};

export class AdmissionMemory {
  readonly #options: Required<AdmissionMemoryOptions>;
  readonly #kinds: Map<string, unknown>[] = [];
  #version = Number.NaN;
  #since = 0;
  #isChecked = false;

  constructor(options: AdmissionMemoryOptions) {
    const clock = (): number => performance.now();
    this.#options = { clock, maxAgeMs: 1000, maxEntries: 10_000, ...options };
  }

  /**
   * @param load what answers from the database; what it throws is not remembered
   * @returns the same function, remembering
   */
  remember<A extends readonly (string | undefined)[], T>(load: (...asked: A) => T): (...asked: A) => T {
    const known = new Map<string, unknown>();
    this.#kinds.push(known);
    return (...asked) => {
      this.#check();
      const key = asked.length === 1 ? (asked[0] ?? '') : asked.join('\n');
      const answer = known.get(key) as { value: T } | undefined;
      if (answer) return answer.value;
      const value = load(...asked);
      if (known.size >= this.#options.maxEntries) known.clear();
      known.set(key, { value });
      return value;
    };
  }

  #check(): void {
    if (this.#isChecked) return;
    this.#isChecked = true;
    setImmediate(() => {
      this.#isChecked = false;
    });
    const { version, clock, maxAgeMs } = this.#options;
    const [current, now] = [version(), clock()];
    if (current === this.#version && now - this.#since < maxAgeMs) return;
    this.#version = current;
    this.#since = now;
    for (const known of this.#kinds) known.clear();
  }
}

/** @returns what Admission and Authenticator ask, remembering */
export function rememberAll(
  memory: AdmissionMemory,
  o: { members: Directory & Credentials; standingOf: StandingOf; suppressions: SuppressionList },
): { directory: Directory; credentials: Credentials; standingOf: StandingOf; suppressions: SuppressionList } {
  const { members, suppressions } = o;
  return {
    directory: {
      get: memory.remember((did: string) => members.get(did)),
      domain: memory.remember((name: string) => members.domain(name)),
    },
    credentials: {
      credential: memory.remember((keyId: string) => members.credential(keyId)),
      markKeyUsed: (keyId) => members.markKeyUsed(keyId),
    },
    standingOf: memory.remember((did: string, domain?: string) => o.standingOf(did, domain)),
    suppressions: {
      find: memory.remember((did: string, address: string) => suppressions.find(did, address)),
    },
  };
}

/**
 * SQLite counts the commits of all others than this connection, so it asks through one of its own.
 *
 * @param file of an existing database
 */
export function commitsOf(file: string): { version: () => number; close: () => void } {
  const db = new Database(file, { readonly: true } as Database.Options);
  // Another process that opens the file may hold it for a moment.
  db.exec('PRAGMA busy_timeout = 5000');
  // Without the object and the timings that libsql makes of a row: 10 µs instead of 14.
  const ask = db.prepare('PRAGMA data_version').raw();
  return {
    version: () => (ask.get() as [number])[0],
    close: () => db.close(),
  };
}
