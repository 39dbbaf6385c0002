/**
 * What a step that failed says of the destination: it refused, or the session broke.
 *
 * Only a reply to a command of ours is a refusal, and 421 at any time; a reply out of turn answers nothing.
 * A refusal of the session, and whatever is said to STARTTLS, is not about a message.
 */
import type { Outcome, TlsFacts } from './client.ts';
import type { Stage } from './reply.ts';

/** What nodemailer and the socket tell about a failure. */
export type Failure = Error & { code?: string; response?: string; responseCode?: number; command?: string };

export type Broken = Extract<Outcome, { kind: 'broken' }>;
type Refused = Extract<Outcome, { kind: 'refused' }>;

/** From MAIL FROM on (`transaction`) another host must not be tried with the same message. */
export type Phase = 'session' | 'transaction';

const maxSummary = 500;

const stageOfCommand = new Map<string, Stage>([
  ['MAIL FROM', 'mail'],
  ['RCPT TO', 'recipient'],
  ['DATA', 'data'],
]);

export function failed(error: Failure, phase: Phase, tls?: TlsFacts): Refused | Broken {
  const { code, response, responseCode = 0, message } = error;
  if (code === 'ETIMEDOUT') return broken(phase, 'the destination did not answer in time');
  const stage = stageOf(error, phase);
  const isRefusal = response !== undefined && responseCode >= 400 && responseCode < 600;
  if (isRefusal && stage) return { kind: 'refused', stage, reply: response, tls };
  return broken(phase, message);
}

/** What the peer said to a command. */
export function refusal(response: string, command: string): Failure {
  const responseCode = Number.parseInt(response, 10) || 0;
  return Object.assign(new Error(`the destination says ${response}`), { response, responseCode, command });
}

function stageOf({ command, responseCode }: Failure, phase: Phase): Stage | undefined {
  if (phase === 'session') return 'session';
  return stageOfCommand.get(command ?? '') ?? (responseCode === 421 ? 'data' : undefined);
}

export function broken(phase: Phase, summary: string): Broken {
  const stage = phase === 'transaction' ? 'data' : 'session';
  return { kind: 'broken', stage, reached: true, summary: summary.slice(0, maxSummary) };
}

/** RFC 3463 §3.8, as other senders use it: 4 for a site that offers no TLS, 5 for TLS that does not stand. */
export function unprotected({ command, message }: Failure, what: string): Broken {
  const status = command === 'STARTTLS' ? '4.7.4' : '4.7.5';
  return { ...broken('session', `${what}: ${message}`), status };
}

/** Errors of connect(2) in which the destination had no part. */
const ownNetwork = new Set(
  'ENETUNREACH EHOSTUNREACH ENETDOWN EADDRNOTAVAIL EAFNOSUPPORT EACCES EPERM EMFILE ENFILE ENOBUFS ENOMEM EINVAL'.split(
    ' ',
  ),
);

export function notConnected({ code = '', message }: Failure): Broken {
  return { ...broken('session', message), reached: !ownNetwork.has(code) };
}
