/**
 * From what a line says to the fields of a table's value, most lines being like one shortly before but for
 * a DID: those cost a comparison of octets and no string.
 *
 * A text that is ours, `did=… vouched-by=… url=…` with our codes, becomes a listing of ours again; any
 * other is kept as it is (ForeignAnswer). Both answer what the file says.
 */
import { TEXT_BUDGET_OCTETS } from '../limits.ts';
import type { ForeignAnswer, Kind, Listing, Trust } from '../listing.ts';
import type { TableBuilder } from '../table/builder.ts';
import { setPlc } from '../table/values.ts';
import { implicitValue, type LineValue, parseValue, type Variables } from './line-value.ts';

export type Key = 'name' | 'v4' | 'v6';

type Shape = {
  /** The octets before and behind the 24 that change; `plc` where there are such. */
  head: Buffer;
  tail: Buffer;
  plc: boolean;
  /** In octets. */
  length: number;
  fields: Int32Array;
};

const MAX_SHAPES = 4096;
/** Kinds of lines with the same digits in their code that are known without a string. */
const MAX_LATELY = 12;
const CODES = 64;
const NEWLINE = 0x0a;
const PLC_OCTETS = 24;
const MAX_NAME_OCTETS = 253;
const plcDid = /did=did:plc:(?=[a-z2-7]{24}(?: |$))/;

/** Stand for the listed name in a URL; no text has them by chance. */
const placeholders: Record<Key, { name: string } | { address: string }> = {
  name: { name: 'place-of-the-listed-name.example' },
  v4: { address: '233.252.0.253' },
  v6: { address: '100::5eed:e4' },
};

export class Shapes {
  /** Of what readUsual() read, until the next call. */
  fields: Int32Array = new Int32Array(6);
  readonly #builder: TableBuilder;
  readonly #key: Key;
  readonly #blocked: boolean;
  readonly #variables: () => Variables;
  #standard: LineValue = implicitValue;
  #known = new Map<string, Shape>();
  /** By codeOf(). */
  readonly #lately: Shape[][] = Array.from({ length: CODES }, () => []);

  constructor(builder: TableBuilder, key: Key, blocked: boolean, variables: () => Variables) {
    this.#builder = builder;
    this.#key = key;
    this.#blocked = blocked;
    this.#variables = variables;
  }

  /** For lines that say nothing; the default of a file ends with it. @returns why it is not taken */
  setStandard(written: string | undefined): string | undefined {
    this.#known.clear();
    for (const lately of this.#lately) lately.length = 0;
    const value =
      written === undefined ? implicitValue : parseValue(written, implicitValue, this.#variables());
    if (typeof value === 'string') return value;
    this.#standard = value;
    return undefined;
  }

  /**
   * A value of a kind that was there lately, up to the end of its line; `fields` are its fields then. The
   * builder's place stays as it is.
   *
   * @returns where the line ends; -1 for another kind, or a line that is not whole before `end`
   */
  readUsual(octets: Buffer, start: number, end: number): number {
    const lately = this.#lately[codeOf(octets, start)]!;
    for (let index = 0; index < lately.length; index++) {
      const shape = lately[index]!;
      const lineEnd = start + shape.length;
      if (lineEnd >= end || octets[lineEnd] !== NEWLINE || !this.#fits(shape, octets, start, lineEnd))
        continue;
      this.fields = shape.fields;
      return lineEnd;
    }
    return -1;
  }

  /** @returns six fields, valid until the next call; or why the line is not taken */
  of(octets: Buffer, start: number, end: number): Int32Array | string {
    const written = octets.toString('latin1', start, end);
    const at = plcDid.exec(written);
    const headEnd = at === null ? written.length : at.index + at[0].length;
    const key =
      at === null ? written : `${written.slice(0, headEnd)}\n${written.slice(headEnd + PLC_OCTETS)}`;
    const known = this.#known.get(key);
    if (known !== undefined && this.#fits(known, octets, start, end)) {
      this.#remember(known, octets, start);
      return known.fields;
    }
    return this.#make(key, octets, start, end, at === null ? -1 : start + headEnd);
  }

  #fits({ head, tail, plc, fields }: Shape, octets: Buffer, start: number, end: number): boolean {
    const tailAt = end - tail.length;
    if (tailAt - start !== head.length + (plc ? PLC_OCTETS : 0)) return false;
    for (let index = 0; index < head.length; index++) {
      if (octets[start + index] !== head[index]) return false;
    }
    for (let index = 0; index < tail.length; index++) {
      if (octets[tailAt + index] !== tail[index]) return false;
    }
    return !plc || setPlc(fields, octets, start + head.length);
  }

  #make(key: string, octets: Buffer, start: number, end: number, plcAt: number): Int32Array | string {
    const value = parseValue(octets.toString('utf8', start, end), this.#standard, this.#variables());
    if (typeof value === 'string') return value;
    const own = ownListing(value, this.#blocked, placeholders[this.#key]);
    const fields = this.#builder.read(own ?? foreignListing(value, this.#blocked, placeholders[this.#key]));
    if (fields === undefined) return 'its text is too long';
    const plc = own !== undefined && plcAt >= 0;
    const shape = {
      head: Buffer.from(octets.subarray(start, plc ? plcAt : end)),
      tail: Buffer.from(octets.subarray(plc ? plcAt + PLC_OCTETS : end, end)),
      plc,
      length: end - start,
      fields: Int32Array.from(fields),
    };
    if (this.#known.size >= MAX_SHAPES) this.#known.clear();
    this.#known.set(key, shape);
    this.#remember(shape, octets, start);
    return shape.fields;
  }

  #remember(shape: Shape, octets: Buffer, start: number): void {
    const lately = this.#lately[codeOf(octets, start)]!;
    if (lately.includes(shape)) return;
    if (lately.length >= MAX_LATELY) lately.shift();
    lately.push(shape);
  }
}

/** Of `:127.0.K.T:`, which most lines begin with, the two digits: one of CODES numbers. */
function codeOf(octets: Uint8Array, start: number): number {
  return (octets[start + 7]! * 4 + octets[start + 9]!) & (CODES - 1);
}

type Named = { name: string } | { address: string };

/** @returns undefined for what is not ours, or so long that some of its vouchers could fall off */
function ownListing({ address, text = '' }: LineValue, blocked: boolean, named: Named): Listing | undefined {
  if (Buffer.byteLength(text) + MAX_NAME_OCTETS > TEXT_BUDGET_OCTETS) return undefined;
  const [, reason, did, vouchers = '', url = ''] =
    /^(?:reason=([^\s$]+) )?did=(did:[a-z]+:[^\s$,]+)(?: vouched-by=([^\s$]+))? url=(.*)$/s.exec(text) ?? [];
  const [, kind, trust] = /^127\.0\.([2-4])\.([0-3])$/.exec(address) ?? [];
  const isOurs = blocked ? reason !== undefined && address === '127.0.0.2' : !reason && kind !== undefined;
  if (did === undefined || !isOurs || placesIn(url) > 1) return undefined;
  const shown = 'name' in named ? named.name : named.address;
  return {
    ...named,
    ...{ list: blocked ? 'blocked' : 'vouched', mailTypes: [], coverSubdomains: false, did, seq: 0 },
    kind: Number(kind ?? 2) as Kind,
    trust: Number(trust ?? 0) as Trust,
    vouchers: vouchers === '' ? [] : vouchers.split(','),
    url: url.replaceAll(/\$\$?/g, (written) => (written === '$$' ? '$' : shown)),
    ...(reason !== undefined && { reason }),
  };
}

function placesIn(template: string): number {
  return template.replaceAll('$$', '').split('$').length - 1;
}

function foreignListing({ address, text }: LineValue, blocked: boolean, named: Named): Listing {
  const foreign: ForeignAnswer = { address, ...(text !== undefined && { text }) };
  return {
    ...named,
    ...{ list: blocked ? 'blocked' : 'vouched', kind: 2, trust: 0, mailTypes: [], coverSubdomains: false },
    ...{ did: '', vouchers: [], url: '', seq: 0, foreign },
  };
}
