/**
 * New DKIM keys for a domain, without a moment at which mail cannot be verified.
 *
 *   1. begin:    new keys under new selectors; their DNS records are shown beside the old ones
 *   2. activate: once those are published (the caller asks DNS), or from a given time, the new keys sign
 *   3. retired:  after the overlap the old records may go; signatures that still wait are made again
 *
 * The member's attestation names selectors too: it must name the new ones before the old records go.
 *
 * Promise: at every moment exactly one key of each algorithm signs. A selector is never used twice, and the
 * private half of a retired key is erased at the next step. Each step may be called again.
 */
import { type Database, transaction } from '../../appview/database.ts';
import { makeDkimKeys } from './dkim-keys.ts';
import { DomainKeys } from './domain-keys.ts';
import type { Seal } from './seal.ts';

export type KeyState =
  /** Published, signs nothing yet; `activeAt` once that is set. */
  | { selector: string; state: 'pending'; activeAt: number | null }
  | { selector: string; state: 'signing' }
  /** Signs no more; its record stays until then. */
  | { selector: string; state: 'leaving'; retiredAt: number }
  | { selector: string; state: 'retired'; retiredAt: number };

/** As long as x= may be (config-schema.ts): when the old record goes, no signature made with its key is good any more. */
export const overlapMs = 7 * 86_400_000;

export type RotationOptions = {
  /** node.db. */
  db: Database.Database;
  seal: Seal;
  now: () => number;
  /** As members.ts names its first ones. Default `atmos`. */
  selectorBase?: string;
};

type Row = { selector: string; activeAt: number | null; retiredAt: number | null };

export class DkimRotation {
  readonly #db: Database.Database;
  readonly #keys: DomainKeys;
  readonly #now: () => number;
  readonly #base: string;

  constructor({ db, seal, now, selectorBase = 'atmos' }: RotationOptions) {
    this.#db = db;
    this.#keys = new DomainKeys({ db, seal, now });
    this.#now = now;
    this.#base = selectorBase;
  }

  /**
   * Makes the new keys, or finds those that a call before made.
   *
   * @param domain in its normal form
   * @returns their DNS records, to be published; members.dnsRecords() has them too from now on
   * @throws RangeError when the domain has no keys
   */
  async begin(domain: string): Promise<{ name: string; value: string }[]> {
    if (this.#rows(domain).length === 0) throw new RangeError(`${domain} is not enrolled`);
    if (this.#pending(domain).length === 0) {
      // Before the transaction: RSA takes tenths of a second.
      const made = await makeDkimKeys(this.#nextBase(domain));
      transaction(this.#db, () => {
        if (this.#pending(domain).length > 0) return;
        for (const key of made) this.#keys.add(domain, key, this.#now(), null);
        this.#eraseRetired(domain);
      });
    }
    return this.pendingRecords(domain);
  }

  /** The records without which the new keys must not sign. Empty: nothing is pending. */
  pendingRecords(domain: string): { name: string; value: string }[] {
    const names = new Set(this.#pending(domain).map(({ selector }) => `${selector}._domainkey.${domain}`));
    return this.#keys.records(domain).filter(({ name }) => names.has(name));
  }

  /**
   * Lets the new keys sign, and the old ones leave. Call it when the new records are published.
   *
   * @param o.at Unix ms, default now; @param o.overlapMs 0 when an old key is no longer a secret
   * @returns false when nothing is pending
   */
  activate(domain: string, o: { at?: number; overlapMs?: number } = {}): boolean {
    const at = o.at ?? this.#now();
    return transaction(this.#db, () => {
      const pending = this.#pending(domain).map(({ selector }) => selector);
      if (pending.length === 0) return false;
      const signing = this.#keys.signing(domain);
      const end = at + (o.overlapMs ?? overlapMs);
      for (const { selector, retiredAt } of this.#rows(domain)) {
        if (pending.includes(selector)) this.#set('active_at', domain, selector, at);
        // One that leaves already keeps its end, unless all must leave at once.
        else if (retiredAt === null || retiredAt > end || signing.includes(selector))
          this.#set('retired_at', domain, selector, end);
      }
      this.#eraseRetired(domain);
      return true;
    });
  }

  /** Gives up what begin() made. @returns false when nothing is pending, or the new keys sign already */
  abandon(domain: string): boolean {
    return transaction(this.#db, () => {
      const pending = this.#pending(domain).filter(({ activeAt }) => activeAt === null);
      // The row stays, so that the selector is not used for other keys later.
      for (const { selector } of pending) this.#set('retired_at', domain, selector, this.#now());
      this.#eraseRetired(domain);
      return pending.length > 0;
    });
  }

  /** Newest first. */
  state(domain: string): KeyState[] {
    const now = this.#now();
    const active = new Set(this.#keys.signing(domain));
    return this.#rows(domain).map(({ selector, activeAt, retiredAt }): KeyState => {
      if (retiredAt !== null && retiredAt <= now) return { selector, state: 'retired', retiredAt };
      if (active.has(selector)) return { selector, state: 'signing' };
      if (retiredAt !== null) return { selector, state: 'leaving', retiredAt };
      return { selector, state: 'pending', activeAt };
    });
  }

  #rows(domain: string): Row[] {
    return this.#db
      .prepare(
        `SELECT selector, active_at AS activeAt, retired_at AS retiredAt FROM dkim_key
         WHERE domain = ? ORDER BY created_at DESC, selector`,
      )
      .all(domain) as Row[];
  }

  #pending(domain: string): Row[] {
    const now = this.#now();
    return this.#rows(domain).filter(
      ({ activeAt, retiredAt }) => retiredAt === null && (activeAt === null || activeAt > now),
    );
  }

  #set(column: 'active_at' | 'retired_at', domain: string, selector: string, at: number): void {
    this.#db
      .prepare(`UPDATE dkim_key SET ${column} = ? WHERE domain = ? AND selector = ?`)
      .run(at, domain, selector);
  }

  #eraseRetired(domain: string): void {
    this.#db
      .prepare(`UPDATE dkim_key SET private_key = x'' WHERE domain = ? AND retired_at <= ?`)
      .run(domain, this.#now());
  }

  /** `atmos`, `atmos2`, `atmos3`: with the last letter, the algorithm, the selector. */
  #nextBase(domain: string): string {
    const taken = this.#rows(domain).map(({ selector }) => {
      const number = selector.startsWith(this.#base) ? selector.slice(this.#base.length, -1) : '';
      return /^\d{1,9}$/.test(number) ? Number(number) : 1;
    });
    return `${this.#base}${Math.max(...taken) + 1}`;
  }
}
