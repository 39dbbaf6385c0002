/**
 * The two ends of table 1, the same for all systems: the load (ends/load.c) and the sink (ends/sink.c).
 *
 * In C, as they share the cores with what is measured: the less they take, the truer the ratios. The machine's
 * compiler makes them in a cache folder, when first needed and after each change.
 */
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { type CProgram, compiled, missingPrograms } from '../compiled.ts';
import { messageOf, startByLines } from './children.ts';

export type Load = {
  port: number;
  sessions: number;
  messages: number;
  /** Octets of a message's body. */
  bytes: number;
  /** False: a connection for each message; where there is TLS, a full handshake and a login too. */
  reuse: boolean;
  from: string;
  to: string;
};

export type TlsLoad = Load & {
  auth: { user: string; pass: string };
  /** Open loop. Undefined: each session sends its next message when the last was answered. */
  perSecond?: number;
};

export type LoadReport =
  | { kind: 'done'; startedAt: number; endedAt: number; accepted: number; latenciesMs: number[] }
  | { kind: 'failed'; reason: string };

export type SinkReport =
  | { kind: 'listening'; port: number }
  /** A round has begun. */
  | { kind: 'counting' }
  /** All are here; `at` is when the last was. Messages as on the wire, in base64. */
  | { kind: 'complete'; at: number; kept: string[] }
  | { kind: 'too-many'; messages: number };

const ends = { load: end('load'), sink: end('sink') };

/** Starts to send; one LoadReport comes as a message. */
export function startLoad(load: TlsLoad): ChildProcess {
  const { port, sessions, messages, bytes, reuse, perSecond = 0, from, to, auth } = load;
  const numbers = [port, sessions, messages, bytes, Number(reuse), perSecond];
  const child = startByLines([compiled(ends.load)]);
  child.stdin!.write(`${[...numbers, from, to, auth.user, auth.pass].join(' ')}\n`);
  return child;
}

/** Listens; SinkReports come as messages. */
export function startSink({ keyFile, certFile }: { keyFile: string; certFile: string }): ChildProcess {
  return startByLines([compiled(ends.sink), keyFile, certFile]);
}

/** Has the sink begin to count, and keep the first messages whole; resolves when it has. */
export async function expectMessages(sink: ChildProcess, messages: number, keep: number): Promise<void> {
  const counting = messageOf<SinkReport>(sink, 10_000, 'the sink');
  sink.stdin!.write(`expect ${messages} ${keep}\n`);
  const { kind } = await counting;
  if (kind !== 'counting') throw new Error(`the sink says ${kind}`);
}

/** The reason why they cannot run here. */
export function missingEnds(): string | false {
  return missingPrograms([ends.load, ends.sink], 'gcc libc6-dev libssl-dev');
}

function end(name: 'load' | 'sink'): CProgram {
  const inFolder = (file: string) => join(import.meta.dirname, 'ends', file);
  return {
    name,
    sources: ['wire.c', `${name}.c`].map(inFolder),
    headers: [inFolder('wire.h')],
    libraries: ['-lssl', '-lcrypto'],
  };
}
