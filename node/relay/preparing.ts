/**
 * A submission becomes a message that can be committed: admitted, composed, signed for each recipient.
 *
 * Promise: nothing is ready unsigned but what is never tried. One refused recipient does not refuse the others.
 * The body is never copied. The commit is intake.ts's business.
 */
import type { Logger } from 'pino';
import { type ErrorCode, type Problem, problem } from '../errors.ts';
import { newQueueId, recipientId } from '../spool/ids.ts';
import {
  type AttemptRecord,
  type Budget,
  type Cap,
  defaultLifetimeMs,
  type NewMessage,
  type NewRecipient,
} from '../spool/message.ts';
import type { Admission, Admitted, Verdict } from './admission.ts';
import { prefixOf, strip, unsubscribeAllowed } from './compose.ts';
import { decodeWords } from './encoded-words.ts';
import { fieldsNamed, fieldValue, type Message } from './message.ts';
import type { ReturnPaths } from './return-path.ts';
import type { Signed } from './signing.ts';
import type { RefusedRecipient, Submission, SubmittedRecipient } from './submitted.ts';

/** What intake needs of signing.ts. */
export type MessageSigner = {
  /** @returns as many signatures as prefixes */
  sign(o: { prefixes: readonly Buffer[]; body: Buffer; domain: string }): Promise<Signed>;
};

/** A recipient that was taken over SMTP, refused behind the final dot, and bounces. */
export type BounceNotice = { message: NewMessage; recipient: NewRecipient & { refused: AttemptRecord } };

export type PreparingOptions = {
  admission: Admission;
  signer: MessageSigner;
  /** Asked only where it decides which of two refusals is the first: what is left of each cap. */
  budgetOf: ((caps: readonly Cap[], now: number) => Promise<Budget[]>) | undefined;
  returnPaths: ReturnPaths;
  hostname: string;
  poolDomain: string;
  /** Our list's apex, for VBR-Info. */
  apex?: string | undefined;
  /** From acceptance to the DSN. Default 4 days. */
  lifetimeMs?: number;
  /** The link that goes into List-Unsubscribe. */
  unsubscribeLink: (o: { did: string; address: string; recipientId: string }) => string;
  /** @returns undefined when no DSN is due. @throws when it cannot be made now */
  bounceNotice: (o: BounceNotice) => Promise<NewMessage | undefined>;
  /** Told of what the caps refused: trying counts as well. */
  attempted?: (o: {
    did: string;
    domain: string;
    recipients: number;
    keyId: string;
    refused: ErrorCode;
  }) => void;
  now: () => number;
  log: Logger;
};

type Judged = SubmittedRecipient & { id: string; verdict: Verdict };

export type Prepared = Ready | { kind: 'refused'; problem: Problem };

/** To be committed. */
export type Ready = {
  kind: 'ready';
  via: Submission['via'];
  message: NewMessage;
  refused: RefusedRecipient[];
  /** Nobody is left: why it is refused. */
  over?: Problem;
};

export class Preparing {
  readonly #options: PreparingOptions & { lifetimeMs: number };

  constructor(options: PreparingOptions) {
    this.#options = { ...options, lifetimeMs: options.lifetimeMs ?? defaultLifetimeMs };
  }

  /** What is to be committed, with all three signatures; over HTTP with the suppressed recipients apart. */
  async prepare(submission: Submission): Promise<Prepared> {
    const { principal, mailFrom, bytes, smtpUtf8, isClean, category } = submission;
    const refused =
      this.#options.admission.member(principal.did) ??
      this.#options.admission.sender(principal.did, mailFrom);
    if (refused) return refused;
    const admitted = this.#options.admission.message(principal, bytes, { smtpUtf8, isClean, category });
    if (admitted.kind === 'refused') return admitted;
    const queueId = newQueueId(this.#options.now);
    const judged = submission.recipients.map((recipient, index): Judged => {
      const id = recipientId(queueId, index + 1);
      const of = { address: recipient.address, recipientId: id };
      return {
        ...recipient,
        id,
        verdict: this.#options.admission.verdict(principal.did, admitted.category, of),
      };
    });
    return this.#compose(submission, admitted, queueId, judged);
  }

  async #compose(
    submission: Submission,
    admitted: Admitted,
    queueId: string,
    judged: readonly Judged[],
  ): Promise<Prepared> {
    const good = judged.filter(({ verdict }) => verdict.kind !== 'refused');
    const refused = judged.flatMap(({ address, verdict }) =>
      verdict.kind === 'refused' ? [{ address, problem: verdict.problem }] : [],
    );
    if (good.length === 0) {
      const why = await this.#overCap(submission, admitted);
      return { kind: 'refused', problem: why ?? refused[0]!.problem };
    }
    const message = this.#envelope(submission, admitted, queueId);
    const prefixes = good.map((one) => this.#prefix(submission, admitted, message, one));
    const { domain } = admitted;
    const signed = await this.#options.signer.sign({ prefixes, body: message.body, domain });
    if (signed.kind === 'failed') {
      this.#options.log.error({ domain, reason: signed.reason }, 'a message was not signed, so not taken');
      return { kind: 'refused', problem: problem('SIGNING_FAILED') };
    }
    for (const [index, one] of good.entries()) {
      message.recipients.push({
        ...this.#recipient(one),
        prefix: prefixes[index]!,
        signatures: signed.signatures[index]!,
        signedAt: signed.signedAt,
        ...(one.verdict.kind === 'simulate' && { simulated: true }),
      });
      if (one.verdict.kind === 'exempt') message.caps.push(one.verdict.cap);
    }
    const { via } = submission;
    if (via === 'smtp') await this.#bounceSuppressed(submission, admitted, message, judged);
    return { kind: 'ready', via, message, refused: via === 'smtp' ? [] : refused };
  }

  /** Caps come before suppression, also where a suppression keeps the message from the spool that counts them. */
  async #overCap(
    { principal, recipients }: Submission,
    { domain, caps }: Admitted,
  ): Promise<Problem | undefined> {
    const { budgetOf, now, attempted } = this.#options;
    const left = await budgetOf?.(caps, now());
    const full = left?.find(({ hour, day }) => Math.min(hour.left, day.left) < recipients.length);
    const cap = full && caps.find(({ scope }) => scope === full.scope);
    if (!cap) return undefined;
    const { did, keyId } = principal;
    attempted?.({ did, domain, recipients: recipients.length, keyId, refused: 'RATE_LIMITED' });
    return problem('RATE_LIMITED', describeCap(cap));
  }

  /** The message before its recipients. */
  #envelope(submission: Submission, admitted: Admitted, queueId: string): NewMessage {
    const { principal, via, mailFrom, tags, ret, envid, requireTls, sendAt } = submission;
    const receivedAt = this.#options.now();
    return {
      queueId,
      kind: 'mail',
      did: principal.did,
      domain: admitted.domain,
      via,
      mailFrom,
      receivedAt,
      expiresAt: receivedAt + this.#options.lifetimeMs,
      body: strip(admitted.message),
      recipients: [],
      caps: [...admitted.caps],
      keyId: principal.keyId,
      category: admitted.category,
      subject: submission.subject ?? subjectOf(admitted.message),
      ...(tags && { tags }),
      ...(ret && { ret }),
      ...(envid !== undefined && { envid }),
      ...(requireTls && { requireTls }),
      ...(sendAt !== undefined && { sendAt }),
    };
  }

  #recipient({
    id,
    address,
    notify,
    orcpt,
  }: Judged): Omit<NewRecipient, 'prefix' | 'signatures' | 'signedAt'> {
    const returnPath = this.#options.returnPaths.of(id);
    return { id, address, returnPath, ...(notify && { notify }), ...(orcpt !== undefined && { orcpt }) };
  }

  #prefix(
    { principal, protocol }: Submission,
    { message, domain, category }: Admitted,
    { queueId, receivedAt }: NewMessage,
    { id, address }: Judged,
  ): Buffer {
    const { hostname, poolDomain, apex, unsubscribeLink } = this.#options;
    const { did } = principal;
    return prefixOf({
      ...{ message, queueId, recipientId: id, did, domain, category },
      ...{ poolDomain, hostname, apex, protocol, receivedAt },
      ...(unsubscribeAllowed(category, message) && {
        unsubscribe: unsubscribeLink({ did, address, recipientId: id }),
      }),
    });
  }

  /** Taken at RCPT, so they end `bounced`, with a DSN, in the commit of the others. Never tried, so not signed. */
  async #bounceSuppressed(
    submission: Submission,
    admitted: Admitted,
    message: NewMessage,
    judged: readonly Judged[],
  ): Promise<void> {
    for (const one of judged) {
      if (one.verdict.kind !== 'refused') continue;
      const prefix = this.#prefix(submission, admitted, message, one);
      const unsigned = { prefix, signatures: Buffer.alloc(0), signedAt: message.receivedAt };
      await this.bounce(message, { ...this.#recipient(one), ...unsigned }, one.verdict.problem);
    }
  }

  /** Makes of a recipient one that ends `bounced` in the commit of acceptance. */
  async bounce(message: NewMessage, recipient: NewRecipient, why: Problem): Promise<void> {
    const cause: AttemptRecord = {
      at: message.receivedAt,
      durationMs: 0,
      outcome: 'failed',
      counted: false,
      status: why.entry.smtp.enhanced,
      summary: why.detail ?? why.entry.text,
      suppressed: true,
    };
    const refused = { ...recipient, refused: cause };
    const known = message.recipients.findIndex(({ id }) => id === recipient.id);
    if (known === -1) message.recipients.push(refused);
    else message.recipients[known] = refused;
    const notice = await this.#options.bounceNotice({ message, recipient: refused });
    if (notice) message.notices = [...(message.notices ?? []), notice];
  }
}

function subjectOf(message: Message): string {
  const field = fieldsNamed(message.fields, 'subject')[0];
  return field ? decodeWords(fieldValue(message, field)).slice(0, 200) : '';
}

/** @param retryAt Unix ms */
export function describeCap({ scope, perHour, perDay }: Cap, retryAt?: number): string {
  const whose = scope.startsWith('domain:') ? `${scope.slice('domain:'.length)} is warming up` : 'Your tier';
  const room = retryAt === undefined ? '' : ` There is room again at ${new Date(retryAt).toISOString()}.`;
  return `${whose}: ${perHour} recipients an hour, ${perDay} a day.${room}`;
}
