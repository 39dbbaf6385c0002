/**
 * The TXT of an entry, written octet by octet from its value, its template and its own name.
 *
 * `reason=<code> did=<DID> vouched-by=<DIDs> url=<URL>`, with as many whole vouchers as the budget allows.
 * Nothing here allocates, so an explanation costs an answering thread no more than its octets.
 */
import { MAX_TEXT_OCTETS, TEXT_BUDGET_OCTETS } from '../limits.ts';
import { writeV4, writeV6 } from './address-text.ts';
import { FORM, type Form } from './place.ts';
import type { Table } from './table.ts';
import { TEMPLATE } from './texts.ts';
import { FLAG } from './values.ts';

const latin = (text: string) => Uint8Array.from(Buffer.from(text));
const testText = latin('test entry of RFC 5782, always listed');
const vouchedBy = latin(' vouched-by=');
const urlIs = latin(' url=');
const plc = latin('did:plc:');
const base32 = latin('abcdefghijklmnopqrstuvwxyz234567');

const PLC_OCTETS = 32;
const COMMA = 0x2c;
const DOLLAR = 0x24;
const DOT = 0x2e;

const scratch = new Uint8Array(64);

export class EntryText {
  /** Octets of the text that read() chose. */
  length = 0;
  #table!: Table;
  #value = 0;
  #form: Form = FORM.name;
  #ref = 0;
  #flags = 0;
  #template = 0;
  #vouchers = 0;
  readonly #key = new Int32Array(4);

  /** Measures the text of an entry; write() writes it. @returns its octets */
  read(table: Table, value: number, form: Form, ref: number): number {
    this.#table = table;
    this.#value = value;
    this.#form = form;
    this.#ref = ref;
    this.#flags = table.values.flags(value);
    if ((this.#flags & FLAG.test) !== 0) this.length = testText.length;
    else if ((this.#flags & FLAG.foreign) !== 0) this.#measureForeign();
    else this.#measure();
    return this.length;
  }

  write(out: Uint8Array, at: number): number {
    if ((this.#flags & FLAG.test) !== 0) return copy(testText, 0, testText.length, out, at);
    if ((this.#flags & FLAG.foreign) !== 0) return this.#writeForeign(out, at);
    const texts = this.#table.texts.octets;
    let from = this.#template + TEMPLATE.pieces;
    let end = copy(texts, from, this.#piece(TEMPLATE.head), out, at);
    from += this.#piece(TEMPLATE.head);
    end = this.writeDid(out, end);
    if (this.#vouchers > 0) {
      end = copy(vouchedBy, 0, vouchedBy.length, out, end);
      end = copy(texts, from, this.#vouchers, out, end);
    }
    from += this.#piece(TEMPLATE.vouchers);
    end = copy(urlIs, 0, urlIs.length, out, end);
    end = copy(texts, from, this.#piece(TEMPLATE.prefix), out, end);
    from += this.#piece(TEMPLATE.prefix);
    if (texts[this.#template + TEMPLATE.named] === 1) end = this.writeName(out, end);
    return copy(texts, from, this.#piece(TEMPLATE.suffix), out, end);
  }

  /** The listed name or address as a person writes it. @returns where it ends */
  writeName(out: Uint8Array, at: number): number {
    if (this.#form === FORM.v4) return writeV4(this.#ref, out, at);
    if (this.#form === FORM.v6) return writeV6(this.#readKey(), out, at);
    const { names } = this.#table;
    let end = at;
    for (let node = this.#ref; names.parent(node) !== 0; node = names.parent(node)) {
      if (end > at) out[end++] = DOT;
      const label = names.label(node);
      end = copy(names.octets, label + 1, names.octets[label]!, out, end);
    }
    return end;
  }

  #measureForeign(): void {
    this.#template = this.#table.values.template(this.#value);
    const { octets } = this.#table.texts;
    const end = this.#template + this.#foreignLength();
    let length = 0;
    for (let from = this.#template; from < end; from++) {
      const isName = octets[from] === DOLLAR && octets[from + 1] !== DOLLAR;
      if (octets[from] === DOLLAR && !isName) from++;
      length += isName ? this.#nameLength() : 1;
    }
    this.length = Math.min(length, MAX_TEXT_OCTETS);
  }

  /** See listing.ts, ForeignAnswer. */
  #writeForeign(out: Uint8Array, at: number): number {
    const { octets } = this.#table.texts;
    const end = this.#template + this.#foreignLength();
    let to = at;
    for (let from = this.#template; from < end; from++) {
      const isName = octets[from] === DOLLAR && octets[from + 1] !== DOLLAR;
      if (octets[from] === DOLLAR && !isName) from++;
      if (isName) to = this.writeName(out, to);
      else out[to++] = octets[from]!;
    }
    return to;
  }

  #foreignLength(): number {
    return this.#template === 0 ? 0 : this.#table.texts.length(this.#template);
  }

  #measure(): void {
    this.#template = this.#table.values.template(this.#value);
    const name = this.#table.texts.octets[this.#template + TEMPLATE.named] === 1 ? this.#nameLength() : 0;
    const url = this.#piece(TEMPLATE.prefix) + name + this.#piece(TEMPLATE.suffix);
    const before = this.#piece(TEMPLATE.head) + this.#didLength();
    this.#vouchers = this.#fitting(TEXT_BUDGET_OCTETS - before - vouchedBy.length - urlIs.length - url);
    const vouched = this.#vouchers > 0 ? vouchedBy.length + this.#vouchers : 0;
    // Of a value that was replaced meanwhile anything may be read; the answer is then made again.
    this.length = Math.min(before + vouched + urlIs.length + url, MAX_TEXT_OCTETS);
  }

  /** Octets of as many whole vouchers from the front as the room allows. A DID has no comma. */
  #fitting(room: number): number {
    const all = this.#piece(TEMPLATE.vouchers);
    if (all <= room) return all;
    const { octets } = this.#table.texts;
    const start = this.#template + TEMPLATE.pieces + this.#piece(TEMPLATE.head);
    for (let length = room; length > 0; length--) if (octets[start + length] === COMMA) return length;
    return 0;
  }

  #piece(which: number): number {
    const { octets } = this.#table.texts;
    return octets[this.#template + which]! | (octets[this.#template + which + 1]! << 8);
  }

  #didLength(): number {
    if ((this.#flags & FLAG.plc) !== 0) return PLC_OCTETS;
    return this.#table.texts.length(this.#table.values.did(this.#value, 0));
  }

  /** @returns where it ends */
  writeDid(out: Uint8Array, at: number): number {
    const { values, texts } = this.#table;
    const first = values.did(this.#value, 0);
    if ((this.#flags & FLAG.plc) === 0) return copy(texts.octets, first, texts.length(first), out, at);
    let end = copy(plc, 0, plc.length, out, at);
    for (let word = 0; word < 4; word++) {
      const bits = values.did(this.#value, word);
      for (let shift = 25; shift >= 0; shift -= 5) out[end++] = base32[(bits >>> shift) & 31]!;
    }
    return end;
  }

  #nameLength(): number {
    if (this.#form === FORM.v4) return writeV4(this.#ref, scratch, 0);
    if (this.#form === FORM.v6) return writeV6(this.#readKey(), scratch, 0);
    const { names } = this.#table;
    let length = -1;
    for (let node = this.#ref; names.parent(node) !== 0; node = names.parent(node)) {
      length += 1 + names.octets[names.label(node)]!;
    }
    return length;
  }

  #readKey(): Int32Array {
    const { v6 } = this.#table.addresses((this.#flags & FLAG.blocked) !== 0);
    for (let index = 0; index < 4; index++) this.#key[index] = v6.word(this.#ref, index);
    return this.#key;
  }
}

function copy(from: Uint8Array, start: number, length: number, out: Uint8Array, at: number): number {
  for (let index = 0; index < length; index++) out[at + index] = from[start + index]!;
  return at + length;
}
