/**
 * What an operator can do with the queue: look, hold, release, retry, fail, drop, reroute, flush.
 *
 * The same functions behind the command line, the API and the pages. Looking never changes anything. An act
 * needs a selection that names something, who does it and, but for a retry, why; it is on the timeline of each
 * recipient that it touched, and one `staff_act` event tells of the whole.
 */
import type { Event } from '../enforcement/events.ts';
import { refuse } from '../http/refusal.ts';
import type { MessageStatus } from '../spool/message.ts';
import { isCursor, type QueuePage, type QueueSummary, type Selection } from '../spool/selection.ts';

/** What this file needs of the spool. Acting functions return how many recipients they changed. */
export type Queue = {
  list(query: Selection & { limit: number; cursor?: string }): Promise<QueuePage>;
  summary(now: number): Promise<QueueSummary>;
  message(queueId: string): Promise<MessageStatus | undefined>;
  hold(selection: Selection, act: Act): Promise<number>;
  unhold(selection: Selection, act: Act): Promise<number>;
  retryNow(selection: Selection, act: { by: string }): Promise<number>;
  cancel(selection: Selection, act: Act): Promise<number>;
  fail(selection: Selection, act: Act): Promise<number>;
  reroute(selection: Selection, act: { by: string; to: string | null }): Promise<number>;
};

/** What this file needs of the deliverer. */
export type Traffic = {
  sites(): SiteTraffic[];
  /** Lifts a suspension. */
  flush(site: string): void;
  /** Looks into the queue now. */
  wake(): void;
};

export type SiteTraffic = {
  site: string;
  /** The address we send from; absent: the system chooses. */
  source?: string;
  connections: number;
  limit: number;
  /** Unix ms. */
  suspendedUntil?: number;
  lastReply?: string;
};

export type Act = { by: string; reason: string };

/** What can be done to a selection. `drop`: no DSN. `fail`: with DSN. */
export const acts = ['hold', 'release', 'retry', 'fail', 'drop', 'reroute'] as const;
export type ActName = (typeof acts)[number];

export type ActRequest = {
  act: ActName;
  selection: Selection;
  by: string;
  /** Needed by all but `retry` and `reroute`. */
  reason?: string;
  /** For `reroute`: host or host:port; null for the way that DNS names. */
  to?: string | null;
};

export type QueueToolsOptions = {
  queue: Queue;
  traffic: Traffic;
  /** Whose act it is, in the event: this cooperative's DID. */
  did: string;
  record: (event: Pick<Event, 'type' | 'did' | 'detail'>) => void;
  /** Members who may not send now: their mail goes on when that is over, and not by a release. */
  stoppedMembers: () => readonly string[];
  now: () => number;
};

const maxListed = 500;

export class QueueTools {
  readonly #options: QueueToolsOptions;

  constructor(options: QueueToolsOptions) {
    this.#options = options;
  }

  async overview(): Promise<{ queue: QueueSummary; traffic: SiteTraffic[] }> {
    const { queue, traffic, now } = this.#options;
    return { queue: await queue.summary(now()), traffic: traffic.sites() };
  }

  /**
   * Recipients that are open, by member, oldest first; a page may be short while there is a cursor.
   *
   * @throws Refusal INVALID_REQUEST for a cursor that is none
   */
  list(selection: Selection, page: { limit?: number; cursor?: string } = {}) {
    if (page.cursor && !isCursor(page.cursor, selection))
      refuse('INVALID_REQUEST', 'The cursor is none that a page gave.');
    const limit = Math.min(Math.max(page.limit ?? 100, 1), maxListed);
    return this.#options.queue.list({ ...selection, limit, ...(page.cursor && { cursor: page.cursor }) });
  }

  /** @param id a queue id, or a recipient id of the message */
  show(id: string): Promise<MessageStatus | undefined> {
    return this.#options.queue.message(id.split('.')[0]!);
  }

  /** @returns how many recipients it changed. @throws Refusal INVALID_REQUEST */
  async act(request: ActRequest): Promise<number> {
    const { act, selection, by, reason = '', to } = request;
    check(request);
    const changed = await this.#do(request);
    this.#options.record({
      type: 'staff_act',
      did: this.#options.did,
      detail: { act: `queue ${act}`, by, reason, selection, changed, ...(to !== undefined && { to }) },
    });
    this.#options.traffic.wake();
    return changed;
  }

  /** Every recipient of the site is due at once, and a suspension of the site is over. */
  async flush(site: string, by: string): Promise<number> {
    this.#options.traffic.flush(site);
    return this.act({ act: 'retry', selection: { site }, by, reason: 'flush' });
  }

  /** Who names `heldBy` means it: single messages of a member under review may go. */
  #releasable(selection: Selection): Selection {
    if (selection.heldBy !== undefined) return selection;
    return { ...selection, exceptMailOf: this.#options.stoppedMembers() };
  }

  #do({ act, selection, by, reason = '', to = null }: ActRequest): Promise<number> {
    const { queue } = this.#options;
    switch (act) {
      case 'hold':
        return queue.hold(selection, { by, reason });
      case 'release':
        return queue.unhold(this.#releasable(selection), { by, reason });
      case 'retry':
        return queue.retryNow(selection, { by });
      case 'fail':
        return queue.fail(selection, { by, reason });
      case 'drop':
        return queue.cancel(selection, { by, reason });
      case 'reroute':
        return queue.reroute(selection, { by, to });
    }
  }
}

/** Everything that is open is a selection too, but one that must be meant: name the states. */
function check({ act, selection, by, reason, to }: ActRequest): void {
  if (by.trim() === '') refuse('INVALID_REQUEST', 'Say who does it (by).');
  const named = Object.values(selection).some((value) => value !== undefined);
  if (!named) refuse('INVALID_REQUEST', 'Name what is meant: ids, did, domain, site, states, ….');
  if (act !== 'retry' && act !== 'reroute' && !reason?.trim())
    refuse('INVALID_REQUEST', `${act} needs a reason: the member reads it.`);
  if (act === 'reroute' && to === undefined)
    refuse('INVALID_REQUEST', 'A reroute needs a host, or null for the way that DNS names.');
}
