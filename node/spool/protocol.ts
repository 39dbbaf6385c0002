/** What the two threads of the spool say to each other. */
import type { Event } from '../enforcement/events.ts';
import type { CrashPoint } from './crash.ts';
import type { Content } from './fresh.ts';
import type { Known } from './idempotency.ts';
import type {
  Accepted,
  Act,
  Batch,
  BatchAccepted,
  Budget,
  Cap,
  Claim,
  MessagePage,
  MessageQuery,
  MessageStatus,
  NewMessage,
  Settled,
  Settlement,
} from './message.ts';
import type { QueuePage, Selection, SiteSummary, SourceUse } from './selection.ts';

/** What is not handed out now. */
export type Except = { exceptSites: readonly string[]; exceptMembers: readonly string[] };

export type DueQuery = Except & { limit: number; now: number };

/** One bounded step of an operator's act; `after` is the cursor of the step before. */
export type ActStep = {
  selection: Selection;
  act: Act;
  by: string;
  reason: string;
  /** For `rerouted`; null: by its own route again. */
  to?: string | null;
  after?: string;
};

export type ActResult = { changed: number; cursor?: string };

export type CancelScheduled = 'cancelled' | 'not-scheduled' | 'unknown';

export type Quota = { messages: number; bytes: number };
export type Quotas = { all: Quota; perMember: Quota };

/** A part of the queue added up; messages and bytes are of all. */
export type SummaryStep = Quota & { sites: SiteSummary[]; cursor?: string };

/** What makes the claim (at-once.ts), beside the message as it was offered. */
export type Claimed = Content & { site: string };

/** As Accepted; `claimed` where its one recipient is being tried from now on. */
export type AcceptAnswer =
  | Exclude<Accepted, { kind: 'committed' }>
  | { kind: 'committed'; claimed?: Claimed };

/** Each method once: the main thread asks with its arguments, the worker answers with its result. */
export type Calls = {
  /** @param wanted somebody would begin its one recipient at once, so it is claimed if its turn is now */
  accept(message: NewMessage, wanted?: boolean): AcceptAnswer;
  acceptBatch(batch: Batch): BatchAccepted;
  settle(settlement: Settlement): Settled;
  act(step: ActStep): ActResult;
  cancelScheduled(did: string, queueId: string): CancelScheduled;
  /** @returns from which site more of the domain's recipients are to come over, by another call */
  assignSite(domain: string, site: string, from?: string): string | undefined;
  finishCancelled(seqs: readonly number[]): undefined;
  turnBack(ms: number): undefined;
  forgetEvents(through: string): undefined;
  housekeep(): undefined;
  due(query: DueQuery): Claim[];
  release(recipientIds: readonly string[]): undefined;
  nextDueAt(except: Except): number | undefined;
  body(queueId: string, octets?: number): Uint8Array | undefined;
  message(queueId: string): MessageStatus | undefined;
  messages(query: MessageQuery): MessagePage;
  list(selection: Selection, limit: number, cursor: string | undefined): QueuePage;
  summary(now: number, cursor?: string): SummaryStep;
  budget(caps: readonly Cap[], now: number): Budget[];
  /** Idempotency, asked before admission: a repetition gets its answer also when it would be refused by now. */
  answerTo(did: string, key: string, fingerprint: string): Known | undefined;
  sourceUse(): SourceUse[];
  eventsAfter(id: string, limit: number): Event[];
  close(): undefined;
};

export type CallName = keyof Calls;

/** `at`: the main thread's clock, because an injected one cannot be sent. */
export type Request = {
  [Name in CallName]: { id: number; at: number; call: Name; args: Parameters<Calls[Name]> };
}[CallName];

export type Result = { id: number; value: unknown } | { id: number; error: string };

export type Reply =
  | { kind: 'ready' }
  /** The worker cannot go on; it exits. */
  | { kind: 'fatal'; name: string; message: string }
  /** Those of one commit together. */
  | { kind: 'results'; results: Result[] };

export type WorkerOptions = { dir: string; retainMs: number; quotas: Quotas; crashPoint?: CrashPoint };
