/**
 * One SMTP session with a member: who it is, what it asks, and what it is told.
 *
 * Promise: `250 2.0.0 queued as <queue id>` is written only after the spool has committed. Every reply that
 * has an enhanced status code (RFC 2034) has it once, and ours are the catalogue's.
 * smtp-server reads lines, runs TLS and SASL; commands that name addresses, and DATA, are answered here.
 * The session knows its deadlines; submission.ts looks at them.
 */
import type { Socket } from 'node:net';
import type { Logger } from 'pino';
import type { SMTPServer, SMTPServerAuthentication } from 'smtp-server';
import { SMTPConnection, type SMTPConnectionOptions } from 'smtp-server/lib/smtp-connection.js';
import { type ErrorCode, type Problem, problem, smtpText } from '../errors.ts';
import { internalError } from '../internal-error.ts';
import type { Principal } from '../members/authenticate.ts';
import type { ByteBudget } from './byte-budget.ts';
import type { ConnectionCaps, Entry } from './connection-caps.ts';
import type { Authenticate, Intake, SubmittedRecipient } from './intake.ts';
import { type MailCommand, parseMail, parseRcpt } from './submission-command.ts';
import { ehloAnswer, ehloName } from './submission-ehlo.ts';
import { MessageReader, SubmissionStream } from './submission-stream.ts';

export type SubmissionLimits = {
  /** Octets of one message. Default 25 MiB. */
  maxMessageBytes: number;
  /** Recipients of one message. Default 100 (RFC 5321 §4.5.3.1.8). */
  maxRecipients: number;
  /** Connections of this listener at once. Default 500. */
  maxConnections: number;
  /** From the greeting to AUTH. Default 1 min. */
  loginMs: number;
  /** From AUTH, or the answer to a message, to the end of the next. Default 10 min. */
  transactionMs: number;
  /** Silence of the client. Default 5 min (RFC 5321 §4.5.3.2.7). */
  idleMs: number;
  /** Octets a second between DATA and the final dot, over each `rateWindowMs`. Defaults 500 and 30 s. */
  minBytesPerSecond: number;
  rateWindowMs: number;
  /** Wrong logins in one session. Default 3. */
  maxAuthFailures: number;
};

/** What sessions share. */
export type SessionContext = {
  authenticator: Authenticate;
  intake: Intake;
  budget: ByteBudget;
  caps: ConnectionCaps;
  limits: SubmissionLimits;
  log: Logger;
  count: (what: string, reason?: string) => void;
  /** True from the beginning of a stop. */
  isStopping: () => boolean;
  /** Every session is this one's, without TLS and login. */
  everyone?: Principal | undefined;
};

/** How the connection stands with the caps. */
export type Admittance = Exclude<Entry, { kind: 'flood' }>;

type Continue = () => void;

const commandsOff: ReadonlySet<string> = new Set(['WIZ', 'SHELL', 'KILL', 'XCLIENT', 'XFORWARD']);
const hasStatus = /^[245]\.\d{1,3}\.\d{1,3} /;

/** Where the status that smtp-server gives to a text of its own is not the one that RFC 3463, 4954 or 5321 has. */
const statusOf: ReadonlyMap<string, string> = new Map([
  ['Try to send something. No promises though', '2.0.0'],
  ['Authentication aborted', '5.7.0'],
  ['Error: invalid userdata', '5.5.2'],
  ['Error: missing username', '5.5.2'],
  ['Server shutting down', '4.3.2'],
  ['HTTP requests not allowed', '4.7.0'],
  ['Error: too many unrecognized commands', '4.7.0'],
  ['Error: Command line too long', '4.5.2'],
]);

export class SubmissionConnection extends SMTPConnection {
  readonly #context: SessionContext;
  readonly #admittance: Admittance;
  #leaveMember: (() => void) | undefined;
  #mail: MailCommand | undefined;
  /** By address: said twice, it is delivered once, as it was said last. */
  #recipients = new Map<string, SubmittedRecipient>();
  #reader: MessageReader | undefined;
  #rateMark = { at: 0, received: 0 };
  #deadlineAt: number;
  #authFailures = 0;
  #isCommitting = false;

  constructor(
    server: SMTPServer,
    socket: Socket,
    options: SMTPConnectionOptions & { context: SessionContext; admittance: Admittance },
  ) {
    super(server, socket, options);
    this.#context = options.context;
    this.#admittance = options.admittance;
    this.#deadlineAt = performance.now() + this.#context.limits.loginMs;
    connections.set(this.session, this);
    if (this.#context.everyone) {
      this.secure = true;
      this.session.user = this.#context.everyone;
    }
  }

  /** smtp-server waits 100 ms for clients that talk too soon: a sign of spam on port 25, of nothing here. */
  override init(): void {
    this._setListeners(() => {
      const { maxConnections } = this.#context.limits;
      if (this.#admittance.kind === 'over' || this._server.connections.size > maxConnections)
        this.refuse(problem('TOO_MANY_CONNECTIONS'));
      else this.connectionReady();
    });
  }

  /** Asked every second or so: is this session, or the message in it, too slow? @param now performance.now() */
  checkTime(now: number): void {
    if (this.#isCommitting) return;
    if (now < this.#deadlineAt && !(this.#reader && this.#isSlow(this.#reader, now))) return;
    this.#context.count('submission_timeouts');
    // In the middle of STARTTLS nothing can be said, in the clear or under TLS.
    if (this._upgrading) this.destroy();
    else this.refuse(problem('SESSION_TIMEOUT'));
  }

  /** Ends the session, unless a message is being committed: then as soon as that is answered. */
  stop(): void {
    if (!this.#isCommitting) this.refuse(problem('SHUTTING_DOWN'));
  }

  destroy(): void {
    this._socket.destroy();
  }

  refuse(why: Problem): void {
    // smtp-server closes the connection behind a 421.
    this.send(why.entry.smtp.code, smtpText(why));
  }

  /** @throws SmtpRefusal */
  async login(auth: SMTPServerAuthentication): Promise<Principal> {
    const { intake, limits, count } = this.#context;
    const principal = await this.#authenticate(auth);
    const refused = intake.admission.member(principal.did);
    if (refused) throw new SmtpRefusal(refused.problem);
    this.#leaveMember ??= this.#context.caps.enterMember(principal.did);
    if (!this.#leaveMember) throw new SmtpRefusal(problem('TOO_MANY_CONNECTIONS'));
    // The client may have gone while the key was checked.
    if (this._closed || this._closing) this.#leaveMember();
    this.#deadlineAt = performance.now() + limits.transactionMs;
    count('submission_logins');
    return principal;
  }

  override send(code: number, data?: string | string[] | null, context?: string | false): void {
    const status = typeof data === 'string' && context !== false && statusOf.get(data);
    if (status) super.send(code, `${status} ${data}`, false);
    else super.send(code, data, typeof data === 'string' && hasStatus.test(data) ? false : context);
  }

  override handler_EHLO(command: Buffer, next: Continue): void {
    const name = ehloName(command);
    if (name === undefined) {
      // It has the words of a refusal.
      super.handler_EHLO(command, next);
      return;
    }
    this.hostNameAppearsAs = name;
    // RFC 5321 §4.1.4
    this._resetSession();
    const { maxMessageBytes } = this.#context.limits;
    const is = { isSecure: this.secure, isLoggedIn: !!this.session.user };
    const answer = ehloAnswer({ hostname: this.name, maxMessageBytes, ...is });
    if (this._socket.readyState === 'open') this._socket.write(answer);
    next();
  }

  override handler_AUTH(command: Buffer, next: Continue): void {
    if (this.secure) super.handler_AUTH(command, next);
    else {
      this.refuse(problem('TLS_REQUIRED'));
      next();
    }
  }

  override handler_MAIL(command: Buffer, next: Continue): void {
    this.#answer(() => this.#sender(command), ['Accepted', 'MAIL_FROM_OK']);
    next();
  }

  override handler_RCPT(command: Buffer, next: Continue): void {
    this.#answer(() => this.#recipient(command), ['Accepted', 'RCPT_TO_OK']);
    next();
  }

  override handler_DATA(command: Buffer, next: Continue): void {
    const why = this.#mayNotSendData(command);
    if (why) this.refuse(why);
    else if (this._parser) {
      const { limits, budget } = this.#context;
      const { did } = this.session.user as Principal;
      const reader = new MessageReader({ maxBytes: limits.maxMessageBytes, budget: budget.of(did) });
      this.#reader = reader;
      this.#rateMark = { at: performance.now(), received: 0 };
      (this._parser as SubmissionStream).startMessage(reader, () => void this.#received(reader));
      this.send(354, 'End data with <CR><LF>.<CR><LF>');
    }
    next();
  }

  /** Also called while smtp-server's constructor runs: nothing of this class is there yet. */
  override _createParser(): SubmissionStream {
    const parser = new SubmissionStream({ maxCommandLength: this._server.options.maxCommandLength });
    parser.oncommand = (command, next) => this._onCommand(command, next);
    parser.on('error', (error) => this.send(421, `Error: ${error.message}`));
    parser.pipelined = () => this.#together();
    return parser;
  }

  override _isDisabled(command: string): boolean {
    return commandsOff.has(command);
  }

  /** smtp-server's own envelope is of no use: it is filled and read by commands that are answered here. */
  override _resetSession(): void {
    this.#mail = undefined;
    if (this.#recipients.size > 0) this.#recipients = new Map();
  }

  override close(): void {
    super.close();
    this.#admittance.close();
    this.#leaveMember?.();
  }

  override _onTimeout(): void {
    // The client waits for us, not we for it.
    if (this.#isCommitting) this._armTimeout();
    else super._onTimeout();
  }

  override _onClose(): void {
    super._onClose();
    this.#admittance.leave();
    this.#leaveMember?.();
    if (this.#isCommitting || !this.#reader) return;
    // The client went away in the middle: there is nobody to answer and nothing was taken.
    this.#context.count('submission_transfers_broken');
    this.#reader.release();
    this.#reader = undefined;
  }

  async #authenticate({ username, password, authzid }: SMTPServerAuthentication): Promise<Principal> {
    const { authenticator } = this.#context;
    const names = [username ?? '', ...(authzid && authzid !== username ? [authzid] : [])];
    let principal: Principal | undefined;
    // RFC 4616 §2: who logs in may act as itself alone, so both names must be the key's.
    for (const name of names) {
      const answer = await authenticator.authenticate(name, password ?? '', this.remoteAddress);
      if (answer.kind === 'busy') throw new SmtpRefusal(problem('AUTH_BUSY'));
      if (answer.kind === 'throttled') throw this.#hangUpBehind('AUTH_THROTTLED');
      if (answer.kind !== 'authenticated') throw this.#wrongLogin();
      principal = answer.principal;
    }
    return principal!;
  }

  /** The same for `failed` and `mismatch`: over SMTP a good key must not tell whose it is. */
  #wrongLogin(): SmtpRefusal {
    this.#authFailures += 1;
    const isLast = this.#authFailures >= this.#context.limits.maxAuthFailures;
    return isLast ? this.#hangUpBehind('AUTH_FAILED') : new SmtpRefusal(problem('AUTH_FAILED'));
  }

  #hangUpBehind(code: ErrorCode): SmtpRefusal {
    setImmediate(() => this.close());
    return new SmtpRefusal(problem(code));
  }

  #sender(line: Buffer): Problem | undefined {
    if (!this.secure) return problem('TLS_REQUIRED');
    if (!this.session.user) return problem('AUTH_REQUIRED');
    if (this.#mail) return problem('BAD_SEQUENCE', 'A transaction is open: RSET ends it.');
    const command = parseMail(line);
    if (command.kind === 'malformed') return command.problem;
    const { intake, authenticator, limits } = this.#context;
    const principal = this.session.user as Principal;
    if (!authenticator.isLive(principal)) return problem('AUTH_FAILED');
    const refused =
      intake.admission.member(principal.did) ?? intake.admission.sender(principal.did, command.address);
    if (refused) return refused.problem;
    if ((command.size ?? 0) > limits.maxMessageBytes)
      return problem('MESSAGE_TOO_LARGE', `The limit is ${limits.maxMessageBytes} octets.`);
    this.#mail = command;
    return undefined;
  }

  #recipient(line: Buffer): Problem | undefined {
    if (!this.#mail) return problem('BAD_SEQUENCE', 'MAIL comes first.');
    const command = parseRcpt(line, this.#mail.smtpUtf8);
    if (command.kind === 'malformed') return command.problem;
    const { admission } = this.#context.intake;
    const checked = admission.recipient(command.address, this.#mail.smtpUtf8);
    if (checked.kind === 'refused') return checked.problem;
    const { address } = checked;
    if (this.#recipients.size >= this.#context.limits.maxRecipients && !this.#recipients.has(address))
      return problem('TOO_MANY_RECIPIENTS');
    const suppressed = admission.suppressed((this.session.user as Principal).did, address);
    if (suppressed) return suppressed.problem;
    const { notify, orcpt } = command;
    this.#recipients.set(address, { address, notify, orcpt });
    return undefined;
  }

  #mayNotSendData(command: Buffer): Problem | undefined {
    if (!this.#mail) return problem('BAD_SEQUENCE', 'MAIL and RCPT come first.');
    if (this.#recipients.size === 0) return problem('BAD_SEQUENCE', 'There is no recipient.');
    return command.toString().trim().length > 4
      ? problem('INVALID_REQUEST', 'DATA has no parameters.')
      : undefined;
  }

  async #received(reader: MessageReader): Promise<void> {
    this.#isCommitting = true;
    try {
      const taken = await this.#take(reader);
      if (typeof taken === 'string') this.send(250, taken);
      else this.refuse(taken);
    } catch (error) {
      this.refuse(internalError(error, this.#context.log));
    }
    reader.release();
    this.#reader = undefined;
    this.#isCommitting = false;
    this.#deadlineAt = performance.now() + this.#context.limits.transactionMs;
    this._unrecognizedCommands = 0;
    this._resetSession();
    if (this.#context.isStopping()) this.stop();
    if (this._parser) this._parser.continue();
  }

  /** @returns the text of the 250, or why not */
  async #take(reader: MessageReader): Promise<string | Problem> {
    const read = reader.finish();
    if (read.kind === 'refused') return read.problem;
    const { authenticator, intake } = this.#context;
    const principal = this.session.user as Principal;
    if (!authenticator.isLive(principal)) return problem('AUTH_FAILED');
    const { address: mailFrom, smtpUtf8, requireTls, ret, envid } = this.#mail!;
    const taken = await intake.take({
      principal,
      via: 'smtp',
      // RFC 6531 §4.3
      protocol: smtpUtf8 ? 'UTF8SMTPSA' : 'ESMTPSA',
      ...{ mailFrom, smtpUtf8, requireTls, ret, envid },
      recipients: [...this.#recipients.values()],
      bytes: read.bytes,
      isClean: reader.isClean,
    });
    if (taken.kind === 'refused') return taken.problem;
    if (taken.kind === 'repeated') throw new Error('a message without an idempotency key was repeated');
    return `2.0.0 queued as ${taken.queueId}`;
  }

  #answer(work: () => Problem | undefined, [text, context]: readonly [string, string]): void {
    let why: Problem | undefined;
    try {
      why = work();
    } catch (error) {
      why = internalError(error, this.#context.log);
    }
    if (why) this.refuse(why);
    else this.send(250, text, context);
  }

  /** RFC 2920 §3.2: replies to commands that came together go together. Not beside STARTTLS, which takes the socket over. */
  #together(): void {
    const socket = this._socket;
    if (!this.secure || socket.writableCorked > 0) return;
    socket.cork();
    process.nextTick(() => socket.uncork());
  }

  /** smtp-server's own time-out is for silence; a client that sends an octet a second is never silent. */
  #isSlow({ received }: MessageReader, now: number): boolean {
    const { minBytesPerSecond, rateWindowMs } = this.#context.limits;
    const mark = this.#rateMark;
    if (now - mark.at < rateWindowMs) return false;
    const perSecond = (received - mark.received) / ((now - mark.at) / 1000);
    this.#rateMark = { at: now, received };
    return perSecond < minBytesPerSecond;
  }
}

/** smtp-server hands its hooks the session alone. */
export const connections = new WeakMap<object, SubmissionConnection>();

/** The shape in which smtp-server takes the answer to AUTH. */
export class SmtpRefusal extends Error {
  override name = 'SmtpRefusal';
  readonly responseCode: number;

  constructor(why: Problem) {
    super(smtpText(why));
    this.responseCode = why.entry.smtp.code;
  }
}
