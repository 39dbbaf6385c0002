/**
 * An open connection that carries one message after another, one recipient each.
 *
 * Promise: each message has its outcome as a value, within `totalMs`; only `delivered` means that the peer
 * said 2yz after the final dot. A message that the peer cannot take as it is (8BITMIME, SMTPUTF8, SIZE,
 * REQUIRETLS) is not sent. After a refusal the next message begins with RSET; a session in which anything
 * else went wrong carries no other.
 *
 * One timer a session, wound up again for each message: a timer of its own for each would be churn.
 */
import type { Socket } from 'node:net';
import type { Outcome, Outgoing, Session, TlsDemand, TlsFacts } from './client.ts';
import { Exchange, type Offered } from './session-exchange.ts';
import { broken, type Failure, failed } from './session-failure.ts';
import { isAscii, type Wire } from './session-wire.ts';

export type SmtpSessionOptions = {
  wire: Wire;
  /** The one that was dialled, under TLS the one below. */
  socket: Socket;
  demand: TlsDemand;
  tls: TlsFacts | undefined;
  totalMs: number;
};

type Done<T> = (error?: Error | null, result?: T) => void;

export class SmtpSession implements Session {
  readonly tls?: TlsFacts;
  readonly #options: SmtpSessionOptions;
  /** Keywords of EHLO with their number, if they have one. */
  readonly #offers: ReadonlyMap<string, number>;
  readonly #offered: Offered;
  #reject: ((error: Error) => void) | undefined;
  #signal: AbortSignal | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isOver = false;
  #isLate = false;
  #needsReset = false;
  /** Replies before the transaction. */
  #heardBefore = 0;
  readonly #onAbort = () => this.#cut(this.#signal!.reason);

  constructor(options: SmtpSessionOptions) {
    const { connection } = options.wire;
    this.#options = options;
    if (options.tls) this.tls = options.tls;
    this.#offers = offersOf(String(connection.lastServerResponse));
    this.#offered = {
      pipelining: this.#offers.has('PIPELINING'),
      size: this.#offers.has('SIZE'),
      dsn: this.#offers.has('DSN'),
    };
    connection.on('error', (error: Error) => this.#reject?.(error));
    // Some ends carry no error, and some come just before the callback that carries it.
    connection.on('end', () => setImmediate(() => this.#reject?.(new Error('the connection was closed'))));
  }

  get isUsable(): boolean {
    const { connection } = this.#options.wire;
    return !this.#isOver && !connection.destroyed && (connection._socket as Socket).writable;
  }

  async deliver(outgoing: Outgoing, signal: AbortSignal): Promise<Outcome> {
    if (signal.aborted) return { kind: 'aborted' };
    if (!this.isUsable) return broken('session', 'the connection was closed');
    const misfit = this.#misfitOf(outgoing);
    if (misfit) return { kind: 'unfit', ...misfit, tls: this.tls };
    this.#begin(signal);
    let phase: 'session' | 'transaction' = 'session';
    try {
      if (this.#needsReset) await this.#step((done) => this.#options.wire.connection.reset(done));
      phase = 'transaction';
      this.#heardBefore = this.#options.wire.heard;
      const reply = await this.#transact(outgoing);
      return { kind: 'delivered', reply, tls: this.tls, relayed: this.#offered.dsn };
    } catch (error) {
      return this.#failed(error as Failure, phase);
    } finally {
      this.#reject = undefined;
    }
  }

  close(): void {
    // A QUIT in the middle of a message would be a line of it.
    if (this.#reject) this.#cut(new Error('closed by us'));
    else if (!this.#isOver) this.#options.wire.connection.quit();
    this.#end();
  }

  #begin(signal: AbortSignal): void {
    this.#timer = this.#timer?.refresh() ?? setTimeout(() => this.#late(), this.#options.totalMs).unref();
    if (signal === this.#signal) return;
    this.#signal?.removeEventListener('abort', this.#onAbort);
    signal.addEventListener('abort', this.#onAbort, { once: true });
    this.#signal = signal;
  }

  async #transact(outgoing: Outgoing): Promise<string> {
    const { wire } = this.#options;
    const reply = await this.#step<string>((done) => {
      const exchange = new Exchange(outgoing, this.#offered, wire, done);
      // What was refused stays refused, however the connection ends.
      this.#reject = (error) => exchange.fail(error);
      exchange.begin();
    });
    this.#needsReset = false;
    return reply;
  }

  /** A call that asks the peer, ended by whatever comes first: its callback, its events, the time, our signal. */
  #step<T>(begin: (done: Done<T>) => void): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#reject = reject;
      begin((error, result) => (error ? reject(error) : resolve(result as T)));
    });
  }

  #failed(error: Failure, phase: 'session' | 'transaction'): Outcome {
    // A mistake of ours is nobody's failure to answer.
    if (error instanceof TypeError) {
      this.#end();
      throw error;
    }
    if (this.#signal!.aborted) return { kind: 'aborted' };
    const { totalMs, wire } = this.#options;
    if (this.#isLate) return broken(phase, `no outcome within ${totalMs / 1000} s`);
    const outcome = failed(error, phase, this.tls);
    // A peer that refuses in the middle of a message has not read its end.
    if (outcome.kind === 'broken' || wire.isSending()) this.#end();
    this.#needsReset = true;
    // Nothing of this message was answered: the session may have ended before it.
    const isUnheard = phase === 'transaction' && wire.heard === this.#heardBefore;
    return outcome.kind === 'broken' && isUnheard ? { ...outcome, stage: 'mail' } : outcome;
  }

  #late(): void {
    if (!this.#reject) return;
    this.#isLate = true;
    this.#cut(new Error('time is up'));
  }

  #cut(reason: Error): void {
    if (!this.#reject) return;
    this.#reject(reason);
    this.#options.socket.destroy();
    this.#end();
  }

  #end(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#signal?.removeEventListener('abort', this.#onAbort);
    this.#options.wire.connection.close();
  }

  /** What the message needs and the greeting does not offer; never converted, so this is final. */
  #misfitOf({ from, to, message, utf8Header, eightBit, requireTls }: Outgoing): Misfit | undefined {
    const { demand } = this.#options;
    const isVerified = demand.kind === 'verified' || demand.kind === 'dane';
    if (requireTls && !(isVerified && this.#offers.has('REQUIRETLS'))) return misfits.requireTls;
    const needsUtf8 = utf8Header || !isAscii(from) || !isAscii(to);
    if (needsUtf8 && !this.#offers.has('SMTPUTF8')) return misfits.utf8;
    if (eightBit && !this.#offers.has('8BITMIME')) return misfits.eightBit;
    const limit = this.#offers.get('SIZE') ?? 0;
    if (limit === 0 || message.length <= limit) return undefined;
    return { status: '5.3.4', summary: `the destination takes at most ${limit} octets` };
  }
}

type Misfit = { status: string; summary: string };

const misfits = {
  /** RFC 8689 §4.2.1: another exchanger of the domain may do better. */
  requireTls: {
    status: '5.7.30',
    summary: 'the destination does not promise to keep the message under TLS (REQUIRETLS)',
  },
  utf8: { status: '5.6.7', summary: 'the destination does not take internationalized mail (SMTPUTF8)' },
  eightBit: { status: '5.6.3', summary: 'the destination does not take 8-bit mail (8BITMIME)' },
} as const;

function offersOf(ehlo: string): Map<string, number> {
  return new Map(
    [...ehlo.matchAll(/^250[ -](\S+)(?: +(\d+))?/gm)].map(([, keyword, value]) => [
      keyword!.toUpperCase(),
      Number(value ?? 0),
    ]),
  );
}
