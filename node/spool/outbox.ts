/** Events of the spool, each written in the transaction of its cause. */
import type { Database } from '../../appview/database.ts';
import { type EventType, eventIds, outboxes } from '../enforcement/events.ts';
import type { AttemptRecord } from './message.ts';
import { type MessageDetails, type OpenRow, type RecipientDetails, read } from './rows.ts';
import type { RecipientState } from './states.ts';

export type Told = {
  type: EventType;
  did: string;
  domain: string;
  messageId: string;
  recipientId: string;
  detail: Record<string, unknown>;
};

type Statement = Database.Statement<unknown[]>;

export class Outbox {
  readonly #insert: Statement;
  readonly #forget: Statement;
  readonly #nextId: () => string;
  #clock = 0;

  constructor(db: Database.Database) {
    this.#insert = db.prepare('INSERT INTO event (id, body) VALUES (?, ?)');
    // The newest stays: after a restart its id is what the next one must exceed.
    this.#forget = db.prepare('DELETE FROM event WHERE id <= ? AND id < (SELECT MAX(id) FROM event)');
    const { last } = db.prepare('SELECT COALESCE(MAX(id), 0) AS last FROM event').get() as { last: number };
    this.#nextId = eventIds(outboxes.spool, () => this.#clock, last);
  }

  tell({ type, did, domain, messageId, recipientId, detail }: Told, at: number): void {
    this.#clock = at;
    const id = this.#nextId();
    const event = { id, type, at, did, domain, messageId, recipientId, detail };
    this.#insert.run([Number(id), JSON.stringify(event)]);
  }

  /** A recipient came to a state, by a try or by an act. */
  tellResult(row: OpenRow, recipientId: string, state: RecipientState, cause: Cause, at: number): void {
    if (row.kind !== 'mail') return;
    const { host, reply, status, summary, counted, recipientInvalid, suppressed } = cause.attempt ?? {};
    const { by, reason } = cause.act ?? {};
    this.#tellOf('delivery_result', row, recipientId, at, {
      ...{ state, host, reply, status, summary, counted, by, reason, suppressed },
      recipientInvalid: recipientInvalid === true,
    });
  }

  /** @param cause the other event that this one follows from, for people */
  tellComplaint(row: OpenRow, recipientId: string, cause: string, at: number): void {
    if (row.kind === 'mail') this.#tellOf('complaint_received', row, recipientId, at, { summary: cause });
  }

  forget(through: string): void {
    this.#forget.run(Number(through));
  }

  #tellOf(
    type: EventType,
    row: OpenRow,
    recipientId: string,
    at: number,
    what: Record<string, unknown>,
  ): void {
    const { tags } = read<MessageDetails>(row.message_details);
    const { simulated } = read<RecipientDetails>(row.details);
    const { address: recipient, recipient_domain: recipientDomain, site } = row;
    const of = { recipient, recipientDomain, site, category: row.category ?? undefined };
    const keyId = row.key_id ?? undefined;
    const detail = { ...what, ...of, keyId, simulated: simulated === true, tags };
    this.tell({ type, did: row.did, domain: row.domain, messageId: row.queue_id, recipientId, detail }, at);
  }
}

export type Cause = { attempt?: AttemptRecord; act?: { by: string; reason: string } };
