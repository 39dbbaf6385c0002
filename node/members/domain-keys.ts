/**
 * DKIM keys of members' domains in node.db: private keys sealed, bound to their domain and selector.
 *
 * A key is first `pending` (published, signs nothing), then signs from `active_at` on until a newer one of
 * its kind does, and stays published until `retired_at`. Making keys is dkim-keys.ts's business, changing
 * them dkim-rotation.ts's.
 */
import type { Database } from '../../appview/database.ts';
import { type DkimAlgorithm, dkimRecord, type NewDkimKey } from './dkim-keys.ts';
import type { Seal } from './seal.ts';

export type DkimKey = {
  domain: string;
  selector: string;
  algorithm: DkimAlgorithm;
  /** PKCS #8 PEM. Never logged. */
  privateKey: string;
  publicKey: string;
};

type Statement = Database.Statement<unknown[]>;

/** Of each algorithm the one that became active last; SQLite takes the other columns from that row. */
const signing = `domain, selector, algorithm, private_key AS sealed, public_key AS publicKey, max(active_at)
  FROM dkim_key WHERE domain = ?1 AND active_at <= ?2 AND (retired_at IS NULL OR retired_at > ?2)
  GROUP BY algorithm ORDER BY selector`;
const published = `dkim_key WHERE domain = ?1 AND (retired_at IS NULL OR retired_at > ?2)`;

export class DomainKeys {
  readonly #seal: Seal;
  readonly #now: () => number;
  readonly #active: Statement;
  readonly #version: Statement;
  readonly #signing: Statement;
  readonly #published: Statement;
  readonly #isPublished: Statement;
  readonly #insert: Statement;

  constructor(o: { db: Database.Database; seal: Seal; now: () => number }) {
    this.#seal = o.seal;
    this.#now = o.now;
    this.#active = o.db.prepare(`SELECT ${signing}`);
    this.#version = o.db.prepare(
      `SELECT group_concat(selector) AS selectors FROM ${published} AND active_at <= ?2`,
    );
    this.#signing = o.db.prepare(`SELECT selector FROM (SELECT ${signing})`);
    this.#published = o.db.prepare(
      `SELECT selector, algorithm, public_key AS publicKey FROM ${published} ORDER BY selector`,
    );
    this.#isPublished = o.db.prepare(`SELECT 1 FROM ${published} AND selector = ?3`);
    this.#insert = o.db.prepare(
      `INSERT INTO dkim_key (domain, selector, algorithm, private_key, public_key, created_at, active_at)
       VALUES (?, ?, ?, ?, ?, ?, ?)`,
    );
  }

  /** Those that sign now, one of each algorithm. @throws CorruptState when a sealed key does not open */
  active(domain: string): DkimKey[] {
    const rows = this.#active.all(domain, this.#now()) as KeyRow[];
    return rows.map(({ selector, algorithm, publicKey, sealed }) => ({
      ...{ domain, selector, algorithm, publicKey },
      privateKey: this.#seal.open(Buffer.from(sealed), sealPurpose(domain, selector)).toString(),
    }));
  }

  /** Changes whenever active() does, since a selector never names another key; asked for each message. */
  version(domain: string): string {
    const row = this.#version.get(domain, this.#now()) as { selectors: string | null };
    return row.selectors ?? '';
  }

  /** The selectors of active(). */
  signing(domain: string): string[] {
    const rows = this.#signing.all(domain, this.#now()) as { selector: string }[];
    return rows.map(({ selector }) => selector);
  }

  /** False from the end of a rotation on: the record may be gone from DNS. */
  isPublished(domain: string, selector: string): boolean {
    return this.#isPublished.get(domain, this.#now(), selector) !== undefined;
  }

  /** What the owner of the domain publishes: for the keys that sign, did, and will. */
  records(domain: string): { name: string; value: string }[] {
    const rows = this.#published.all(domain, this.#now()) as Omit<DkimKey, 'domain' | 'privateKey'>[];
    return rows.map(({ selector, algorithm, publicKey }) => ({
      name: `${selector}._domainkey.${domain}`,
      value: dkimRecord(algorithm, publicKey),
    }));
  }

  /** @param at Unix ms; @param activeAt from when on it signs, in Unix ms; null: not before it is told to */
  add(domain: string, key: NewDkimKey, at: number, activeAt: number | null = 0): void {
    const sealed = this.#seal.close(Buffer.from(key.privateKey), sealPurpose(domain, key.selector));
    this.#insert.run(domain, key.selector, key.algorithm, sealed, key.publicKey, at, activeAt);
  }
}

type KeyRow = Omit<DkimKey, 'privateKey'> & { sealed: Buffer };

/** A sealed key opens in its own row only. */
export function sealPurpose(domain: string, selector: string): string {
  return `dkim:${selector}._domainkey.${domain}`;
}
