/**
 * `POST /v1/send`: the same road as SMTP, for programs that have no MIME of their own.
 *
 * Promise: 200 only after the commit, with one entry for each recipient, `accepted` or `rejected`.
 * Credentials are judged before the body is read, and a body is read only when the byte budget has room
 * for it. The message is composed by nodemailer, which may read neither files nor addresses here, and then
 * passes admission like any other.
 */
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import MailComposer from 'nodemailer/lib/mail-composer';
import type { Logger } from 'pino';
import { z } from 'zod';
import { httpBody, type Problem, problem } from '../errors.ts';
import type { Principal } from '../members/authenticate.ts';
import { categories } from '../members/category.ts';
import { didSyntax } from '../members/members.ts';
import type { ByteBudget } from './byte-budget.ts';
import { decodeWords } from './encoded-words.ts';
import type { Authenticate, Intake } from './intake.ts';
import { internalError } from './internal-error.ts';
import { type Mailbox, parseMailboxes } from './mailbox.ts';

export type SendApiOptions = {
  authenticator: Authenticate;
  intake: Intake;
  /** Shared with the SMTP listeners. */
  budget: ByteBudget;
  /** Recipients of one request. Default 100. */
  maxRecipients?: number;
  now: () => number;
  log: Logger;
};

export type SendAnswer = {
  accepted: { recipient: string; messageId: string }[];
  rejected: { recipient: string; error: string; code: string }[];
};

const bodyLimit = 1024 * 1024;

const line = (max: number) =>
  z
    .string()
    .max(max)
    .regex(/^[^\r\n\0]*$/, 'has a line break or NUL');

/** Names that the composer or the relay writes; everything else is the member's. */
const reservedHeader =
  /^(from|sender|to|cc|bcc|reply-to|subject|date|message-id|mime-version|content-.*|received|return-path|dkim-signature|arc-.*|authentication-results|resent-.*|feedback-id|vbr-info|x-atmos-(?!category$).*)$/i;

const headerName = z
  .string()
  .regex(/^[!-9;-~]{1,76}$/, 'is not a header name')
  .refine((name) => !reservedHeader.test(name), 'is reserved: the relay writes it, or another field does');

const request = z
  .strictObject({
    from: line(998),
    to: z.union([line(998), z.array(line(998)).min(1)]),
    subject: line(998),
    text: z.string().optional(),
    html: z.string().optional(),
    replyTo: line(998).optional(),
    headers: z
      .record(headerName, line(8192))
      .refine((headers) => Object.keys(headers).length <= 50, 'has more than 50 entries')
      .optional(),
    category: z.enum(categories).optional(),
  })
  .refine(({ text, html }) => text !== undefined || html !== undefined, {
    path: ['text'],
    message: 'text or html is needed',
  });

type SendRequest = z.infer<typeof request>;

/** A refusal on its way to the error handler. */
class Refusal extends Error {
  readonly problem: Problem;

  constructor(why: Problem) {
    super(why.entry.text);
    this.problem = why;
  }
}

/** A fastify plugin with routes and error answers of its own. */
export function sendApi(o: SendApiOptions): (app: FastifyInstance) => Promise<void> {
  return async (app) => {
    app.decorateRequest('principal');
    app.addHook('onRequest', async (req) => req.setDecorator('principal', await authenticate(o, req)));
    app.decorateRequest('hold');
    app.addHook('preParsing', async (req, reply) => {
      req.setDecorator('hold', hold(o.budget, req, reply));
    });
    app.setErrorHandler((error: Error, _req, reply) => answerError(o, error, reply));
    app.post('/v1/send', { bodyLimit }, (req) => {
      const work = () => send(o, req.getDecorator<Principal>('principal'), req.body);
      return whileHeld(req.getDecorator<Hold>('hold'), work);
    });
  };
}

type Hold = { isWorking: boolean; release: () => void };

/** Before the first octet of the body is read. @throws Refusal */
function hold(budget: ByteBudget, req: FastifyRequest, reply: FastifyReply): Hold {
  const declared = Number(req.headers['content-length'] ?? bodyLimit);
  const release = budget.hold(Math.min(declared || 0, bodyLimit));
  if (!release) throw new Refusal(problem('QUEUE_FULL'));
  const held = { isWorking: false, release };
  // A body that does not parse and a client that goes away never reach the handler.
  reply.raw.once('close', () => {
    if (!held.isWorking) release();
  });
  return held;
}

/** A client that went away leaves its message in memory until the work on it has ended. */
async function whileHeld<T>(held: Hold, work: () => Promise<T>): Promise<T> {
  held.isWorking = true;
  try {
    return await work();
  } finally {
    held.release();
  }
}

/** @throws Refusal */
async function authenticate(o: SendApiOptions, req: FastifyRequest): Promise<Principal> {
  const did = req.headers['x-atmos-did'] ?? (req.query as { did?: unknown }).did;
  const key = /^Bearer +(\S+)$/i.exec(req.headers.authorization ?? '')?.[1];
  if (did === undefined || key === undefined) throw new Refusal(problem('AUTH_REQUIRED'));
  if (typeof did !== 'string' || !didSyntax.test(did)) throw new Refusal(problem('INVALID_DID'));
  const answer = await o.authenticator.authenticate(did, key);
  if (answer.kind !== 'authenticated') throw new Refusal(problem(codes[answer.kind]));
  const refused = o.intake.admission.member(answer.principal.did);
  if (refused) throw new Refusal(refused.problem);
  return answer.principal;
}

const codes = { failed: 'AUTH_FAILED', mismatch: 'DID_MISMATCH', busy: 'AUTH_BUSY' } as const;

async function send(o: SendApiOptions, principal: Principal, body: unknown): Promise<SendAnswer> {
  const parsed = request.safeParse(body);
  if (!parsed.success) throw new Refusal(problem('INVALID_REQUEST', describe(parsed.error)));
  const from = oneMailbox('from', parsed.data.from);
  const refusedSender = o.intake.admission.sender(principal.did, from.address);
  if (refusedSender) throw new Refusal(refusedSender.problem);

  const { recipients, rejected } = readRecipients(o, parsed.data.to);
  if (recipients.length === 0) throw new Refusal(rejected[0]!.problem);
  const addresses = [...new Set(recipients.map(({ address }) => address))];
  const taken = await o.intake.take({
    principal,
    via: 'http',
    protocol: 'HTTP',
    mailFrom: from.address,
    recipients: addresses,
    bytes: await compose(o, parsed.data, from, recipients),
    // Composed headers are ASCII, except for the addresses that are not.
    smtpUtf8: true,
  });
  if (taken.kind === 'refused') throw new Refusal(taken.problem);
  return {
    accepted: addresses.map((recipient) => ({ recipient, messageId: taken.queueId })),
    rejected: rejected.map(({ recipient, problem: why }) => {
      const { error, code } = httpBody(why);
      return { recipient, error, code };
    }),
  };
}

/** One malformed recipient does not refuse the others. */
function readRecipients(
  o: SendApiOptions,
  to: string | string[],
): { recipients: Mailbox[]; rejected: { recipient: string; problem: Problem }[] } {
  const recipients: Mailbox[] = [];
  const rejected: { recipient: string; problem: Problem }[] = [];
  for (const recipient of [to].flat()) {
    const mailboxes = parseMailboxes(recipient);
    if (mailboxes) recipients.push(...mailboxes);
    else rejected.push({ recipient, problem: problem('INVALID_RECIPIENT') });
  }
  const limit = o.maxRecipients ?? 100;
  if (recipients.length + rejected.length > limit)
    throw new Refusal(problem('TOO_MANY_RECIPIENTS', `The limit is ${limit}.`));
  return { recipients, rejected };
}

async function compose(o: SendApiOptions, mail: SendRequest, from: Mailbox, to: Mailbox[]): Promise<Buffer> {
  const composer = new MailComposer({
    from: toComposer(from),
    to: to.map(toComposer),
    subject: mail.subject,
    ...(mail.replyTo !== undefined && { replyTo: toComposer(oneMailbox('replyTo', mail.replyTo)) }),
    ...(mail.text !== undefined && { text: toCrLf(mail.text) }),
    ...(mail.html !== undefined && { html: toCrLf(mail.html) }),
    headers: { ...mail.headers, ...(mail.category && { 'X-Atmos-Category': mail.category }) },
    date: new Date(o.now()),
    disableFileAccess: true,
    disableUrlAccess: true,
  });
  const bytes = await composer.compile().build();
  return bytes.subarray(-2).equals(Buffer.from('\r\n')) ? bytes : Buffer.concat([bytes, Buffer.from('\r\n')]);
}

function oneMailbox(field: string, text: string): Mailbox {
  const mailboxes = parseMailboxes(text);
  if (mailboxes?.length === 1) return mailboxes[0]!;
  throw new Refusal(
    problem('INVALID_REQUEST', `${field}: expected one address, as a@b.example or Name <a@b.example>.`),
  );
}

function toComposer({ text, address }: Mailbox): { name: string; address: string } {
  return { name: decodeWords(text), address };
}

/** JSON has line ends of every kind; a message has one (RFC 5322 §2.3). */
function toCrLf(text: string): string {
  return text.replace(/\r\n?|\n/g, '\r\n');
}

function describe(error: z.ZodError): string {
  const issue = error.issues[0]!;
  const where = issue.path.join('.');
  // Of a key that is refused, zod tells the reason one floor down.
  const what = issue.code === 'invalid_key' ? issue.issues[0]!.message : issue.message;
  return where ? `${where}: ${what}.` : `${what}.`;
}

function answerError(o: SendApiOptions, error: Error, reply: FastifyReply): FastifyReply {
  const why = problemOf(o, error);
  return reply.code(why.entry.http).send(httpBody(why));
}

function problemOf(o: SendApiOptions, error: Error): Problem {
  if (error instanceof Refusal) return error.problem;
  const { statusCode = 500 } = error as FastifyError;
  if (statusCode === 413) return problem('MESSAGE_TOO_LARGE', 'The limit of a request is 1 MiB.');
  if (statusCode < 500) return problem('INVALID_REQUEST', error.message);
  return internalError(error, o.log);
}
