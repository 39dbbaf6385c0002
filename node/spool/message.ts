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
  /** RFC 3461 §4.1; absent: the member did not say. */
  notify?: readonly Notify[];
  /** RFC 3461 §4.2, as given. */
  orcpt?: string;
  /** Counts against no cap; its events say so in `detail.simulated`. */
  simulated?: boolean;
  /** Taken and ended `bounced` in the commit of acceptance, never tried: why. */
  refused?: AttemptRecord;
};

/** RFC 3461 §4.1. */
export type Notify = 'success' | 'failure' | 'delay' | 'never';

/** From acceptance to the DSN, unless someone asks for less. */
export const defaultLifetimeMs = 4 * 24 * 60 * 60_000;

/**
 * Octets of a body that is stored in one row with its lines, and comes with its claim. A larger one is a file: its
 * row would go through the WAL twice.
 */
export const maxBodyInRow = 256 * 1024;

/** The `recipientDomain` of an address: lower case, without `@`. */
export function domainOf(address: string): string {
  return address.slice(address.lastIndexOf('@') + 1).toLowerCase();
}

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
  /** From then on the message is not tried again; the spool adds what a recipient was scheduled or held. */
  expiresAt: number;
  /** The message without the prepended lines. */
  body: Buffer;
  /** Nobody needs the body once it is offered: the spool may take its memory, and leave it empty. */
  givesBody?: boolean;
  /** At least one. */
  recipients: NewRecipient[];
  /** All must have room for every recipient, or nothing is stored. Empty for our own mail. */
  caps: Cap[];
  /** The API key that authenticated. */
  keyId?: string;
  category?: string;
  tags?: readonly string[];
  /** For listings; cut to 200 characters. */
  subject?: string;
  /** RFC 3461 §4.3 and §4.4. */
  ret?: 'full' | 'hdrs';
  envid?: string;
  /** RFC 8689. */
  requireTls?: boolean;
  /** Every recipient is `scheduled` until then. */
  sendAt?: number;
  /** Every recipient is `held` from the start, for this reason. */
  hold?: string;
  idempotency?: Idempotency;
  /** DSNs of refused recipients, stored in the same commit. They count against no cap and no quota. */
  notices?: NewMessage[];
};

/** The key belongs to the message's `did`; with the answer it is kept 24 h from the commit of the message. */
export type Idempotency = {
  key: string;
  /** Of the whole request: the same key with another one is `key-reused`. */
  fingerprint: string;
  /** What a repetition gets. */
  answer: string;
};

/** Recipients accepted per window, counted in minute buckets in the same commit as the message. */
export type Cap = {
  /** Who is counted: `did:plc:x`, `domain:reef.test`. */
  scope: string;
  /** A token bucket: so many accrue an hour, and at most `burst` (default `perHour`) are saved up. */
  perHour: number;
  burst?: number;
  /** In any 23 hours: mail with a daily rhythm that comes some minutes earlier than yesterday has room. */
  perDay: number;
  /** A recipient's id: it counts 1, for that one alone. Simulated recipients count nowhere. */
  only?: string;
};

/** What a scope used in the day's window, and what it may still send now: `left` of the hour is its bucket. */
export type Budget = {
  scope: string;
  hour: { used: number; left: number };
  day: { used: number; left: number };
};

export type Accepted =
  | { kind: 'committed' }
  /** The same request was committed within 24 hours; nothing is stored. */
  | { kind: 'repeated'; answer: string }
  | { kind: 'key-reused' }
  /** `retryAt`: Unix ms at which the cap that lacks room has it again, if nothing else is sent. */
  | { kind: 'over-cap'; cap: Cap; retryAt: number }
  | UsedUp
  | { kind: 'queue-full'; whose: 'member' | 'all' }
  /** Nothing is stored; the same message may be offered again. `reason` is for the log, not for the peer. */
  | { kind: 'failed'; reason: string };

/** Caps of single recipients (`only`) that have no room; without those recipients it may be offered again. */
export type UsedUp = { kind: 'used-up'; caps: Cap[] };

/** One of a batch: a message, with the answer of each outcome; or an answer that stands already. */
export type BatchItem =
  /** Its own `idempotency` is not looked at. */
  | { message: NewMessage; answers: { committed: string; 'over-cap': string; 'queue-full': string } }
  | { answer: string };

export type Batch = {
  did: string;
  items: readonly BatchItem[];
  idempotency?: { key: string; fingerprint: string };
};

/** What became of a message of a batch. */
export type BatchOutcome = Extract<Accepted, { kind: 'committed' | 'over-cap' | 'queue-full' }>;

/** `used-up`, `failed`: nothing of the batch is stored. */
export type BatchAccepted =
  /** Both in the order of the items; an answer that stood already has no outcome. */
  | { kind: 'done'; answers: string[]; outcomes: (BatchOutcome | undefined)[] }
  | { kind: 'repeated'; answers: string[] }
  | UsedUp
  | { kind: 'key-reused' }
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
  /** With the time it was scheduled or held. */
  expiresAt: number;
  mailFrom: string;
  /** The MX site as of assignSite(); until then the recipient domain. */
  site: string;
  /** Octets of the body. */
  size: number;
  /** The body, where it is at most `maxBodyInRow` and due() had room for it (4 MiB a call): then body() need not be asked. */
  body?: Buffer;
  keyId?: string;
  category?: string;
  requireTls: boolean;
  ret?: 'full' | 'hdrs';
  envid?: string;
  notify?: readonly Notify[];
  orcpt?: string;
  simulated: boolean;
  /** Source address of the last try that had one. */
  lastSource?: string;
  delayNoticed: boolean;
  /** An operator failed it: bounce it with this reason and a DSN, without a try. */
  failReason?: string;
  /** An operator sends it there instead: host, host:port or [address]:port. */
  reroute?: string;
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
  /** Our own address that the connection came from, and the site that it went to. */
  source?: string;
  site?: string;
  /** Absent when no encrypted session came about. */
  tls?: TlsFacts;
  /** The peer's reply as it came, cut to a length that fits a log; absent when it said nothing. */
  reply?: string;
  /** RFC 3463 status: the peer's, or ours where it gave none. */
  status: string;
  /** One line for people: what happened. */
  summary: string;
  /** Only this recipient's address is at fault (`reply.ts`). */
  recipientInvalid?: boolean;
  /** Nobody was asked: the recipient is on the member's list. It counts as no send and no bounce. */
  suppressed?: true;
};

/** What a session was protected by, for the timeline. */
export type TlsFacts = {
  version: string;
  cipher: string;
  /** The demand that the session had to meet: `opportunistic`, `encrypted`, `verified` or `dane`. */
  policy?: string;
  /** On whose word the certificate was checked; absent where nobody checked it. */
  verified?: 'mta-sts' | 'dane' | 'requiretls';
  /** Name and SHA-256 fingerprint of the peer's certificate. */
  peer?: string;
};

export type NextState =
  | { state: 'sent' }
  /** Stays `held`, or ends `cancelled`, where that was asked for while the try was under way. */
  | { state: 'deferred'; at: number }
  | { state: 'bounced' }
  | { state: 'cancelled'; by: string; reason: string };

export type Settlement = {
  recipientId: string;
  attempt: AttemptRecord;
  next: NextState;
  /** Committed together with the state, so that no bounce is without its DSN and no DSN without its bounce. */
  dsn?: NewMessage;
  /** The member was told that it waits. */
  delayNoticed?: boolean;
  /** A further event with the outcome: the simulator's complaint. */
  emit?: 'complaint_received';
};

export type Act = 'held' | 'released' | 'cancelled' | 'retry' | 'rerouted' | 'failed';

/** What a person, or the guard, did to a recipient. */
export type ActRecord = { at: number; act: Act; by: string; reason: string };

export type TriedRecord = AttemptRecord & { repeats: number };

export type RecipientStatus = {
  id: string;
  address: string;
  state: RecipientState;
  attempts: number;
  /** Null when terminal or held. */
  nextAt: number | null;
  simulated: boolean;
  /** Tries, oldest first. `repeats`: how often the same failure of our own followed without a change. */
  timeline: TriedRecord[];
  /** Oldest first. */
  acts: ActRecord[];
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
  category?: string;
  tags: readonly string[];
  subject?: string;
  sendAt?: number;
  recipients: RecipientStatus[];
};

/** All given fields must hold. */
export type MessageQuery = {
  did?: string;
  /** Of any recipient. */
  state?: RecipientState;
  tag?: string;
  /** Address of any recipient, in any case. */
  recipient?: string;
  /** Accepted from then (included) until then (excluded), Unix ms. */
  since?: number;
  until?: number;
  limit: number;
  /** From the page before. */
  cursor?: string;
};

/** Newest first. A page may be short, even empty, while there is a `cursor`: the search goes on there. */
export type MessagePage = { messages: MessageStatus[]; cursor?: string };
