/**
 * Who may use the operator's pages: whoever opens a link that a command on the machine printed.
 *
 * Promise: there is no password to guess. A link is good for five minutes and once; a session for twelve hours.
 * Both are 32 random bytes of which only the hash is kept, in memory: a restart ends all sessions.
 */
import { createHash, randomBytes } from 'node:crypto';

const linkMs = 5 * 60_000;
const sessionMs = 12 * 60 * 60_000;
/** Of each kind; the oldest goes. */
const maxKept = 100;

type Kept = { until: number; name: string };

export class OperatorSessions {
  readonly #now: () => number;
  /** By hash. Looking a hash up tells nothing about the secret, however long it takes. */
  readonly #links = new Map<string, Kept>();
  readonly #sessions = new Map<string, Kept>();

  constructor(now: () => number) {
    this.#now = now;
  }

  /** @param name of the operator, as it will stand in the timelines. @returns the secret of a link */
  newLink(name: string): string {
    return keep(this.#links, { until: this.#now() + linkMs, name });
  }

  /** @returns the secret of a session; undefined for a link that is unknown, used or too old */
  redeem(link: string): string | undefined {
    const kept = this.#links.get(hashOf(link));
    this.#links.delete(hashOf(link));
    if (!kept || kept.until <= this.#now()) return undefined;
    return keep(this.#sessions, { until: this.#now() + sessionMs, name: kept.name });
  }

  /** @returns the name of who it is */
  operatorOf(session: string): string | undefined {
    const kept = this.#sessions.get(hashOf(session));
    return kept && kept.until > this.#now() ? kept.name : undefined;
  }

  end(session: string): void {
    this.#sessions.delete(hashOf(session));
  }
}

function keep(map: Map<string, Kept>, entry: Kept): string {
  const [oldest] = map.keys();
  if (map.size >= maxKept && oldest !== undefined) map.delete(oldest);
  const secret = randomBytes(32).toString('base64url');
  map.set(hashOf(secret), entry);
  return secret;
}

function hashOf(secret: string): string {
  return createHash('sha256').update(secret).digest('base64');
}
