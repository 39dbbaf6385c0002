/**
 * Who is due, and who is being tried right now.
 *
 * A claim lives in memory only: a crash gives every claimed recipient back, so it is tried again rather
 * than forgotten. Between claim and settlement nobody else gets the recipient.
 * What a question costs depends on what is asked for and in flight, never on the length of a backlog:
 * `domain_queue` says when the first of each domain is due, and within a domain the index is in order.
 */
import type { Database } from '../../appview/database.ts';
import type { Claim, MessageKind } from './message.ts';

type Statement = Database.Statement<unknown[]>;
type Waiting = { id: string; nextAt: number };

export class Claims {
  readonly #heads: Statement;
  readonly #firstHead: Statement;
  readonly #waiting: Statement;
  readonly #claim: Statement;
  /** Recipient id to its domain. */
  readonly #inFlight = new Map<string, string>();

  constructor(db: Database.Database) {
    this.#heads = db.prepare(`
      SELECT recipient_domain AS domain, next_at AS nextAt FROM domain_queue
      WHERE next_at <= ? AND recipient_domain NOT IN (SELECT value FROM json_each(?))
      ORDER BY next_at LIMIT ?`);
    this.#firstHead = db.prepare(`
      SELECT next_at AS nextAt FROM domain_queue
      WHERE recipient_domain NOT IN (SELECT value FROM json_each(?))
      ORDER BY next_at LIMIT 1`);
    this.#waiting = db.prepare(`
      SELECT id, next_at AS nextAt FROM recipient
      WHERE recipient_domain = ? AND next_at <= ? ORDER BY next_at LIMIT ?`);
    this.#claim = db.prepare(`
      SELECT r.id, r.queue_id, r.address, r.recipient_domain, r.return_path,
        r.signatures, r.signed_at, r.prefix, r.attempts,
        m.kind, m.did, m.domain, m.mail_from, m.received_at, m.expires_at
      FROM recipient r JOIN message m USING (queue_id) WHERE r.id = ?`);
  }

  /** Up to `limit` recipients whose time has come, longest due first, none at a domain of `exceptDomains`. */
  take(limit: number, now: number, exceptDomains: readonly string[]): Claim[] {
    const claims = this.#longestDue(limit, now, exceptDomains).map(({ id }) =>
      asClaim(this.#claim.get(id) as Row),
    );
    for (const { recipientId, recipientDomain } of claims) this.#inFlight.set(recipientId, recipientDomain);
    return claims;
  }

  release(recipientIds: readonly string[]): void {
    for (const id of recipientIds) this.#inFlight.delete(id);
  }

  /** When the first recipient that take() could give is due; undefined when there is none. */
  nextDueAt(exceptDomains: readonly string[]): number | undefined {
    const inFlight = this.#domainsInFlight();
    const others = this.#firstHead.get(JSON.stringify([...exceptDomains, ...inFlight.keys()]));
    const behindTried = [...inFlight.keys()]
      .filter((domain) => !exceptDomains.includes(domain))
      .map((domain) => this.#waitingAt(domain, Number.MAX_SAFE_INTEGER, 1, inFlight)[0]);
    const first = [others as { nextAt: number } | undefined, ...behindTried]
      .flatMap((head) => head?.nextAt ?? [])
      .sort((a, b) => a - b);
    return first[0];
  }

  #longestDue(limit: number, now: number, exceptDomains: readonly string[]): Waiting[] {
    const inFlight = this.#domainsInFlight();
    // A domain with nobody in flight has somebody to give, so `limit` such domains are enough.
    const heads = this.#heads.all(now, JSON.stringify(exceptDomains), limit + inFlight.size);
    let found: Waiting[] = [];
    for (const { domain, nextAt } of heads as { domain: string; nextAt: number }[]) {
      if (found.length === limit && found.at(-1)!.nextAt <= nextAt) break;
      found = [...found, ...this.#waitingAt(domain, now, limit, inFlight)]
        .sort((a, b) => a.nextAt - b.nextAt)
        .slice(0, limit);
    }
    return found;
  }

  /** The first `limit` of a domain that are due by `until` and not in flight. */
  #waitingAt(domain: string, until: number, limit: number, inFlight: Map<string, number>): Waiting[] {
    // Those in flight are still due in SQL: asking for that many more leaves `limit` after them.
    const rows = this.#waiting.all(domain, until, limit + (inFlight.get(domain) ?? 0)) as Waiting[];
    return rows.filter(({ id }) => !this.#inFlight.has(id)).slice(0, limit);
  }

  #domainsInFlight(): Map<string, number> {
    const counts = new Map<string, number>();
    for (const domain of this.#inFlight.values()) counts.set(domain, (counts.get(domain) ?? 0) + 1);
    return counts;
  }
}

type Row = {
  id: string;
  queue_id: string;
  address: string;
  recipient_domain: string;
  return_path: string;
  signatures: ArrayBuffer;
  signed_at: number;
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
    recipientDomain: row.recipient_domain,
    returnPath: row.return_path,
    signatures: Buffer.from(row.signatures),
    signedAt: row.signed_at,
    prefix: Buffer.from(row.prefix),
    attempts: row.attempts,
    receivedAt: row.received_at,
    expiresAt: row.expires_at,
    mailFrom: row.mail_from,
  };
}
