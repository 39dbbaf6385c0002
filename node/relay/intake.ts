/**
 * The one road from a member to the spool, for SMTP and HTTP alike.
 *
 *   1. admission: standing, From, syntax, recipients   (admission.ts, asked by preparing.ts)
 *   2. compose: what we take out and put before        (compose.ts, likewise)
 *   3. sign, for each recipient                        (signing.ts, likewise)
 *   4. commit, with caps, quotas and idempotency       (the spool, asked here)
 *
 * Promise: `accepted` is returned only after the spool has committed. One refused recipient does not refuse the
 * others, one refused message of a batch none of its neighbours.
 * Authentication came before, the reply comes after; both belong to the protocols.
 */
import { type Problem, problem } from '../errors.ts';
import type { Authentication, Principal } from '../members/authenticate.ts';
import type {
  Accepted,
  Batch,
  BatchAccepted,
  BatchItem,
  Budget,
  Cap,
  NewMessage,
  UsedUp,
} from '../spool/message.ts';
import type { Admission } from './admission.ts';
import { describeCap, type Prepared, Preparing, type PreparingOptions, type Ready } from './preparing.ts';
import type { BatchTaken, Part, Submission, Taken } from './submitted.ts';

export type { BounceNotice, MessageSigner } from './preparing.ts';
export type * from './submitted.ts';

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
  /** The same for many of one member, in one commit. */
  acceptBatch(batch: Batch): Promise<BatchAccepted>;
  /** What is left of each cap; asked only where it decides which of two refusals is the first. */
  budget?(caps: readonly Cap[], now: number): Promise<Budget[]>;
};

export type IntakeOptions = Omit<PreparingOptions, 'budgetOf'> & {
  queue: Queue;
  count: (what: string, reason?: string) => void;
};

/** Of one message; `refused` before the spool was asked once more. */
type Outcome = Exclude<Accepted, UsedUp> | { kind: 'refused'; problem: Problem };

/** Messages of one batch that are composed and signed at once, so that others get their turn between. */
const atOnce = 4;

export class Intake {
  readonly admission: Admission;
  readonly #options: IntakeOptions;
  readonly #preparing: Preparing;

  constructor(options: IntakeOptions) {
    const { queue } = options;
    this.admission = options.admission;
    this.#options = options;
    this.#preparing = new Preparing({
      ...options,
      budgetOf: queue.budget && ((caps, now) => queue.budget!(caps, now)),
    });
  }

  /** @throws CorruptState when our own keys or members do not read; never for what the member sent */
  async take(submission: Submission): Promise<Taken> {
    const ready = await this.#ready(submission);
    if (ready.kind === 'refused') return ready;
    const { message, refused } = ready;
    const { idempotency } = submission;
    const accepted = await this.#commit<Outcome>([ready], async () => {
      if (ready.over) return { kind: 'refused', problem: ready.over };
      if (idempotency)
        message.idempotency = { ...idempotency, answer: idempotency.answer(message.queueId, refused) };
      // Only a cap of a single recipient makes #commit() offer it again.
      message.givesBody = message.caps.every(({ only }) => only === undefined);
      return this.#options.queue.accept(message);
    });
    if (accepted.kind === 'refused') return accepted;
    this.#report(message, accepted);
    if (accepted.kind === 'repeated') return accepted;
    const why = this.#problemOf(accepted);
    return why ? { kind: 'refused', problem: why } : { kind: 'accepted', queueId: message.queueId, refused };
  }

  /**
   * Many submissions of one member, by the same road and one commit; none refuses another.
   *
   * @param o.idempotency of the whole: a repetition gets all answers of the first time
   * @throws as take()
   */
  async takeBatch(o: {
    did: string;
    parts: readonly Part[];
    idempotency?: Batch['idempotency'];
  }): Promise<BatchTaken> {
    const { did, parts, idempotency } = o;
    const prepared = await inTurn(parts, async (part) =>
      'submission' in part ? this.#ready(part.submission) : undefined,
    );
    const ready = prepared.filter((one) => one?.kind === 'ready');
    const accepted = await this.#commit(ready, () => {
      const items = parts.map((part, index) => this.#itemOf(part, prepared[index]));
      return this.#options.queue.acceptBatch({ did, items, ...(idempotency && { idempotency }) });
    });
    if (accepted.kind === 'key-reused' || accepted.kind === 'failed') {
      const why = this.#problemOf(accepted)!;
      this.#countRefused(why);
      return { kind: 'refused', problem: why };
    }
    if (accepted.kind === 'done') {
      // Each message for itself: log, counters and the guard's account do not know of batches.
      for (const [index, outcome] of accepted.outcomes.entries())
        if (outcome) this.#report((prepared[index] as Ready).message, outcome);
    }
    return { kind: 'answered', answers: accepted.answers };
  }

  /** What is refused here is counted here. */
  async #ready(submission: Submission): Promise<Prepared> {
    const prepared = await this.#preparing.prepare(submission);
    if (prepared.kind === 'refused') this.#countRefused(prepared.problem);
    return prepared;
  }

  #itemOf(part: Part, prepared: Prepared | undefined): BatchItem {
    if (!('submission' in part)) return part;
    const { answer } = part;
    const refused = (why: Problem) => answer({ kind: 'refused', problem: why });
    if (prepared!.kind === 'refused') return { answer: refused(prepared!.problem) };
    const { message, refused: apart, over } = prepared as Ready;
    if (over) return { answer: refused(over) };
    return {
      message,
      answers: {
        committed: answer({ kind: 'accepted', queueId: message.queueId, refused: apart }),
        'over-cap': refused(problem('RATE_LIMITED')),
        'queue-full': refused(problem('QUEUE_FULL')),
      },
    };
  }

  /** What a member is told of an outcome of the spool; undefined when the message was taken, now or before. */
  #problemOf(accepted: Accepted): Problem | undefined {
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
  #report(message: NewMessage, accepted: Accepted): void {
    const { log, count, attempted } = this.#options;
    const { queueId, did, domain, via } = message;
    // As the caps count: a simulated recipient is in none.
    const recipients = message.recipients.filter(({ simulated }) => !simulated).length;
    const why = this.#problemOf(accepted);
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

  /**
   * Offers the messages to the spool until no exempt recipient stands in their way: twice at most, but for what
   * others send meanwhile.
   */
  async #commit<T extends { kind: string }>(
    messages: readonly Ready[],
    offer: () => Promise<T | UsedUp>,
  ): Promise<T> {
    for (;;) {
      const accepted = await offer();
      if (!isUsedUp(accepted)) return accepted;
      for (const cap of accepted.caps) {
        const its = messages.find(({ message }) => message.recipients.some(({ id }) => id === cap.only))!;
        await this.#withoutExempt(its, cap);
      }
    }
  }

  /**
   * What one who unsubscribed gets on top of that is used up: this recipient is refused as by mail that is not
   * exempt, and the whole message where nobody else is left.
   */
  async #withoutExempt(ready: Ready, cap: Cap): Promise<void> {
    const { message, refused, via } = ready;
    const recipient = message.recipients.find(({ id }) => id === cap.only)!;
    const { address } = recipient;
    const why = problem(
      'RECIPIENT_SUPPRESSED',
      `${address} unsubscribed, and had ${cap.perDay} exempt messages within a day.`,
    );
    message.caps = message.caps.filter(({ only }) => only !== cap.only);
    if (!message.recipients.some(({ id, refused: cause }) => id !== cap.only && !cause)) {
      ready.over = why;
      this.#countRefused(why);
    } else if (via === 'smtp') await this.#preparing.bounce(message, recipient, why);
    else {
      message.recipients = message.recipients.filter(({ id }) => id !== cap.only);
      refused.push({ address, problem: why });
    }
  }

  #countRefused(why: Problem): void {
    this.#options.count('messages_refused', why.entry.code);
  }
}

function isUsedUp(accepted: { kind: string }): accepted is UsedUp {
  return accepted.kind === 'used-up';
}

/** Like Promise.all over map, a few at a time, in order. */
async function inTurn<T, R>(from: readonly T[], work: (one: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (let at = 0; at < from.length; at += atOnce) {
    results.push(...(await Promise.all(from.slice(at, at + atOnce).map(work))));
  }
  return results;
}
