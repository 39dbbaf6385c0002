/**
 * Which recipients an operator means, and what looking at the queue shows.
 *
 * Looking never changes anything, and a selection without any field selects nothing.
 */
import type { RecipientState } from './states.ts';

/** Open recipients for which all given fields hold. */
export type Selection = {
  /** Queue ids or recipient ids. */
  ids?: readonly string[];
  did?: string;
  keyId?: string;
  /** The sender's. */
  domain?: string;
  recipientDomain?: string;
  site?: string;
  states?: readonly RecipientState[];
  /** `mail`, `dsn` or `notice`. */
  kind?: string;
  /** Held, by whom. */
  heldBy?: string;
  /** All but the mail of these members. */
  exceptMailOf?: readonly string[];
  /** Accepted before then, Unix ms. */
  before?: number;
};

export type QueueEntry = {
  recipientId: string;
  queueId: string;
  kind: string;
  did: string;
  domain: string;
  keyId?: string;
  address: string;
  site: string;
  state: RecipientState;
  attempts: number;
  receivedAt: number;
  expiresAt: number;
  /** Null while held. */
  nextAt: number | null;
  size: number;
  /** A try is under way. */
  inFlight: boolean;
  reroute?: string;
  /** Summary of the last try. */
  last?: string;
};

/** By member, each oldest first. A page may be short while there is a `cursor`. */
export type QueuePage = { entries: QueueEntry[]; cursor?: string };

/** Is this the `cursor` of such a page, or made up? Of a selection by ids it is a number. */
export function isCursor(text: string, { ids }: Selection): boolean {
  if (ids) return /^\d{1,9}$/.test(text);
  try {
    const place: unknown = JSON.parse(text);
    return Array.isArray(place) && place.map((part) => typeof part).join() === 'string,string,number,number';
  } catch {
    return false;
  }
}

/** Upper bounds of the age buckets in minutes; the last bucket is older than all. */
export const ageBuckets = [5, 10, 20, 40, 80, 160, 320, 640, 1280] as const;

/** What Postfix's qshape shows: how old is the mail for each site. */
export type SiteSummary = {
  site: string;
  total: number;
  states: Partial<Record<RecipientState, number>>;
  /** One count for each of `ageBuckets`, and one for what is older. */
  ages: number[];
  /** Unix ms of acceptance. */
  oldest: number;
};

/** `sites`: the 100 with most recipients; `total` counts all. */
export type QueueSummary = { total: number; messages: number; bytes: number; sites: SiteSummary[] };

/** What this machine's source addresses sent to a provider on a day (Unix ms / 86,400,000, UTC). */
export type SourceUse = { source: string; firstAt: number; provider: string; day: number; sent: number };
