/**
 * The queue of webhooks in node.db: which event goes to which address, and how its tries ended.
 *
 * Promise: a delivery is queued in the commit that stores its event, once. It holds no words of its own: they
 * are made from the event at each try, so what can be replayed is what the event log still has (30 days).
 * Bounded: an address has at most `maxWaiting` waiting; what comes beyond is counted, not queued, and can be
 * replayed. What arrived is forgotten after 3 days, all else after 30.
 */
import type { Database } from '../../appview/database.ts';
import type { Projection } from '../enforcement/event-store.ts';
import type { Event } from '../enforcement/events.ts';
import type { Endpoints, Webhook } from './endpoints.ts';
import { type ToldType, toldType } from './payload.ts';

export type DeliveryState = 'waiting' | 'delivered' | 'failed';

export type Delivery = {
  id: number;
  webhookId: string;
  eventId: number;
  type: ToldType;
  messageId: string | null;
  state: DeliveryState;
  attempts: number;
  /** Unix ms, as all times here. */
  createdAt: number;
  nextAt: number | null;
  lastAt: number | null;
  /** HTTP status of the last try. */
  status: number | null;
  /** The beginning of the last answer, or what went wrong. */
  answer: string | null;
};

/** How a try ended. `nextAt` null: there is no other. */
export type Tried = {
  delivery: Delivery;
  isDelivered: boolean;
  nextAt: number | null;
  at: number;
  status: number | null;
  answer: string;
};

/** Which of a member's events to tell again. `until` excluded. */
export type Replay = { messageId: string } | { since: number; until: number };

export type DeliveriesOptions = {
  /** node.db. */
  db: Database.Database;
  endpoints: Endpoints;
  now: () => number;
  count: (what: string, reason?: string) => void;
  /** Waiting at one address. Default 10,000. */
  maxWaiting?: number;
};

const dayMs = 86_400_000;
const deliveredKeptMs = 3 * dayMs;
const keptMs = 30 * dayMs;
const removedAtOnce = 2_000;

export class Deliveries implements Projection {
  readonly #options: Required<DeliveriesOptions>;
  readonly #sql: ReturnType<typeof prepareAll>;
  readonly #waiting = new Map<string, number>();
  readonly #listeners = new Set<(webhookId: string) => void>();

  constructor(options: DeliveriesOptions) {
    this.#options = { maxWaiting: 10_000, ...options };
    this.#sql = prepareAll(options.db);
    this.recount();
  }

  /** In the transaction that stores the events. */
  project(events: readonly Event[]): void {
    for (const event of events) {
      const webhooks = this.#options.endpoints.of(event.did);
      const type = webhooks.length > 0 ? toldType(event) : undefined;
      if (!type) continue;
      for (const webhook of webhooks) if (wants(webhook, type)) this.#queue(webhook, event, type);
    }
  }

  housekeep(): boolean {
    const now = this.#options.now();
    const removed =
      this.#sql.trimDelivered.run(now - deliveredKeptMs, removedAtOnce).changes +
      this.#sql.trim.run(now - keptMs, removedAtOnce).changes;
    // Also what a transaction that was rolled back had counted.
    this.recount();
    return removed >= removedAtOnce;
  }

  /** Called when something is due there, or may be: after a commit, or shortly before it. */
  onQueued(listener: (webhookId: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Those that are due first. @param busy deliveries that are under way */
  next(webhookId: string, limit: number, busy: ReadonlySet<number>): Delivery[] {
    const rows = this.#sql.next.all(webhookId, limit + busy.size) as Delivery[];
    return rows.filter(({ id }) => !busy.has(id)).slice(0, limit);
  }

  /** Addresses with something waiting. */
  lanes(): string[] {
    return [...this.#waiting].filter(([, waiting]) => waiting > 0).map(([id]) => id);
  }

  waiting(webhookId: string): number {
    return this.#waiting.get(webhookId) ?? 0;
  }

  event(id: number): Event | undefined {
    const row = this.#sql.event.get(id) as EventRow | undefined;
    return row && toEvent(row);
  }

  /** In the caller's transaction. */
  finish({ delivery, isDelivered, nextAt, at, status, answer }: Tried): void {
    const state: DeliveryState = isDelivered ? 'delivered' : nextAt === null ? 'failed' : 'waiting';
    const { changes } = this.#sql.finish.run(state, nextAt, at, status, answer, delivery.id);
    if (changes > 0 && state !== 'waiting') this.#changeWaiting(delivery.webhookId, -1);
  }

  /** In the caller's transaction: nothing more is tried at an address that was disabled. */
  giveUp(webhookId: string, reason: string): void {
    this.#sql.giveUp.run(reason, webhookId);
    this.#waiting.delete(webhookId);
  }

  /** What is waiting by the database: after a start, a rollback, a removal. */
  recount(): void {
    this.#waiting.clear();
    for (const { id, waiting } of this.#sql.waiting.all() as { id: string; waiting: number }[])
      this.#waiting.set(id, waiting);
  }

  /** Newest first. @param o.before the id where the page before ended */
  list(
    webhookId: string,
    o: { state?: DeliveryState | undefined; limit: number; before?: number | undefined },
  ) {
    return this.#sql.list.all([
      ...[webhookId, o.state ?? null, o.before ?? Number.MAX_SAFE_INTEGER, o.limit],
    ]) as Delivery[];
  }

  /** @returns how many of these are queued again; they are this address's or nothing happens to them */
  replayIds(webhookId: string, ids: readonly number[]): number {
    const room = this.#options.maxWaiting - this.waiting(webhookId);
    let queued = 0;
    for (const id of ids.slice(0, Math.max(room, 0)))
      queued += this.#sql.again.run(this.#options.now(), id, webhookId).changes;
    this.#changeWaiting(webhookId, queued);
    if (queued > 0) this.#announce(webhookId);
    return queued;
  }

  /**
   * Queues what the event log still has, also what was never told. A day of events at a time, so that nobody
   * waits long for a long replay.
   *
   * @returns how many, and where to go on when the queue is full
   */
  async replay(webhook: Webhook, what: Replay): Promise<{ queued: number; since?: number }> {
    const { since, until } = spanOf(what, this.#options.now());
    let queued = 0;
    for (let from = since; from < until; from += dayMs) {
      const stopped = this.#replayDay(webhook, from, Math.min(from + dayMs, until), what);
      queued += stopped.queued;
      if (queued > 0) this.#announce(webhook.id);
      if (stopped.at !== undefined) return { queued, since: stopped.at };
      await new Promise((resolve) => setImmediate(resolve));
    }
    return { queued };
  }

  #replayDay(webhook: Webhook, from: number, until: number, what: Replay): { queued: number; at?: number } {
    const message = 'messageId' in what ? what.messageId : null;
    let queued = 0;
    for (const row of this.#sql.events.all([webhook.did, from, until, message]) as EventHead[]) {
      const type = toldType({ type: row.type, detail: detailOf(row) });
      if (!type || !isWanted(webhook, type)) continue;
      if (this.waiting(webhook.id) >= this.#options.maxWaiting) return { queued, at: row.at };
      const values = [webhook.id, row.id, type, row.messageId, this.#options.now(), this.#options.now()];
      if (this.#sql.replay.run(values).changes === 0) continue;
      this.#changeWaiting(webhook.id, 1);
      queued++;
    }
    return { queued };
  }

  #queue(webhook: Webhook, event: Event, type: ToldType): void {
    const { now, count, maxWaiting } = this.#options;
    if (this.waiting(webhook.id) >= maxWaiting) {
      count('webhook_events_not_queued');
      return;
    }
    this.#sql.insert.run([webhook.id, Number(event.id), type, event.messageId ?? null, now(), now()]);
    this.#changeWaiting(webhook.id, 1);
    this.#announce(webhook.id);
  }

  #changeWaiting(webhookId: string, by: number): void {
    if (by !== 0) this.#waiting.set(webhookId, Math.max(0, this.waiting(webhookId) + by));
  }

  #announce(webhookId: string): void {
    for (const listener of this.#listeners) listener(webhookId);
  }
}

type EventRow = {
  id: number;
  type: Event['type'];
  at: number;
  did: string;
  domain: string | null;
  messageId: string | null;
  recipientId: string | null;
  detail: string;
};

type EventHead = {
  id: number;
  type: Event['type'];
  at: number;
  messageId: string | null;
  state: string | null;
  act: string | null;
  refused: string | null;
};

function toEvent({ id, domain, messageId, recipientId, detail, ...row }: EventRow): Event {
  return {
    ...row,
    id: String(id),
    ...(domain !== null && { domain }),
    ...(messageId !== null && { messageId }),
    ...(recipientId !== null && { recipientId }),
    detail: JSON.parse(detail) as Record<string, unknown>,
  };
}

function detailOf({ state, act, refused }: EventHead): Record<string, unknown> {
  return { state, act, ...(refused !== null && { refused }) };
}

function wants(webhook: Webhook, type: ToldType): boolean {
  return webhook.disabledAt === null && isWanted(webhook, type);
}

function isWanted({ types }: Webhook, type: ToldType): boolean {
  return types.length === 0 || types.includes(type);
}

/** A queue id begins with its time (spool/ids.ts): nothing of it is older. */
function spanOf(what: Replay, now: number): { since: number; until: number } {
  const oldest = now - keptMs - dayMs;
  if ('since' in what) return { since: Math.max(what.since, oldest), until: Math.min(what.until, now + 1) };
  const time = Number.parseInt(what.messageId.slice(0, 9), 32);
  const since = Number.isNaN(time) ? oldest : time - dayMs;
  return { since: Math.max(since, oldest), until: now + 1 };
}

function prepareAll(db: Database.Database) {
  const columns = `id, webhook_id AS webhookId, event_id AS eventId, type, message_id AS messageId, state,
    attempts, created_at AS createdAt, next_at AS nextAt, last_at AS lastAt, status, answer`;
  const insert = `INSERT INTO webhook_delivery (webhook_id, event_id, type, message_id, state, attempts, created_at, next_at)
    VALUES (?, ?, ?, ?, 'waiting', 0, ?, ?)`;
  return {
    insert: db.prepare(insert),
    replay: db.prepare(
      `${insert} ON CONFLICT (webhook_id, event_id) DO UPDATE SET state = 'waiting', attempts = 0,
         next_at = excluded.next_at WHERE state <> 'waiting'`,
    ),
    again: db.prepare(
      `UPDATE webhook_delivery SET state = 'waiting', attempts = 0, next_at = ?
       WHERE id = ? AND webhook_id = ? AND state <> 'waiting'`,
    ),
    next: db.prepare(
      `SELECT ${columns} FROM webhook_delivery WHERE webhook_id = ? AND state = 'waiting'
       ORDER BY next_at, id LIMIT ?`,
    ),
    waiting: db.prepare(
      `SELECT webhook_id AS id, count(*) AS waiting FROM webhook_delivery WHERE state = 'waiting'
       GROUP BY webhook_id`,
    ),
    finish: db.prepare(
      `UPDATE webhook_delivery SET state = ?, next_at = ?, attempts = attempts + 1, last_at = ?, status = ?,
         answer = ? WHERE id = ? AND state = 'waiting'`,
    ),
    giveUp: db.prepare(
      `UPDATE webhook_delivery SET state = 'failed', next_at = NULL, answer = ?
       WHERE webhook_id = ? AND state = 'waiting'`,
    ),
    list: db.prepare(
      `SELECT ${columns} FROM webhook_delivery
       WHERE webhook_id = ?1 AND (?2 IS NULL OR state = ?2) AND id < ?3 ORDER BY id DESC LIMIT ?4`,
    ),
    event: db.prepare(
      `SELECT id, type, at, did, domain, message_id AS messageId, recipient_id AS recipientId, detail
       FROM event WHERE id = ?`,
    ),
    events: db.prepare(
      `SELECT id, type, at, message_id AS messageId, detail->>'state' AS state, detail->>'act' AS act,
         detail->>'refused' AS refused
       FROM event WHERE did = ?1 AND at >= ?2 AND at < ?3 AND (?4 IS NULL OR message_id = ?4) ORDER BY at, id`,
    ),
    trimDelivered: db.prepare(
      `DELETE FROM webhook_delivery WHERE id IN
         (SELECT id FROM webhook_delivery WHERE state = 'delivered' AND last_at < ? LIMIT ?)`,
    ),
    trim: db.prepare(
      `DELETE FROM webhook_delivery WHERE id IN
         (SELECT id FROM webhook_delivery WHERE created_at < ? ORDER BY created_at LIMIT ?)`,
    ),
  };
}
