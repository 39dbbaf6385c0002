/**
 * How much waits in the queue, in all and of each member: counted in memory, recovered at the start.
 *
 * A message counts until its last recipient is terminal. Our own mail counts in all alone and is never refused.
 * Simulated mail has an allowance of its own beside the member's, a tenth of it: no cap counts it, so without one
 * a single key could fill the queue of everybody.
 */
import type { Database } from '../../appview/database.ts';
import type { Quota, Quotas } from './protocol.ts';

/** What a message is counted in, beside all: its member's quota, the one for simulated mail, or nobody's. */
export type Charged = string | null;

const simulatedMark = ' simulated';

export function chargedFor(o: { kind: string; did: string; simulated: boolean }): Charged {
  if (o.kind !== 'mail') return null;
  // No DID has a blank.
  return o.simulated ? o.did + simulatedMark : o.did;
}

type Delta = { charged: Charged; messages: number; bytes: number };

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
        SELECT iif(m.kind = 'mail', m.did || iif(m.details ->> 'simulated' IS NULL, '', '${simulatedMark}'), NULL) AS charged,
          COUNT(*) AS messages, SUM(m.size) AS bytes
        FROM (SELECT DISTINCT seq >> 16 AS seq FROM recipient WHERE next_at IS NOT NULL) o
        CROSS JOIN message m ON m.seq = o.seq GROUP BY charged`)
      .all() as Delta[];
    for (const row of rows) this.#apply(row);
  }

  get total(): Readonly<Quota> {
    return this.#all;
  }

  /** Whose quota has no room for one more message of that size. */
  full(charged: Charged, bytes: number): 'member' | 'all' | undefined {
    const member = this.#usedBy(charged);
    if (charged !== null && exceeds(member, this.#limitOf(charged), bytes)) return 'member';
    return exceeds(this.#all, this.#limits.all, bytes) ? 'all' : undefined;
  }

  entered(charged: Charged, bytes: number): void {
    this.#change({ charged, messages: 1, bytes });
  }

  left(charged: Charged, bytes: number): void {
    this.#change({ charged, messages: -1, bytes: -bytes });
  }

  /** Where the transaction stands, for backTo(). */
  get mark(): number {
    return this.#uncommitted.length;
  }

  backTo(mark: number): void {
    for (const { charged, messages, bytes } of this.#uncommitted.splice(mark))
      this.#apply({ charged, messages: -messages, bytes: -bytes });
  }

  committed(): void {
    this.#uncommitted.length = 0;
  }

  #change(delta: Delta): void {
    this.#uncommitted.push(delta);
    this.#apply(delta);
  }

  #apply({ charged, messages, bytes }: Delta): void {
    const member = this.#usedBy(charged);
    for (const quota of [this.#all, member]) {
      quota.messages += messages;
      quota.bytes += bytes;
    }
    if (charged === null) return;
    if (member.messages === 0) this.#members.delete(charged);
    else this.#members.set(charged, member);
  }

  #limitOf(charged: string): Quota {
    const { messages, bytes } = this.#limits.perMember;
    if (!charged.endsWith(simulatedMark)) return { messages, bytes };
    return { messages: Math.ceil(messages / 10), bytes: Math.ceil(bytes / 10) };
  }

  #usedBy(charged: Charged): Quota {
    return (charged !== null && this.#members.get(charged)) || { messages: 0, bytes: 0 };
  }
}

function exceeds(used: Quota, limit: Quota, bytes: number): boolean {
  return used.messages + 1 > limit.messages || used.bytes + bytes > limit.bytes;
}
