/** What the two threads of the spool say to each other. */
import type { Event } from '../enforcement/events.ts';
import type { CrashPoint } from './crash.ts';
import type { Accepted, Claim, MessageStatus, NewMessage, Settled, Settlement } from './message.ts';

/** Each method once: the main thread asks with its arguments, the worker answers with its result. */
export type Calls = {
  accept(message: NewMessage): Accepted;
  settle(settlement: Settlement): Settled;
  forgetEvents(through: string): undefined;
  housekeep(): undefined;
  due(limit: number, now: number, exceptDomains: readonly string[]): Claim[];
  release(recipientIds: readonly string[]): undefined;
  nextDueAt(exceptDomains: readonly string[]): number | undefined;
  body(queueId: string): Uint8Array | undefined;
  message(queueId: string): MessageStatus | undefined;
  eventsAfter(id: string, limit: number): Event[];
  close(): undefined;
};

export type CallName = keyof Calls;

/** `at`: the main thread's clock, because an injected one cannot be sent. */
export type Request = {
  [Name in CallName]: { id: number; at: number; call: Name; args: Parameters<Calls[Name]> };
}[CallName];

export type Reply =
  | { kind: 'ready' }
  /** The worker cannot go on; it exits. */
  | { kind: 'fatal'; name: string; message: string }
  | { kind: 'result'; id: number; value: unknown }
  | { kind: 'error'; id: number; message: string };

export type WorkerOptions = { dir: string; retainMs: number; crashPoint?: CrashPoint };
