/**
 * Opens a connection to one address, as far as the first MAIL FROM: connect, greeting, STARTTLS, EHLO.
 *
 * Promise: the outcome is a value, within `connectMs` and `sessionMs`. The socket goes to the address it is
 * given and to no other: nothing is resolved here. What the demand asks of TLS holds when the session is open.
 * Only `opportunistic` is tried again in plain, on another connection, since a broken handshake ends the first.
 */
import { connect, type Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { Outcome, Session, Target, Timeouts, TlsDemand, TlsFacts } from './client.ts';
import { type Failure, failed, notConnected, unprotected } from './session-failure.ts';
import { factsOf, objectionTo, rememberSession, tlsOptionsOf } from './session-tls.ts';
import { SmtpSession } from './session-transaction.ts';
import { openWire, type Wire } from './session-wire.ts';

export type SessionTarget = Target & {
  tls: TlsDemand;
  /** The address of ours to speak from; absent: the system chooses. */
  source?: string;
};

export type SessionOptions = {
  /** Our name in EHLO. */
  hostname: string;
  timeouts: Timeouts;
  /** Roots for `verified`, PEM; absent: the public ones. Given as the same array each time. */
  ca?: readonly string[];
};

export type Opened =
  | { kind: 'open'; session: Session }
  | Extract<Outcome, { kind: 'refused' | 'broken' | 'aborted' }>;

const maxReplyBytes = 64 * 1024;
/** How long a peer may take to close after our QUIT. */
const closeMs = 1_000;

export async function openSession(
  target: SessionTarget,
  options: SessionOptions,
  signal: AbortSignal,
): Promise<Opened> {
  const first = await open(target, options, signal);
  if (!first.tlsFailed || target.tls.kind !== 'opportunistic') return first.opened;
  return (await open(target, { ...options, plain: true }, signal)).opened;
}

type Tried = { opened: Opened; tlsFailed?: boolean };
type HowToOpen = SessionOptions & { plain?: boolean };

async function open(target: SessionTarget, options: HowToOpen, signal: AbortSignal): Promise<Tried> {
  if (signal.aborted) return { opened: { kind: 'aborted' } };
  let socket: Socket;
  try {
    socket = await dial(target, options.timeouts.connectMs, signal);
  } catch (error) {
    return { opened: signal.aborted ? { kind: 'aborted' } : notConnected(error as Failure) };
  }
  let tls: TlsFacts | undefined;
  const wire = openWire(socket, wireOptions(target, options), (secured) => {
    tls = factsOf(secured as TLSSocket, target);
    rememberSession(secured as TLSSocket, target, tls.peer);
    return objectionTo(secured as TLSSocket, target, Date.now());
  });
  try {
    await greet(wire, options.timeouts.sessionMs, signal);
    const session = new SmtpSession({
      wire,
      socket,
      tls,
      demand: target.tls,
      totalMs: options.timeouts.totalMs,
    });
    return { opened: { kind: 'open', session } };
  } catch (error) {
    socket.destroy();
    wire.connection.close();
    return notOpened(error as Failure, wire, target, signal);
  }
}

function wireOptions(target: SessionTarget, { hostname, timeouts, ca, plain = false }: HowToOpen) {
  return {
    host: target.name,
    name: hostname,
    requireTLS: target.tls.kind !== 'opportunistic',
    ignoreTLS: plain,
    tls: tlsOptionsOf(target, ca),
    connectionTimeout: timeouts.sessionMs,
    greetingTimeout: timeouts.sessionMs,
    socketTimeout: timeouts.idleMs,
    socketCloseTimeout: closeMs,
    maxResponseSize: maxReplyBytes,
    logger: false,
  };
}

async function dial(target: SessionTarget, timeoutMs: number, signal: AbortSignal): Promise<Socket> {
  const { address, port, source } = target;
  const socket = connect({ host: address, port, localAddress: source, noDelay: true });
  // Stays for good: under TLS nobody else listens to the socket below.
  socket.on('error', () => undefined);
  try {
    await within(timeoutMs, signal, (resolve, reject) =>
      socket.once('connect', resolve).once('error', reject),
    );
    return socket;
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

/** From the greeting to the last EHLO. nodemailer's own limits leave gaps in which a peer may drip. */
function greet({ connection }: Wire, timeoutMs: number, signal: AbortSignal): Promise<void> {
  return within(timeoutMs, signal, (resolve, reject) => {
    connection.once('error', reject);
    // Some ends carry no error, and some come just before the callback that carries it.
    connection.once('end', () => setImmediate(reject, new Error('the connection was closed')));
    connection.connect((error) => (error ? reject(error) : resolve()));
  });
}

async function within(
  timeoutMs: number,
  signal: AbortSignal,
  begin: (resolve: () => void, reject: (error: Error) => void) => void,
): Promise<void> {
  let stop: (() => void) | undefined;
  const begun = new Promise<void>((resolve, reject) => {
    const late = () =>
      reject(Object.assign(new Error(`nothing within ${timeoutMs} ms`), { code: 'ETIMEDOUT' }));
    const timer = setTimeout(late, timeoutMs);
    const abort = () => reject(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    stop = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', abort);
    };
    begin(resolve, reject);
  });
  return begun.finally(stop);
}

function notOpened(
  error: Failure,
  { connection }: Wire,
  { name, tls }: SessionTarget,
  signal: AbortSignal,
): Tried {
  // A mistake of ours is nobody's failure to answer.
  if (error instanceof TypeError) throw error;
  if (signal.aborted) return { opened: { kind: 'aborted' } };
  // Refused, garbled, reset or timed out between STARTTLS and the end of the handshake, or a certificate that does not do.
  const tlsFailed = error.code === 'ETLS' || connection.upgrading === true;
  if (!tlsFailed) return { opened: failed(error, 'session') };
  return { opened: unprotected(error, `no ${sessionsBy[tls.kind]} session with ${name}`), tlsFailed };
}

const sessionsBy = {
  opportunistic: 'encrypted',
  encrypted: 'encrypted',
  verified: 'verified',
  dane: 'verified (DANE)',
};
