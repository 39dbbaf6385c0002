/**
 * One SMTP session with one address: connect, STARTTLS, one message to one recipient.
 *
 * Promise: the outcome is a value, within `timeouts.totalMs`; only `delivered` means that the peer said
 * 2yz after the final dot. The socket goes to the address it is given and to no other: nothing is
 * resolved here. A message that the peer cannot take as it is (8BITMIME, SMTPUTF8, SIZE) is not sent.
 *
 * TLS `required` means encrypted; whose certificate it is nobody checks, since a certificate that DNS
 * alone vouches for proves no more than the address does (RFC 7435).
 */
import { connect, type Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import SMTPConnection from 'nodemailer/lib/smtp-connection';
import type { Stage } from './reply.ts';

export type TlsPolicy = 'required' | 'opportunistic';
export type TlsFacts = { version: string; cipher: string };

export type Target = { name: string; address: string; port: number };

export type Outgoing = {
  from: string;
  to: string;
  /** All bytes, prepended lines included. */
  message: Buffer;
  /** Octets above 127 in the header: RFC 6531 §3.4 asks for SMTPUTF8. */
  utf8Header: boolean;
  /** Octets above 127 anywhere. */
  eightBit: boolean;
};

export type Outcome =
  | { kind: 'delivered'; reply: string; tls?: TlsFacts }
  /** The peer said 4yz or 5yz. */
  | { kind: 'refused'; stage: Stage; reply: string; tls?: TlsFacts }
  /** The peer does not offer what the message needs. */
  | { kind: 'unfit'; status: string; summary: string; tls?: TlsFacts }
  /** No reply to go by: not connected, timed out, closed, TLS failed. `reached`: the destination had a part in it. */
  | { kind: 'broken'; stage: Stage; reached: boolean; summary: string }
  /** We were told to stop before an outcome was known. */
  | { kind: 'aborted' };

export type Timeouts = {
  connectMs: number;
  /** From the connection to the end of STARTTLS. */
  sessionMs: number;
  /** Silence of the peer within the transaction. */
  idleMs: number;
  /** Everything, against a peer that drips. */
  totalMs: number;
};

/** RFC 5321 §4.5.3.2: five minutes for a greeting, ten for the reply to the final dot. */
export const defaultTimeouts: Timeouts = {
  connectMs: 30_000,
  sessionMs: 5 * 60_000,
  idleMs: 10 * 60_000,
  totalMs: 20 * 60_000,
};

export type ClientOptions = {
  /** Our name in EHLO. */
  hostname: string;
  tls: TlsPolicy;
  timeouts: Timeouts;
};

const maxReplyBytes = 64 * 1024;
/** How long a peer may take to close after our QUIT. */
const closeMs = 1_000;

export async function deliver(
  target: Target,
  outgoing: Outgoing,
  options: ClientOptions,
  stop: AbortSignal,
): Promise<Outcome> {
  const first = await attempt(target, outgoing, options, 'encrypted', stop);
  // A broken handshake ends the connection, so going on in plain needs another one.
  if (!first.tlsFailed || options.tls === 'required') return first.outcome;
  return (await attempt(target, outgoing, options, 'plain', stop)).outcome;
}

type Tried = { outcome: Outcome; tlsFailed: boolean };
/** `transaction`: from MAIL FROM on, where another host must not be tried with the same message. */
type Phase = 'dial' | 'session' | 'transaction';

async function attempt(
  target: Target,
  outgoing: Outgoing,
  options: ClientOptions,
  mode: 'encrypted' | 'plain',
  stop: AbortSignal,
): Promise<Tried> {
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(), options.timeouts.totalMs);
  const session = new Session(target, options, mode, AbortSignal.any([stop, limit.signal]));
  try {
    return { outcome: await session.run(outgoing), tlsFailed: false };
  } catch (error) {
    // A mistake of ours is nobody's failure to answer.
    if (error instanceof TypeError) throw error;
    if (stop.aborted) return { outcome: { kind: 'aborted' }, tlsFailed: false };
    if (!limit.signal.aborted) {
      const tlsFailed = session.failedTls(error as Failure);
      return { outcome: outcomeOf(error as Failure, session), tlsFailed };
    }
    const summary = `no outcome within ${options.timeouts.totalMs / 1000} s`;
    return { outcome: broken(session.phase, true, summary), tlsFailed: false };
  } finally {
    clearTimeout(timer);
    session.end();
  }
}

class Session {
  phase: Phase = 'dial';
  tls: TlsFacts | undefined;
  readonly #target: Target;
  readonly #options: ClientOptions;
  readonly #mode: 'encrypted' | 'plain';
  readonly #signal: AbortSignal;
  #socket: Socket | undefined;
  #connection: SMTPConnection | undefined;

  constructor(target: Target, options: ClientOptions, mode: 'encrypted' | 'plain', signal: AbortSignal) {
    this.#target = target;
    this.#options = options;
    this.#mode = mode;
    this.#signal = signal;
  }

  /** @throws Failure */
  async run(outgoing: Outgoing): Promise<Outcome> {
    this.#socket = await dial(this.#target, this.#options.timeouts.connectMs, this.#signal);
    this.phase = 'session';
    const connection = this.#open(this.#socket);
    await this.#step(connection, (done) => connection.connect(done));
    this.tls = factsOf(connection);
    const misfit = misfitOf(String(connection.lastServerResponse), outgoing);
    if (misfit) return { kind: 'unfit', ...misfit, tls: this.tls };
    this.phase = 'transaction';
    if (outgoing.utf8Header) nameSmtpUtf8(connection);
    const { from, to, message, eightBit } = outgoing;
    const envelope = { from, to, size: message.length, use8BitMime: eightBit };
    const info = await this.#step<{ response: string }>(connection, (done) =>
      connection.send(envelope, message, done),
    );
    return { kind: 'delivered', reply: info!.response, tls: this.tls };
  }

  /** Refused, garbled, reset or timed out: between STARTTLS and the end of the handshake. */
  failedTls(error: Failure): boolean {
    return error.code === 'ETLS' || this.#connection?.upgrading === true;
  }

  end(): void {
    if (this.#signal.aborted) this.#socket?.destroy();
    this.#connection?.quit();
    this.#connection?.close();
  }

  #open(socket: Socket): SMTPConnection {
    const { hostname, timeouts, tls } = this.#options;
    const connection = new SMTPConnection({
      connection: socket,
      host: this.#target.name,
      name: hostname,
      requireTLS: tls === 'required',
      ignoreTLS: this.#mode === 'plain',
      tls: { rejectUnauthorized: false, minVersion: 'TLSv1.2' },
      connectionTimeout: timeouts.sessionMs,
      greetingTimeout: timeouts.sessionMs,
      socketTimeout: timeouts.idleMs,
      socketCloseTimeout: closeMs,
      maxResponseSize: maxReplyBytes,
      logger: false,
    });
    // It may still speak up when a step has its outcome; nobody waits for that.
    connection.on('error', () => undefined);
    this.#connection = connection;
    return connection;
  }

  /** One call of nodemailer's, ended by whatever comes first: its callback, its events, or our signal. */
  #step<T>(
    connection: SMTPConnection,
    begin: (done: (error?: Error | null, result?: T) => void) => void,
  ): Promise<T | undefined> {
    return new Promise((resolve, reject) => {
      this.#signal.throwIfAborted();
      this.#signal.addEventListener('abort', () => reject(this.#signal.reason), { once: true });
      connection.once('error', reject);
      // Some ends carry no error, and some come just before the callback that carries it.
      connection.once('end', () => setImmediate(reject, new Error('the connection was closed')));
      begin((error, result) => (error ? reject(error) : resolve(result)));
    });
  }
}

/** What nodemailer and the socket tell about a failure. */
type Failure = Error & { code?: string; response?: string; responseCode?: number; command?: string };

function dial({ address, port }: Target, timeoutMs: number, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    // The signal stays with the socket: an abort destroys it in any phase.
    const socket = connect({ host: address, port, signal });
    const timer = setTimeout(() => {
      socket.destroy(Object.assign(new Error(`no connection within ${timeoutMs} ms`), { code: 'ETIMEDOUT' }));
    }, timeoutMs);
    socket.once('connect', () => {
      clearTimeout(timer);
      resolve(socket);
    });
    // Stays for good: under TLS nobody else listens to the socket below.
    socket.on('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
  });
}

/** Errors of connect(2) in which the destination had no part. */
const ownNetwork = new Set(
  'ENETUNREACH EHOSTUNREACH ENETDOWN EADDRNOTAVAIL EAFNOSUPPORT EACCES EPERM EMFILE ENFILE ENOBUFS ENOMEM EINVAL'.split(
    ' ',
  ),
);

const stageOfCommand = new Map<string, Stage>([
  ['MAIL FROM', 'mail'],
  ['RCPT TO', 'recipient'],
  ['DATA', 'data'],
]);

function outcomeOf(error: Failure, session: Session): Outcome {
  const { phase, tls } = session;
  if (phase === 'dial') return broken(phase, !ownNetwork.has(error.code ?? ''), error.message);
  // Whatever the peer says to STARTTLS, it is not about the message.
  if (session.failedTls(error)) return broken(phase, true, `no encrypted session: ${error.message}`);
  if (error.code === 'ETIMEDOUT') return broken(phase, true, 'the destination did not answer in time');
  const { response, responseCode = 0 } = error;
  const stage = stageOf(error, phase);
  const refused = response !== undefined && responseCode >= 400 && responseCode < 600;
  return refused && stage
    ? { kind: 'refused', stage, reply: response, tls }
    : broken(phase, true, error.message);
}

/** Undefined for a reply out of turn, which answers no command of ours. 421 may come at any time (RFC 5321 §3.8). */
function stageOf({ command, responseCode }: Failure, phase: Phase): Stage | undefined {
  if (phase === 'session') return 'session';
  return stageOfCommand.get(command ?? '') ?? (responseCode === 421 ? 'data' : undefined);
}

function broken(phase: Phase, reached: boolean, summary: string): Outcome {
  const stage = phase === 'transaction' ? 'data' : 'session';
  return { kind: 'broken', stage, reached, summary: summary.slice(0, 500) };
}

function factsOf({ _socket: socket }: SMTPConnection): TlsFacts | undefined {
  if (!(socket instanceof TLSSocket)) return undefined;
  return { version: socket.getProtocol() ?? 'unknown', cipher: socket.getCipher().name };
}

/** What the message needs and the greeting does not offer; never converted, so this is final. */
function misfitOf(ehlo: string, outgoing: Outgoing): { status: string; summary: string } | undefined {
  const offered = new Map(
    [...ehlo.matchAll(/^250[ -](\S+)(?: +(\d+))?/gm)].map(([, keyword, value]) => [
      keyword!.toUpperCase(),
      Number(value ?? 0),
    ]),
  );
  const needsUtf8 = outgoing.utf8Header || !isAscii(outgoing.from) || !isAscii(outgoing.to);
  if (needsUtf8 && !offered.has('SMTPUTF8')) {
    return { status: '5.6.7', summary: 'the destination does not take internationalized mail (SMTPUTF8)' };
  }
  if (outgoing.eightBit && !offered.has('8BITMIME')) {
    return { status: '5.6.3', summary: 'the destination does not take 8-bit mail (8BITMIME)' };
  }
  const limit = offered.get('SIZE') ?? 0;
  if (limit > 0 && outgoing.message.length > limit) {
    return { status: '5.3.4', summary: `the destination takes at most ${limit} octets` };
  }
  return undefined;
}

function isAscii(text: string): boolean {
  return Buffer.byteLength(text) === text.length;
}

/** nodemailer names SMTPUTF8 for addresses only; RFC 6531 §3.4 asks for it with a header in UTF-8 too. */
function nameSmtpUtf8(connection: SMTPConnection): void {
  const inner = connection as unknown as { _sendCommand: (line: string) => void };
  const send = inner._sendCommand.bind(connection);
  inner._sendCommand = (line) => {
    const plain = line.startsWith('MAIL FROM:') && !line.includes(' SMTPUTF8');
    send(plain ? `${line} SMTPUTF8` : line);
  };
}
