/**
 * One rbldnsd dataset, all files of one form under one subtree, read line by line into a table.
 *
 * What is not taken is told with its line number, and the rest is: an operator who moves over from
 * rbldnsd sees at once what differs. Differences by design: see README.md.
 */
import type { TableBuilder } from '../table/builder.ts';
import type { Place } from '../table/place.ts';
import { coversBelow, mailTypeTexts, setCovers, setMailTypes, speaksInVouch } from '../table/values.ts';
import { addressText, parseRange, Ranges, readV4 } from './ranges.ts';
import { readName } from './read-name.ts';
import { Shapes } from './shapes.ts';
import type { FileForm, SubtreeName } from './source.ts';
import type { Specials } from './specials.ts';

export type DatasetOptions = {
  builder: TableBuilder;
  subtree: SubtreeName;
  form: FileForm;
  specials: Specials;
  onNotTaken: (file: string, line: number, why: string) => void;
};

const DOLLAR = 0x24;
const HASH = 0x23;
const SEMICOLON = 0x3b;
const COLON = 0x3a;
const STAR = 0x2a;
const DOT = 0x2e;
const BANG = 0x21;
const SPACE = 0x20;
const TAB = 0x09;
const MAX_V4_OCTETS = 15;
/** Test points of RFC 5782 are in every zone; those of a file are theirs already. */
const TEST_V4 = 0x7f000002;
const NEVER_V4 = 0x7f000001;

const isNarrower = 'the name stands above with its subdomains, and with another value';
const isFull = 'the table is full, here or up to 48 lines before';

/** Exclusions of names, and wildcards without their name: kept until the last line is read. */
const MAX_LATE_LINES = 1_000_000;

type Late = { name: string; wild: boolean; fields: Int32Array | undefined; file: string; line: number };

export class Dataset {
  /** Lines for what an earlier line lists already. */
  repeated = 0;
  readonly #options: DatasetOptions;
  readonly #shapes: Shapes;
  readonly #ranges = new Ranges();
  readonly #late: Late[] = [];
  readonly #standing = new Int32Array(6);
  #file = '';
  #line = 0;

  constructor(options: DatasetOptions) {
    const { builder, subtree, form, specials } = options;
    this.#options = options;
    const key = form === 'dnset' ? 'name' : form === 'ip4set' ? 'v4' : 'v6';
    this.#shapes = new Shapes(builder, key, subtree === 'block', () => specials.variables);
  }

  /** Defaults end with their file; variables do not. */
  beginFile(file: string): void {
    const { builder, onNotTaken } = this.#options;
    this.#flush();
    this.#file = file;
    builder.onNarrower = (line) => onNotTaken(file, line, isNarrower);
    this.#shapes.setStandard(undefined);
  }

  /** For readLines(). */
  readonly read = (octets: Buffer, start: number, end: number, line: number): void => {
    if (start === end) return;
    this.#line = line;
    const first = octets[start]!;
    const second = start + 1 < end ? octets[start + 1]! : 0;
    if (first === DOLLAR) this.#special(octets, start + 1, end);
    else if (second === DOLLAR && (first === HASH || first === SEMICOLON || first === COLON)) {
      this.#special(octets, start + 2, end);
    } else if (first === HASH || first === SEMICOLON) return;
    else if (first === COLON && !(second === COLON && this.#options.form === 'ip6trie')) {
      this.#refuse(this.#shapes.setStandard(octets.toString('utf8', start, end)));
    } else this.#refuse(this.#entry(octets, start, end));
  };

  /** Nearly all lines of a large file: a name or one IPv4 address, and what a line lately said, but a DID. */
  readonly readUsual = (octets: Buffer, start: number, end: number, line: number): number => {
    const { builder, form, subtree } = this.#options;
    if (form === 'ip6trie' || subtree === '_vouch') return -1;
    const isWide = octets[start] === DOT;
    const place = builder.nextPlace;
    place.blocked = subtree === 'block';
    const keyEnd =
      form === 'dnset'
        ? readName(octets, start + Number(isWide), end, place)
        : readAddress(octets, start, end, place);
    if (keyEnd < 0 || octets[keyEnd] !== SPACE) return -1;
    const lineEnd = this.#shapes.readUsual(octets, keyEnd + 1, end);
    if (lineEnd < 0) return -1;
    const { fields } = this.#shapes;
    this.#line = line;
    setCovers(fields, isWide);
    if (!builder.queue(fields, line)) this.#refuse(isFull);
    return lineEnd + 1;
  };

  /** Behind the last file. */
  finish(): void {
    const { builder, onNotTaken, subtree } = this.#options;
    this.#flush();
    builder.place.blocked = subtree === 'block';
    this.#ranges.apply(builder, onNotTaken);
    this.repeated += this.#ranges.repeated;
    for (const late of this.#late.filter(({ fields }) => fields !== undefined)) this.#cover(late);
    for (const late of this.#late.filter(({ fields }) => fields === undefined)) this.#exclude(late);
  }

  #flush(): void {
    if (!this.#options.builder.flush()) this.#refuse(isFull);
  }

  #special(octets: Buffer, start: number, end: number): void {
    this.#refuse(this.#options.specials.read(octets.toString('utf8', start, end)));
  }

  /** @returns why it is not taken */
  #entry(octets: Buffer, start: number, end: number): string | undefined {
    if (this.#options.subtree === '_vouch') return this.#vouch(octets, start, end);
    return this.#options.form === 'dnset'
      ? this.#name(octets, start, end)
      : this.#address(octets, start, end);
  }

  #name(octets: Buffer, start: number, end: number): string | undefined {
    const { builder } = this.#options;
    const isExclusion = octets[start] === BANG;
    const prefixAt = isExclusion ? afterBlank(octets, start + 1, end) : start;
    const nameAt = prefixAt + wildOctets(octets, prefixAt, end);
    const isStar = nameAt === prefixAt + 2;
    builder.place.blocked = this.#options.subtree === 'block';
    const nameEnd = readName(octets, nameAt, end, builder.place);
    if (nameEnd < 0) return refusedName(octets.toString('utf8', nameAt, wordEnd(octets, nameAt, end)));
    const valueAt = afterBlank(octets, nameEnd, end);
    const fields = this.#shapes.of(octets, valueAt, end);
    if (typeof fields === 'string') return fields;
    // A shape is made with a name of its own.
    readName(octets, nameAt, end, builder.place);
    if (isExclusion || isStar) {
      const name = octets.toString('latin1', nameAt, nameEnd).toLowerCase();
      const kept = isExclusion ? undefined : Int32Array.from(fields);
      return this.#keep({ name, wild: nameAt > prefixAt, fields: kept, file: this.#file, line: this.#line });
    }
    setCovers(fields, nameAt > prefixAt);
    return this.#put(fields);
  }

  #address(octets: Buffer, start: number, end: number): string | undefined {
    const isExclusion = octets[start] === BANG;
    const at = isExclusion ? afterBlank(octets, start + 1, end) : start;
    const wordEndAt = wordEnd(octets, at, end);
    const fields = this.#shapes.of(octets, afterBlank(octets, wordEndAt, end), end);
    if (typeof fields === 'string') return fields;
    const { builder, form, subtree, specials } = this.#options;
    builder.place.blocked = subtree === 'block';
    const single = form === 'ip4set' && !isExclusion ? readV4(octets, at, wordEndAt) : -1;
    if (single >= 0 && single !== TEST_V4 && single !== NEVER_V4) {
      builder.place.setV4(single | 0);
      if (builder.place.fits) return this.#put(fields);
    }
    return this.#range(octets.toString('utf8', at, wordEndAt), isExclusion, fields, specials.maxRange);
  }

  #range(
    text: string,
    isExclusion: boolean,
    fields: Int32Array,
    maxRange: number | undefined,
  ): string | undefined {
    const { builder, form } = this.#options;
    const range = parseRange(text);
    if (typeof range === 'string') return `${text} ${range}`;
    if ((range.words === undefined) !== (form === 'ip4set')) return `${text} is not for ${form}`;
    if (range.words === undefined && range.to - range.from + 1 > (maxRange ?? Number.POSITIVE_INFINITY)) {
      return `${text} is larger than $MAXRANGE4`;
    }
    if (range.from === range.to && !isExclusion) {
      if (builder.place.readAddress(addressText(range, range.from))) return this.#put(fields);
    }
    return this.#ranges.add(range, isExclusion, fields, this.#file, this.#line);
  }

  /** The mail types of a name that `dom` lists. */
  #vouch(octets: Buffer, start: number, end: number): string | undefined {
    const { builder } = this.#options;
    const nameAt = start + wildOctets(octets, start, end);
    const nameEnd = wordEnd(octets, nameAt, end);
    const written = octets.toString('utf8', afterBlank(octets, nameEnd, end), end);
    const text = written.replace(/^:[^:]*:?/, '').trim();
    const mailTypes = mailTypeTexts.indexOf(text as (typeof mailTypeTexts)[number]);
    if (mailTypes <= 0) return `"${text}" is none of ${mailTypeTexts.slice(1).join(', ')}`;
    builder.place.blocked = false;
    const isName = readName(octets, nameAt, nameEnd, builder.place) >= 0;
    if (!isName || !builder.get(this.#standing)) return 'dom does not list that name';
    if (!builder.place.fitsVouch) return 'the name is too long for _vouch';
    if (coversBelow(this.#standing[0]!) !== nameAt > start) {
      return 'covers subdomains otherwise than its entry in dom';
    }
    if (speaksInVouch(this.#standing[0]!)) return 'that name has mail types already';
    setMailTypes(this.#standing, mailTypes);
    builder.put(this.#standing);
    return undefined;
  }

  /** `*.name`, where `name` stands on a line of its own: together they are what `.name` says. */
  #cover({ name, fields, file, line }: Late): void {
    const { builder, onNotTaken } = this.#options;
    const found = builder.place.readName(name.replace(/\.$/, '')) && builder.get(this.#standing);
    setCovers(this.#standing, true);
    setCovers(fields!, true);
    if (found && this.#standing.every((word, index) => word === fields![index])) builder.put(this.#standing);
    else
      onNotTaken(file, line, `*.${name} without ${name}, or with another value, is not kept: write .${name}`);
  }

  #exclude({ name, wild, file, line }: Late): void {
    const { builder, onNotTaken, subtree } = this.#options;
    const labels = name.replace(/\.$/, '').split('.');
    const isCovered = labels.some((_, index) => index > 0 && this.#covers(labels.slice(index).join('.')));
    const isWide = this.#covers(labels.join('.'));
    if (isCovered || (isWide && !wild)) {
      onNotTaken(file, line, `!${name} would be a hole below a wildcard, which this list does not keep`);
    } else builder.remove({ name: labels.join('.'), list: subtree === 'block' ? 'blocked' : 'vouched' });
  }

  #covers(name: string): boolean {
    const { builder } = this.#options;
    return builder.place.readName(name) && builder.get(this.#standing) && coversBelow(this.#standing[0]!);
  }

  #put(fields: Int32Array): string | undefined {
    const { builder } = this.#options;
    const before = builder.size;
    if (!builder.put(fields, this.#line)) return isFull;
    if (builder.size === before) this.repeated += 1;
    return undefined;
  }

  #keep(late: Late): string | undefined {
    if (this.#late.length >= MAX_LATE_LINES) return `more than ${MAX_LATE_LINES} exclusions and *.names`;
    this.#late.push(late);
    return undefined;
  }

  #refuse(why: string | undefined): void {
    if (why !== undefined) this.#options.onNotTaken(this.#file, this.#line, why);
  }
}

/** @returns where a single address that may be listed ends; -1 for anything else */
function readAddress(octets: Uint8Array, start: number, end: number, place: Place): number {
  const addressEnd = wordEnd(octets, start, Math.min(end, start + MAX_V4_OCTETS));
  const address = readV4(octets, start, addressEnd);
  if (address < 0 || address === TEST_V4 || address === NEVER_V4) return -1;
  place.setV4(address | 0);
  return place.fits ? addressEnd : -1;
}

/** The test point is in every zone, whatever a file says of it. */
function refusedName(name: string): string | undefined {
  return name.toLowerCase() === 'test' ? undefined : `${name} is no host name that may be listed here`;
}

function wordEnd(octets: Uint8Array, start: number, end: number): number {
  let at = start;
  while (at < end && octets[at] !== SPACE && octets[at] !== TAB) at += 1;
  return at;
}

function afterBlank(octets: Uint8Array, start: number, end: number): number {
  let at = start;
  while (at < end && (octets[at] === SPACE || octets[at] === TAB)) at += 1;
  return at;
}

/** How many octets say that the subdomains are meant: `.`, `*.` or none. */
function wildOctets(octets: Uint8Array, at: number, end: number): number {
  if (octets[at] === DOT) return 1;
  return octets[at] === STAR && at + 1 < end && octets[at + 1] === DOT ? 2 : 0;
}
