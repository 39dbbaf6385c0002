/**
 * The tables of issued labels: the log, what stands of it now, and the history that is kept.
 *
 * Promise: `current_label` is the log's newest label of each (uri, val), unless that is a negation, in the
 * same commit. What stands no more is removed after its time, a few rows in each commit, and what was removed
 * is known by its greatest seq. Whoever calls a method that writes holds the transaction.
 */
import type { Database } from '../../appview/database.ts';
import { encodeLabel, type SignedLabel } from '../../appview/labels/codec.ts';
import type { Label } from './decision.ts';
import { labelJson } from './label-json.ts';

/** libsql gives a blob as an ArrayBuffer from all(), and as a Buffer from get(). */
export type LogRow = { seq: number; body: ArrayBuffer; key: number | null };

/** Rows past their time that one commit removes at most. */
const removedAtOnce = 200;

export class LabelTables {
  readonly #sql: ReturnType<typeof prepareAll>;

  /** @param db node.db */
  constructor(db: Database.Database) {
    this.#sql = prepareAll(db);
  }

  /** `seq` of the last label ever, also when it is removed; 0 before the first. */
  get newest(): number {
    return (this.#sql.newest.get() as { seq: number } | undefined)?.seq ?? 0;
  }

  /** The greatest seq that was removed; 0 where the whole log is there. */
  get prunedThrough(): number {
    return (this.#sql.prunedThrough.get() as { seq: number }).seq;
  }

  /** @returns the number that stands for the key in the rows */
  keyId(didKey: string): number {
    this.#sql.addKey.run([didKey]);
    return (this.#sql.keyId.get([didKey]) as { id: number }).id;
  }

  /** Unix ms of the newest label of this (uri, val). */
  lastCts(uri: string, val: string): number | undefined {
    const row = this.#sql.lastCts.get([uri, val]) as { cts: string } | undefined;
    return row && Date.parse(row.cts);
  }

  /** @param o.isFirst of its (uri, val) @param o.now Unix ms @returns its seq, and the body that was stored */
  insert(
    label: SignedLabel,
    { key, isFirst, now }: { key: number; isFirst: boolean; now: number },
  ): { seq: number; body: Uint8Array } {
    const { uri, val, cid = null, neg = false, cts, exp } = label;
    const body = encodeLabel(label);
    const { lastInsertRowid } = this.#sql.insert.run([
      ...[uri, val, cid, neg ? 1 : 0, cts, exp ?? null],
      ...[Buffer.from(body), key],
    ]);
    const seq = Number(lastInsertRowid);
    if (!isFirst) this.#endCurrent(uri, val, now);
    if (neg) this.#sql.addPast.run([now, seq]);
    else this.#sql.addCurrent.run([uri, seq, val, cid, endOf(label), key, labelJson(label)]);
    return { seq, body };
  }

  /** Labels on an account and on its records that stand. @param now Unix ms */
  inForce(did: string, now: number): Label[] {
    const rows = [
      ...this.#sql.under.all([`at://${did}/`, `at://${did}/${lastCharacter}`, now]),
      ...this.#sql.under.all([did, did, now]),
    ] as { uri: string; val: string; cid: string | null; exp: number | null }[];
    return rows.map(({ uri, val, cid, exp }) => ({
      ...{ uri, val },
      ...(cid !== null && { cid }),
      ...(exp !== null && { exp: isoTime(exp) }),
    }));
  }

  /** Oldest first. */
  rowsAfter(seq: number, limit: number): LogRow[] {
    return this.#sql.after.all([seq, limit]) as LogRow[];
  }

  rowsOf(seqs: readonly number[]): LogRow[] {
    return seqs.flatMap((seq) => this.#sql.one.all([seq]) as LogRow[]);
  }

  /** The same label under another key; `seq` and fields stay. @returns the body that is stored now */
  resign(seq: number, label: SignedLabel, key: number): Uint8Array {
    const body = encodeLabel(label);
    this.#sql.resign.run([Buffer.from(body), key, seq]);
    this.#sql.resignCurrent.run([key, labelJson(label), label.uri, seq]);
    return body;
  }

  /** A bounded number of rows. @param now Unix ms @param keptFrom what ended before is removed */
  prune(now: number, keptFrom: number): void {
    for (const { uri, seq } of this.#sql.ended.all([now, removedAtOnce]) as Row[]) {
      this.#sql.removeCurrent.run([uri, seq]);
      this.#sql.addPast.run([now, seq]);
    }
    const old = this.#sql.old.all([keptFrom, removedAtOnce]) as { since: number; seq: number }[];
    for (const { since, seq } of old) {
      this.#sql.remove.run([seq]);
      this.#sql.removePast.run([since, seq]);
    }
    if (old.length > 0) this.#sql.setPruned.run([Math.max(...old.map(({ seq }) => seq))]);
  }

  #endCurrent(uri: string, val: string, now: number): void {
    for (const { seq } of this.#sql.current.all([uri, val]) as Row[]) {
      this.#sql.removeCurrent.run([uri, seq]);
      this.#sql.addPast.run([now, seq]);
    }
  }
}

type Row = { uri: string; seq: number };

/** Sorts after every character that a URI can hold, so `prefix + this` ends the range of a prefix. */
export const lastCharacter = '\u{10ffff}';

/** All times that we write have this one form. @param ms Unix ms */
export function isoTime(ms: number): string {
  return new Date(ms).toISOString();
}

/** Unix ms. */
function endOf({ exp }: SignedLabel): number | null {
  return exp === undefined ? null : Date.parse(exp);
}

function prepareAll(db: Database.Database) {
  return {
    // AUTOINCREMENT: what was given once is not given again, whatever is removed.
    newest: db.prepare("SELECT seq FROM sqlite_sequence WHERE name = 'issued_label'"),
    prunedThrough: db.prepare('SELECT pruned_through AS seq FROM label_history'),
    setPruned: db.prepare('UPDATE label_history SET pruned_through = max(pruned_through, ?)'),
    addKey: db.prepare('INSERT INTO label_key (did_key) VALUES (?) ON CONFLICT DO NOTHING'),
    keyId: db.prepare('SELECT id FROM label_key WHERE did_key = ?'),
    lastCts: db.prepare('SELECT cts FROM issued_label WHERE uri = ? AND val = ? ORDER BY seq DESC LIMIT 1'),
    insert: db.prepare(
      'INSERT INTO issued_label (uri, val, cid, neg, cts, exp, body, key) VALUES (?, ?, ?, ?, ?, ?, ?, ?)',
    ),
    addCurrent: db.prepare(
      'INSERT INTO current_label (uri, seq, val, cid, exp, key, json) VALUES (?, ?, ?, ?, ?, ?, ?)',
    ),
    current: db.prepare('SELECT seq FROM current_label WHERE uri = ? AND val = ?'),
    removeCurrent: db.prepare('DELETE FROM current_label WHERE uri = ? AND seq = ?'),
    addPast: db.prepare('INSERT INTO past_label (since, seq) VALUES (?, ?)'),
    under: db.prepare(
      `SELECT uri, val, cid, exp FROM current_label
       WHERE uri >= ? AND uri <= ? AND (exp IS NULL OR exp > ?) ORDER BY uri, val`,
    ),
    after: db.prepare('SELECT seq, body, key FROM issued_label WHERE seq > ? ORDER BY seq LIMIT ?'),
    one: db.prepare('SELECT seq, body, key FROM issued_label WHERE seq = ?'),
    resign: db.prepare('UPDATE issued_label SET body = ?, key = ? WHERE seq = ?'),
    resignCurrent: db.prepare('UPDATE current_label SET key = ?, json = ? WHERE uri = ? AND seq = ?'),
    ended: db.prepare('SELECT uri, seq FROM current_label WHERE exp <= ? LIMIT ?'),
    old: db.prepare('SELECT since, seq FROM past_label WHERE since < ? ORDER BY since LIMIT ?'),
    remove: db.prepare('DELETE FROM issued_label WHERE seq = ?'),
    removePast: db.prepare('DELETE FROM past_label WHERE since = ? AND seq = ?'),
  };
}
