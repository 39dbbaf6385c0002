/**
 * SMTP submission (RFC 6409): one listener, with STARTTLS (587) or implicit TLS (465).
 *
 * Promise: no credentials and no mail without TLS; `250 2.0.0 queued as <queue id>` is written only after
 * the spool has committed. A wrong login reads the same, and takes as long, whether the account exists.
 * smtp-server speaks the protocol; what is decided here comes from admission, and every text from the
 * error catalogue. Caps: connections, octets in memory, recipients, and time (see #deadline).
 */
import type { AddressInfo } from 'node:net';
import type { Logger } from 'pino';
import {
  SMTPServer,
  type SMTPServerAuthentication,
  type SMTPServerDataStream,
  type SMTPServerSession,
} from 'smtp-server';
import { type Problem, problem, smtpText } from '../errors.ts';
import type { Principal } from '../members/authenticate.ts';
import type { ByteBudget } from './byte-budget.ts';
import type { Authenticate, Intake } from './intake.ts';
import { internalError } from './internal-error.ts';
import '../tls-guard.ts';

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
  /** Wrong logins in one session. Default 3. */
  maxAuthFailures: number;
};

export type SubmissionOptions = {
  listen: { host: string; port: number };
  /** True: TLS from the first octet. False: STARTTLS. */
  implicitTls: boolean;
  /** PEM. */
  certificate: { key: string; cert: string };
  hostname: string;
  authenticator: Authenticate;
  intake: Intake;
  /** Shared by all listeners. */
  budget: ByteBudget;
  limits?: Partial<SubmissionLimits>;
  log: Logger;
  count: (what: string, reason?: string) => void;
};

const defaults: SubmissionLimits = {
  maxMessageBytes: 25 * 1024 * 1024,
  maxRecipients: 100,
  maxConnections: 500,
  loginMs: 60_000,
  transactionMs: 600_000,
  idleMs: 300_000,
  maxAuthFailures: 3,
};

const disabled = ['WIZ', 'SHELL', 'KILL', 'XCLIENT', 'XFORWARD'];

/** How long open transactions may take to end at stop(). */
const graceMs = 3000;

type Connection = SMTPServer['connections'] extends Set<infer C> ? C : never;
type Callback = (error?: Error | null) => void;
type DataCallback = (error?: Error | null, text?: string) => void;

export class SubmissionServer {
  readonly #options: SubmissionOptions;
  readonly #limits: SubmissionLimits;
  readonly #server: SMTPServer;
  readonly #deadlines = new Map<string, NodeJS.Timeout>();
  readonly #authFailures = new Map<string, number>();
  /** Sessions whose final dot is behind them and whose answer is not. */
  readonly #committing = new Set<string>();

  constructor(options: SubmissionOptions) {
    this.#options = options;
    this.#limits = { ...defaults, ...options.limits };
    this.#server = this.#createServer();
    // Garbage of a peer: TLS handshakes that fail, connections reset.
    this.#server.on('error', (error: Error) => {
      options.count('submission_connection_errors');
      options.log.debug({ err: error }, 'a submission connection failed');
    });
  }

  /** @returns the address listened on. @throws the listening error, for example EADDRINUSE */
  start(): Promise<{ host: string; port: number }> {
    const { host, port } = this.#options.listen;
    return new Promise((resolve, reject) => {
      this.#server.server.once('error', reject);
      this.#server.listen(port, host, () => {
        this.#server.server.off('error', reject);
        const bound = this.#server.server.address() as AddressInfo;
        resolve({ host: bound.address, port: bound.port });
      });
    });
  }

  /** Closes the port at once, waits up to 3 s for messages whose answer is due, and ends all sessions. */
  async stop(): Promise<void> {
    const connections = [...this.#server.connections];
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const connection of connections) {
      if (this.#committing.has(connection.session.id)) continue;
      this.#hangUp(connection.session, problem('SHUTTING_DOWN'));
    }
    await closed;
    // smtp-server half-closes and leaves a peer 5 s more to close its side.
    for (const connection of connections) connection._socket.destroy();
    for (const timer of this.#deadlines.values()) clearTimeout(timer);
  }

  #createServer(): SMTPServer {
    const { hostname, implicitTls, certificate } = this.#options;
    return new SMTPServer({
      name: hostname,
      banner: 'Atmosphere Mail',
      heloResponse: '%s',
      secure: implicitTls,
      ...certificate,
      minVersion: 'TLSv1.2',
      authMethods: ['PLAIN', 'LOGIN'],
      // Asked for at MAIL, by #sender: the answer then names what is missing, TLS or AUTH.
      authOptional: true,
      disabledCommands: disabled,
      // A reverse lookup would leave this machine, and nobody reads its answer.
      disableReverseLookup: true,
      size: this.#limits.maxMessageBytes,
      maxClients: this.#limits.maxConnections,
      maxCommandLength: 4096,
      socketTimeout: this.#limits.idleMs,
      closeTimeout: graceMs,
      logger: false,
      onConnect: (session, done) => this.#connected(session, done),
      onSecure: (_socket, session, done) => {
        session.disabledCommands = disabled;
        done();
      },
      onAuth: (auth, session, done) =>
        void this.#login(auth, session).then((user) => done(null, { user }), done),
      onMailFrom: ({ address }, session, done) => this.#guard(done, () => this.#sender(session, address)),
      onRcptTo: (recipient, session, done) => this.#guard(done, () => this.#recipient(session, recipient)),
      onData: (stream, session, done) => void this.#data(stream, session, done),
      onClose: (session) => this.#closed(session),
    });
  }

  #connected(session: SMTPServerSession, done: Callback): void {
    this.#options.count('submission_connections');
    // RFC 4954 §4: PLAIN is not offered in the clear, or a hasty client sends its key there. smtp-server would.
    if (!session.secure) session.disabledCommands = [...disabled, 'AUTH'];
    this.#deadline(session, this.#limits.loginMs);
    done();
  }

  #closed(session: SMTPServerSession): void {
    clearTimeout(this.#deadlines.get(session.id));
    this.#deadlines.delete(session.id);
    this.#authFailures.delete(session.id);
  }

  /** @throws SmtpRefusal */
  async #login(auth: SMTPServerAuthentication, session: SMTPServerSession): Promise<Principal> {
    const { authenticator, intake } = this.#options;
    try {
      const answer = await authenticator.authenticate(auth.username ?? '', auth.password ?? '');
      if (answer.kind === 'busy') throw new SmtpRefusal(problem('AUTH_BUSY'));
      if (answer.kind !== 'authenticated') throw this.#wrongLogin(session);
      const refused = intake.admission.member(answer.principal.did);
      if (refused) throw new SmtpRefusal(refused.problem);
      this.#deadline(session, this.#limits.transactionMs);
      return answer.principal;
    } catch (error) {
      throw this.#toRefusal(error);
    }
  }

  /** The same for `failed` and `mismatch`: over SMTP a good key must not tell whose it is. */
  #wrongLogin(session: SMTPServerSession): SmtpRefusal {
    const failures = (this.#authFailures.get(session.id) ?? 0) + 1;
    this.#authFailures.set(session.id, failures);
    if (failures >= this.#limits.maxAuthFailures) setImmediate(() => this.#connectionOf(session)?.close());
    return new SmtpRefusal(problem('AUTH_FAILED'));
  }

  #sender(session: SMTPServerSession, address: string): void {
    if (!session.secure) throw new SmtpRefusal(problem('TLS_REQUIRED'));
    if (!session.user) throw new SmtpRefusal(problem('AUTH_REQUIRED'));
    const { intake, authenticator } = this.#options;
    const { admission } = intake;
    const principal = session.user as Principal;
    const { did } = principal;
    if (!authenticator.isLive(principal)) throw new SmtpRefusal(problem('AUTH_FAILED'));
    const refused = admission.member(did) ?? admission.sender(did, address);
    if (refused) throw new SmtpRefusal(refused.problem);
  }

  #recipient(session: SMTPServerSession, recipient: { address: string }): void {
    const { rcptTo, smtpUtf8 } = session.envelope;
    if (rcptTo.length >= this.#limits.maxRecipients) throw new SmtpRefusal(problem('TOO_MANY_RECIPIENTS'));
    const checked = this.#options.intake.admission.recipient(recipient.address, smtpUtf8 ?? false);
    if (checked.kind === 'refused') throw new SmtpRefusal(checked.problem);
    // smtp-server shows domains as U-labels; from here on they are A-labels.
    recipient.address = checked.address;
  }

  async #data(stream: SMTPServerDataStream, session: SMTPServerSession, done: DataCallback): Promise<void> {
    const received = await this.#receive(stream);
    // The client went away in the middle: there is nobody to answer and nothing was taken.
    if (received.kind === 'gone') return;
    this.#committing.add(session.id);
    clearTimeout(this.#deadlines.get(session.id));
    try {
      const text = await this.#take(received, session);
      done(null, text);
    } catch (error) {
      done(this.#toRefusal(error));
    } finally {
      this.#options.budget.release(received.held);
      this.#committing.delete(session.id);
      this.#deadline(session, this.#limits.transactionMs);
    }
  }

  /** Reads to the final dot whatever comes, so that the answer is not taken for that of another command. */
  async #receive(stream: SMTPServerDataStream): Promise<Received> {
    const { budget, count } = this.#options;
    const chunks: Buffer[] = [];
    let held = 0;
    let refused: Problem | undefined;
    try {
      for await (const chunk of stream as AsyncIterable<Buffer>) {
        if (refused) continue;
        if (stream.byteLength > this.#limits.maxMessageBytes) refused = problem('MESSAGE_TOO_LARGE');
        else if (!budget.take(chunk.length)) refused = problem('QUEUE_FULL');
        else held += chunk.length;
        if (!refused) chunks.push(chunk);
      }
    } catch {
      budget.release(held);
      count('submission_transfers_broken');
      return { kind: 'gone' };
    }
    return { kind: 'received', held, ...(refused ? { refused } : { bytes: Buffer.concat(chunks) }) };
  }

  /** @returns the text of the 250; @throws SmtpRefusal */
  async #take(
    received: Extract<Received, { kind: 'received' }>,
    session: SMTPServerSession,
  ): Promise<string> {
    if (!received.bytes) throw new SmtpRefusal(received.refused ?? problem('INTERNAL_ERROR'));
    const { mailFrom, rcptTo, smtpUtf8 = false } = session.envelope;
    const principal = session.user as Principal;
    if (!this.#options.authenticator.isLive(principal)) throw new SmtpRefusal(problem('AUTH_FAILED'));
    const taken = await this.#options.intake.take({
      principal,
      via: 'smtp',
      // RFC 6531 §4.3
      protocol: smtpUtf8 ? 'UTF8SMTPSA' : 'ESMTPSA',
      mailFrom: mailFrom ? mailFrom.address : '',
      recipients: [...new Set(rcptTo.map(({ address }) => address))],
      bytes: received.bytes,
      smtpUtf8,
    });
    if (taken.kind === 'refused') throw new SmtpRefusal(taken.problem);
    return `2.0.0 queued as ${taken.queueId}`;
  }

  #guard(done: Callback, work: () => void): void {
    try {
      work();
    } catch (error) {
      done(this.#toRefusal(error));
      return;
    }
    done();
  }

  #toRefusal(error: unknown): SmtpRefusal {
    if (error instanceof SmtpRefusal) return error;
    return new SmtpRefusal(internalError(error, this.#options.log));
  }

  /**
   * smtp-server's own time-out is for silence; a client that sends an octet a second is never silent.
   * So a session also has this long for its next step: to log in, then to end a message.
   */
  #deadline(session: SMTPServerSession, ms: number): void {
    clearTimeout(this.#deadlines.get(session.id));
    if (!this.#connectionOf(session)) return;
    const timer = setTimeout(() => {
      this.#options.count('submission_timeouts');
      this.#hangUp(session, problem('SESSION_TIMEOUT'));
    }, ms);
    timer.unref();
    this.#deadlines.set(session.id, timer);
  }

  #hangUp(session: SMTPServerSession, why: Problem): void {
    // smtp-server closes the connection behind a 421.
    this.#connectionOf(session)?.send(why.entry.smtp.code, smtpText(why));
  }

  #connectionOf(session: SMTPServerSession): Connection | undefined {
    for (const connection of this.#server.connections) {
      if (connection.session.id === session.id) return connection;
    }
    return undefined;
  }
}

type Received =
  | { kind: 'gone' }
  | { kind: 'received' /** Octets taken of the budget. */; held: number; bytes?: Buffer; refused?: Problem };

/** The shape in which smtp-server takes a reply. */
class SmtpRefusal extends Error {
  override name = 'SmtpRefusal';
  readonly responseCode: number;

  constructor(why: Problem) {
    super(smtpText(why));
    this.responseCode = why.entry.smtp.code;
  }
}
