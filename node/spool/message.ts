/**
 * What goes into the spool and what comes out of it.
 *
 * Bytes are whole and final here: the spool changes none of them, and knows neither DNS nor SMTP.
 * All times are Unix ms.
 */
import type { RecipientState } from './states.ts';

/** `dsn` and `notice` are our own mail: no DSN is made for them and no event is counted. */
export type MessageKind = 'mail' | 'dsn' | 'notice';

export type NewRecipient = {
  /** `${queueId}.${n}`, n from 1: see ids.ts. */
  id: string;
  address: string;
  /** Envelope sender on the wire; '' for a DSN. */
  returnPath: string;
  /** What goes out is `signatures`, `prefix`, body. Header lines, each ended by CR LF; may be empty. */
  signatures: Buffer;
  /** Unix ms of the signatures: apart from the rest, so that they can be made anew when they grow old. */
  signedAt: number;
  /** Header lines that were put before the body for this recipient, each ended by CR LF; may be empty. */
  prefix: Buffer;
};

/** From acceptance to the DSN, unless someone asks for less. */
export const defaultLifetimeMs = 4 * 24 * 60 * 60_000;

export type NewMessage = {
  /** From newQueueId(); a repeated id is refused. */
  queueId: string;
  kind: MessageKind;
  did: string;
  /** The member's domain that sends: it chooses where a DSN goes. */
  domain: string;
  via: 'smtp' | 'http' | 'internal';
  /** Envelope sender as the member gave it; '' is the null sender, which never gets a DSN. */
  mailFrom: string;
  receivedAt: number;
  /** From then on the message is not tried again. */
  expiresAt: number;
  /** The message without the prepended lines. */
  body: Buffer;
  /** At least one. */
  recipients: NewRecipient[];
  /** All must have room for every recipient, or nothing is stored. Empty for our own mail. */
  caps: Cap[];
};

/** Recipients accepted per window, counted in minute buckets in the same commit as the message. */
export type Cap = {
  /** Who is counted: `did:plc:x`, `domain:reef.test`. */
  scope: string;
  perHour: number;
  perDay: number;
};

export type Accepted =
  | { kind: 'committed' }
  | { kind: 'over-cap'; cap: Cap }
  /** Nothing is stored; the same message may be offered again. `reason` is for the log, not for the peer. */
  | { kind: 'failed'; reason: string };

/** `not-open`: nothing happened, since the recipient is terminal or forgotten; its claim is gone. */
export type Settled = 'settled' | 'not-open';

/** A recipient handed out for one try. It is nobody else's until settle() or release(). */
export type Claim = {
  recipientId: string;
  queueId: string;
  kind: MessageKind;
  did: string;
  domain: string;
  address: string;
  /** Of the address, in lower case. */
  recipientDomain: string;
  returnPath: string;
  /** On the wire: `signatures`, `prefix`, body. */
  signatures: Buffer;
  signedAt: number;
  prefix: Buffer;
  /** Tries so far that counted against the schedule. */
  attempts: number;
  receivedAt: number;
  expiresAt: number;
  mailFrom: string;
};

/** One try, or the decision not to try again. */
export type AttemptRecord = {
  at: number;
  durationMs: number;
  outcome: 'delivered' | 'deferred' | 'failed';
  /** Whether it counts against the retry schedule: our own network and resolver failing do not. */
  counted: boolean;
  /** Mail exchanger's name, and the address that was spoken to. */
  host?: string;
  address?: string;
  /** Absent when no encrypted session came about. */
  tls?: { version: string; cipher: string };
  /** The peer's reply as it came, cut to a length that fits a log; absent when it said nothing. */
  reply?: string;
  /** RFC 3463 status: the peer's, or ours where it gave none. */
  status: string;
  /** One line for people: what happened. */
  summary: string;
  /** Only this recipient's address is at fault (`reply.ts`). */
  recipientInvalid?: boolean;
};

export type NextState = { state: 'sent' } | { state: 'deferred'; at: number } | { state: 'bounced' };

export type Settlement = {
  recipientId: string;
  attempt: AttemptRecord;
  next: NextState;
  /** Committed together with the state, so that no bounce is without its DSN and no DSN without its bounce. */
  dsn?: NewMessage;
};

export type RecipientStatus = {
  id: string;
  address: string;
  state: RecipientState;
  attempts: number;
  /** Null when terminal. */
  nextAt: number | null;
  /** Oldest first. `repeats`: how often the same failure of our own followed without a change. */
  timeline: (AttemptRecord & { repeats: number })[];
};

export type MessageStatus = {
  queueId: string;
  kind: MessageKind;
  did: string;
  domain: string;
  via: string;
  mailFrom: string;
  receivedAt: number;
  expiresAt: number;
  /** Octets of the body without the prepended lines. */
  size: number;
  recipients: RecipientStatus[];
};
