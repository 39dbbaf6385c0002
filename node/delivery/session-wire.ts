/**
 * nodemailer's SMTPConnection, held to the turn of the dialogue, and messages made ready for its wire.
 *
 * Promise: a reply counts only as the answer to a command that was sent. A peer that answers before it is
 * asked, says two replies at once, calls the message kept before it has its end, or takes DATA with a 2yz
 * (and so would read our message as commands) ends the connection. No line of a message that is sent
 * begins with a single dot, whatever a peer takes for a line's end.
 *
 * nodemailer opens, secures, resets and closes; the transaction in between is ours (session-exchange.ts).
 * The seams of nodemailer that are used here without being documented are all named in `Seams`.
 */
import type { Socket } from 'node:net';
import SMTPConnection, { type SMTPConnectionOptions } from 'nodemailer/lib/smtp-connection';
import { refusal } from './session-failure.ts';

/** As in nodemailer 10.6.0, the exact version of package.json. */
type Seams = {
  _sendCommand(line: string): void;
  _processResponse(): unknown;
  _onError(error: Error, code: string, response: string | false, command: string): void;
  /** Whole replies that wait for their turn; the last one may lack lines. */
  _responseQueue: string[];
  /** While it is set, the end of the connection is a failure. */
  _pendingSend: { stream: false; callback: () => void } | false;
};

/** Who waits for replies. */
export type Hearer = {
  hear(reply: string): void;
  /** The peer said with its last reply that it goes away. */
  fail(error: Error): void;
};

export type Wire = {
  readonly connection: SMTPConnection;
  /** The end of a message has not left yet. */
  isSending(): boolean;
  /** Replies so far. */
  heard: number;
  /** Whose the replies are from now on; undefined: nodemailer's. */
  listen(hearer: Hearer | undefined): void;
  /** Each command is to be answered; together they are one write. */
  say(commands: readonly string[]): void;
  /** The message and its end, after the peer has asked for it. */
  send(message: Buffer): void;
};

/**
 * @param secured called after the handshake, before anything is said inside; its text ends the session
 */
export function openWire(
  socket: Socket,
  options: SMTPConnectionOptions,
  secured: (socket: Socket) => string | undefined,
): Wire {
  const connection = new SMTPConnection({ ...options, connection: socket });
  const wire = new OpenWire(connection);
  wire.watchCommands(secured);
  wire.watchReplies();
  // It may still speak up when a step has its outcome; nobody waits for that.
  connection.on('error', () => undefined);
  return wire;
}

class OpenWire implements Wire {
  readonly connection: SMTPConnection;
  heard = 0;
  readonly #seams: Seams;
  /** The greeting answers the connection itself. */
  readonly #awaiting = ['greeting'];
  #hearer: Hearer | undefined;
  /** The end of a long message waits until the rest has left. */
  #owesEnd = false;
  #isLong = false;

  constructor(connection: SMTPConnection) {
    this.connection = connection;
    this.#seams = connection as unknown as Seams;
  }

  isSending(): boolean {
    return this.#owesEnd || (!this.#isLong && this.#socket.writableLength > 0);
  }

  listen(hearer: Hearer | undefined): void {
    this.#hearer = hearer;
    this.#seams._pendingSend = hearer ? underWay : false;
  }

  say(commands: readonly string[]): void {
    for (const command of commands) this.#awaiting.push(command.slice(0, 4));
    this.#write(`${commands.join('\r\n')}\r\n`);
  }

  send(message: Buffer): void {
    const ready = isPlain(message) ? message : stuffed(message);
    this.#isLong = ready.length > maxCopied;
    if (this.#isLong) this.#sendLong(ready);
    else this.#write(Buffer.concat([ready, end]));
  }

  #sendLong(ready: Buffer): void {
    this.#owesEnd = true;
    this.#write(ready, (error) => {
      if (error) return;
      this.#owesEnd = false;
      this.#write(end);
    });
  }

  watchCommands(secured: (socket: Socket) => string | undefined): void {
    const seams = this.#seams;
    const send = seams._sendCommand.bind(seams);
    let isSecured = false;
    seams._sendCommand = (line) => {
      if (this.connection.secure && !isSecured) {
        isSecured = true;
        const objection = secured(this.#socket);
        if (objection) return seams._onError(new Error(objection), 'ETLS', false, 'CONN');
      }
      this.#awaiting.push(line.slice(0, 4));
      send(line);
    };
  }

  watchReplies(): void {
    const seams = this.#seams;
    const proceed = seams._processResponse.bind(seams);
    seams._processResponse = () => {
      for (let reply = seams._responseQueue[0]; reply !== undefined; reply = seams._responseQueue[0]) {
        // Empty lines answer nothing, and a reply that lacks lines waits for them.
        const isBlank = reply.trim() === '';
        const isWhole = !isBlank && !isPartial(reply);
        if (isWhole && !this.#takesTurn(reply)) return undefined;
        if (!this.#hearer) return proceed();
        if (!isWhole && !isBlank) return undefined;
        seams._responseQueue.shift();
        if (isWhole) this.#hear(decoded(reply));
      }
      return undefined;
    };
  }

  get #socket(): Socket {
    return this.connection._socket as Socket;
  }

  #hear(reply: string): void {
    const hearer = this.#hearer!;
    hearer.hear(reply);
    // RFC 5321 §3.8: the peer closes, whatever it answers.
    if (!reply.startsWith('421')) return;
    this.connection.close();
    if (this.#hearer === hearer) hearer.fail(refusal(reply, 'CONN'));
  }

  /** @returns false where it is out of turn, which ends the connection */
  #takesTurn(reply: string): boolean {
    const awaiting = this.#awaiting;
    const fault = faultOf(reply, this.#seams._responseQueue, awaiting, this);
    if (fault) {
      this.#seams._onError(new Error(fault), faultCode(awaiting), false, 'CONN');
      return false;
    }
    this.heard += 1;
    // The message comes next and has a reply of its own; with PIPELINING nothing follows DATA.
    if (awaiting.shift() === 'DATA' && reply.startsWith('3')) awaiting.push('message');
    return true;
  }

  /** As nodemailer writes. */
  #write(bytes: string | Buffer, written?: (error?: Error | null) => void): void {
    if (this.connection.destroyed) return;
    if (this.#socket.destroyed) this.connection.close();
    else this.#socket.write(bytes, written);
  }
}

/** nodemailer looks whether there is one, and calls it when the connection ends, which `error` tells us too. */
const underWay = { stream: false, callback: () => undefined } as const;

function faultOf(
  reply: string,
  queue: readonly string[],
  awaiting: readonly string[],
  wire: Wire,
): string | undefined {
  const surplus =
    queue.length > awaiting.length ? queue.filter((one) => one.trim() !== '').slice(awaiting.length) : [];
  // RFC 5321 §3.8: a server that goes away may say so at any time.
  if (surplus.some((one) => !one.startsWith('421'))) return 'the destination answers what it was not asked';
  if (awaiting[0] === 'DATA' && reply.startsWith('2')) return 'the destination did not wait for the message';
  const isKept = awaiting[0] === 'message' && reply.startsWith('2');
  return isKept && wire.isSending() ? 'the destination did not wait for the end of the message' : undefined;
}

/** Whatever goes wrong from STARTTLS on is a failure of TLS, and says nothing about plain mail. */
function faultCode(awaiting: readonly string[]): string {
  return awaiting[0] === 'STAR' ? 'ETLS' : 'EPROTOCOL';
}

function isPartial(reply: string): boolean {
  return /^\d+-/.test(reply.slice(reply.lastIndexOf('\n') + 1));
}

/** Octets as they came, if they are no UTF-8. */
function decoded(reply: string): string {
  if (isAscii(reply)) return reply;
  const utf8 = Buffer.from(reply, 'latin1').toString();
  return utf8.includes('\uFFFD') ? reply : utf8;
}

export function isAscii(text: string): boolean {
  return Buffer.byteLength(text) === text.length;
}

const dotAfterLf = Buffer.from('\n.');
const dotAfterCr = Buffer.from('\r.');
const dot = Buffer.from('.');
const end = Buffer.from('.\r\n');
const lineEnd = Buffer.from('\r\n');
/** Up to here a copy costs less than a second write. */
const maxCopied = 64 * 1024;

/** Nothing that any peer could take for a line begins with a dot, and the last line is whole. */
function isPlain(message: Buffer): boolean {
  const { length } = message;
  if (length === 0) return true;
  return (
    message[0] !== 0x2e && endsLine(message) && !message.includes(dotAfterLf) && !message.includes(dotAfterCr)
  );
}

function endsLine(message: Buffer): boolean {
  const { length } = message;
  return length >= 2 && message[length - 2] === 0x0d && message[length - 1] === 0x0a;
}

/** A dot before each dot that begins what any peer could take for a line, and an end for the last line. */
function stuffed(message: Buffer): Buffer {
  const parts: Buffer[] = message[0] === 0x2e ? [dot] : [];
  let start = 0;
  for (let at = 1; at < message.length; at++) {
    at = message.indexOf(0x2e, at);
    if (at === -1) break;
    const before = message[at - 1];
    if (before !== 0x0a && before !== 0x0d) continue;
    parts.push(message.subarray(start, at), dot);
    start = at;
  }
  parts.push(message.subarray(start));
  return Buffer.concat(endsLine(message) ? parts : [...parts, lineEnd]);
}
