/**
 * The labels of the issuers that we follow, in appview.db.
 *
 * Promise: a frame's labels and the cursor behind it are one commit, so none is lost or taken twice.
 * Of each (src, uri, val) the latest stands, exactly as its issuer signed it; a negation is kept too,
 * so that nothing older comes back. Who may label, and with which key, is consumer.ts's business.
 */
import { attestedDomain } from '../attestation-uri.ts';
import { type Database, transaction } from '../database.ts';
import { appviewDamaged } from '../rebuild.ts';
import { decodeLabel, encodeLabel, type SignedLabel } from './codec.ts';

/** The current label of its (src, uri, val). */
export type StoredLabel = {
  label: SignedLabel;
  /** Unix ms: its cts, as far as it may decide which label is the latest. */
  orderedAt: number;
  /** Unix ms; absent: never. */
  expiresAt?: number;
  /** Unix ms. */
  receivedAt: number;
};

/** DIDs of issuers, and label values. */
export type Selection = { srcs: readonly string[]; vals: readonly string[] };

export type LabelStoreOptions = {
  db: Database.Database;
  now: () => number;
  count: (what: string, reason?: string) => void;
  /**
   * Sees each label that became the current one, in order, inside the transaction: what it throws undoes
   * the frame. What it keeps is therefore never behind the store.
   */
  witness?: (applied: readonly StoredLabel[]) => void;
  /** An issuer that exceeds it can still change what it issued. */
  maxPerIssuer?: number;
};

// libsql gives a BLOB as a Buffer from get(), and as an ArrayBuffer from all().
type Row = { body: ArrayBuffer; ordered_at: number; expires_at: number | null; received_at: number };

const columns = 'body, ordered_at, expires_at, received_at';

export class LabelStore {
  readonly #db: Database.Database;
  readonly #now: () => number;
  readonly #count: LabelStoreOptions['count'];
  readonly #witness: NonNullable<LabelStoreOptions['witness']>;
  readonly #maxPerIssuer: number;
  readonly #stored: Map<string, number>;
  readonly #listeners = new Set<(applied: readonly StoredLabel[]) => void>();
  readonly #sql: ReturnType<typeof prepare>;

  constructor(options: LabelStoreOptions) {
    this.#db = options.db;
    this.#now = options.now;
    this.#count = options.count;
    this.#witness = options.witness ?? (() => undefined);
    this.#maxPerIssuer = options.maxPerIssuer ?? 1_000_000;
    this.#sql = prepare(options.db);
    const sums = options.db.prepare('SELECT src, count(*) AS n FROM label GROUP BY src').all();
    this.#stored = new Map((sums as { src: string; n: number }[]).map(({ src, n }) => [src, n]));
  }

  /**
   * Stores what one frame of `src` brought, verified, and moves the cursor: one commit.
   *
   * @param seq of the frame; a frame that is not beyond the cursor is a replay and changes nothing
   */
  receive(src: string, seq: number, labels: readonly SignedLabel[]): 'stored' | 'replayed' {
    const room = { left: this.#maxPerIssuer - (this.#stored.get(src) ?? 0) };
    const applied = transaction(this.#db, () => {
      if (seq <= (this.cursor(src) ?? -1)) return undefined;
      const changes = labels.flatMap((label) => this.#apply(label, room) ?? []);
      this.#sql.moveCursor.run(src, seq);
      this.#witness(changes);
      return changes;
    });
    if (!applied) return 'replayed';
    this.#stored.set(src, this.#maxPerIssuer - room.left);
    if (applied.length > 0) for (const listener of this.#listeners) listener(applied);
    return 'stored';
  }

  /** The seq of the last frame stored of `src`; undefined before the first. */
  cursor(src: string): number | undefined {
    return (this.#sql.cursor.get(src) as { seq: number } | undefined)?.seq;
  }

  /** Labels of all issuers on exactly this URI that are neither negated nor expired. */
  current(uri: string, at: number = this.#now()): StoredLabel[] {
    const rows = this.#sql.current.all(uri, at) as Row[];
    return rows.map(stored);
  }

  /** As current(), of these issuers and values alone: what others put on the URI is not even read. */
  currentOf(uri: string, { srcs, vals }: Selection, at: number): StoredLabel[] {
    const rows = this.#sql.currentOf.all(JSON.stringify(srcs), uri, JSON.stringify(vals), at) as Row[];
    return rows.map(stored);
  }

  /**
   * URIs of attestations of `domain` with such a label in force.
   *
   * @param limit of how many are read; others' labels on the domain cost nothing
   */
  attestationsLabelled(domain: string, { srcs, vals }: Selection, at: number, limit: number): string[] {
    const rows = this.#sql.uris.all(domain, JSON.stringify(srcs), JSON.stringify(vals), at, limit);
    return (rows as { uri: string }[]).map(({ uri }) => uri);
  }

  /** Every domain of which one of these issuers ever labelled an attestation. */
  domainsLabelled(srcs: readonly string[]): string[] {
    const rows = this.#sql.domains.all(JSON.stringify(srcs)) as { domain: string }[];
    return rows.map(({ domain }) => domain);
  }

  /** Called after the commit, once a frame, with the labels that became current. Returns what ends it. */
  onChange(callback: (applied: readonly StoredLabel[]) => void): () => void {
    this.#listeners.add(callback);
    return () => this.#listeners.delete(callback);
  }

  #apply(label: SignedLabel, room: { left: number }): StoredLabel | undefined {
    const { src, uri, val } = label;
    const standing = this.#sql.order.get(src, uri, val) as { ordered_at: number } | undefined;
    const receivedAt = this.#now();
    const cts = Date.parse(label.cts);
    // A cts ahead of our clock buys no precedence: the label takes effect because it came last, and
    // yields to whatever comes after it, in a replay years later too.
    const orderedAt = cts <= receivedAt ? cts : (standing?.ordered_at ?? 0);
    if (standing && orderedAt < standing.ordered_at) return this.#refuse('older');
    if (!standing && room.left <= 0) return this.#refuse('too_many');
    if (!standing) room.left -= 1;
    const expiresAt = label.exp === undefined ? undefined : Date.parse(label.exp);
    this.#sql.put.run(
      ...[src, uri, val, label.neg ? 1 : 0, orderedAt, expiresAt ?? null],
      ...[attestedDomain(uri) ?? null, Buffer.from(encodeLabel(label)), receivedAt],
    );
    return { label, orderedAt, receivedAt, ...(expiresAt === undefined ? {} : { expiresAt }) };
  }

  #refuse(reason: string): undefined {
    this.#count('labels_refused', reason);
  }
}

function stored(row: Row): StoredLabel {
  const label = decodeLabel(new Uint8Array(row.body));
  if (!label) throw appviewDamaged('holds a label that is none');
  const expiry = row.expires_at === null ? {} : { expiresAt: row.expires_at };
  return { label, orderedAt: row.ordered_at, receivedAt: row.received_at, ...expiry };
}

function prepare(db: Database.Database) {
  return {
    cursor: db.prepare('SELECT seq FROM label_cursor WHERE src = ?'),
    moveCursor: db.prepare('INSERT OR REPLACE INTO label_cursor (src, seq) VALUES (?, ?)'),
    order: db.prepare('SELECT ordered_at FROM label WHERE src = ? AND uri = ? AND val = ?'),
    put: db.prepare(
      `INSERT OR REPLACE INTO label (src, uri, val, neg, ordered_at, expires_at, domain, body, received_at)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ),
    current: db.prepare(
      `SELECT ${columns} FROM label
       WHERE uri = ? AND neg = 0 AND (expires_at IS NULL OR expires_at > ?) ORDER BY src, val`,
    ),
    currentOf: db.prepare(
      `SELECT ${columns} FROM label
       WHERE src IN (SELECT value FROM json_each(?)) AND uri = ? AND val IN (SELECT value FROM json_each(?))
         AND neg = 0 AND (expires_at IS NULL OR expires_at > ?) ORDER BY src, val`,
    ),
    uris: db.prepare(
      `SELECT DISTINCT uri FROM label
       WHERE domain = ? AND src IN (SELECT value FROM json_each(?)) AND val IN (SELECT value FROM json_each(?))
         AND neg = 0 AND (expires_at IS NULL OR expires_at > ?) LIMIT ?`,
    ),
    domains: db.prepare(
      `SELECT DISTINCT domain FROM label
       WHERE domain IS NOT NULL AND src IN (SELECT value FROM json_each(?))`,
    ),
  };
}
