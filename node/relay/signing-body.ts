/**
 * The body hash of a DKIM signature, `relaxed` (RFC 6376 §3.4.4), in pieces of any length.
 *
 * Every line end is CR LF: admission refused all else. Text without needless blanks is hashed where it
 * stands; mailauth's RelaxedHash is as fast there, and seven times slower on indented HTML (README.md).
 */
import { createHash } from 'node:crypto';

const tab = 0x09;
const lf = 0x0a;
const cr = 0x0d;
const space = 0x20;
const crlf = Buffer.from('\r\n');
/** A shorter run of clean octets is cheaper to copy than to hash by itself. */
const worthHashing = 2048;
/** No blank for so long, so there may be none for longer. */
const longRun = 256;
const scratch = Buffer.allocUnsafeSlow(64 * 1024);

export class BodyHash {
  readonly #hash = createHash('sha256');
  /** Octets of `scratch` that wait for the hash; none are left there between two calls. */
  #written = 0;
  #isEmpty = true;
  /** What came last and counts only if something follows: blanks, and ends of lines before them. */
  #blanks = false;
  #lineEnds = 0;

  update(piece: Buffer): void {
    const start = this.#skip(piece, 0, piece.length);
    if (start === piece.length) return;
    let end = piece.length;
    while (isBlankOrEnd(piece[end - 1]!)) end -= 1;
    this.#emitHeld();
    this.#emitText(piece, start, end);
    this.#isEmpty = false;
    this.#flush();
    this.#skip(piece, end, piece.length);
  }

  /** @returns `bh=` */
  digest(): string {
    if (!this.#isEmpty) this.#hash.update(crlf);
    return this.#hash.digest('base64');
  }

  /** @returns the first octet that is neither blank nor part of a line's end */
  #skip(piece: Buffer, start: number, end: number): number {
    let at = start;
    for (; at < end; at++) {
      const octet = piece[at]!;
      if (octet === lf) {
        this.#lineEnds += 1;
        this.#blanks = false;
      } else if (octet === space || octet === tab) this.#blanks = true;
      else if (octet !== cr) break;
    }
    return at;
  }

  #emitHeld(): void {
    for (; this.#lineEnds > 0; this.#lineEnds--) this.#emit(crlf, 0, 2);
    if (this.#blanks) this.#emitSpace();
    this.#blanks = false;
  }

  /** The text between two octets that are neither blanks nor ends of lines. */
  #emitText(piece: Buffer, start: number, end: number): void {
    const blanks = new NextBlank(piece, end);
    let clean = start;
    let lastBlank = start;
    for (let at = start; at < end; at++) {
      while (at < end && piece[at]! > space) at += 1;
      const octet = piece[at]!;
      if (at === end) break;
      if (octet !== space && octet !== tab) {
        // Base64 has no blanks for kilobytes: there the search in C++ is many times faster than this loop.
        if (at - lastBlank > longRun) at = blanks.from(at) - 1;
        continue;
      }
      let behind = at + 1;
      while (piece[behind] === space || piece[behind] === tab) behind += 1;
      const isLineEnd = piece[behind] === cr;
      if (behind !== at + 1 || octet === tab || isLineEnd) {
        this.#emit(piece, clean, at);
        if (!isLineEnd) this.#emitSpace();
        clean = behind;
      }
      at = behind - 1;
      lastBlank = at;
    }
    this.#emit(piece, clean, end);
  }

  #emit(from: Buffer, start: number, end: number): void {
    const length = end - start;
    if (length >= worthHashing) {
      this.#flush();
      this.#hash.update(from.subarray(start, end));
      return;
    }
    if (this.#written + length > scratch.length) this.#flush();
    from.copy(scratch, this.#written, start, end);
    this.#written += length;
  }

  #emitSpace(): void {
    if (this.#written === scratch.length) this.#flush();
    scratch[this.#written++] = space;
  }

  #flush(): void {
    if (this.#written > 0) this.#hash.update(scratch.subarray(0, this.#written));
    this.#written = 0;
  }
}

/** The next blank, by searches that pass over each octet once. */
class NextBlank {
  readonly #piece: Buffer;
  readonly #end: number;
  #space = -1;
  #tab = -1;

  constructor(piece: Buffer, end: number) {
    this.#piece = piece;
    this.#end = end;
  }

  from(at: number): number {
    if (this.#space < at) this.#space = this.#find(space, at);
    if (this.#tab < at) this.#tab = this.#find(tab, at);
    return Math.min(this.#space, this.#tab);
  }

  #find(octet: number, at: number): number {
    const found = this.#piece.indexOf(octet, at);
    return found === -1 ? this.#end : found;
  }
}

function isBlankOrEnd(octet: number): boolean {
  return octet === space || octet === lf || octet === cr || octet === tab;
}
