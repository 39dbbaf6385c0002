/** Addresses as node gives them, in octets. */
import type { Client } from './seams.ts';

const DOT = 0x2e;
const COLON = 0x3a;
const PERCENT = 0x25;

/**
 * Reads the text that inet_ntop(3) writes, with a scope behind `%` or without, into 4 or 16 octets.
 * Allocates nothing.
 */
export function readAddress(text: string, family: 4 | 6, out: Uint8Array): void {
  if (family === 4) readV4(text, 0, out, 0);
  else readV6(text, out);
}

function readV4(text: string, start: number, out: Uint8Array, outAt: number): void {
  let to = outAt;
  let octet = 0;
  for (let at = start; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === DOT) {
      out[to++] = octet;
      octet = 0;
    } else octet = octet * 10 + code - 0x30;
  }
  out[to] = octet;
}

function readV6(text: string, out: Uint8Array): void {
  out.fill(0);
  let to = 0;
  let gapAt = -1;
  let group = 0;
  let start = 0;
  let at = 0;
  for (; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === PERCENT) break;
    if (code === DOT) {
      readV4(text, start, out, to);
      to += 4;
      start = -1;
      break;
    }
    if (code !== COLON) {
      group = (group << 4) | hexValue(code);
      continue;
    }
    if (at > start) to = writeGroup(group, out, to);
    else if (at > 0) gapAt = to;
    group = 0;
    start = at + 1;
  }
  if (start >= 0 && at > start) to = writeGroup(group, out, to);
  if (gapAt < 0) return;
  out.copyWithin(16 - (to - gapAt), gapAt, to);
  out.fill(0, gapAt, 16 - (to - gapAt));
}

function writeGroup(group: number, out: Uint8Array, at: number): number {
  out[at] = group >> 8;
  out[at + 1] = group;
  return at + 2;
}

function hexValue(code: number): number {
  return code <= 0x39 ? code - 0x30 : (code | 0x20) - 0x57;
}

/** A Client whose octets are read from its text when somebody looks: most zones never do. */
export class TextClient implements Client {
  readonly family: 4 | 6;
  port = 0;
  readonly #octets: Uint8Array;
  #text = '';
  #read = '';

  constructor(family: 4 | 6) {
    this.family = family;
    this.#octets = new Uint8Array(family === 4 ? 4 : 16);
  }

  set(text: string, port: number): this {
    this.#text = text;
    this.port = port;
    return this;
  }

  get address(): Uint8Array {
    if (this.#read !== this.#text) {
      this.#read = this.#text;
      readAddress(this.#text, this.family, this.#octets);
    }
    return this.#octets;
  }
}
