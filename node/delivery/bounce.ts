/**
 * The message that tells a member of a bounce, ready to be committed with it.
 *
 * No bounce to a bounce: only a member's own mail with a sender gets a DSN, and the DSN has the null
 * sender and is of the kind that never gets one. It goes to the domain's confirmed forward-to and
 * nowhere else; without one the bounce stands on the timeline alone.
 */
import { newQueueId, recipientId } from '../spool/ids.ts';
import type { AttemptRecord, Claim, NewMessage } from '../spool/spool.ts';
import { composeDsn } from './dsn.ts';

export type DsnOptions = {
  /** The domain's forward-to, confirmed by its owner; undefined without one. */
  recipientFor(domain: string): string | undefined;
  /** @returns the pool domain's signature, as header lines. @throws when it cannot be signed */
  seal(message: Buffer, queueId: string): Promise<Buffer>;
  /** Header From. */
  from: string;
};

export type Bounce = {
  claim: Claim;
  /** Why: the last try that says something about the destination. */
  cause: AttemptRecord;
  body: Buffer;
};

/** @returns undefined when no DSN is due. @throws when it cannot be composed or signed now */
export async function bounceMessage(
  { claim, cause, body }: Bounce,
  dsn: DsnOptions,
  context: { hostname: string; lifetimeMs: number; now: () => number },
): Promise<NewMessage | undefined> {
  if (claim.kind !== 'mail' || claim.mailFrom === '') return undefined;
  const to = dsn.recipientFor(claim.domain);
  if (to === undefined) return undefined;
  const now = context.now();
  const message = await composeDsn({
    reportingMta: context.hostname,
    from: dsn.from,
    to,
    queueId: claim.queueId,
    receivedAt: claim.receivedAt,
    now,
    recipient: claim.address,
    status: cause.status,
    summary: cause.summary,
    reply: cause.reply,
    remoteMta: cause.host,
    lastAttemptAt: cause.at,
    original: Buffer.concat([claim.signatures, claim.prefix, body]),
  });
  const queueId = newQueueId(() => now);
  const signatures = await dsn.seal(message, queueId);
  const recipient = { id: recipientId(queueId, 1), address: to, returnPath: '' };
  return {
    queueId,
    kind: 'dsn',
    did: claim.did,
    domain: claim.domain,
    via: 'internal',
    mailFrom: '',
    receivedAt: now,
    expiresAt: now + context.lifetimeMs,
    body: message,
    recipients: [{ ...recipient, signatures, signedAt: now, prefix: Buffer.alloc(0) }],
    caps: [],
  };
}
