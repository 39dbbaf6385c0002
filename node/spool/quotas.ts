/**
 * How much waits in the queue, in all and of each member: counted in memory, recovered at the start.
 *
 * A message counts until its last recipient is terminal. Our own mail counts, but is never refused.
 */
import type { Database } from '../../appview/database.ts';
import type { Quota, Quotas } from './protocol.ts';

type Delta = { did: string; messages: number; bytes: number };

export class QueueQuotas {
  readonly #limits: Quotas;
  readonly #all: Quota = { messages: 0, bytes: 0 };
  readonly #members = new Map<string, Quota>();
  /** Of the transaction at hand. */
  readonly #uncommitted: Delta[] = [];

  constructor(db: Database.Database, limits: Quotas) {
    this.#limits = limits;
    const rows = db
      .prepare(`
        SELECT m.did AS did, COUNT(*) AS messages, SUM(m.size) AS bytes
        FROM (SELECT DISTINCT seq >> 16 AS seq FROM recipient WHERE next_at IS NOT NULL) o
        CROSS JOIN message m ON m.seq = o.seq GROUP BY m.did`)
      .all() as Delta[];
    for (const row of rows) this.#apply(row);
  }

  get total(): Readonly<Quota> {
    return this.#all;
  }

  /** Whose quota has no room for one more message of that size. */
  full(did: string, bytes: number): 'member' | 'all' | undefined {
    const member = this.#members.get(did) ?? { messages: 0, bytes: 0 };
    if (exceeds(member, this.#limits.perMember, bytes)) return 'member';
    return exceeds(this.#all, this.#limits.all, bytes) ? 'all' : undefined;
  }

  entered(did: string, bytes: number): void {
    this.#change({ did, messages: 1, bytes });
  }

  left(did: string, bytes: number): void {
    this.#change({ did, messages: -1, bytes: -bytes });
  }

  /** Where the transaction stands, for backTo(). */
  get mark(): number {
    return this.#uncommitted.length;
  }

  backTo(mark: number): void {
    for (const { did, messages, bytes } of this.#uncommitted.splice(mark))
      this.#apply({ did, messages: -messages, bytes: -bytes });
  }

  committed(): void {
    this.#uncommitted.length = 0;
  }

  #change(delta: Delta): void {
    this.#uncommitted.push(delta);
    this.#apply(delta);
  }

  #apply({ did, messages, bytes }: Delta): void {
    const member = this.#members.get(did) ?? { messages: 0, bytes: 0 };
    for (const quota of [this.#all, member]) {
      quota.messages += messages;
      quota.bytes += bytes;
    }
    if (member.messages === 0) this.#members.delete(did);
    else this.#members.set(did, member);
  }
}

function exceeds(used: Quota, limit: Quota, bytes: number): boolean {
  return used.messages + 1 > limit.messages || used.bytes + bytes > limit.bytes;
}
