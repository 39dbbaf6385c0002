/**
 * What was refused at the door, as events: attempts over a cap, and wrong logins.
 *
 * Promise: counting costs the caller a look into a map. Refused attempts become one event a second for each
 * member, domain, key and code; wrong logins one a minute for each address, the busiest hundred by name and the
 * rest together, so that nobody fills the database by trying. What was not yet written when the process dies
 * is lost: it was refused.
 */
import type { Logger } from 'pino';
import { isCorruption } from '../../appview/database.ts';
import type { FailedLogin } from '../members/authenticate.ts';
import type { RecordEvents } from './event-log.ts';
import type { OwnEvent } from './event-store.ts';

/** A submission that a cap refused. */
export type RefusedAttempt = {
  did: string;
  domain?: string;
  recipients: number;
  keyId?: string;
  /** The code of errors.ts. */
  refused: string;
};

export type AttemptsOptions = {
  record: RecordEvents;
  log: Logger;
  count: (what: string, reason?: string) => void;
  now: () => number;
  /** Default 1 s and 60 s. */
  attemptsEveryMs?: number;
  loginsEveryMs?: number;
};

type Logins = { count: number; did: string; users: Set<string> };

const maxAttempts = 1_000;
const maxAddresses = 10_000;
const namedAddresses = 100;
const usersNamed = 5;
const maxUserLength = 100;

export class Attempts {
  readonly #options: Required<AttemptsOptions>;
  readonly #attempts = new Map<string, RefusedAttempt & { at: number }>();
  readonly #logins = new Map<string, Logins>();
  #otherLogins = 0;
  #attemptsTimer: NodeJS.Timeout | undefined;
  #loginsTimer: NodeJS.Timeout | undefined;

  constructor(options: AttemptsOptions) {
    this.#options = { attemptsEveryMs: 1_000, loginsEveryMs: 60_000, ...options };
  }

  readonly attempted = (attempt: RefusedAttempt): void => {
    const { did, domain, keyId, refused } = attempt;
    const key = [did, domain, keyId, refused].join('\n');
    const known = this.#attempts.get(key);
    if (known) known.recipients += attempt.recipients;
    else if (this.#attempts.size < maxAttempts)
      this.#attempts.set(key, { ...attempt, at: this.#options.now() });
    this.#attemptsTimer ??= this.#later(this.#options.attemptsEveryMs, () => this.#writeAttempts());
  };

  readonly authFailed = ({ address = 'unknown', user, did = '' }: FailedLogin): void => {
    let logins = this.#logins.get(address);
    if (!logins && this.#logins.size < maxAddresses) {
      logins = { count: 0, did: '', users: new Set() };
      this.#logins.set(address, logins);
    }
    if (logins) add(logins, user, did);
    else this.#otherLogins++;
    this.#loginsTimer ??= this.#later(this.#options.loginsEveryMs, () => this.#writeLogins());
  };

  /** Writes what is there. */
  stop(): void {
    clearTimeout(this.#attemptsTimer);
    clearTimeout(this.#loginsTimer);
    this.#writeAttempts();
    this.#writeLogins();
  }

  #writeAttempts(): void {
    this.#attemptsTimer = undefined;
    const events = [...this.#attempts.values()].map(({ did, domain, at, ...detail }): OwnEvent => {
      return { type: 'relay_attempt', did, at, ...(domain !== undefined && { domain }), detail };
    });
    this.#attempts.clear();
    this.#write(events);
  }

  #writeLogins(): void {
    this.#loginsTimer = undefined;
    const busiest = [...this.#logins].sort(([, a], [, b]) => b.count - a.count);
    const events = busiest.slice(0, namedAddresses).map(([address, { count, did, users }]): OwnEvent => {
      return { type: 'auth_failure', did, detail: { address, count, users: [...users] } };
    });
    const rest = busiest.slice(namedAddresses);
    const count = rest.reduce((sum, [, logins]) => sum + logins.count, this.#otherLogins);
    if (count > 0) events.push({ type: 'auth_failure', did: '', detail: { address: 'other', count } });
    this.#logins.clear();
    this.#otherLogins = 0;
    this.#write(events);
  }

  /** A failing disk costs these figures, not the process. */
  #write(events: readonly OwnEvent[]): void {
    if (events.length === 0) return;
    try {
      this.#options.record(events);
    } catch (error) {
      if (isCorruption(error)) throw error;
      this.#options.count('own_events_lost');
      this.#options.log.error({ err: error, events: events.length }, 'refused attempts were not recorded');
    }
  }

  #later(ms: number, work: () => void): NodeJS.Timeout {
    return setTimeout(work, ms).unref();
  }
}

/** Of several members that one address tried, the first is named. */
function add(logins: Logins, user: string, did: string): void {
  logins.count++;
  logins.did ||= did;
  if (user !== '' && logins.users.size < usersNamed) logins.users.add(user.slice(0, maxUserLength));
}
