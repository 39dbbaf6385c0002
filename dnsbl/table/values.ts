/**
 * What is said of one entry, in five words: by whom, and from which text template.
 *
 * A value is named by a number that itself says what an A record and a walk need, so most answers never
 * look at the words: their place in the lower 24 bits, and above them kind, trust and two flags.
 *
 * A value is never changed: an entry gets a new one by one store, and readers see the old or the new.
 * The old one's memory is used again only after `reclaimed` has moved. A reader that saw the same
 * `reclaimed` before and after has therefore read whole values; otherwise it reads again.
 */
import type { Kind, Trust } from '../listing.ts';
import { move, STATE } from './state.ts';

const WORDS = 5;
const PLACE_MASK = 2 ** 24 - 1;

/** In the number: the code's parts. A kind of 0 stands for 127.0.0.2, blocked and test points. */
const KIND_SHIFT = 24;
const TRUST_SHIFT = 26;
const COVER = 2 ** 28;
const VOUCH = 2 ** 29;

/** What a text needs to know: two bits in each of the four words of the DID. */
export const FLAG = {
  /** A test point of RFC 5782. */
  test: 1,
  /** Of the subtree `block`. */
  blocked: 2,
  /** The DID is four words of six base32 digits; otherwise the first is a text. */
  plc: 4,
  /** Taken over from another list: the first word is its address, and the template its text. */
  foreign: 64,
} as const;
/** Three bits that index mailTypeTexts. */
const MAIL_SHIFT = 3;

/** RFC 5518: what `_vouch` says. The first says nothing: not in `_vouch`. */
export const mailTypeTexts = ['', 'transaction', 'list', 'transaction list', 'list transaction'] as const;

/** The fields of a value: its number without the place, its template, its DID. */
export const FIELDS = 6;
const NUMBER = 0;
const TEMPLATE = 1;
const DID = 2;
const DID_BITS = 30;
const DID_MASK = 2 ** DID_BITS - 1;

/** @param mailTypes index of mailTypeTexts. The template and the DID of `fields` must be there already. */
export function setFlags(
  fields: Int32Array,
  kind: Kind | 0,
  trust: Trust,
  mailTypes: number,
  covers: boolean,
  flags: number,
): void {
  const code = (kind === 0 ? 0 : kind - 1) << KIND_SHIFT;
  fields[NUMBER] = code | (trust << TRUST_SHIFT) | (covers ? COVER : 0) | (mailTypes === 0 ? 0 : VOUCH);
  const all = flags | (mailTypes << MAIL_SHIFT);
  for (let word = 0; word < 4; word++) fields[DID + word]! |= (all >>> (2 * word)) << DID_BITS;
}

/** 0 for what answers 127.0.0.2; otherwise 2 to 4. */
export function kindOf(value: number): number {
  const kind = (value >>> KIND_SHIFT) & 3;
  return kind === 0 ? 0 : kind + 1;
}

export function trustOf(value: number): number {
  return (value >>> TRUST_SHIFT) & 3;
}

/** A foreign entry has a code of its own, in its words. Its number says so by a trust without a kind. */
export const FOREIGN_TRUST = 1;
export function isForeign(value: number): boolean {
  return ((value >>> KIND_SHIFT) & 15) === FOREIGN_TRUST << (TRUST_SHIFT - KIND_SHIFT);
}

/** The wildcard beside the name holds the same (RFC 4592). */
export function coversBelow(value: number): boolean {
  return (value & COVER) !== 0;
}

export function speaksInVouch(value: number): boolean {
  return (value & VOUCH) !== 0;
}

/** Gives the fields of a value without mail types some. @param mailTypes index of mailTypeTexts */
export function setMailTypes(fields: Int32Array, mailTypes: number): void {
  if (mailTypes !== 0) fields[NUMBER]! |= VOUCH;
  const flags = mailTypes << MAIL_SHIFT;
  for (let word = 0; word < 4; word++) fields[DID + word]! |= (flags >>> (2 * word)) << DID_BITS;
}

export function setCovers(fields: Int32Array, covers: boolean): void {
  fields[NUMBER] = covers ? fields[NUMBER]! | COVER : fields[NUMBER]! & ~COVER;
}

/** Another DID: 24 base32 digits behind `did:plc:`, for fields with FLAG.plc. @returns false when they are none */
export function setPlc(fields: Int32Array, octets: Uint8Array, at: number): boolean {
  let all = 0;
  for (let word = 0; word < 4; word++) {
    let bits = 0;
    for (let digit = at + 6 * word; digit < at + 6 * word + 6; digit++) {
      const five = digits[octets[digit]!]!;
      all |= five;
      bits = (bits << 5) | five;
    }
    fields[DID + word] = (fields[DID + word]! & ~DID_MASK) | (bits & DID_MASK);
  }
  return all < NO_DIGIT;
}

/** By octet, what a base32 digit stands for. A look costs less than the branches it spares. */
const NO_DIGIT = 32;
const digits = new Uint8Array(256).fill(NO_DIGIT);
for (const [value, letter] of [...'abcdefghijklmnopqrstuvwxyz234567'].entries()) {
  digits[letter.charCodeAt(0)] = value;
}

/** Index of mailTypeTexts. @param flags as Values.flags gives them */
export function mailTypesOf(flags: number): number {
  return (flags >>> MAIL_SHIFT) & 7;
}

/** Values replaced before their memory is used again. */
const RECLAIM_BATCH = 256;

export class Values {
  readonly words: Int32Array<SharedArrayBuffer>;
  readonly #state: Int32Array;
  /** Places that readers may still look at. */
  #replaced: number[] = [];
  #free: number[] = [];

  constructor(words: SharedArrayBuffer, state: Int32Array) {
    this.words = new Int32Array(words);
    this.#state = state;
  }

  /** FLAG and mail types. */
  flags(value: number): number {
    let flags = 0;
    for (let word = 3; word >= 0; word--) flags = (flags << 2) | (this.#word(value, DID + word) >>> DID_BITS);
    return flags;
  }

  template(value: number): number {
    return this.#word(value, TEMPLATE);
  }

  /** @param index 0 to 3 */
  did(value: number, index: number): number {
    return this.#word(value, DID + index) & DID_MASK;
  }

  same(value: number, fields: Int32Array): boolean {
    if (!this.sameNumber(value, fields)) return false;
    for (let field = TEMPLATE; field <= WORDS; field++) {
      if (this.#word(value, field) !== fields[field]) return false;
    }
    return true;
  }

  /** Alike in all that an A record and a walk show. */
  sameNumber(value: number, fields: Int32Array): boolean {
    return (value & ~PLACE_MASK) === fields[NUMBER];
  }

  /** @param fields six, by setFlags() among others. There must be room. */
  add(fields: Int32Array): number {
    const place = this.#place();
    for (let field = TEMPLATE; field <= WORDS; field++) {
      this.words[place * WORDS + field - 1] = fields[field]!;
    }
    return fields[NUMBER]! | place;
  }

  /** @param fields six, to be filled so that add() makes the same value again */
  read(value: number, fields: Int32Array): void {
    fields[NUMBER] = value & ~PLACE_MASK;
    for (let field = TEMPLATE; field <= WORDS; field++) fields[field] = this.#word(value, field);
  }

  /** No entry has it any more. */
  drop(value: number): void {
    this.#replaced.push(value & PLACE_MASK);
  }

  /** For two: one may be made only to be compared. */
  get hasRoom(): boolean {
    return this.#state[STATE.values]! + 2 < this.capacity;
  }

  get capacity(): number {
    return this.words.length / WORDS;
  }

  /** So many in all have numbers. */
  isListableWith(values: number): boolean {
    return values + 2 < PLACE_MASK;
  }

  /** Takes over another table's, behind its own. @param move where a text of the other stands here */
  append(other: Values, move: (text: number) => number): void {
    const before = this.#state[STATE.values]!;
    const all = before + other.#state[STATE.values]!;
    this.words.set(other.words.subarray(WORDS, WORDS * (all - before + 1)), WORDS * (before + 1));
    for (let place = before + 1; place <= all; place++) this.#moveTexts(place, move);
    this.#state[STATE.values] = all;
  }

  #moveTexts(place: number, move: (text: number) => number): void {
    const template = this.template(place);
    if (template !== 0) this.words[place * WORDS + TEMPLATE - 1] = move(template);
    if ((this.flags(place) & (FLAG.plc | FLAG.foreign | FLAG.test)) !== 0) return;
    const at = place * WORDS + DID - 1;
    this.words[at] = (this.words[at]! & ~DID_MASK) | move(this.did(place, 0));
  }

  /** False when another listing could be one too many for the width of a place. */
  get isListable(): boolean {
    return this.isListableWith(this.#state[STATE.values]!);
  }

  /** Nobody reads here yet, so what was dropped there is free at once. */
  copyFrom(other: Values): void {
    this.words.set(other.words.subarray(0, (this.#state[STATE.values]! + 1) * WORDS));
    this.#free = [...other.#free, ...other.#replaced];
  }

  #word(value: number, field: number): number {
    return this.words[(value & PLACE_MASK) * WORDS + field - 1]!;
  }

  #place(): number {
    if (this.#free.length === 0 && this.#replaced.length >= RECLAIM_BATCH) this.#reclaim();
    const free = this.#free.pop();
    if (free !== undefined) return free;
    this.#state[STATE.values]! += 1;
    return this.#state[STATE.values]!;
  }

  #reclaim(): void {
    this.#free = this.#replaced;
    this.#replaced = [];
    move(this.#state, STATE.reclaimed);
  }
}

export function valueWords(values: number): number {
  return values * WORDS;
}
