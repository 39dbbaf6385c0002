/**
 * The messages that tell a member what became of a message, ready to be committed with it: it failed, it
 * waits, it went on to a server that reports no success itself.
 *
 * No bounce to a bounce: only a member's own mail with a sender gets a DSN, and the DSN has the null
 * sender and is of the kind that never gets one. It goes to the address that its owner confirmed, and
 * nowhere else; without one the outcome stands on the timeline alone. What the member asked for in NOTIFY
 * is heard (RFC 3461 §4.1): without it failures are told, and a delay where the operator wants that.
 */
import { newQueueId, recipientId } from '../spool/ids.ts';
import type { AttemptRecord, Claim, NewMessage, NewRecipient, Notify } from '../spool/spool.ts';
import { composeDsn, type DsnAction, octetsFor } from './dsn.ts';

export type DsnOptions = {
  /**
   * The domain's forward-to, else the member's contact address, each confirmed by its owner; undefined
   * without both.
   */
  recipientFor(domain: string, did: string): string | undefined;
  /** @returns the pool domain's signature, as header lines. @throws when it cannot be signed */
  seal(message: Buffer, queueId: string): Promise<Buffer>;
  /** Header From. */
  from: string;
};

/** What the DSN is about. */
export type Subject = Pick<
  Claim,
  | 'queueId'
  | 'kind'
  | 'did'
  | 'domain'
  | 'mailFrom'
  | 'receivedAt'
  | 'address'
  | 'requireTls'
  | 'simulated'
  | 'ret'
  | 'envid'
  | 'notify'
  | 'orcpt'
>;

export type Notice = {
  action: DsnAction;
  subject: Subject;
  /** Why: the last try that says something about the destination. */
  cause: AttemptRecord;
  /** The message as it went out, or so many octets of its beginning and more. */
  original: (octets: number) => Promise<Buffer | undefined>;
  /** Of a delay: when we give up. */
  retryUntil?: number;
};

export type NoticeContext = { hostname: string; lifetimeMs: number; now: () => number };

const asksFor: Record<DsnAction, Notify> = { failed: 'failure', delayed: 'delay', relayed: 'success' };

/** Whom a DSN goes to; undefined when none is due. */
export function recipientOf(action: DsnAction, subject: Subject, dsn: DsnOptions): string | undefined {
  const { kind, mailFrom, notify, domain, did } = subject;
  if (kind !== 'mail' || mailFrom === '') return undefined;
  const wanted = notify ? notify.includes(asksFor[action]) : action !== 'relayed';
  return wanted ? dsn.recipientFor(domain, did) : undefined;
}

/** @returns undefined when no DSN is due, or the message is gone. @throws when it cannot be composed or signed now */
export async function notice(
  { action, subject, cause, original, retryUntil }: Notice,
  dsn: DsnOptions,
  context: NoticeContext,
): Promise<NewMessage | undefined> {
  const to = recipientOf(action, subject, dsn);
  if (to === undefined) return undefined;
  const { queueId, receivedAt, envid, orcpt, ret } = subject;
  // RFC 3461 §4.3: RET is about failures only.
  const returnFull = action === 'failed' && ret === 'full';
  const bytes = await original(octetsFor({ returnFull }));
  if (!bytes) return undefined;
  const now = context.now();
  const message = await composeDsn({
    ...{ action, from: dsn.from, to, queueId, receivedAt, now },
    reportingMta: context.hostname,
    recipient: subject.address,
    status: cause.status,
    summary: cause.summary,
    reply: cause.reply,
    remoteMta: cause.host,
    lastAttemptAt: cause.at,
    ...{ retryUntil, envid, orcpt },
    returnFull,
    original: bytes,
  });
  return ownMessage({ to, message, subject }, dsn, context);
}

async function ownMessage(
  { to, message, subject }: { to: string; message: Buffer; subject: Subject },
  dsn: DsnOptions,
  { lifetimeMs, now: clock }: NoticeContext,
): Promise<NewMessage> {
  const now = clock();
  const queueId = newQueueId(() => now);
  const signatures = await dsn.seal(message, queueId);
  const recipient = { id: recipientId(queueId, 1), address: to, returnPath: '' };
  // What never left the machine brings nothing that does (simulator.ts).
  const simulated = subject.simulated && { simulated: true };
  return {
    queueId,
    kind: 'dsn',
    did: subject.did,
    domain: subject.domain,
    via: 'internal',
    mailFrom: '',
    receivedAt: now,
    expiresAt: now + lifetimeMs,
    body: message,
    recipients: [{ ...recipient, signatures, signedAt: now, prefix: Buffer.alloc(0), ...simulated }],
    caps: [],
    // RFC 8689 §5: what was to be protected is in the notice too.
    ...(subject.requireTls && { requireTls: true }),
  };
}

/**
 * The DSN of a recipient that is refused after the final dot (`NewRecipient.refused`), to be stored with
 * its message as one of `NewMessage.notices`.
 *
 * @returns undefined when none is due. @throws when it cannot be composed or signed now
 */
export function refusalNotice(
  { message, recipient }: { message: NewMessage; recipient: NewRecipient & { refused: AttemptRecord } },
  dsn: DsnOptions,
  context: NoticeContext,
): Promise<NewMessage | undefined> {
  const { address, notify, orcpt, refused, signatures, prefix, simulated = false } = recipient;
  const { queueId, kind, did, domain, mailFrom, receivedAt, requireTls = false, ret, envid } = message;
  const asked = { requireTls, simulated, ret, envid, notify, orcpt };
  const subject: Subject = { queueId, kind, did, domain, mailFrom, receivedAt, address, ...asked };
  const original = () => Promise.resolve(Buffer.concat([signatures, prefix, message.body]));
  return notice({ action: 'failed', subject, cause: refused, original }, dsn, context);
}
