/**
 * The one road from a member to the spool, for SMTP and HTTP alike.
 *
 *   1. admission: standing, From, syntax, recipients   (admission.ts)
 *   2. compose: what we take out and put before        (compose.ts)
 *   3. sign, for each recipient                        (signing.ts)
 *   4. commit, with caps, quotas and idempotency       (the spool)
 *
 * Promise: `accepted` is returned only after the spool has committed, and nothing is committed unsigned but
 * what is never tried. One refused recipient does not refuse the others. The body is never copied.
 * Authentication came before, the reply comes after; both belong to the protocols.
 */
import type { Logger } from 'pino';
import { type ErrorCode, type Problem, problem } from '../errors.ts';
import type { Authentication, Principal } from '../members/authenticate.ts';
import type { Category } from '../members/category.ts';
import { newQueueId, recipientId } from '../spool/ids.ts';
import {
  type Accepted,
  type AttemptRecord,
  type Budget,
  type Cap,
  defaultLifetimeMs,
  type NewMessage,
  type NewRecipient,
  type Notify,
} from '../spool/message.ts';
import type { Admission, Admitted, Verdict } from './admission.ts';
import { prefixOf, strip, unsubscribeAllowed } from './compose.ts';
import { decodeWords } from './encoded-words.ts';
import { fieldsNamed, fieldValue, type Message } from './message.ts';
import type { ReturnPaths } from './return-path.ts';
import type { Signed } from './signing.ts';

/** What the protocols ask before they come here. */
export type Authenticate = {
  /** @param address of the client, for the account of wrong logins */
  authenticate(user: string, password: string, address?: string): Promise<Authentication>;
  /** False once the key of an open session was revoked. */
  isLive(principal: Principal): boolean;
};

/** What intake needs of the spool. */
export type Queue = {
  /** Resolves with `committed` only when the message is on disk. */
  accept(message: NewMessage): Promise<Accepted>;
  /** What is left of each cap; asked only where it decides which of two refusals is the first. */
  budget?(caps: readonly Cap[], now: number): Promise<Budget[]>;
};

/** What intake needs of signing.ts. */
export type MessageSigner = {
  /** @returns as many signatures as prefixes */
  sign(o: { prefixes: readonly Buffer[]; body: Buffer; domain: string }): Promise<Signed>;
};

export type Submission = {
  principal: Principal;
  via: 'smtp' | 'http';
  /** For the Received line: ESMTPSA, HTTP, … */
  protocol: string;
  mailFrom: string;
  /** As admission.recipient() gave them; 1 to the protocol's limit. */
  recipients: readonly SubmittedRecipient[];
  /** Header and body with CR LF line ends. */
  bytes: Buffer;
  /** True when no CR, LF or NUL stands alone in them, as was seen while they came. */
  isClean?: boolean | undefined;
  smtpUtf8: boolean;
  /** The API's; over SMTP X-Atmos-Category says it. */
  category?: Category | undefined;
  tags?: readonly string[] | undefined;
  /** For listings. Default: the Subject field, decoded. */
  subject?: string | undefined;
  /** RFC 3461 §4.3, §4.4; the envelope id is decoded xtext. */
  ret?: 'full' | 'hdrs' | undefined;
  envid?: string | undefined;
  /** RFC 8689. */
  requireTls?: boolean | undefined;
  /** Unix ms; the message waits until then. */
  sendAt?: number | undefined;
  idempotency?:
    | {
        key: string;
        fingerprint: string;
        /** Stored in the commit of the message and given back to who repeats the request. */
        answer: (queueId: string, refused: readonly RefusedRecipient[]) => string;
      }
    | undefined;
};

/** RFC 3461: `notify` absent means that the member did not say; `orcpt` is `type;address`, xtext decoded. */
export type SubmittedRecipient = {
  address: string;
  notify?: readonly Notify[] | undefined;
  orcpt?: string | undefined;
};

export type RefusedRecipient = { address: string; problem: Problem };

export type Prepared =
  | { kind: 'prepared'; message: NewMessage; refused: RefusedRecipient[] }
  | { kind: 'refused'; problem: Problem };

export type Taken =
  | { kind: 'accepted'; queueId: string; refused: RefusedRecipient[] }
  /** The answer of the first time. */
  | { kind: 'repeated'; answer: string }
  | { kind: 'refused'; problem: Problem };

/** A recipient that was taken over SMTP, refused behind the final dot, and bounces. */
export type BounceNotice = { message: NewMessage; recipient: NewRecipient & { refused: AttemptRecord } };

export type IntakeOptions = {
  admission: Admission;
  signer: MessageSigner;
  queue: Queue;
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
  count: (what: string, reason?: string) => void;
};

type Judged = SubmittedRecipient & { id: string; verdict: Verdict };

export class Intake {
  readonly admission: Admission;
  readonly #options: IntakeOptions & { lifetimeMs: number };

  constructor(options: IntakeOptions) {
    this.admission = options.admission;
    this.#options = { ...options, lifetimeMs: options.lifetimeMs ?? defaultLifetimeMs };
  }

  /** @throws CorruptState when our own keys or members do not read; never for what the member sent */
  async take(submission: Submission): Promise<Taken> {
    const prepared = await this.prepare(submission);
    if (prepared.kind === 'refused') return prepared;
    return this.#commit(submission, prepared);
  }

  /**
   * Everything but the commit, for a batch. What is refused here is counted here.
   *
   * @returns over HTTP with the suppressed recipients apart; over SMTP they are in the message, `refused`
   */
  async prepare(submission: Submission): Promise<Prepared> {
    const prepared = await this.#prepare(submission);
    if (prepared.kind === 'refused') this.#countRefused(prepared.problem);
    return prepared;
  }

  /** What a member is told of an outcome of the spool; undefined when the message was taken, now or before. */
  problemOf(accepted: Accepted): Problem | undefined {
    switch (accepted.kind) {
      case 'over-cap':
        return problem('RATE_LIMITED', describeCap(accepted.cap, accepted.retryAt));
      case 'queue-full':
        return problem(
          'QUEUE_FULL',
          accepted.whose === 'member' ? 'It is your own that is full.' : undefined,
        );
      case 'key-reused':
        return problem('IDEMPOTENCY_CONFLICT');
      case 'failed':
        return problem('STORAGE_FAILED');
      default:
        return undefined;
    }
  }

  /** Log, counters and the guard's account of one outcome of the spool. */
  report(message: NewMessage, accepted: Accepted): void {
    const { log, count, attempted } = this.#options;
    const { queueId, did, domain, via } = message;
    const recipients = message.recipients.length;
    const why = this.problemOf(accepted);
    if (!why) {
      if (accepted.kind !== 'committed') return;
      count('messages_accepted', via);
      log.info({ queueId, did, domain, via, recipients }, 'accepted');
      return;
    }
    this.#countRefused(why);
    if (accepted.kind === 'failed')
      log.error({ queueId, did, reason: accepted.reason }, 'the spool did not take a message');
    if (accepted.kind === 'over-cap')
      attempted?.({ did, domain, recipients, keyId: message.keyId ?? '', refused: why.entry.code });
  }

  async #prepare(submission: Submission): Promise<Prepared> {
    const { principal, mailFrom, bytes, smtpUtf8, isClean, category } = submission;
    const refused = this.admission.member(principal.did) ?? this.admission.sender(principal.did, mailFrom);
    if (refused) return refused;
    const admitted = this.admission.message(principal, bytes, { smtpUtf8, isClean, category });
    if (admitted.kind === 'refused') return admitted;
    const queueId = newQueueId(this.#options.now);
    const judged = submission.recipients.map((recipient, index): Judged => {
      const id = recipientId(queueId, index + 1);
      const of = { address: recipient.address, recipientId: id };
      return { ...recipient, id, verdict: this.admission.verdict(principal.did, admitted.category, of) };
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
    if (submission.via === 'smtp') await this.#bounceSuppressed(submission, admitted, message, judged);
    return { kind: 'prepared', message, refused: submission.via === 'smtp' ? [] : refused };
  }

  /** Caps come before suppression, also where a suppression keeps the message from the spool that counts them. */
  async #overCap(
    { principal, recipients }: Submission,
    { domain, caps }: Admitted,
  ): Promise<Problem | undefined> {
    const { queue, now, attempted } = this.#options;
    const left = await queue.budget?.(caps, now());
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
      await this.#bounce(message, { ...this.#recipient(one), ...unsigned }, one.verdict.problem);
    }
  }

  async #bounce(message: NewMessage, recipient: NewRecipient, why: Problem): Promise<void> {
    const cause: AttemptRecord = {
      at: message.receivedAt,
      durationMs: 0,
      outcome: 'failed',
      counted: false,
      status: why.entry.smtp.enhanced,
      summary: why.detail ?? why.entry.text,
    };
    const refused = { ...recipient, refused: cause };
    const known = message.recipients.findIndex(({ id }) => id === recipient.id);
    if (known === -1) message.recipients.push(refused);
    else message.recipients[known] = refused;
    const notice = await this.#options.bounceNotice({ message, recipient: refused });
    if (notice) message.notices = [...(message.notices ?? []), notice];
  }

  async #commit(submission: Submission, prepared: Extract<Prepared, { kind: 'prepared' }>): Promise<Taken> {
    const { message, refused } = prepared;
    for (;;) {
      const { queueId } = message;
      if (submission.idempotency) {
        const { key, fingerprint, answer } = submission.idempotency;
        message.idempotency = { key, fingerprint, answer: answer(queueId, refused) };
      }
      const accepted = await this.#options.queue.accept(message);
      if (accepted.kind === 'over-cap' && accepted.cap.only !== undefined) {
        const why = await this.#withoutExempt(submission, prepared, accepted.cap);
        if (!why) continue;
        this.#countRefused(why);
        return { kind: 'refused', problem: why };
      }
      this.report(message, accepted);
      if (accepted.kind === 'repeated') return accepted;
      const why = this.problemOf(accepted);
      return why ? { kind: 'refused', problem: why } : { kind: 'accepted', queueId, refused };
    }
  }

  /**
   * What unsubscribed recipients get on top of that is used up for one of them, who is then refused like for
   * mail that is not exempt.
   *
   * @returns the refusal of the whole message when nobody else is left
   */
  async #withoutExempt(
    { via }: Submission,
    { message, refused }: Extract<Prepared, { kind: 'prepared' }>,
    cap: Cap,
  ): Promise<Problem | undefined> {
    const recipient = message.recipients.find(({ id }) => id === cap.only)!;
    const { address } = recipient;
    const why = problem(
      'RECIPIENT_SUPPRESSED',
      `${address} unsubscribed, and had ${cap.perDay} exempt messages within a day.`,
    );
    message.caps = message.caps.filter(({ only }) => only !== cap.only);
    if (!message.recipients.some(({ id, refused: cause }) => id !== cap.only && !cause)) return why;
    if (via === 'smtp') await this.#bounce(message, recipient, why);
    else {
      message.recipients = message.recipients.filter(({ id }) => id !== cap.only);
      refused.push({ address, problem: why });
    }
    return undefined;
  }

  #countRefused(why: Problem): void {
    this.#options.count('messages_refused', why.entry.code);
  }
}

function subjectOf(message: Message): string {
  const field = fieldsNamed(message.fields, 'subject')[0];
  return field ? decodeWords(fieldValue(message, field)).slice(0, 200) : '';
}

function describeCap({ scope, perHour, perDay }: Cap, retryAt?: number): string {
  const whose = scope.startsWith('domain:') ? `${scope.slice('domain:'.length)} is warming up` : 'Your tier';
  const room = retryAt === undefined ? '' : ` There is room again at ${new Date(retryAt).toISOString()}.`;
  return `${whose}: ${perHour} recipients an hour, ${perDay} a day.${room}`;
}
