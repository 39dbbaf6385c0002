/**
 * The labels of the issuers that we follow, in appview.db.
 *
 * Promise: a frame's labels and the cursor behind it are one commit, so none is lost or taken twice.
 * Of each (src, uri, val) the latest stands, exactly as its issuer signed it; a negation is kept too,
 * so that nothing older comes back. Labels under a key that does not count yet wait beside them, and
 * change nothing; their negations count, for whoever withdraws its word needs no trust.
 * Who may label, and with which key, is consumer.ts's business.
 */
import { setImmediate as breathe } from 'node:timers/promises';
import { attestedDomain } from '../attestation-uri.ts';
import { type Database, transaction } from '../database.ts';
import { appviewDamaged } from '../rebuild.ts';
import { decodeLabel, encodeLabel, type SignedLabel } from './codec.ts';
import { LabelIssuers } from './issuers.ts';
import { prepare } from './statements.ts';

/** The current label of its (src, uri, val). */
export type StoredLabel = {
  label: SignedLabel;
  /** Unix ms: its cts, as far as it may decide which label is the latest. */
  orderedAt: number;
  /** Unix ms; absent: never. */
  expiresAt?: number;
  /** Unix ms. */
  receivedAt: number;
  /** Unix ms: since when its issuer serves it no more, without a negation. */
  goneAt?: number;
  /** A negation under a key that waits: it counts, and is forgotten when the key is taken back. */
  isProvisional?: boolean;
  /** What stood here before was a negation. */
  wasNegated?: boolean;
};

/** What one message of a stream brought, verified. */
export type VerifiedFrame = { seq: number; labels: readonly SignedLabel[] };

/** The `did:key` that confirmed a label. */
export type KeyOf = (label: SignedLabel) => string;

/** Under what a label stands among those of its issuer. */
export type LabelName = { uri: string; val: string };
export type Held = { rowid: number; label: SignedLabel };

/** A label as it stands, whatever it says now. */
export type HeldLabel = Held & {
  /** Unix ms: as far as we know, nothing made before it is newer. */
  madeAt: number;
  isGone: boolean;
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
  /** An issuer that exceeds it can still change what it issued. Default: a million. */
  maxPerIssuer?: (src: string) => number;
};

// libsql gives a BLOB as a Buffer from get(), and as an ArrayBuffer from all().
type Room = { held: number; max: number };
type Row = { body: ArrayBuffer; ordered_at: number; expires_at: number | null; received_at: number };

/** Labels whose wait is over are counted so many in one commit. */
const countedAtOnce = 200;

export class LabelStore {
  /** Beside the labels: keys, quarantines, reconciliations. */
  readonly states: LabelIssuers;
  readonly #db: Database.Database;
  readonly #now: () => number;
  readonly #count: LabelStoreOptions['count'];
  readonly #witness: NonNullable<LabelStoreOptions['witness']>;
  readonly #maxPerIssuer: (src: string) => number;
  readonly #stored: Map<string, number>;
  readonly #listeners = new Set<(applied: readonly StoredLabel[]) => void>();
  readonly #sql: ReturnType<typeof prepare>;

  constructor(options: LabelStoreOptions) {
    this.#db = options.db;
    this.#now = options.now;
    this.#count = options.count;
    this.#witness = options.witness ?? (() => undefined);
    this.#maxPerIssuer = options.maxPerIssuer ?? (() => 1_000_000);
    this.#sql = prepare(options.db);
    this.states = new LabelIssuers(options.db);
    const sums = options.db
      .prepare(
        `SELECT src, count(*) AS n FROM (SELECT src FROM label UNION ALL SELECT src FROM waiting_label) GROUP BY src`,
      )
      .all();
    this.#stored = new Map((sums as { src: string; n: number }[]).map(({ src, n }) => [src, n]));
  }

  /**
   * Stores what one frame of `src` brought, verified, and moves the cursor: one commit.
   *
   * @param seq of the frame; a frame that is not beyond the cursor is a replay and changes nothing
   */
  receive(src: string, seq: number, labels: readonly SignedLabel[]): 'stored' | 'replayed' {
    return this.receiveAll(src, [{ seq, labels }]) === 1 ? 'stored' : 'replayed';
  }

  /**
   * As receive(), for frames that came one behind the other: one commit for all.
   *
   * @param keyOf the key that confirmed each; without it they count
   * @returns how many of the frames were no replays
   */
  receiveAll(src: string, frames: readonly VerifiedFrame[], keyOf?: KeyOf): number {
    let cursor = this.cursor(src) ?? -1;
    const fresh = frames.filter(({ seq }) => {
      const isFresh = seq > cursor;
      cursor = Math.max(cursor, seq);
      return isFresh;
    });
    if (fresh.length === 0) return 0;
    const labels = fresh.flatMap((frame) => frame.labels);
    this.#change(src, (room) => {
      this.#sql.moveCursor.run(src, cursor);
      return this.#applyAll(labels, room, keyOf);
    });
    return fresh.length;
  }

  /** Labels of `src`, verified, that came without a cursor: part of a frame, or the answer to a question. */
  apply(src: string, labels: readonly SignedLabel[], keyOf?: KeyOf): void {
    this.#change(src, (room) => this.#applyAll(labels, room, keyOf));
  }

  /** The seq of the last frame stored of `src`; undefined before the first. */
  cursor(src: string): number | undefined {
    return (this.#sql.cursor.get(src) as { seq: number } | undefined)?.seq;
  }

  /** The next connection reads from the oldest frame on. */
  forgetCursor(src: string): void {
    this.#sql.dropCursor.run(src);
  }

  /** How many labels of `src` are held, negated and waiting ones included. */
  held(src: string): number {
    return this.#stored.get(src) ?? 0;
  }

  /** Whether labels of `src` that come now count: not while its new key waits. */
  weighs(src: string, at: number = this.#now()): boolean {
    return at >= (this.states.keyChange(src)?.countsFrom ?? 0);
  }

  /** The operator's word for the new key of `src`, or its time has come. @returns how many labels had waited */
  async trustKey(src: string): Promise<number> {
    const change = this.states.keyChange(src);
    if (change) this.states.trust(src, change.key);
    return this.countWaiting(src);
  }

  /** Labels that waited become current, in slices. Nothing happens while their key still waits. */
  async countWaiting(src: string): Promise<number> {
    let counted = 0;
    while (this.states.keyChange(src) === undefined) {
      const rows = this.#sql.waiting.all(src, countedAtOnce) as { rowid: number; body: ArrayBuffer }[];
      if (rows.length === 0) break;
      this.#change(src, (room) => {
        this.#sql.dropWaiting.run(JSON.stringify(rows.map(({ rowid }) => rowid)));
        room.held -= rows.length;
        return this.#applyAll(rows.map(labelOf), room);
      });
      counted += rows.length;
      await breathe();
    }
    return counted;
  }

  /**
   * The waiting key was taken back before it counted: what waited under it is dropped, and negations that came
   * meanwhile are forgotten, for they were made with that key alone. Reconciling brings back what still stands.
   */
  undoKeyChange(src: string): void {
    const change = this.states.keyChange(src);
    if (!change) return;
    transaction(this.#db, () => {
      const { changes: parked } = this.#sql.dropAllWaiting.run(src);
      const { changes: negations } = this.#sql.dropNegations.run(src, change.seenAt);
      this.#stored.set(src, Math.max(this.held(src) - parked - negations, 0));
    });
  }

  /** What is held under the name of this label. */
  find({ src, uri, val }: SignedLabel): HeldLabel | undefined {
    const row = this.#sql.find.get(src, uri, val) as
      | { rowid: number; ordered_at: number; received_at: number; body: Buffer; gone_at: number | null }
      | undefined;
    if (!row) return undefined;
    const label = labelOf(row);
    // A clock that runs a second ahead of ours is common: its label is no older for it than when it came.
    const madeAt = Math.max(row.ordered_at, Math.min(Date.parse(label.cts), row.received_at));
    return { rowid: row.rowid, label, madeAt, isGone: row.gone_at !== null };
  }

  /** The same label, signed anew by its issuer: nothing that it says has changed. */
  resign(rowid: number, label: SignedLabel): void {
    this.#sql.resign.run(Buffer.from(encodeLabel(label)), rowid);
  }

  /**
   * Labels of `src` in force that were made and received before `at`, in the order of `uri` and `val`.
   *
   * @param after the last one of the page before
   */
  heldBefore(src: string, at: number, after: LabelName | undefined, limit: number): Held[] {
    const { uri, val } = after ?? { uri: '', val: '' };
    const rows = this.#sql.heldBefore.all(src, uri, val, at, at, this.#now(), limit);
    return (rows as { rowid: number; body: ArrayBuffer }[]).map((row) => ({
      rowid: row.rowid,
      label: labelOf(row),
    }));
  }

  /**
   * These are served no more: not in force from now on, until their issuer sends them again.
   *
   * @param receivedBefore whatever came since, under the same `rowid` too, stays
   */
  withdraw(src: string, rowids: readonly number[], receivedBefore: number): void {
    this.#change(src, () =>
      rowids.flatMap((rowid) => {
        const row = this.#sql.withdraw.get(this.#now(), rowid, receivedBefore) as Row | undefined;
        return row ? { ...stored(row), goneAt: this.#now() } : [];
      }),
    );
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

  /**
   * Domains of which `src` ever labelled an attestation, some labels at a time, in the order of their URIs.
   *
   * @param after the `last` of the page before; '' begins
   * @returns `last` undefined when that was all
   */
  domainsOf(src: string, after: string, limit: number): { domains: string[]; last?: string } {
    const rows = this.#sql.domainsOf.all(src, after, limit) as { uri: string; domain: string | null }[];
    const domains = [...new Set(rows.flatMap(({ domain }) => domain ?? []))];
    return { domains, ...(rows.length === limit && { last: rows.at(-1)!.uri }) };
  }

  /** Every issuer of whom something is stored. */
  issuers(): string[] {
    return (this.#sql.issuers.all() as { src: string }[]).map(({ src }) => src);
  }

  /**
   * Forgets labels of `src`, at most `limit` in one commit, and with the last ones the cursor.
   *
   * @returns whether some are left
   */
  drop(src: string, limit: number): boolean {
    const isMore = transaction(this.#db, () => {
      const { changes } = this.#sql.drop.run(src, limit);
      this.#stored.set(src, Math.max(0, (this.#stored.get(src) ?? 0) - changes));
      if (changes === limit) return true;
      this.#sql.dropCursor.run(src);
      this.#sql.dropAllWaiting.run(src);
      this.states.forget(src);
      return false;
    });
    if (!isMore) this.#stored.delete(src);
    return isMore;
  }

  /** Called after the commit, once a frame, with the labels that became current. Returns what ends it. */
  onChange(callback: (applied: readonly StoredLabel[]) => void): () => void {
    this.#listeners.add(callback);
    return () => this.#listeners.delete(callback);
  }

  /** One commit; those who follow hear of it right after. */
  #change(src: string, work: (room: Room) => StoredLabel[]): void {
    const room = { held: this.held(src), max: this.#maxPerIssuer(src) };
    const applied = transaction(this.#db, () => {
      const changes = work(room);
      this.#witness(changes);
      return changes;
    });
    this.#stored.set(src, room.held);
    if (applied.length > 0) for (const listener of this.#listeners) listener(applied);
  }

  #applyAll(labels: readonly SignedLabel[], room: Room, keyOf?: KeyOf): StoredLabel[] {
    return labels.flatMap((label) => {
      const waits = keyOf !== undefined && this.states.keyChange(label.src)?.key === keyOf(label);
      if (waits && !label.neg) return this.#park(label, room) ?? [];
      const applied = this.#apply(label, room);
      return applied ? { ...applied, ...(waits && { isProvisional: true }) } : [];
    });
  }

  #apply(label: SignedLabel, room: Room): StoredLabel | undefined {
    const { src, uri, val } = label;
    const standing = this.#sql.order.get(src, uri, val) as { ordered_at: number; neg: number } | undefined;
    const receivedAt = this.#now();
    const orderedAt = orderOf(label, receivedAt, standing?.ordered_at);
    if (standing && orderedAt < standing.ordered_at) return this.#refuse('older');
    if (!standing && room.held >= room.max) return this.#refuse('too_many');
    if (!standing) room.held += 1;
    const expiresAt = label.exp === undefined ? undefined : Date.parse(label.exp);
    this.#sql.put.run(
      ...[src, uri, val, label.neg ? 1 : 0, orderedAt, expiresAt ?? null],
      ...[attestedDomain(uri) ?? null, Buffer.from(encodeLabel(label)), receivedAt],
    );
    const expiry = expiresAt === undefined ? {} : { expiresAt };
    return { label, orderedAt, receivedAt, ...expiry, ...(standing?.neg === 1 && { wasNegated: true }) };
  }

  #park(label: SignedLabel, room: Room): undefined {
    const { src, uri, val } = label;
    const parked = this.#sql.waitingOrder.get(src, uri, val) as { ordered_at: number } | undefined;
    const orderedAt = orderOf(label, this.#now(), parked?.ordered_at);
    if (parked && orderedAt < parked.ordered_at) return this.#refuse('older');
    if (!parked && room.held >= room.max) return this.#refuse('too_many');
    if (!parked) room.held += 1;
    this.#sql.park.run(src, uri, val, orderedAt, Buffer.from(encodeLabel(label)));
    this.#count('labels_waiting');
  }

  #refuse(reason: string): undefined {
    this.#count('labels_refused', reason);
  }
}

/**
 * A cts ahead of our clock buys no precedence: the label takes effect because it came last, and yields to
 * whatever comes after it, in a replay years later too.
 */
function orderOf(label: SignedLabel, now: number, standing: number | undefined): number {
  const cts = Date.parse(label.cts);
  return cts <= now ? cts : (standing ?? 0);
}

function labelOf({ body }: { body: ArrayBuffer | Buffer }): SignedLabel {
  const label = decodeLabel(new Uint8Array(body));
  if (!label) throw appviewDamaged('holds a label that is none');
  return label;
}

function stored(row: Row): StoredLabel {
  const label = labelOf(row);
  const expiry = row.expires_at === null ? {} : { expiresAt: row.expires_at };
  return { label, orderedAt: row.ordered_at, receivedAt: row.received_at, ...expiry };
}
