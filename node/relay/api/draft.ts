/**
 * A request that has the right shape becomes a submission, like one that came over SMTP.
 *
 * One malformed recipient does not refuse the others; what refuses the whole message throws Refusal.
 */
import { httpBody, type Problem, problem } from '../../errors.ts';
import { Refusal, refuse } from '../../http/refusal.ts';
import type { Principal } from '../../members/authenticate.ts';
import type { Admission } from '../admission.ts';
import type { RefusedRecipient, Submission } from '../intake.ts';
import { type Mailbox, parseMailboxes } from '../mailbox.ts';
import { composeMail } from './compose-mail.ts';
import { maxAheadMs, maxRecipients, type SendAnswer, type SendRequest } from './send-schema.ts';

export type Drafting = {
  principal: Principal;
  admission: Pick<Admission, 'sender' | 'recipient'>;
  /** Unix ms. */
  now: number;
};

export type Draft = { submission: Submission; rejected: readonly Rejected[] };

type Rejected = { recipient: string; problem: Problem };

/** @throws Refusal */
export async function draft(mail: SendRequest, { principal, admission, now }: Drafting): Promise<Draft> {
  const from = oneMailbox('from', mail.from);
  const refusedSender = admission.sender(principal.did, from.address);
  if (refusedSender) throw new Refusal(refusedSender.problem);
  const rejected: Rejected[] = [];
  const reading: Reading = { admission, room: maxRecipients, rejected };
  const list = (field: string | readonly string[] | undefined) => readList(reading, field);
  const [to, cc, bcc] = [list(mail.to), list(mail.cc), list(mail.bcc)];
  const addresses = recipientsOf([...to, ...cc, ...bcc], rejected);
  const sendAt = mail.sendAt === undefined ? undefined : readSendAt(mail.sendAt, now);
  const replyTo = mail.replyTo === undefined ? undefined : oneMailbox('replyTo', mail.replyTo);
  const submission: Submission = {
    principal,
    via: 'http',
    protocol: 'HTTP',
    mailFrom: from.address,
    recipients: addresses.map((address) => ({ address })),
    bytes: await composeMail(mail, { from, to, cc, ...(replyTo && { replyTo }) }, now),
    // Composed headers are ASCII, except for the addresses that are not.
    smtpUtf8: true,
    subject: mail.subject,
    ...(mail.category && { category: mail.category }),
    ...(mail.tags && { tags: [...new Set(mail.tags)] }),
    ...(sendAt !== undefined && { sendAt }),
  };
  return { submission, rejected };
}

/** @param refused by admission, in the form in which they were submitted */
export function answerOf(
  { submission, rejected }: Draft,
  queueId: string,
  refused: readonly RefusedRecipient[],
): SendAnswer {
  const addresses = new Set(refused.map(({ address }) => address));
  const accepted = submission.recipients.filter(({ address }) => !addresses.has(address));
  return {
    accepted: accepted.map(({ address }) => ({ recipient: address, messageId: queueId })),
    rejected: [
      ...rejected.map((one) => rejection(one.recipient, one.problem)),
      ...refused.map((one) => rejection(one.address, one.problem)),
    ],
  };
}

/** Nobody was left: the error of the message, and beside it the list that a partial answer would have. */
export function refusalOf({ submission, rejected }: Draft, why: Problem): Refusal {
  if (why.entry.code !== 'RECIPIENT_SUPPRESSED') return new Refusal(why);
  // The detail is about one of them.
  const each = submission.recipients.length === 1 ? why : problem(why.entry.code);
  return new Refusal(why, {
    rejected: [
      ...rejected.map((one) => rejection(one.recipient, one.problem)),
      ...submission.recipients.map(({ address }) => rejection(address, each)),
    ],
  });
}

function rejection(recipient: string, why: Problem): SendAnswer['rejected'][number] {
  const { error, code } = httpBody(why);
  return { recipient, error, code };
}

/** Over To, Cc and Bcc. `room`: how many more may come. */
type Reading = { admission: Drafting['admission']; room: number; rejected: Rejected[] };

/** Reading an address costs, so nobody is read behind the one too many. @throws Refusal TOO_MANY_RECIPIENTS */
function readList(reading: Reading, field: string | readonly string[] | undefined): Mailbox[] {
  const { admission, rejected } = reading;
  return [field ?? []].flat().flatMap((recipient) => {
    const mailboxes = parseMailboxes(recipient);
    reading.room -= mailboxes?.length ?? 1;
    if (reading.room < 0) return refuse('TOO_MANY_RECIPIENTS', `The limit is ${maxRecipients}.`);
    if (!mailboxes) rejected.push({ recipient, problem: problem('INVALID_RECIPIENT') });
    return (mailboxes ?? []).filter(({ address }) => {
      const judged = admission.recipient(address, true);
      if (judged.kind === 'refused') rejected.push({ recipient: address, problem: judged.problem });
      return judged.kind === 'recipient';
    });
  });
}

/** @returns each address once */
function recipientsOf(mailboxes: readonly Mailbox[], rejected: readonly Rejected[]): string[] {
  if (mailboxes.length > 0) return [...new Set(mailboxes.map(({ address }) => address))];
  throw new Refusal(rejected[0]!.problem, {
    rejected: rejected.map((one) => rejection(one.recipient, one.problem)),
  });
}

/** A time of some minutes ago is a clock that goes wrong; an older one is a mistake. */
const tolerableLatenessMs = 5 * 60_000;

/** @returns Unix ms, or undefined for at once */
function readSendAt(text: string, now: number): number | undefined {
  const at = Date.parse(text);
  if (at > now + maxAheadMs) return refuse('INVALID_REQUEST', 'sendAt: is more than 72 hours ahead.');
  if (at < now - tolerableLatenessMs) return refuse('INVALID_REQUEST', 'sendAt: is past.');
  return at > now ? at : undefined;
}

function oneMailbox(field: string, text: string): Mailbox {
  const mailboxes = parseMailboxes(text);
  if (mailboxes?.length === 1) return mailboxes[0]!;
  return refuse('INVALID_REQUEST', `${field}: expected one address, as a@b.example or Name <a@b.example>.`);
}
