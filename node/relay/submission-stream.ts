/**
 * What a session sends: command lines, and between DATA and the final dot a message.
 *
 * Promise: a message ends at CR LF . CR LF and nowhere else, wherever the octets were cut on their way; a dot
 * that begins a longer line is taken off (RFC 5321 §4.5.2), every other octet is kept. Octets in memory are
 * counted against the budget of all sessions; a message beyond it, or too long, is read to its end and dropped.
 * Whether all its line ends are CR LF is found in the same pass, so that nobody has to look again.
 */
import { SMTPStream } from 'smtp-server/lib/smtp-stream.js';
import { type Problem, problem } from '../errors.ts';
import { free, joined } from '../freeing.ts';
import type { Octets } from './byte-budget.ts';

const nul = 0x00;
const lf = 0x0a;
const cr = 0x0d;
const dot = 0x2e;

/** Where in a line the next octet stands. */
type Place = 'inside' | 'behind CR' | 'at start' | 'behind dot' | 'behind dot CR';

export class MessageReader {
  readonly #maxBytes: number;
  readonly #budget: Octets;
  #chunks: Buffer[] = [];
  #length = 0;
  #held = 0;
  #place: Place = 'at start';
  #refused: Problem | undefined;
  /** Octets that came, dropped ones and dots included. */
  received = 0;
  /** No CR, LF or NUL stands alone. */
  isClean = true;

  constructor(o: { maxBytes: number; budget: Octets }) {
    this.#maxBytes = o.maxBytes;
    this.#budget = o.budget;
  }

  /**
   * @param chunk is the reader's from now on: dots are taken out of it in place
   * @returns the offset behind the final dot's line, or -1 while the message goes on
   */
  push(chunk: Buffer): number {
    const { end, kept } = this.#scan(chunk);
    this.received += end === -1 ? chunk.length : end;
    if (kept > 0) this.#keep(chunk.subarray(0, kept));
    return end;
  }

  /** The whole message, to be left alone from release() on: until then its octets are counted. */
  finish(): { kind: 'message'; bytes: Buffer } | { kind: 'refused'; problem: Problem } {
    if (this.#chunks.length > 1 && !this.#refused) {
      // For a moment both the parts and the whole are in memory.
      if (this.#budget.take(this.#length)) {
        const whole = joined(this.#chunks);
        for (const part of this.#chunks) free(part);
        this.#chunks = [whole];
        this.#budget.release(this.#length);
      } else this.#drop(problem('QUEUE_FULL'));
    }
    if (this.#refused) return { kind: 'refused', problem: this.#refused };
    return { kind: 'message', bytes: this.#chunks[0] ?? Buffer.alloc(0) };
  }

  /** Gives the octets back; safe to be called twice. */
  release(): void {
    this.#budget.release(this.#held);
    this.#held = 0;
    for (const part of this.#chunks) free(part);
    this.#chunks = [];
  }

  #keep(octets: Buffer): void {
    this.#length += octets.length;
    if (this.#refused) return;
    if (this.#length > this.#maxBytes) this.#drop(problem('MESSAGE_TOO_LARGE'));
    else if (!this.#budget.take(octets.length)) this.#drop(problem('QUEUE_FULL'));
    else {
      this.#held += octets.length;
      this.#chunks.push(octets);
    }
  }

  #drop(why: Problem): void {
    this.#refused = why;
    this.release();
  }

  /** One pass; kept octets move to the front over the dots that were taken out. */
  #scan(chunk: Buffer): { end: number; kept: number } {
    let place = this.#place;
    let kept = 0;
    let from = 0;
    const { length } = chunk;
    for (let at = 0; at < length; at++) {
      // Nearly all octets of a message pass here.
      if (place === 'inside') while (at < length && chunk[at]! > cr) at += 1;
      if (at === length) break;
      const octet = chunk[at]!;
      if (place === 'behind dot CR' && octet === lf) {
        // What the run holds by now is the dot's own CR.
        return { end: at + 1, kept };
      }
      if (place === 'behind dot CR' && from > at - 1) {
        // That CR came with the chunk before and was not kept, since it might have been the end.
        this.#keep(Buffer.of(cr));
      }
      if (octet === dot && place === 'at start') {
        kept = moved(chunk, kept, from, at);
        from = at + 1;
      }
      place = this.#next(place, octet);
    }
    this.#place = place;
    const isUndecided = place === 'behind dot CR' && from < chunk.length;
    return { end: -1, kept: moved(chunk, kept, from, isUndecided ? chunk.length - 1 : chunk.length) };
  }

  #next(place: Place, octet: number): Place {
    const isBehindCr = place === 'behind CR' || place === 'behind dot CR';
    if (octet === lf) {
      if (isBehindCr) return 'at start';
      this.isClean = false;
      return 'inside';
    }
    if (isBehindCr || octet === nul) this.isClean = false;
    if (octet === cr) return place === 'behind dot' ? 'behind dot CR' : 'behind CR';
    return octet === dot && place === 'at start' ? 'behind dot' : 'inside';
  }
}

/** Moves [from, to) behind the octets kept so far. @returns how many those are now */
function moved(chunk: Buffer, kept: number, from: number, to: number): number {
  if (from !== kept) chunk.copyWithin(kept, from, to);
  return kept + to - from;
}

/** The parser of smtp-server with a message reader of our own; commands are its business. */
export class SubmissionStream extends SMTPStream {
  #reader: MessageReader | undefined;
  #ended: () => void = () => undefined;
  /** Called before the commands of a chunk that has more than one line. */
  pipelined: () => void = () => undefined;

  /** From the next octet on there is a message. `ended` is called once, at its end; go on with continue(). */
  startMessage(reader: MessageReader, ended: () => void): void {
    this._dataMode = true;
    this.#reader = reader;
    this.#ended = ended;
  }

  override _write(
    chunk: Buffer,
    encoding: BufferEncoding | 'buffer',
    done: (error?: Error | null) => void,
  ): void {
    if (!this._dataMode && chunk.indexOf(lf) < chunk.length - 1) this.pipelined();
    super._write(chunk, encoding, done);
  }

  override _feedDataStream(chunk: Buffer, done: (error?: Error | null) => void): void {
    const end = this.#reader!.push(chunk);
    if (end === -1) {
      done();
      return;
    }
    this._dataMode = false;
    this._remainder = '';
    this.#reader = undefined;
    this._continueCallback = () => this._write(chunk.subarray(end), 'buffer', done);
    this.#ended();
  }

  override continue(): void {
    // Forgotten first: what was sent behind the message may hold another one, which sets it again.
    const goOn = this._continueCallback;
    this._continueCallback = false;
    if (typeof goOn === 'function') goOn();
  }
}
