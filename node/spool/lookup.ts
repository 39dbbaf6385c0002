/** Reading the spool: bodies for delivery, messages for people, the outbox for the copier. Changes nothing. */
import { CorruptState, type Database } from '../../appview/database.ts';
import type { Event } from '../enforcement/events.ts';
import type { Bodies } from './bodies.ts';
import { recipientId, recipientsPerMessage } from './ids.ts';
import type {
  ActRecord,
  AttemptRecord,
  MessageKind,
  MessagePage,
  MessageQuery,
  MessageStatus,
  RecipientStatus,
} from './message.ts';
import { type MessageDetails, type RecipientDetails, read } from './rows.ts';
import { heldAt } from './schema.ts';
import type { RecipientState } from './states.ts';

type Statement = Database.Statement<unknown[]>;

/** Messages that one page looks through at most, however few it finds. */
const searchedAtOnce = 500;
/** However many a page is asked for. */
const maxPage = 200;
/** More than any body has; SQLite cannot count much further here. */
const allOctets = 2 ** 30;

export class Lookup {
  readonly #bodies: Bodies;
  readonly #sql: Record<keyof typeof statements, Statement>;

  constructor(db: Database.Database, bodies: Bodies) {
    this.#bodies = bodies;
    const prepared = Object.entries(statements).map(([name, sql]) => [name, db.prepare(sql)]);
    this.#sql = Object.fromEntries(prepared) as Record<keyof typeof statements, Statement>;
  }

  /** @returns undefined for a finished or unknown message. @throws CorruptState when an open one has lost its body */
  body(queueId: string, octets = allOctets): Buffer | undefined {
    const row = this.#sql.body.get([octets, queueId]) as BodyRow | undefined;
    if (!row || row.open === 0) return undefined;
    if (row.in_file) return this.#fileBody(queueId, octets);
    if (!row.found)
      throw new CorruptState(`the spool lost the body of ${queueId}. Restore it from a backup.`);
    // libsql gives null for no octets.
    return row.bytes ?? Buffer.alloc(0);
  }

  /** @param at whose schedule is over by then is `accepted` */
  message(queueId: string, at: number): MessageStatus | undefined {
    const row = this.#sql.message.get(queueId) as MessageRow | undefined;
    return row && this.#status(row, at);
  }

  messages(query: MessageQuery, at: number): MessagePage {
    const limit = Math.min(Math.max(query.limit, 1), maxPage);
    const messages: MessageStatus[] = [];
    const rows = this.#newest(query);
    for (const row of rows) {
      const status = this.#status(row, at);
      if (matches(status, query)) messages.push(status);
      if (messages.length === limit) return { messages, cursor: String(row.seq) };
    }
    return rows.length < searchedAtOnce ? { messages } : { messages, cursor: String(rows.at(-1)!.seq) };
  }

  /** Oldest first. */
  eventsAfter(id: string, limit: number): Event[] {
    const rows = this.#sql.events.all([Number(id), limit]) as { body: string }[];
    return rows.map((row) => JSON.parse(row.body) as Event);
  }

  /** When the newest message was accepted; 0 when there is none. */
  newestAt(): number {
    return (this.#sql.newestAt.get([]) as { at: number } | undefined)?.at ?? 0;
  }

  /** Open messages whose body is a file. */
  *filesWanted(): Generator<string> {
    for (const row of this.#sql.files.iterate([]) as Iterable<{ queue_id: string }>) yield row.queue_id;
  }

  isFileWanted(queueId: string): boolean {
    return this.#sql.fileWanted.get(queueId) !== undefined;
  }

  #newest({ did, since = 0, until = Number.MAX_SAFE_INTEGER, cursor }: MessageQuery): MessageRow[] {
    const before = cursor === undefined ? Number.MAX_SAFE_INTEGER : Number(cursor);
    if (!Number.isSafeInteger(before)) throw new Error('the cursor is not valid');
    const range = [before, since, until, searchedAtOnce];
    const rows = did === undefined ? this.#sql.newest.all(range) : this.#sql.newestOf.all([...range, did]);
    return rows as MessageRow[];
  }

  #fileBody(queueId: string, octets: number): Buffer {
    try {
      return this.#bodies.read(queueId, octets);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      throw new CorruptState(`the spool lost the file spool/${queueId}. Restore it from a backup.`);
    }
  }

  #status(row: MessageRow, at: number): MessageStatus {
    const first = row.seq * recipientsPerMessage;
    const recipients = this.#sql.recipients.all([first, first + recipientsPerMessage - 1]) as RecipientRow[];
    const { tags = [], subject, sendAt } = read<MessageDetails>(row.details);
    return {
      queueId: row.queue_id,
      kind: row.kind,
      did: row.did,
      domain: row.domain,
      via: row.via,
      mailFrom: row.mail_from,
      receivedAt: row.received_at,
      expiresAt: row.expires_at,
      size: row.size,
      ...(row.category !== null && { category: row.category }),
      tags,
      ...(subject !== undefined && { subject }),
      ...(sendAt !== undefined && { sendAt }),
      recipients: recipients.map((recipient) => this.#recipient(row.queue_id, recipient, at)),
    };
  }

  #recipient(queueId: string, row: RecipientRow, at: number): RecipientStatus {
    const { seq, address, state, attempts, next_at } = row;
    const records = (this.#sql.history.all(seq) as { body: string; repeats: number }[]).map(
      ({ body, repeats }) => ({ repeats, record: JSON.parse(body) as AttemptRecord | ActRecord }),
    );
    const isOver = state === 'scheduled' && next_at !== null && next_at <= at;
    return {
      id: recipientId(queueId, seq % recipientsPerMessage),
      address,
      state: isOver ? 'accepted' : state,
      attempts,
      nextAt: next_at !== null && next_at < heldAt ? next_at : null,
      simulated: read<RecipientDetails>(row.details).simulated === true,
      timeline: records.flatMap(({ record, repeats }) => ('act' in record ? [] : [{ ...record, repeats }])),
      acts: records.flatMap(({ record }) => ('act' in record ? [record] : [])),
    };
  }
}

const columns = `seq, queue_id, kind, did, domain, via, mail_from, received_at, expires_at, size, category, details`;
const newest = 'seq < ?1 AND received_at >= ?2 AND received_at < ?3 ORDER BY seq DESC LIMIT ?4';

const statements = {
  message: `SELECT ${columns} FROM message WHERE queue_id = ?`,
  newest: `SELECT ${columns} FROM message WHERE ${newest}`,
  newestOf: `SELECT ${columns} FROM message WHERE did = ?5 AND ${newest}`,
  newestAt: 'SELECT received_at AS at FROM message ORDER BY seq DESC LIMIT 1',
  body: `SELECT m.open, m.in_file, c.seq IS NOT NULL AS found, substr(c.bytes, c.body_at + 1, ?) AS bytes FROM message m
    LEFT JOIN content c ON c.seq = m.seq * ${recipientsPerMessage} WHERE m.queue_id = ?`,
  recipients: `SELECT seq, address, state, attempts, next_at, details FROM recipient
    WHERE seq BETWEEN ? AND ? ORDER BY seq`,
  history: 'SELECT body, repeats FROM history WHERE recipient = ? ORDER BY number',
  events: 'SELECT body FROM event WHERE id > ? ORDER BY id LIMIT ?',
  files: `SELECT m.queue_id FROM
    (SELECT DISTINCT seq / ${recipientsPerMessage} AS seq FROM recipient INDEXED BY recipient_waiting
      WHERE next_at IS NOT NULL) o CROSS JOIN message m ON m.seq = o.seq WHERE m.in_file = 1`,
  fileWanted: 'SELECT 1 AS found FROM message WHERE queue_id = ? AND in_file = 1 AND open > 0',
} as const;

function matches({ tags, recipients }: MessageStatus, { state, tag, recipient }: MessageQuery): boolean {
  return (
    (tag === undefined || tags.includes(tag)) &&
    (state === undefined || recipients.some((one) => one.state === state)) &&
    (recipient === undefined ||
      recipients.some((one) => one.address.toLowerCase() === recipient.toLowerCase()))
  );
}

type BodyRow = { open: number; in_file: number; found: number; bytes: Buffer | null };

type MessageRow = {
  seq: number;
  queue_id: string;
  kind: MessageKind;
  did: string;
  domain: string;
  via: string;
  mail_from: string;
  received_at: number;
  expires_at: number;
  size: number;
  category: string | null;
  details: string | null;
};

type RecipientRow = {
  seq: number;
  address: string;
  state: RecipientState;
  attempts: number;
  next_at: number | null;
  details: string | null;
};
