/** What the protocols bring to intake.ts, and what they hear of it. */
import type { Problem } from '../errors.ts';
import type { Principal } from '../members/authenticate.ts';
import type { Category } from '../members/category.ts';
import type { Notify } from '../spool/message.ts';

export type Submission = {
  principal: Principal;
  via: 'smtp' | 'http';
  /** For the Received line: ESMTPSA, HTTP, … */
  protocol: string;
  mailFrom: string;
  /** As admission.recipient() gave them; 1 to the protocol's limit. */
  recipients: readonly SubmittedRecipient[];
  /** Header and body with CR LF line ends. Given away: they may be empty when it was taken. */
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

export type Taken =
  | { kind: 'accepted'; queueId: string; refused: RefusedRecipient[] }
  /** The answer of the first time. */
  | { kind: 'repeated'; answer: string }
  | { kind: 'refused'; problem: Problem };

/** One of a batch: a submission with what its member is told, or an answer that stands already. */
export type Part =
  | { submission: Submission; answer: (taken: Exclude<Taken, { kind: 'repeated' }>) => string }
  | { answer: string };

export type BatchTaken =
  /** In the order of the parts. */
  { kind: 'answered'; answers: string[] } | { kind: 'refused'; problem: Problem };
