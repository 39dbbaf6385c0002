/** The rows of a recipient: found, moved from state to state, and what happened to it written down. */
import type { Database } from '../../appview/database.ts';
import type { Effects } from './effects.ts';
import { partsOf, recipientId, recipientsPerMessage } from './ids.ts';
import type { ActRecord, AttemptRecord } from './message.ts';
import { chargedFor, type QueueQuotas } from './quotas.ts';
import {
  type MessageDetails,
  type OpenRow,
  openRowColumns,
  type RecipientDetails,
  read,
  stored,
} from './rows.ts';
import type { RecipientState } from './states.ts';

type Statement = Database.Statement<unknown[]>;

export class Recipients {
  readonly #effects: Effects;
  readonly #quotas: QueueQuotas;
  readonly #sql: Record<keyof typeof statements, Statement>;

  constructor(db: Database.Database, effects: Effects, quotas: QueueQuotas) {
    this.#effects = effects;
    this.#quotas = quotas;
    const prepared = Object.entries(statements).map(([name, sql]) => [name, db.prepare(sql)]);
    this.#sql = Object.fromEntries(prepared) as Record<keyof typeof statements, Statement>;
  }

  /** Undefined when it is terminal or unknown. */
  open(id: string): OpenRow | undefined {
    const parts = partsOf(id);
    return parts && (this.#sql.open.get([parts.queueId, parts.number]) as OpenRow | undefined);
  }

  openBySeq(seq: number): OpenRow | undefined {
    return this.#sql.openBySeq.get(seq) as OpenRow | undefined;
  }

  openOfMessage(queueId: string): OpenRow[] {
    return this.#sql.openOfMessage.all(queueId) as OpenRow[];
  }

  /**
   * A failure of our own may repeat for days at every recipient; it is kept once, with a count.
   *
   * @returns whether it was such a repetition
   */
  recordAttempt(row: OpenRow, attempt: AttemptRecord): boolean {
    if (row.records > 0 && !attempt.counted) {
      const last = this.#sql.lastRecord.get([row.seq, row.records]) as { body: string };
      const before = JSON.parse(last.body) as Partial<AttemptRecord>;
      if (before.counted === false && before.summary === attempt.summary) {
        this.#sql.repeatRecord.run([JSON.stringify(attempt), row.seq, row.records]);
        return true;
      }
    }
    this.#record(row, attempt);
    if (attempt.counted) row.attempts += 1;
    return false;
  }

  recordAct(row: OpenRow, act: ActRecord): void {
    this.#record(row, act);
  }

  /** Writes state, time, pause and details of the row. `details` is what `row.details` becomes. */
  move(row: OpenRow, to: { state: RecipientState; nextAt: number; details: RecipientDetails }): void {
    row.state = to.state;
    row.next_at = to.nextAt;
    row.details = stored(to.details);
    const { attempts, records, paused_ms, details } = row;
    this.#sql.move.run([to.state, to.nextAt, attempts, records, paused_ms, details, row.seq]);
  }

  /** With the last recipient of a message its body goes. */
  finish(row: OpenRow, state: RecipientState, at: number): void {
    row.state = state;
    this.#sql.finish.run([state, row.attempts, row.records, row.seq]);
    if (row.open > 1 && this.#closeOne(row) > 0) {
      this.#sql.deleteContent.run([row.seq, row.seq]);
      return;
    }
    this.#sql.finishMessage.run([at, messageSeq(row)]);
    const first = messageSeq(row) * recipientsPerMessage;
    this.#sql.deleteContent.run([first, first + recipientsPerMessage - 1]);
    if (row.in_file) this.#effects.finished.push(row.queue_id);
    const simulated = read<MessageDetails>(row.message_details).simulated === true;
    this.#quotas.left(chargedFor({ kind: row.kind, did: row.did, simulated }), row.size);
  }

  /** @returns how many are left: `row.open` is of when it was read, and a sibling may have ended since. */
  #closeOne(row: OpenRow): number {
    const [left] = this.#sql.closeOne.all(messageSeq(row)) as { open: number }[];
    return left!.open;
  }

  #record(row: OpenRow, record: AttemptRecord | ActRecord): void {
    row.records += 1;
    this.#sql.insertRecord.run([row.seq, row.records, JSON.stringify(record)]);
  }
}

export function idOf(row: { seq: number; queue_id: string }): string {
  return recipientId(row.queue_id, row.seq % recipientsPerMessage);
}

export function detailsOf(row: { details: string | null }): RecipientDetails {
  return read<RecipientDetails>(row.details);
}

function messageSeq({ seq }: { seq: number }): number {
  return Math.floor(seq / recipientsPerMessage);
}

const from = `SELECT ${openRowColumns} FROM`;

const statements = {
  open: `${from} message m JOIN recipient r ON r.seq = m.seq * ${recipientsPerMessage} + ?2
    WHERE m.queue_id = ?1 AND r.next_at IS NOT NULL`,
  openBySeq: `${from} recipient r JOIN message m ON m.seq = r.seq / ${recipientsPerMessage}
    WHERE r.seq = ? AND r.next_at IS NOT NULL`,
  openOfMessage: `${from} message m JOIN recipient r
    ON r.seq BETWEEN m.seq * ${recipientsPerMessage} AND m.seq * ${recipientsPerMessage} + ${recipientsPerMessage - 1}
    WHERE m.queue_id = ? AND r.next_at IS NOT NULL ORDER BY r.seq`,
  lastRecord: 'SELECT body FROM history WHERE recipient = ? AND number = ?',
  insertRecord: 'INSERT INTO history (recipient, number, repeats, body) VALUES (?, ?, 0, ?)',
  repeatRecord: 'UPDATE history SET repeats = repeats + 1, body = ? WHERE recipient = ? AND number = ?',
  move: `UPDATE recipient SET state = ?, next_at = ?, attempts = ?, records = ?, paused_ms = ?, details = ?
    WHERE seq = ?`,
  finish: 'UPDATE recipient SET state = ?, attempts = ?, records = ?, next_at = NULL WHERE seq = ?',
  closeOne: 'UPDATE message SET open = open - 1 WHERE seq = ? RETURNING open',
  finishMessage: 'UPDATE message SET open = 0, finished_at = ? WHERE seq = ?',
  deleteContent: 'DELETE FROM content WHERE seq BETWEEN ? AND ?',
} as const;
