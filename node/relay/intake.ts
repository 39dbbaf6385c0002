/**
 * The one road from a member to the spool, for SMTP and HTTP alike.
 *
 *   1. admission: standing, From, syntax         (admission.ts)
 *   2. compose: what we take out and put before  (compose.ts)
 *   3. sign, for each recipient                  (signing.ts)
 *   4. commit, with the caps                     (the spool)
 *
 * Promise: `accepted` is returned only after the spool has committed, and nothing is committed unsigned.
 * Authentication came before, the reply comes after; both belong to the protocols.
 */
import type { Logger } from 'pino';
import { type Problem, problem } from '../errors.ts';
import type { Authentication, Principal } from '../members/authenticate.ts';
import { newQueueId, recipientId } from '../spool/ids.ts';
import {
  type Accepted,
  type Cap,
  defaultLifetimeMs,
  type NewMessage,
  type NewRecipient,
} from '../spool/message.ts';
import type { Admission, Admitted } from './admission.ts';
import { prefixOf, strip } from './compose.ts';
import type { ReturnPaths } from './return-path.ts';
import type { Signed } from './signing.ts';

/** What the protocols ask before they come here. */
export type Authenticate = {
  authenticate(user: string, password: string): Promise<Authentication>;
  /** False once the key of an open session was revoked. */
  isLive(principal: Principal): boolean;
};

/** What intake needs of the spool. */
export type Queue = {
  /** Resolves with `committed` only when the message is on disk. */
  accept(message: NewMessage): Promise<Accepted>;
};

/** What intake needs of signing.ts. */
export type MessageSigner = { sign(message: Buffer, domain: string): Promise<Signed> };

export type Submission = {
  principal: Principal;
  via: 'smtp' | 'http';
  /** For the Received line: ESMTPSA, HTTP, … */
  protocol: string;
  mailFrom: string;
  /** As admission.recipient() gave them; 1 to the protocol's limit. */
  recipients: readonly string[];
  /** Header and body with CR LF line ends. */
  bytes: Buffer;
  smtpUtf8: boolean;
};

export type Taken = { kind: 'accepted'; queueId: string } | { kind: 'refused'; problem: Problem };

export type IntakeOptions = {
  admission: Admission;
  signer: MessageSigner;
  queue: Queue;
  returnPaths: ReturnPaths;
  hostname: string;
  poolDomain: string;
  /** From acceptance to the DSN. Default 4 days. */
  lifetimeMs?: number;
  now: () => number;
  log: Logger;
  count: (what: string, reason?: string) => void;
};

export class Intake {
  readonly admission: Admission;
  readonly #options: Required<IntakeOptions>;

  constructor(options: IntakeOptions) {
    this.admission = options.admission;
    this.#options = { lifetimeMs: defaultLifetimeMs, ...options };
  }

  /** @throws CorruptState when our own keys or members do not read; never for what the member sent */
  async take(submission: Submission): Promise<Taken> {
    const taken = await this.#take(submission);
    const { count } = this.#options;
    if (taken.kind === 'accepted') count('messages_accepted', submission.via);
    else count('messages_refused', taken.problem.entry.code);
    return taken;
  }

  async #take(submission: Submission): Promise<Taken> {
    const { principal, mailFrom, bytes, smtpUtf8 } = submission;
    const refused = this.admission.member(principal.did) ?? this.admission.sender(principal.did, mailFrom);
    if (refused) return refused;
    const admitted = this.admission.message(principal, bytes, smtpUtf8);
    if (admitted.kind === 'refused') return admitted;
    const message = await this.#compose(submission, admitted);
    return message ? this.#commit(message) : { kind: 'refused', problem: problem('SIGNING_FAILED') };
  }

  /** @returns undefined when a signature could not be made: then the message is not taken at all */
  async #compose(submission: Submission, admitted: Admitted): Promise<NewMessage | undefined> {
    const { now, lifetimeMs } = this.#options;
    const receivedAt = now();
    const queueId = newQueueId(now);
    const body = strip(admitted.message);
    const recipients: NewRecipient[] = [];
    for (const [index, address] of submission.recipients.entries()) {
      const id = recipientId(queueId, index + 1);
      const lines = await this.#signedLines(submission, admitted, { queueId, id, receivedAt, body });
      if (!lines) return undefined;
      recipients.push({ id, address, returnPath: this.#options.returnPaths.of(id), ...lines });
    }
    return {
      queueId,
      kind: 'mail',
      did: submission.principal.did,
      domain: admitted.domain,
      via: submission.via,
      mailFrom: submission.mailFrom,
      receivedAt,
      expiresAt: receivedAt + lifetimeMs,
      body,
      recipients,
      caps: admitted.caps,
    };
  }

  async #signedLines(
    { principal, protocol }: Submission,
    { message, domain, category }: Admitted,
    o: { queueId: string; id: string; receivedAt: number; body: Buffer },
  ): Promise<Pick<NewRecipient, 'signatures' | 'signedAt' | 'prefix'> | undefined> {
    const { hostname, poolDomain, signer, log } = this.#options;
    const prefix = prefixOf({
      message,
      queueId: o.queueId,
      recipientId: o.id,
      did: principal.did,
      domain,
      category,
      poolDomain,
      hostname,
      protocol,
      receivedAt: o.receivedAt,
    });
    const signed = await signer.sign(Buffer.concat([prefix, o.body]), domain);
    if (signed.kind === 'signed') return { signatures: signed.header, signedAt: signed.signedAt, prefix };
    log.error({ domain, reason: signed.reason }, 'a message could not be signed, so it was not taken');
    return undefined;
  }

  async #commit(message: NewMessage): Promise<Taken> {
    const { queue, log } = this.#options;
    const { queueId, did, domain, via } = message;
    const outcome = await queue.accept(message);
    if (outcome.kind === 'over-cap')
      return { kind: 'refused', problem: problem('RATE_LIMITED', describeCap(outcome.cap)) };
    if (outcome.kind === 'failed') {
      log.error({ queueId, did, reason: outcome.reason }, 'the spool did not take a message');
      return { kind: 'refused', problem: problem('STORAGE_FAILED') };
    }
    log.info({ queueId, did, domain, via, recipients: message.recipients.length }, 'accepted');
    return { kind: 'accepted', queueId };
  }
}

function describeCap({ scope, perHour, perDay }: Cap): string {
  const whose = scope.startsWith('domain:') ? `${scope.slice('domain:'.length)} is warming up` : 'Your tier';
  return `${whose}: ${perHour} recipients an hour, ${perDay} a day.`;
}
