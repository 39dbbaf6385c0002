/**
 * The destination of every system in table 1: takes mail over STARTTLS as cheaply as Node can.
 *
 * A process of its own, driven over IPC. It looks for the end of a message and at nothing else in it.
 * Promise: it counts each message that it answered with 250, and keeps the first few of a round whole.
 */
import { createServer, type Socket } from 'node:net';
import { createSecureContext, type SecureContext, TLSSocket } from 'node:tls';
import { now } from './clock.ts';

export type SinkOrder =
  | { kind: 'listen'; key: string; cert: string }
  /** Begins a round. */
  | { kind: 'expect'; messages: number; keep: number };

export type SinkReport =
  | { kind: 'listening'; port: number }
  /** All are here; `at` is when the last was. */
  | { kind: 'complete'; at: number; kept: string[] }
  | { kind: 'too-many'; messages: number };

const endOfData = Buffer.from('\r\n.\r\n');
const capabilities = (tls: boolean) =>
  `250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n${tls ? '' : '250-STARTTLS\r\n'}250 SIZE 50000000\r\n`;

let secureContext: SecureContext;
let wanted = 0;
let seen = 0;
let keep = 0;
let kept: Buffer[] = [];

function report(message: SinkReport): void {
  process.send?.(message);
}

process.on('message', (order: SinkOrder) => {
  if (order.kind === 'listen') return listen(order);
  [wanted, keep, seen, kept] = [order.messages, order.keep, 0, []];
});
// Whoever drives us is gone.
process.on('disconnect', () => process.exit(0));
process.on('SIGINT', () => undefined);

function listen({ key, cert }: { key: string; cert: string }): void {
  secureContext = createSecureContext({ key, cert });
  const server = createServer({ noDelay: true }, (socket) => {
    socket.write('220 sink ESMTP\r\n');
    new Conversation(socket, false);
  });
  server.listen(0, '127.0.0.1', () => {
    report({ kind: 'listening', port: (server.address() as { port: number }).port });
  });
}

function taken(message: Buffer[] | undefined): void {
  seen += 1;
  if (message) kept.push(Buffer.concat(message));
  if (seen === wanted) {
    report({ kind: 'complete', at: now(), kept: kept.map((one) => one.toString('base64')) });
  }
  if (seen > wanted) report({ kind: 'too-many', messages: seen });
}

class Conversation {
  readonly #socket: Socket;
  readonly #isTls: boolean;
  #inMessage = false;
  /** An unfinished command line; in a message its last octets so far, at most 4. */
  #rest: Buffer = Buffer.alloc(0);
  #message: Buffer[] | undefined;

  constructor(socket: Socket, isTls: boolean) {
    this.#socket = socket;
    this.#isTls = isTls;
    socket.on('data', this.#read);
    socket.on('error', () => socket.destroy());
  }

  readonly #read = (chunk: Buffer): void => {
    let left: Buffer | undefined = chunk;
    while (left && left.length > 0) left = this.#inMessage ? this.#data(left) : this.#commands(left);
  };

  /** @returns what follows the final dot */
  #data(chunk: Buffer): Buffer | undefined {
    const end = endIn(this.#rest, chunk);
    this.#message?.push(end < 0 ? chunk : chunk.subarray(0, end));
    if (end < 0) {
      this.#rest = Buffer.concat([this.#rest, chunk.subarray(-4)]).subarray(-4);
      return undefined;
    }
    this.#inMessage = false;
    this.#rest = Buffer.alloc(0);
    this.#socket.write('250 2.0.0 taken\r\n');
    taken(this.#message);
    return chunk.subarray(end);
  }

  /** @returns what follows DATA */
  #commands(chunk: Buffer): Buffer | undefined {
    const text = this.#rest.length > 0 ? Buffer.concat([this.#rest, chunk]) : chunk;
    let start = 0;
    let answers = '';
    for (;;) {
      const end = text.indexOf('\n', start);
      if (end < 0) break;
      const verb = text.toString('latin1', start, start + 4).toUpperCase();
      start = end + 1;
      answers += this.#answer(verb);
      if (verb === 'STAR') return this.#startTls(answers);
      if (this.#inMessage) break;
    }
    if (answers) this.#socket.write(answers);
    if (this.#inMessage) return text.subarray(start);
    this.#rest = text.subarray(start);
    return undefined;
  }

  #answer(verb: string): string {
    switch (verb) {
      case 'EHLO':
        return capabilities(this.#isTls);
      case 'STAR':
        return '220 2.0.0 go on\r\n';
      case 'DATA':
        this.#inMessage = true;
        // The line end before the final dot may be that of DATA itself.
        this.#rest = Buffer.from('\r\n');
        this.#message = kept.length < keep ? [] : undefined;
        return '354 go on\r\n';
      case 'QUIT':
        this.#socket.end('221 2.0.0 bye\r\n');
        return '';
      default:
        return '250 2.0.0 ok\r\n';
    }
  }

  #startTls(answers: string): undefined {
    this.#socket.off('data', this.#read);
    this.#socket.write(answers);
    new Conversation(new TLSSocket(this.#socket, { isServer: true, secureContext }), true);
  }
}

/** Where a message ends in `chunk`, which follows `before`; -1 where it goes on. */
function endIn(before: Buffer, chunk: Buffer): number {
  const seam = Buffer.concat([before, chunk.subarray(0, 4)]).indexOf(endOfData);
  if (seam >= 0) return seam + endOfData.length - before.length;
  const found = chunk.indexOf(endOfData);
  return found < 0 ? -1 : found + endOfData.length;
}
