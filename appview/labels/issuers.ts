/**
 * What we hold of each issuer beside its labels, in appview.db: under which key its labels count, whether it is
 * in quarantine, and when it was reconciled.
 *
 * Promise: a quarantine and a waiting key survive a restart. The first key that we see is trusted; a later one
 * counts when it is told to, or from the time that was set.
 */
import type { Database } from '../database.ts';
import type { Fault } from './limits.ts';

/** Unix ms throughout. */
export type KeyChange = { key: string; seenAt: number; countsFrom: number };

/** `future_cursor`: the stream is behind our cursor, so its history was lost or replaced. */
export type QuarantineReason = Fault | 'too_many_labels' | 'endless_backlog' | 'future_cursor';
export type Quarantine = { reason: QuarantineReason; detail?: string; at: number };

type Row = {
  trusted_key: string | null;
  new_key: string | null;
  new_key_seen_at: number | null;
  new_key_counts_from: number | null;
  quarantined_at: number | null;
  quarantine_reason: QuarantineReason | null;
  quarantine_detail: string | null;
  reconciled_at: number | null;
  reconcile_due_at: number | null;
};

export class LabelIssuers {
  readonly #sql: ReturnType<typeof prepare>;
  /** Followed issuers are few; a label asks for its issuer each time. */
  readonly #rows = new Map<string, Row>();

  constructor(db: Database.Database) {
    this.#sql = prepare(db);
    for (const row of this.#sql.all.all() as (Row & { src: string })[]) this.#rows.set(row.src, row);
  }

  quarantineOf(src: string): Quarantine | undefined {
    const row = this.#rows.get(src);
    if (!row?.quarantine_reason) return undefined;
    const detail = row.quarantine_detail === null ? {} : { detail: row.quarantine_detail };
    return { reason: row.quarantine_reason, at: row.quarantined_at ?? 0, ...detail };
  }

  quarantine(src: string, { reason, detail, at }: Quarantine): void {
    const quarantined = { quarantined_at: at, quarantine_reason: reason, quarantine_detail: detail ?? null };
    this.#put(src, quarantined);
  }

  release(src: string): void {
    this.#put(src, { quarantined_at: null, quarantine_reason: null, quarantine_detail: null });
  }

  /** The `did:key` under which labels count; undefined before the first. */
  trustedKey(src: string): string | undefined {
    return this.#rows.get(src)?.trusted_key ?? undefined;
  }

  /** The key that does not count yet. */
  keyChange(src: string): KeyChange | undefined {
    const row = this.#rows.get(src);
    if (!row?.new_key) return undefined;
    return {
      key: row.new_key,
      seenAt: row.new_key_seen_at ?? 0,
      countsFrom: row.new_key_counts_from ?? 0,
    };
  }

  /** @param reconcileAt Unix ms; without it that stays as it was */
  trust(src: string, key: string, reconcileAt?: number): void {
    const due = reconcileAt === undefined ? {} : { reconcile_due_at: reconcileAt };
    const none = { new_key: null, new_key_seen_at: null, new_key_counts_from: null };
    this.#put(src, { trusted_key: key, ...none, ...due });
  }

  /** A reconciliation is due with it: what was signed with the old key, the issuer may have signed anew. */
  awaitKey(src: string, { key, seenAt, countsFrom }: KeyChange): void {
    const change = { new_key: key, new_key_seen_at: seenAt, new_key_counts_from: countsFrom };
    this.#put(src, { ...change, reconcile_due_at: seenAt });
  }

  reconciledAt(src: string): number | undefined {
    return this.#rows.get(src)?.reconciled_at ?? undefined;
  }

  /** Undefined before it was ever set. */
  reconcileDueAt(src: string): number | undefined {
    return this.#rows.get(src)?.reconcile_due_at ?? undefined;
  }

  reconcileAt(src: string, dueAt: number): void {
    this.#put(src, { reconcile_due_at: dueAt });
  }

  reconciled(src: string, at: number, dueAt: number): void {
    this.#put(src, { reconciled_at: at, reconcile_due_at: dueAt });
  }

  /** As if it had never been followed. */
  forget(src: string): void {
    this.#sql.drop.run(src);
    this.#rows.delete(src);
  }

  #put(src: string, change: Partial<Row>): void {
    const row = { ...(this.#rows.get(src) ?? unknownIssuer), ...change };
    this.#sql.put.run(
      ...[src, row.trusted_key, row.new_key, row.new_key_seen_at, row.new_key_counts_from],
      ...[row.quarantined_at, row.quarantine_reason, row.quarantine_detail],
      ...[row.reconciled_at, row.reconcile_due_at],
    );
    this.#rows.set(src, row);
  }
}

const unknownIssuer: Row = {
  trusted_key: null,
  new_key: null,
  new_key_seen_at: null,
  new_key_counts_from: null,
  quarantined_at: null,
  quarantine_reason: null,
  quarantine_detail: null,
  reconciled_at: null,
  reconcile_due_at: null,
};

function prepare(db: Database.Database) {
  return {
    all: db.prepare('SELECT * FROM label_issuer'),
    drop: db.prepare('DELETE FROM label_issuer WHERE src = ?'),
    put: db.prepare(
      `INSERT OR REPLACE INTO label_issuer (src, trusted_key, new_key, new_key_seen_at, new_key_counts_from,
         quarantined_at, quarantine_reason, quarantine_detail, reconciled_at, reconcile_due_at)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ),
  };
}
