/**
 * The catching mail server: takes every message for every address, keeps the newest ones in memory.
 *
 * Promise: the bytes kept are the bytes that came, without the dot-stuffing of SMTP. It listens on
 * 127.0.0.1, offers STARTTLS, and never sends anything on.
 * Bounded in number, in bytes of all and of each; the oldest go first.
 */
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import addressparser from 'nodemailer/lib/addressparser';
import { SMTPServer, type SMTPServerDataStream, type SMTPServerSession } from 'smtp-server';
import { fieldOf, readMessage } from './readable.ts';
import type { SignatureCheck, SignatureVerdict } from './signatures.ts';

export type CaughtMessage = {
  id: string;
  /** MAIL FROM; '' for the null sender of a DSN. */
  mailFrom: string;
  /** RCPT TO, each. */
  to: string[];
  /** The address in the header From, else MAIL FROM. */
  from: string;
  /** Decoded. */
  subject: string;
  /** Unix ms. */
  receivedAt: number;
  /** It came over TLS. */
  tls: boolean;
  raw: Buffer;
  /** Settles soon after arrival; never rejects. */
  signatures: Promise<SignatureVerdict[]>;
};

export type InboxOptions = {
  /** 0 takes a free one. */
  port: number;
  /** PEM, for STARTTLS. */
  tls: { key: string; cert: string };
  checkSignatures: SignatureCheck;
  now?: () => number;
  /** Default 1,000. */
  maxMessages?: number;
  /** Of all messages together. Default 64 MiB. */
  maxBytes?: number;
};

const maxMessageBytes = 32 * 1024 * 1024;

export class Inbox {
  readonly #options: Required<InboxOptions>;
  readonly #server: SMTPServer;
  /** Oldest first. */
  #messages: CaughtMessage[] = [];
  #bytes = 0;
  #count = 0;
  #port = 0;
  readonly #listeners = new Set<(message: CaughtMessage) => void>();

  private constructor(options: InboxOptions) {
    this.#options = { now: Date.now, maxMessages: 1000, maxBytes: 64 * 1024 * 1024, ...options };
    this.#server = new SMTPServer({
      ...options.tls,
      name: 'mx.inbox.test',
      banner: 'Atmosphere sandbox inbox',
      authOptional: true,
      disabledCommands: ['AUTH'],
      size: maxMessageBytes,
      maxClients: 200,
      // Nothing of this world asks the machine's own resolver.
      disableReverseLookup: true,
      closeTimeout: 200,
      logger: false,
      onData: (stream, session, callback) => {
        this.#receive(stream, session).then(
          (id) => callback(null, `2.0.0 caught as ${id}`),
          (error: Error) => callback(error),
        );
      },
    });
    // A connection that breaks off says so here; that is the peer's affair.
    this.#server.on('error', () => undefined);
  }

  /** @throws when the port is taken */
  static async start(options: InboxOptions): Promise<Inbox> {
    const inbox = new Inbox(options);
    const server = inbox.#server.listen(options.port, inbox.host);
    await once(server, 'listening');
    inbox.#port = (server.address() as AddressInfo).port;
    return inbox;
  }

  get host(): string {
    return '127.0.0.1';
  }

  get port(): number {
    return this.#port;
  }

  /** Newest first. */
  messages(): CaughtMessage[] {
    return this.#messages.toReversed();
  }

  message(id: string): CaughtMessage | undefined {
    return this.#messages.find((message) => message.id === id);
  }

  clear(): void {
    this.#messages = [];
    this.#bytes = 0;
  }

  /**
   * The first message that matches, one already here or one that comes.
   *
   * @throws when none came within `timeoutMs`
   */
  async waitFor(matches: (message: CaughtMessage) => boolean, timeoutMs: number): Promise<CaughtMessage> {
    const here = this.#messages.find(matches);
    if (here) return here;
    const { promise, resolve, reject } = Promise.withResolvers<CaughtMessage>();
    const listener = (message: CaughtMessage) => matches(message) && resolve(message);
    const timer = setTimeout(() => reject(new Error(`no such message within ${timeoutMs} ms`)), timeoutMs);
    this.#listeners.add(listener);
    return promise.finally(() => {
      clearTimeout(timer);
      this.#listeners.delete(listener);
    });
  }

  stop(): Promise<void> {
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }

  async #receive(stream: SMTPServerDataStream, session: SMTPServerSession): Promise<string> {
    const chunks: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      // Read on to the final dot, as SMTP wants, but keep no more.
      if (bytes <= maxMessageBytes) chunks.push(chunk);
    }
    if (bytes > maxMessageBytes) {
      throw Object.assign(new Error('5.3.4 the inbox takes at most 32 MiB'), { responseCode: 552 });
    }
    const message = this.#describe(Buffer.concat(chunks), session);
    this.#keep(message);
    return message.id;
  }

  #describe(raw: Buffer, session: SMTPServerSession): CaughtMessage {
    const { fields } = readMessage(raw);
    const mailFrom = session.envelope.mailFrom ? session.envelope.mailFrom.address : '';
    const [author] = addressparser(fieldOf(fields, 'from'), { flatten: true });
    this.#count += 1;
    return {
      id: `m${this.#count}`,
      mailFrom,
      to: session.envelope.rcptTo.map(({ address }) => address),
      from: author?.address || mailFrom,
      subject: fieldOf(fields, 'subject'),
      receivedAt: this.#options.now(),
      tls: session.secure,
      raw,
      signatures: this.#options.checkSignatures(raw).catch((error: Error) => [unchecked(error)]),
    };
  }

  #keep(message: CaughtMessage): void {
    this.#messages.push(message);
    this.#bytes += message.raw.length;
    const { maxMessages, maxBytes } = this.#options;
    while (this.#messages.length > maxMessages || this.#bytes > maxBytes) {
      this.#bytes -= this.#messages.shift()!.raw.length;
    }
    for (const listener of this.#listeners) listener(message);
  }
}

function unchecked(error: Error): SignatureVerdict {
  return { domain: '', selector: '', algorithm: '', result: 'temperror', comment: error.message };
}
