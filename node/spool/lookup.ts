/** Reading the spool: bodies for delivery, the timeline for people, the outbox for the copier. Changes nothing. */
import { CorruptState, type Database } from '../../appview/database.ts';
import type { Event } from '../enforcement/events.ts';
import type { Bodies } from './bodies.ts';
import type { AttemptRecord, MessageKind, MessageStatus, RecipientStatus } from './message.ts';
import type { RecipientState } from './states.ts';

type Statement = Database.Statement<unknown[]>;

export class Lookup {
  readonly #bodies: Bodies;
  readonly #message: Statement;
  readonly #body: Statement;
  readonly #recipients: Statement;
  readonly #attempts: Statement;
  readonly #events: Statement;

  constructor(db: Database.Database, bodies: Bodies) {
    this.#bodies = bodies;
    this.#message = db.prepare('SELECT * FROM message WHERE queue_id = ?');
    this.#body = db.prepare('SELECT bytes FROM body WHERE queue_id = ?');
    this.#recipients = db.prepare(
      'SELECT id, address, state, attempts, next_at FROM recipient WHERE queue_id = ? ORDER BY rowid',
    );
    this.#attempts = db.prepare('SELECT body, repeats FROM attempt WHERE recipient_id = ? ORDER BY id');
    this.#events = db.prepare('SELECT body FROM event WHERE id > ? ORDER BY id LIMIT ?');
  }

  /** @returns undefined for a finished or unknown message. @throws CorruptState when an open one has lost its body */
  body(queueId: string): Buffer | undefined {
    const message = this.#message.get(queueId) as MessageRow | undefined;
    if (!message || message.open === 0) return undefined;
    if (message.in_file) return this.#fileBody(queueId);
    const row = this.#body.get(queueId) as { bytes: ArrayBuffer } | undefined;
    if (!row) throw new CorruptState(`the spool lost the body of ${queueId}. Restore it from a backup.`);
    return Buffer.from(row.bytes);
  }

  message(queueId: string): MessageStatus | undefined {
    const row = this.#message.get(queueId) as MessageRow | undefined;
    if (!row) return undefined;
    const recipients = this.#recipients.all(queueId) as RecipientRow[];
    return {
      queueId,
      kind: row.kind,
      did: row.did,
      domain: row.domain,
      via: row.via,
      mailFrom: row.mail_from,
      receivedAt: row.received_at,
      expiresAt: row.expires_at,
      size: row.size,
      recipients: recipients.map((recipient) => this.#status(recipient)),
    };
  }

  /** Oldest first. */
  eventsAfter(id: string, limit: number): Event[] {
    const rows = this.#events.all(Number(id), limit) as { body: string }[];
    return rows.map((row) => JSON.parse(row.body) as Event);
  }

  #fileBody(queueId: string): Buffer {
    try {
      return this.#bodies.read(queueId);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      throw new CorruptState(`the spool lost the file spool/${queueId}. Restore it from a backup.`);
    }
  }

  #status({ id, address, state, attempts, next_at }: RecipientRow): RecipientStatus {
    const rows = this.#attempts.all(id) as { body: string; repeats: number }[];
    const timeline = rows.map((row) => ({
      ...(JSON.parse(row.body) as AttemptRecord),
      repeats: row.repeats,
    }));
    return { id, address, state, attempts, nextAt: next_at, timeline };
  }
}

type MessageRow = {
  kind: MessageKind;
  did: string;
  domain: string;
  via: string;
  mail_from: string;
  received_at: number;
  expires_at: number;
  size: number;
  in_file: number;
  open: number;
};

type RecipientRow = {
  id: string;
  address: string;
  state: RecipientState;
  attempts: number;
  next_at: number | null;
};
