/**
 * Our own letters to people: the link that confirms an address, notices to a member or to the operator.
 *
 * Promise: each has the null sender and is of the kind that never gets a DSN, says that a program wrote it
 * (RFC 3834), and carries the pool domain's signature. To whom one may write is the caller's question.
 */
import MailComposer from 'nodemailer/lib/mail-composer';
import type { Logger } from 'pino';
import { newQueueId, recipientId } from '../spool/ids.ts';
import { type Accepted, defaultLifetimeMs, type NewMessage } from '../spool/message.ts';

export type OwnMailOptions = {
  queue: { accept(message: NewMessage): Promise<Accepted> };
  /** @returns header lines to be put before the message. @throws Error when it could not be signed */
  signForPool(message: Buffer): Promise<Buffer>;
  /** Display name of the sender: the cooperative's. */
  name: string;
  poolDomain: string;
  now: () => number;
  log: Logger;
  /** Default 4 days. */
  lifetimeMs?: number;
};

export type Letter = {
  /** Of the member whom it is about, or the cooperative's own. */
  did: string;
  domain: string;
  to: string;
  subject: string;
  /** Plain text, with line ends of any kind. */
  text: string;
};

export class OwnMail {
  readonly #options: Required<OwnMailOptions>;

  constructor(options: OwnMailOptions) {
    this.#options = { lifetimeMs: defaultLifetimeMs, ...options };
  }

  /** Never rejects. @returns whether the letter is in the queue, on disk */
  async send(letter: Letter): Promise<boolean> {
    const { queue, log } = this.#options;
    const accepted = await this.#message(letter)
      .then((message) => queue.accept(message))
      .catch((error: Error): Accepted => ({ kind: 'failed', reason: error.message }));
    if (accepted.kind === 'committed') return true;
    log.error({ did: letter.did, accepted }, 'a letter of our own was not sent');
    return false;
  }

  async #message({ did, domain, to, subject, text }: Letter): Promise<NewMessage> {
    const { now, poolDomain, name, signForPool, lifetimeMs } = this.#options;
    const receivedAt = now();
    const queueId = newQueueId(now);
    const composer = new MailComposer({
      from: { name, address: `postmaster@${poolDomain}` },
      to: { name: '', address: to },
      subject,
      text: `${text.trimEnd()}\n`.replace(/\r\n?|\n/g, '\r\n'),
      date: new Date(receivedAt),
      messageId: `<${queueId}@${poolDomain}>`,
      // RFC 3834 §5: nobody's vacation notice answers this.
      headers: { 'Auto-Submitted': 'auto-generated' },
      disableFileAccess: true,
      disableUrlAccess: true,
    });
    const body = await composer.compile().build();
    const id = recipientId(queueId, 1);
    const signatures = await signForPool(body);
    return {
      ...{ queueId, kind: 'notice', did, domain, via: 'internal', mailFrom: '', receivedAt },
      expiresAt: receivedAt + lifetimeMs,
      body,
      recipients: [
        { id, address: to, returnPath: '', signatures, signedAt: receivedAt, prefix: Buffer.alloc(0) },
      ],
      caps: [],
    };
  }
}
