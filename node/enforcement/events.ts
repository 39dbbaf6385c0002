/**
 * What happened, in the one shape that rules, charts and Kafka share.
 *
 * An event is written by its cause, in the outbox of the cause's own database and in the same commit,
 * and copied to node.db by id. Copying twice changes nothing.
 */

export type EventType =
  | 'relay_attempt'
  | 'delivery_result'
  | 'bounce_received'
  | 'complaint_received'
  | 'unsubscribe'
  | 'auth_failure'
  | 'dns_changed'
  | 'attestation_changed'
  | 'identity_changed'
  | 'label_changed'
  | 'peer_signal'
  | 'staff_act';

export type Event = {
  /** Decimal text of an integer below 2^53: Unix ms × 2048 + outbox × 128 + counter. */
  id: string;
  type: EventType;
  /** Unix ms. */
  at: number;
  did: string;
  domain?: string;
  /** The queue id. */
  messageId?: string;
  recipientId?: string;
  detail: Record<string, unknown>;
  /** Window counters at the time of the event, filled by enforcement. */
  rates?: Record<string, number>;
};

/** Who may write events. No two databases or machines of one cooperative share a number (0–15). */
export const outboxes = { node: 0, spool: 1, appview: 2 } as const;

/** The id of an event is at least its time × this; after a clock that was put back, far more. */
const idsPerMs = 2048;

/**
 * Ids of one outbox: increasing, unique, below 2^53.
 *
 * More than 128 in one millisecond borrow from the next one, so ids may run ahead of the clock
 * but never repeat. A clock that steps back does not bring old ids again.
 *
 * @param outbox 0–15
 * @param last the newest id already in the outbox, so that a restart continues behind it
 */
export function eventIds(outbox: number, now: () => number, last = 0): () => string {
  if (!Number.isInteger(outbox) || outbox < 0 || outbox > 15)
    throw new RangeError(`outbox ${outbox} is not 0–15`);
  let ms = Math.floor(last / idsPerMs);
  let counter = last === 0 ? -1 : last % 128;
  return () => {
    const clock = now();
    if (clock > ms) {
      ms = clock;
      counter = 0;
    } else if (++counter > 127) {
      ms += 1;
      counter = 0;
    }
    return String(ms * idsPerMs + outbox * 128 + counter);
  };
}
