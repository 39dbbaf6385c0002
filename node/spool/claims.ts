/**
 * Who is due, and who is being tried right now.
 *
 * A claim lives in memory only: a crash gives every claimed recipient back, so it is tried again rather
 * than forgotten. Between claim and settlement nobody else gets the recipient.
 */
import type { Database } from '../../appview/database.ts';
import type { Claim, MessageKind } from './message.ts';

type Statement = Database.Statement<unknown[]>;

export class Claims {
  readonly #due: Statement;
  readonly #next: Statement;
  readonly #inFlight = new Set<string>();

  constructor(db: Database.Database) {
    this.#due = db.prepare(`
      SELECT r.id, r.queue_id, r.address, r.site, r.return_path, r.prefix, r.attempts,
        m.kind, m.did, m.domain, m.mail_from, m.received_at, m.expires_at
      FROM recipient r JOIN message m USING (queue_id)
      WHERE r.next_at <= ? AND r.site NOT IN (SELECT value FROM json_each(?))
      ORDER BY r.next_at LIMIT ?`);
    this.#next = db.prepare(`
      SELECT id, next_at FROM recipient
      WHERE next_at IS NOT NULL AND site NOT IN (SELECT value FROM json_each(?))
      ORDER BY next_at LIMIT ?`);
  }

  /** Up to `limit` recipients whose time has come, longest due first, none at a domain of `exceptSites`. */
  take(limit: number, now: number, exceptSites: readonly string[]): Claim[] {
    // Those in flight are still due in SQL: asking for that many more leaves `limit` after them.
    const rows = this.#due.all(now, JSON.stringify(exceptSites), limit + this.#inFlight.size) as Row[];
    const claims = rows.filter((row) => !this.#inFlight.has(row.id)).slice(0, limit);
    for (const { id } of claims) this.#inFlight.add(id);
    return claims.map(asClaim);
  }

  release(recipientIds: readonly string[]): void {
    for (const id of recipientIds) this.#inFlight.delete(id);
  }

  /** When the first recipient that take() could give is due; undefined when there is none. */
  nextDueAt(exceptSites: readonly string[]): number | undefined {
    const rows = this.#next.all(JSON.stringify(exceptSites), this.#inFlight.size + 1) as {
      id: string;
      next_at: number;
    }[];
    return rows.find((row) => !this.#inFlight.has(row.id))?.next_at;
  }
}

type Row = {
  id: string;
  queue_id: string;
  address: string;
  site: string;
  return_path: string;
  prefix: ArrayBuffer;
  attempts: number;
  kind: MessageKind;
  did: string;
  domain: string;
  mail_from: string;
  received_at: number;
  expires_at: number;
};

function asClaim(row: Row): Claim {
  return {
    recipientId: row.id,
    queueId: row.queue_id,
    kind: row.kind,
    did: row.did,
    domain: row.domain,
    address: row.address,
    site: row.site,
    returnPath: row.return_path,
    prefix: Buffer.from(row.prefix),
    attempts: row.attempts,
    receivedAt: row.received_at,
    expiresAt: row.expires_at,
    mailFrom: row.mail_from,
  };
}
