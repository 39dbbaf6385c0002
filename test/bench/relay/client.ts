/**
 * The load of table 1: sessions with STARTTLS and AUTH PLAIN that submit messages made beforehand.
 *
 * A process of its own, driven over IPC. It reads reply codes and nothing else. Closed loop: each session
 * sends its next message when the last was answered. Open loop (`perSecond`): a message is due at its time,
 * whatever became of those before it, and more sessions are opened when all are busy.
 */
import { connect, type Socket } from 'node:net';
import { connect as secure } from 'node:tls';
import { now } from './clock.ts';

export type Load = {
  port: number;
  sessions: number;
  messages: number;
  /** Octets of a message's body. */
  bytes: number;
  /** False: a connection, a TLS handshake and a login for each message. */
  reuse: boolean;
  /** Undefined: neither TLS nor login. */
  auth?: { user: string; pass: string };
  from: string;
  to: string;
  perSecond?: number;
};

export type LoadReport =
  | {
      kind: 'done';
      startedAt: number;
      endedAt: number;
      accepted: number;
      latenciesMs: number[];
      /** Open loop: how long the client itself stood still at most, which is in the latencies too. */
      stalledMs: number;
    }
  | { kind: 'failed'; reason: string };

/** A reply that is not what a session wanted. */
class Unexpected extends Error {}

process.on('message', (load: Load) => {
  run(load).then(
    (report) => process.send?.(report),
    (error: Error) => process.send?.({ kind: 'failed', reason: error.message } satisfies LoadReport),
  );
});
process.on('disconnect', () => process.exit(0));
process.on('SIGINT', () => undefined);

async function run(load: Load): Promise<LoadReport> {
  const body = bodyOf(load.bytes);
  const latenciesMs: number[] = [];
  const startedAt = now();
  let stalledMs = 0;
  if (load.perSecond) stalledMs = await openLoop(load, load.perSecond, body, latenciesMs);
  else await closedLoop(load, body, latenciesMs);
  return { kind: 'done', startedAt, endedAt: now(), accepted: latenciesMs.length, latenciesMs, stalledMs };
}

async function closedLoop(load: Load, body: Buffer, latenciesMs: number[]): Promise<void> {
  let left = load.messages;
  const sender = async () => {
    let session: Session | undefined;
    while (left-- > 0) {
      session ??= await Session.open(load);
      latenciesMs.push(await session.send(load, body));
      if (load.reuse) continue;
      await session.quit();
      session = undefined;
    }
    await session?.quit();
  };
  await Promise.all(Array.from({ length: load.sessions }, sender));
}

/** @returns milliseconds of its longest pause */
async function openLoop(load: Load, perSecond: number, body: Buffer, latenciesMs: number[]): Promise<number> {
  const idle = await Promise.all(Array.from({ length: load.sessions }, () => Session.open(load)));
  const all: Promise<void>[] = [];
  const sendOne = async () => {
    const session = idle.pop() ?? (await Session.open(load));
    latenciesMs.push(await session.send(load, body));
    idle.push(session);
  };
  const begun = now();
  let [looked, stalledMs] = [begun, 0];
  for (let sent = 0; sent < load.messages; ) {
    stalledMs = Math.max(stalledMs, now() - looked);
    looked = now();
    const due = Math.min(load.messages, Math.floor(((looked - begun) / 1000) * perSecond) + 1);
    for (; sent < due; sent += 1) all.push(sendOne());
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await Promise.all(all);
  await Promise.all(idle.map((session) => session.quit()));
  return stalledMs;
}

class Session {
  #socket: Socket;
  #unfinished = '';
  #lastLine = '';
  /** Codes of final reply lines that nobody has waited for yet. */
  #codes: number[] = [];
  #wanted = 0;
  #resolve: ((codes: number[]) => void) | undefined;
  #reject: ((error: Error) => void) | undefined;
  #broken: Error | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.#listen();
  }

  static async open(load: Load): Promise<Session> {
    const session = new Session(connect({ port: load.port, host: '127.0.0.1', noDelay: true }));
    await session.#expect(220);
    await session.#ask('EHLO client.bench.test\r\n', 250);
    if (!load.auth) return session;
    await session.#ask('STARTTLS\r\n', 220);
    session.#upgrade();
    await session.#ask('EHLO client.bench.test\r\n', 250);
    const plain = Buffer.from(`\0${load.auth.user}\0${load.auth.pass}`).toString('base64');
    await session.#ask(`AUTH PLAIN ${plain}\r\n`, 235);
    return session;
  }

  /** @returns milliseconds from the final dot to 250 */
  async send({ from, to }: Load, body: Buffer): Promise<number> {
    await this.#ask(`MAIL FROM:<${from}>\r\nRCPT TO:<${to}>\r\nDATA\r\n`, 250, 250, 354);
    const began = now();
    this.#socket.cork();
    this.#socket.write(headerOf(from, to));
    this.#socket.write(body);
    this.#socket.uncork();
    await this.#expect(250);
    return now() - began;
  }

  async quit(): Promise<void> {
    await this.#ask('QUIT\r\n', 221);
    this.#socket.destroy();
  }

  #ask(text: string, ...codes: number[]): Promise<void> {
    this.#socket.write(text);
    return this.#expect(...codes);
  }

  async #expect(...codes: number[]): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<number[]>();
    [this.#wanted, this.#resolve, this.#reject] = [codes.length, resolve, reject];
    this.#settle();
    const came = await promise;
    if (came.some((code, i) => code !== codes[i])) {
      throw new Unexpected(`wanted ${codes.join(', ')}, got ${came.join(', ')}: ${this.#lastLine}`);
    }
  }

  #listen(): void {
    const broken = (reason: string) => {
      this.#broken ??= new Error(`the connection ended (${reason}) after: ${this.#lastLine}`);
      this.#settle();
    };
    this.#socket.on('data', (chunk: Buffer) => this.#read(chunk));
    this.#socket.on('error', (error) => broken(error.message));
    this.#socket.on('close', () => broken('closed'));
  }

  #upgrade(): void {
    this.#socket.removeAllListeners();
    this.#socket = secure({ socket: this.#socket, rejectUnauthorized: false });
    this.#listen();
  }

  #read(chunk: Buffer): void {
    const lines = (this.#unfinished + chunk.toString('latin1')).split('\r\n');
    this.#unfinished = lines.pop()!;
    for (const line of lines) {
      if (line[3] === '-') continue;
      this.#lastLine = line;
      this.#codes.push(Number(line.slice(0, 3)));
    }
    this.#settle();
  }

  #settle(): void {
    if (this.#codes.length >= this.#wanted) this.#resolve?.(this.#codes.splice(0, this.#wanted));
    else if (this.#broken) this.#reject?.(this.#broken);
  }
}

let made = 0;
function headerOf(from: string, to: string): string {
  made += 1;
  return (
    `From: Bench <${from}>\r\nTo: <${to}>\r\nSubject: message ${made}\r\n` +
    `Date: Fri, 20 Nov 2026 12:00:00 +0000\r\nMessage-ID: <${made}.${process.pid}@bench.test>\r\n` +
    'MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n'
  );
}

/** Lines of words, and the final dot. */
function bodyOf(bytes: number): Buffer {
  const line = 'All that is gold does not glitter, not all those who wander are lost.\r\n';
  const text = line.repeat(Math.ceil(bytes / line.length)).slice(0, bytes - 2);
  return Buffer.from(`${text.replace(/[\r\n]+$/, '')}\r\n.\r\n`);
}
