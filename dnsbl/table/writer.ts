/**
 * Listings into a table, one at a time: the only code that changes one.
 *
 * The listing is in all subtrees that it belongs to, or in none: its names are answered from one value.
 */
import { randomInt } from 'node:crypto';
import type { Listing } from '../listing.ts';
import { Picture } from './picture.ts';
import { Place, testName, testV4, testV6 } from './place.ts';
import { emptyShare, roomOfTexts, widerRoom } from './room.ts';
import { STATE } from './state.ts';
import { Table } from './table.ts';
import { isShort, Templates } from './template.ts';
import { EntryText } from './text.ts';
import { coversBelow, FLAG, isForeign, setCovers, setFlags } from './values.ts';

export type Applied = 'changed' | 'unchanged' | 'unlistable';

/** Told before a place changes, with the value that it has in the writer's table, 0 for none. */
export type BeforeChange = (place: Place, value: number) => void;

export class Writer {
  readonly place: Place;
  /** Another one as soon as the first is full. */
  #table: Table;
  #templates: Templates;
  readonly #before: BeforeChange | undefined;
  readonly #apexOctets: number;
  readonly #text = new EntryText();

  constructor(table: Table, apexOctets: number, before?: BeforeChange) {
    this.#table = table;
    this.#templates = new Templates(table.texts);
    this.place = new Place(apexOctets);
    this.#before = before;
    this.#apexOctets = apexOctets;
  }

  get table(): Table {
    return this.#table;
  }

  apply(listing: Listing): Applied {
    const fields = this.read(listing);
    if (fields === undefined) return 'unlistable';
    if (listing.removed) return this.#remove(this.place);
    const mayBeNew = this.#table.isListable;
    return this.#assign(this.place, this.#table.open(this.place, mayBeNew), fields, mayBeNew);
  }

  /** Fills `place`. @returns the six fields (values.ts), valid until the next call; undefined: unlistable */
  read(listing: Listing): Int32Array | undefined {
    if (!this.place.read(listing) || !isShort(listing)) return undefined;
    this.#makeRoom(this.place);
    if (!listing.removed) this.#templates.read(listing, this.place);
    return this.#templates.fields;
  }

  /**
   * Fields at a place, for who builds a table. A name keeps its subdomains when it is put again without them.
   *
   * @returns 'narrower' when they differ in more: nothing has changed then; 'unlistable' when the table is full
   */
  put(fields: Int32Array, place: Place): Applied | 'narrower' {
    this.#makeRoom(place);
    const mayBeNew = this.#table.isListable;
    const old = this.#table.open(place, mayBeNew);
    if (coversBelow(old) && !coversBelow(fields[0]!)) return this.#beside(place, old, fields);
    return this.#assign(place, old, fields, mayBeNew);
  }

  /** A name alone beside the name with its subdomains: one entry says both, if they are alike in all else. */
  #beside(place: Place, old: number, fields: Int32Array): Applied | 'narrower' {
    setCovers(fields, true);
    const isSame = this.#saysAlready(place, old, fields);
    setCovers(fields, false);
    return isSame ? 'unchanged' : 'narrower';
  }

  #remove(place: Place): Applied {
    const old = this.#table.open(place, false);
    if (old === 0) return 'unchanged';
    this.#before?.(place, old);
    this.#table.put(place, 0);
    this.#table.state[STATE.size]! -= 1;
    return 'changed';
  }

  #assign(place: Place, old: number, fields: Int32Array, mayBeNew: boolean): Applied {
    if (this.#saysAlready(place, old, fields)) return 'unchanged';
    if (old === 0 && !mayBeNew) return 'unlistable';
    this.#before?.(place, old);
    this.#table.put(place, this.#table.values.add(fields));
    this.#table.state[STATE.size]! += Number(old === 0);
    return 'changed';
  }

  /** RFC 5782 §5: those that fit under the apex. */
  addTestPoints(): void {
    const { place } = this;
    for (const blocked of [false, true]) {
      place.blocked = blocked;
      const fields = new Int32Array(6);
      setFlags(fields, 0, 0, 0, false, FLAG.test | (blocked ? FLAG.blocked : 0));
      place.readName(testName);
      if (place.fits) this.#addTestPoint(fields);
      place.setV4(testV4);
      if (place.fits) this.#addTestPoint(fields);
      place.setV6(testV6);
      if (place.fits) this.#addTestPoint(fields);
    }
  }

  #addTestPoint(fields: Int32Array): void {
    this.#makeRoom(this.place);
    this.#table.open(this.place, true);
    this.#table.put(this.place, this.#table.values.add(fields));
  }

  #makeRoom({ form, blocked }: Place): void {
    if (this.#table.hasRoom(form, blocked)) return;
    // Whoever is told of changes keeps a table for long; one that is being built has texts in use only.
    const isLong = this.#before !== undefined;
    if (isLong && this.#table.texts.isLarge && !this.#table.hasRoomForTexts) this.#table = this.#retold();
    while (!this.#table.hasRoom(form, blocked)) this.#table = this.#table.widened();
    this.#templates = new Templates(this.#table.texts);
  }

  /** The same listings, told anew: texts that no entry has any more are left behind. */
  #retold(): Table {
    const old = this.#table;
    const { texts, textOctets } = roomOfTexts(old.texts);
    const room = { ...widerRoom(old), texts, textOctets };
    const writer = new Writer(new Table(emptyShare(randomInt(2 ** 31), room)), this.#apexOctets);
    writer.addTestPoints();
    for (const listing of new Picture(old, () => undefined)) writer.apply(listing);
    return writer.table.texts.isMostlyUsed ? writer.table.widened(true) : writer.table;
  }

  /** The same flags and the same text: also where the listings differ in what no answer shows. */
  #saysAlready(place: Place, old: number, fields: Int32Array): boolean {
    const { values } = this.#table;
    if (old === 0) return false;
    if (values.same(old, fields)) return true;
    if (!values.sameNumber(old, fields)) return false;
    const candidate = values.add(fields);
    const isSame =
      values.flags(candidate) === values.flags(old) &&
      (!isForeign(old) || values.did(candidate, 0) === values.did(old, 0)) &&
      // An empty text is one, and another answer than none.
      (values.template(candidate) === 0) === (values.template(old) === 0) &&
      this.#textOf(place, candidate) === this.#textOf(place, old);
    values.drop(candidate);
    return isSame;
  }

  #textOf(place: Place, value: number): string {
    const ref = this.#table.refOf(place);
    const text = Buffer.alloc(this.#text.read(this.#table, value, place.form, ref));
    this.#text.write(text, 0);
    return text.toString('latin1');
  }
}
