/**
 * The list of records that must be proved anew at their PDS.
 *
 * A firehose waits for nobody: a commit whose identity cannot be resolved now, or whose blocks do not
 * carry the proof, goes on this list in the transaction that moves the cursor, so it is neither lost nor
 * in the way of others. What is on the list survives a restart. Bounded; given up after a day or so.
 */
import type { Database } from '../database.ts';

export type Recheck = { did: string; rkey: string; tries: number };

const maxPending = 10_000;
const maxPendingOfAccount = 100;
const firstDelayMs = 1_000;
const maxDelayMs = 2 * 3_600_000;
const maxTries = 24;

export class Rechecks {
  readonly #statements;
  readonly #now: () => number;

  constructor(db: Database.Database, now: () => number) {
    this.#now = now;
    this.#statements = {
      pending: db.prepare(
        'SELECT count(*) AS total, count(CASE WHEN did = ? THEN 1 END) AS ofAccount FROM recheck',
      ),
      add: db.prepare(
        'INSERT INTO recheck (did, rkey, tries, due_at) VALUES (?, ?, 0, ?) ON CONFLICT DO NOTHING',
      ),
      addHeld: db.prepare(`
        INSERT INTO recheck (did, rkey, tries, due_at)
        SELECT did, rkey, 0, :now FROM attestation WHERE :did IS NULL OR did = :did
        ON CONFLICT DO UPDATE SET tries = 0, due_at = excluded.due_at`),
      due: db.prepare('SELECT did, rkey, tries FROM recheck WHERE due_at <= ? ORDER BY due_at LIMIT ?'),
      next: db.prepare('SELECT min(due_at) AS at FROM recheck'),
      delay: db.prepare('UPDATE recheck SET tries = ?, due_at = ? WHERE did = ? AND rkey = ?'),
      remove: db.prepare('DELETE FROM recheck WHERE did = ? AND rkey = ?'),
      removeAll: db.prepare('DELETE FROM recheck WHERE did = ?'),
      one: db.prepare('SELECT 1 FROM recheck WHERE did = ? AND rkey = ?'),
      any: db.prepare('SELECT 1 FROM recheck WHERE did = ? LIMIT 1'),
    };
  }

  /** Within the caller's transaction. @returns how many found no room */
  add(did: string, rkeys: readonly string[]): number {
    const row = this.#statements.pending.get(did) as { total: number; ofAccount: number };
    const room = Math.max(0, Math.min(maxPending - row.total, maxPendingOfAccount - row.ofAccount));
    for (const rkey of rkeys.slice(0, room)) this.#statements.add.run(did, rkey, this.#now());
    return Math.max(0, rkeys.length - room);
  }

  /** Every record of the index, or of one account, due at once. Needs no room of its own: the index is the bound. */
  addHeld(did: string | undefined): void {
    this.#statements.addHeld.run({ now: this.#now(), did: did ?? null });
  }

  due(limit: number): Recheck[] {
    return this.#statements.due.all(this.#now(), limit) as Recheck[];
  }

  /** Unix ms; undefined when the list is empty. */
  nextDueAt(): number | undefined {
    return (this.#statements.next.get() as { at: number | null }).at ?? undefined;
  }

  /** @returns false when this was the last try, and the record is no longer on the list */
  delay({ did, rkey, tries }: Recheck): boolean {
    if (tries + 1 >= maxTries) {
      this.remove(did, rkey);
      return false;
    }
    const delayMs = Math.min(firstDelayMs * 2 ** tries, maxDelayMs);
    this.#statements.delay.run(tries + 1, this.#now() + delayMs, did, rkey);
    return true;
  }

  remove(did: string, rkey: string): void {
    this.#statements.remove.run(did, rkey);
  }

  removeAll(did: string): void {
    this.#statements.removeAll.run(did);
  }

  hasRecord(did: string, rkey: string): boolean {
    return this.#statements.one.get(did, rkey) !== undefined;
  }

  has(did: string): boolean {
    return this.#statements.any.get(did) !== undefined;
  }
}
