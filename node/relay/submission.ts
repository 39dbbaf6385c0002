/**
 * SMTP submission (RFC 6409): one listener, with STARTTLS (587) or implicit TLS (465).
 *
 * Promise: no credentials and no mail without TLS. Nothing grows without a bound: connections, of all, of one
 * client network, of one member; octets in memory; recipients; the time of a handshake, of a login, of a
 * message, and how slowly it may come. A certificate is replaced without a restart: sessions that begin later
 * get the new one. Behind a load balancer the client that the PROXY protocol names is the one that counts.
 * What a session says and hears is submission-connection.ts.
 */
import type { AddressInfo, Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { Logger } from 'pino';
import { SMTPServer, type SMTPServerAuthentication, type SMTPServerSession } from 'smtp-server';
import { isAddressAllowed } from 'smtp-server/lib/smtp-connection.js';
import { internalError } from '../internal-error.ts';
import type { Principal } from '../members/authenticate.ts';
import type { ByteBudget } from './byte-budget.ts';
import { ConnectionCaps } from './connection-caps.ts';
import { readProxyHeader } from './connection-proxy.ts';
import type { Authenticate, Intake } from './intake.ts';
import {
  type Admittance,
  connections,
  type SessionContext,
  SmtpRefusal,
  SubmissionConnection,
  type SubmissionLimits,
} from './submission-connection.ts';
import '../tls-guard.ts';

export type { SubmissionLimits } from './submission-connection.ts';

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
  /** Shared by all listeners. Default: 50 of one client network, 50 of one member. */
  caps?: ConnectionCaps;
  /** Addresses of load balancers: they must, and nobody else may, begin with a PROXY header. */
  proxies?: readonly string[];
  limits?: Partial<SubmissionLimits>;
  /** For measurements alone, and no key of the configuration: whoever comes is this one, without TLS and login. */
  everyone?: Principal;
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
  minBytesPerSecond: 500,
  rateWindowMs: 30_000,
  maxAuthFailures: 3,
};

/** How long open transactions may take to end at stop(). */
const graceMs = 3000;

export class SubmissionServer {
  readonly #options: SubmissionOptions;
  readonly #server: Listener;
  #isStopping = false;

  constructor(options: SubmissionOptions) {
    this.#options = options;
    const { authenticator, intake, budget, log, count } = options;
    const caps = options.caps ?? new ConnectionCaps();
    const limits = { ...defaults, ...options.limits };
    const isStopping = (): boolean => this.#isStopping;
    this.#server = new Listener(options, {
      ...{ authenticator, intake, budget, caps, limits, log, count, isStopping, everyone: options.everyone },
    });
    // Garbage of a peer: TLS handshakes that fail, connections reset.
    this.#server.on('error', (error: Error) => {
      count('submission_connection_errors');
      log.debug({ err: error }, 'a submission connection failed');
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
        this.#server.watch();
        resolve({ host: bound.address, port: bound.port });
      });
    });
  }

  /**
   * For sessions that begin from now on; those that are open go on with theirs.
   *
   * @throws Error when key and certificate do not belong together; then nothing has changed
   */
  updateCertificate(certificate: { key: string; cert: string }): void {
    this.#server.replaceCertificate(certificate);
  }

  /** Closes the port at once, waits up to 3 s for messages whose answer is due, and ends all sessions. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    const open = this.#server.sessions();
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const session of open) session.stop();
    await closed;
    this.#server.unwatch();
    // smtp-server half-closes and leaves a peer 5 s more to close its side.
    for (const session of open) session.destroy();
  }
}

/** What smtp-server leaves to its user, and the three places where we do it otherwise. */
class Listener extends SMTPServer {
  readonly #context: SessionContext;
  readonly #proxies: string[];
  /** When a socket came that is not a session yet: its TLS handshake, or PROXY header, is under way. */
  readonly #cameAt = new WeakMap<Socket, number>();
  #watch: NodeJS.Timeout | undefined;
  #ids = 0;

  constructor(o: SubmissionOptions, context: SessionContext) {
    const { limits } = context;
    super({
      name: o.hostname,
      banner: 'Atmosphere Mail',
      heloResponse: '%s',
      secure: o.implicitTls,
      ...o.certificate,
      minVersion: 'TLSv1.2',
      authMethods: ['PLAIN', 'LOGIN'],
      // Asked for at MAIL: the answer then names what is missing, TLS or AUTH.
      authOptional: true,
      hideENHANCEDSTATUSCODES: false,
      // A reverse lookup would leave this machine, and nobody reads its answer.
      disableReverseLookup: true,
      size: limits.maxMessageBytes,
      maxClients: limits.maxConnections,
      maxCommandLength: 4096,
      socketTimeout: limits.idleMs,
      closeTimeout: graceMs,
      logger: false,
    });
    this.#context = context;
    this.#proxies = [...(o.proxies ?? [])];
  }

  /** One timer for all sessions: their deadlines are kept within a tenth, or a second where that is less. */
  watch(): void {
    const { loginMs, transactionMs, rateWindowMs } = this.#context.limits;
    const everyMs = Math.max(20, Math.min(1000, loginMs / 10, transactionMs / 10, rateWindowMs / 10));
    this.#watch = setInterval(() => this.#checkTimes(), everyMs).unref();
  }

  unwatch(): void {
    clearInterval(this.#watch);
  }

  sessions(): SubmissionConnection[] {
    return [...this.connections] as SubmissionConnection[];
  }

  replaceCertificate(certificate: { key: string; cert: string }): void {
    const { key, cert } = this.options;
    try {
      this.updateSecureContext(certificate);
    } catch (error) {
      this.updateSecureContext({ key, cert });
      throw error;
    }
  }

  override onConnect(_session: SMTPServerSession, done: (error?: Error | null) => void): void {
    this.#context.count('submission_connections');
    done();
  }

  override onSecure(
    _socket: Socket | TLSSocket,
    _session: SMTPServerSession,
    done: (error?: Error | null) => void,
  ): void {
    done();
  }

  override onAuth(
    auth: SMTPServerAuthentication,
    session: SMTPServerSession,
    done: (error: Error | null | undefined, response?: { user?: unknown }) => void,
  ): void {
    connections
      .get(session)!
      .login(auth)
      .then(
        (user) => done(null, { user }),
        (error: unknown) => {
          const isAnswer = error instanceof SmtpRefusal;
          done(isAnswer ? error : new SmtpRefusal(internalError(error, this.#context.log)));
        },
      );
  }

  override connect(socket: Socket | TLSSocket, options?: Accepted | null): void {
    const session = new SubmissionConnection(this, socket, { ...options!, context: this.#context });
    this.connections.add(session);
    session.on('error', (error) => this._onError(error));
    session.init();
  }

  override _expectsProxyHeader(socket: Socket): boolean {
    return this.#proxies.length > 0 && isAddressAllowed(this.#proxies, socket.remoteAddress);
  }

  /** Before TLS and the first word: whose connection it is, and whether there are too many of that client. */
  override _handleProxy(socket: Socket, done: (error: Error | null, options?: Accepted) => void): void {
    this.#cameAt.set(socket, performance.now());
    if (!this._expectsProxyHeader(socket)) {
      this.#admit(socket, { address: socket.remoteAddress ?? '', port: socket.remotePort ?? 0 }, done);
      return;
    }
    void readProxyHeader(socket).then((header) => {
      const own = { address: socket.remoteAddress ?? '', port: socket.remotePort ?? 0 };
      if (header) this.#admit(socket, header.source ?? own, done);
      else this.#drop(socket, 'proxy header', done);
    });
  }

  #admit(
    socket: Socket,
    from: { address: string; port: number },
    done: (error: Error | null, options?: Accepted) => void,
  ): void {
    const entry = this.#context.caps.enterFrom(from.address);
    if (entry.kind === 'flood') {
      this.#drop(socket, 'flood', done);
      return;
    }
    // A socket that never becomes a session has nobody else to leave for it.
    socket.once('close', entry.leave);
    this.#ids += 1;
    done(null, {
      id: this.#ids.toString(36),
      remoteAddress: from.address,
      remotePort: from.port,
      admittance: entry,
    });
  }

  #drop(socket: Socket, why: string, done: (error: Error | null) => void): void {
    this.#context.count('submission_connections_dropped', why);
    socket.destroy();
    done(new Error(why));
  }

  #checkTimes(): void {
    const now = performance.now();
    for (const session of this.connections) (session as SubmissionConnection).checkTime(now);
    // The topmost socket is destroyed: to take the lower one from a handshake crashes Node.
    for (const [socket, top] of this._pendingSockets) {
      if (now - (this.#cameAt.get(socket) ?? now) > this.#context.limits.loginMs) top.destroy();
    }
  }
}

type Accepted = {
  id: string;
  remoteAddress: string;
  remotePort: number;
  admittance: Admittance;
};
