/**
 * Sends what waits in deliveries.ts, tries again, and disables an address that stays silent for days.
 *
 * Promise: each delivery is tried until it arrives or its schedule ends; after a crash it may arrive twice,
 * with the same `webhook-id`. One address never holds up another: each has few connections, and those that
 * fail have half of all together. Outcomes are written a few times a second, not one by one, since a commit
 * blocks the whole node. The fetch is guarded: no address that is not public, no redirect.
 */
import type { Logger } from 'pino';
import { isCorruption } from '../../appview/database.ts';
import type { GuardedFetch } from '../../appview/identity/fetch.ts';
import type { RecordEvents } from '../enforcement/event-log.ts';
import type { OwnEvent } from '../enforcement/event-store.ts';
import type { Deliveries, Delivery, Tried } from './deliveries.ts';
import type { Endpoints, Webhook } from './endpoints.ts';
import { type Payload, payloadOf } from './payload.ts';
import { signedHeaders } from './signature.ts';

export type SenderOptions = {
  endpoints: Endpoints;
  deliveries: Deliveries;
  /** Guarded by the same rules as the endpoints. */
  fetch: GuardedFetch;
  record: RecordEvents;
  now: () => number;
  log: Logger;
  count: (what: string, reason?: string) => void;
  /** Connections in all, and to one address. Default 16 and 4. */
  concurrency?: number;
  perEndpoint?: number;
  /** For one try, from the name's resolution to the last byte. Default 10 s. */
  timeoutMs?: number;
  /** From one try to the next. */
  waitsMs?: readonly number[];
  /** So long without a success, and the address is disabled. Default 5 days. */
  patienceMs?: number;
  /** Between two commits of outcomes. Default 250 ms. */
  commitEveryMs?: number;
};

/** What one POST came to. */
export type Answer = { isSuccess: boolean; status: number | null; text: string };

const second = 1_000;
const minute = 60 * second;
const hour = 60 * minute;
/** As the examples of the spec. */
export const defaultWaitsMs: readonly number[] = [
  ...[5 * second, 5 * minute, 30 * minute],
  ...[2, 5, 10, 14, 20, 24].map((hours) => hours * hour),
];

const maxAnswerBytes = 16 * 1024;
const keptAnswer = 200;
const gone = 410;
/** Outcomes that do not wait longer for others. */
const commitAt = 100;
/** A clock that jumps, or a row that came by another way, is noticed within this. */
const lookEveryMs = 30_000;

type Lane = { busy: Set<number>; open: number };

export class WebhookSender {
  readonly #options: Required<SenderOptions>;
  readonly #lanes = new Map<string, Lane>();
  readonly #ending = new AbortController();
  readonly #tries = new Set<Promise<void>>();
  #outcomes: Tried[] = [];
  #open = 0;
  #lookTimer: NodeJS.Timeout | undefined;
  #lookAt = 0;
  #commitTimer: NodeJS.Timeout | undefined;
  #unfollow = () => undefined as unknown;

  constructor(options: SenderOptions) {
    this.#options = {
      ...{ concurrency: 16, perEndpoint: 4, timeoutMs: 10 * second, waitsMs: defaultWaitsMs },
      ...{ patienceMs: 5 * 24 * hour, commitEveryMs: 250 },
      ...options,
    };
  }

  start(): void {
    this.#unfollow = this.#options.deliveries.onQueued((id) => {
      this.#lane(id);
      this.#lookIn(0);
    });
    for (const id of this.#options.deliveries.lanes()) this.#lane(id);
    this.#lookIn(0);
  }

  /** Breaks off what is under way: it is tried again at the next start. */
  async stop(): Promise<void> {
    this.#unfollow();
    this.#ending.abort();
    clearTimeout(this.#lookTimer);
    await Promise.all(this.#tries);
    clearTimeout(this.#commitTimer);
    this.#commit();
  }

  /** Looks now, for example after a clock was moved. */
  wake(): void {
    for (const id of this.#options.deliveries.lanes()) this.#lane(id);
    this.#lookIn(0);
  }

  /** One POST of words that stand in no queue, for `test`. */
  async post(webhook: Webhook, id: string, payload: Payload): Promise<Answer> {
    const { now, fetch, timeoutMs, endpoints } = this.#options;
    const body = JSON.stringify(payload);
    const signed = signedHeaders(endpoints.secretsOf(webhook), { id, at: now(), body });
    try {
      const response = await fetch(webhook.url, {
        ...{ body, timeoutMs, maxBytes: maxAnswerBytes, cut: true, signal: this.#ending.signal },
        headers: { 'content-type': 'application/json', ...signed },
      });
      return answerOf(response.status, response.body);
    } catch (error) {
      return { isSuccess: false, status: null, text: (error as Error).message.slice(0, keptAnswer) };
    }
  }

  #lane(id: string): Lane {
    let lane = this.#lanes.get(id);
    if (!lane) {
      lane = { busy: new Set(), open: 0 };
      this.#lanes.set(id, lane);
    }
    return lane;
  }

  #lookIn(delayMs: number): void {
    const at = performance.now() + delayMs;
    if (this.#ending.signal.aborted || (this.#lookTimer && this.#lookAt <= at)) return;
    clearTimeout(this.#lookTimer);
    this.#lookAt = at;
    this.#lookTimer = setTimeout(() => {
      this.#lookTimer = undefined;
      this.#look();
    }, delayMs);
    this.#lookTimer.unref();
  }

  /** Starts what is due and has room, and comes back when the next thing is. */
  #look(): void {
    const { deliveries, now, concurrency } = this.#options;
    let soonest = now() + lookEveryMs;
    for (const [id, lane] of [...this.#lanes]) {
      if (deliveries.waiting(id) === 0 && lane.busy.size === 0) {
        this.#lanes.delete(id);
        continue;
      }
      const room = Math.min(this.#roomOf(id, lane), concurrency - this.#open);
      // A lane without room is looked at when one of its tries ends.
      if (room <= 0) continue;
      for (const delivery of deliveries.next(id, room + 1, lane.busy)) {
        const isDue = delivery.nextAt! <= now();
        if (isDue && this.#roomOf(id, lane) > 0 && this.#open < concurrency) this.#begin(lane, delivery);
        else if (!isDue) soonest = Math.min(soonest, delivery.nextAt!);
      }
      // The next look begins with another.
      this.#lanes.delete(id);
      this.#lanes.set(id, lane);
      if (this.#open >= concurrency) break;
    }
    this.#lookIn(Math.max(0, soonest - now()));
  }

  /** Addresses that fail have one connection each, and half of all together. */
  #roomOf(id: string, lane: Lane): number {
    const { endpoints, perEndpoint, concurrency } = this.#options;
    const webhook = endpoints.get(id);
    if (!webhook || webhook.disabledAt !== null) return 0;
    if (webhook.failingSince === null) return perEndpoint - lane.open;
    return Math.min(1 - lane.open, Math.ceil(concurrency / 2) - this.#failingOpen());
  }

  #failingOpen(): number {
    let open = 0;
    for (const [id, lane] of this.#lanes)
      if (lane.open > 0 && this.#options.endpoints.get(id)?.failingSince !== null) open += lane.open;
    return open;
  }

  #begin(lane: Lane, delivery: Delivery): void {
    lane.busy.add(delivery.id);
    lane.open++;
    this.#open++;
    const ended = this.#try(delivery).finally(() => {
      lane.open--;
      this.#open--;
      this.#tries.delete(ended);
      this.#lookIn(0);
    });
    this.#tries.add(ended);
  }

  /** Rejects, unhandled on purpose, when a secret does not open: our own state is damaged. */
  async #try(delivery: Delivery): Promise<void> {
    const { endpoints, deliveries, now, count } = this.#options;
    const webhook = endpoints.get(delivery.webhookId);
    const event = deliveries.event(delivery.eventId);
    const payload = event && payloadOf(event);
    if (!webhook) {
      this.#lanes.delete(delivery.webhookId);
      return;
    }
    if (!payload) {
      const answer = 'the event is past its retention';
      this.#note({ delivery, isDelivered: false, nextAt: null, at: now(), status: null, answer });
      return;
    }
    const { isSuccess, status, text } = await this.post(webhook, `evt_${delivery.eventId}`, payload);
    // Broken off by stop(): it is as if it had not been tried.
    if (this.#ending.signal.aborted && !isSuccess) return;
    count('webhook_tries', isSuccess ? 'delivered' : 'failed');
    const wait = this.#options.waitsMs[delivery.attempts];
    const nextAt = isSuccess || wait === undefined || status === gone ? null : now() + wait;
    this.#note({ delivery, isDelivered: isSuccess, nextAt, at: now(), status, answer: text });
  }

  #note(tried: Tried): void {
    this.#outcomes.push(tried);
    if (this.#outcomes.length >= commitAt) {
      clearTimeout(this.#commitTimer);
      this.#commit();
    } else this.#commitTimer ??= setTimeout(() => this.#commit(), this.#options.commitEveryMs).unref();
  }

  /** All outcomes in one commit, with what follows from them. On failure they are offered again. */
  #commit(): void {
    this.#commitTimer = undefined;
    const outcomes = this.#outcomes;
    if (outcomes.length === 0) return;
    this.#outcomes = [];
    const silent = new Map<string, string>();
    try {
      this.#options.record(this.#noticesOf(outcomes, silent), () => this.#write(outcomes, silent));
    } catch (error) {
      if (isCorruption(error)) throw error;
      this.#options.count('webhook_commits_failed');
      this.#options.log.error({ err: error }, 'webhooks: outcomes not stored; trying again');
      for (const { delivery } of outcomes) this.#options.endpoints.reload(delivery.webhookId);
      this.#options.deliveries.recount();
      this.#outcomes = [...outcomes, ...this.#outcomes];
      this.#commitTimer = setTimeout(() => this.#commit(), second).unref();
      return;
    }
    for (const { delivery } of outcomes) this.#lane(delivery.webhookId).busy.delete(delivery.id);
    this.#lookIn(0);
  }

  #write(outcomes: readonly Tried[], silent: ReadonlyMap<string, string>): void {
    const { endpoints, deliveries } = this.#options;
    for (const outcome of outcomes) {
      deliveries.finish(outcome);
      endpoints.noteHealth(outcome.delivery.webhookId, outcome.isDelivered);
    }
    for (const [id, reason] of silent) {
      endpoints.disable(endpoints.get(id)!, reason);
      deliveries.giveUp(id, reason);
    }
  }

  /** Addresses that are to be disabled, into `silent`, and the word to their members. */
  #noticesOf(outcomes: readonly Tried[], silent: Map<string, string>): OwnEvent[] {
    const answered = new Set(outcomes.filter((o) => o.isDelivered).map((o) => o.delivery.webhookId));
    for (const { delivery, isDelivered, status } of outcomes) {
      if (isDelivered || answered.has(delivery.webhookId)) continue;
      const reason = this.#reasonToDisable(delivery.webhookId, status);
      if (reason) silent.set(delivery.webhookId, reason);
    }
    return [...silent].map(([id, reason]): OwnEvent => {
      const { did, url } = this.#options.endpoints.get(id)!;
      const detail = {
        act: 'webhook disabled',
        webhook: id,
        url,
        reason,
        by: 'automatic',
        actor: 'webhooks',
      };
      this.#options.log.warn({ did, webhook: id, reason }, 'a webhook was disabled');
      return { type: 'staff_act', did, detail };
    });
  }

  #reasonToDisable(id: string, status: number | null): string | undefined {
    const { endpoints, now, patienceMs } = this.#options;
    const webhook = endpoints.get(id);
    if (!webhook || webhook.disabledAt !== null) return undefined;
    if (status === gone) return 'The address answered 410 Gone.';
    const since = webhook.failingSince;
    if (since === null || now() - since < patienceMs) return undefined;
    return `No delivery arrived since ${new Date(since).toISOString()}.`;
  }
}

function answerOf(status: number, body: Uint8Array): Answer {
  const isSuccess = status >= 200 && status < 300;
  const isRedirect = status >= 300 && status < 400;
  if (isRedirect) return { isSuccess, status, text: 'a redirect is not followed: give the address itself' };
  // Shown to the member: what a terminal or a page would act on is taken out.
  const text = Buffer.from(body)
    .toString('utf8')
    .replace(/\p{C}+/gu, ' ')
    .trim();
  return { isSuccess, status, text: text.slice(0, keptAnswer) };
}
