/** The queue as an operator sees it, a page at a time. Changes nothing. */
import type { Database } from '../../appview/database.ts';
import { detailsOf, idOf } from './recipients.ts';
import type { Scan, ScannedRow } from './scan.ts';
import { heldAt } from './schema.ts';
import type { QueueEntry, QueuePage, Selection } from './selection.ts';

type Statement = Database.Statement<unknown[]>;

export class QueuePages {
  readonly #scan: Scan;
  readonly #isFlying: (seq: number) => boolean;
  readonly #last: Statement;

  constructor(db: Database.Database, scan: Scan, isFlying: (seq: number) => boolean) {
    this.#scan = scan;
    this.#isFlying = isFlying;
    this.#last = db.prepare(`
      SELECT json_extract(body, '$.summary') AS summary FROM history
      WHERE recipient = ? AND json_extract(body, '$.summary') IS NOT NULL ORDER BY number DESC LIMIT 1`);
  }

  page(selection: Selection, limit: number, cursor: string | undefined): QueuePage {
    const { rows, cursor: next } = this.#scan.page(selection, cursor, Math.max(limit, 1));
    const entries = rows.map((row) => this.#entry(row));
    return next === undefined ? { entries } : { entries, cursor: next };
  }

  #entry(row: ScannedRow): QueueEntry {
    const { reroute } = detailsOf(row);
    const last = this.#last.get(row.seq) as { summary: string } | undefined;
    return {
      recipientId: idOf(row),
      queueId: row.queue_id,
      kind: row.kind,
      did: row.did,
      domain: row.domain,
      ...(row.key_id !== null && { keyId: row.key_id }),
      address: row.address,
      site: row.site,
      state: row.state,
      attempts: row.attempts,
      receivedAt: row.received_at,
      expiresAt: row.expires_at + row.paused_ms,
      nextAt: row.next_at < heldAt ? row.next_at : null,
      size: row.size,
      inFlight: this.#isFlying(row.seq),
      ...(reroute !== undefined && { reroute }),
      ...(last && { last: last.summary }),
    };
  }
}
