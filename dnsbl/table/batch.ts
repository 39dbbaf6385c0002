/**
 * Entries on their way into a table, a few dozen at a time.
 *
 * A large table lies far outside the caches, and an entry waits for memory several times. Looking at the
 * places of many entries first, one right behind the other, lets the machine fetch them side by side; then
 * each is put where its place is near already. Nothing but the time depends on it.
 */
import { type Addresses, prefixKey } from './addresses.ts';
import { ROOT } from './names.ts';
import { FORM, Place } from './place.ts';
import type { Table } from './table.ts';
import { FIELDS } from './values.ts';

/** More than a core fetches at once, few enough to stay in its first cache. */
const CAPACITY = 48;

export class Batch {
  count = 0;
  readonly #places: Place[];
  readonly #fields = new Int32Array(CAPACITY * FIELDS);
  readonly #views: Int32Array[];
  readonly #lines = new Int32Array(CAPACITY);
  readonly #ahead = new Int32Array(CAPACITY);
  readonly #beyond = new Int32Array(CAPACITY);

  /** @param apexOctets as Place has it */
  constructor(apexOctets: number) {
    this.#places = Array.from({ length: CAPACITY }, () => new Place(apexOctets));
    this.#views = this.#places.map((_, index) => this.#fields.subarray(index * FIELDS, (index + 1) * FIELDS));
  }

  /** Of the next entry, to be filled. There must be room. */
  get next(): Place {
    return this.#places[this.count]!;
  }

  /** Takes `next` in. @param line where it stands in its file @returns false when there is no room for another */
  add(fields: Int32Array, line: number): boolean {
    this.#lines[this.count] = line;
    const at = this.count * FIELDS;
    for (let field = 0; field < FIELDS; field++) this.#fields[at + field] = fields[field]!;
    this.count += 1;
    return this.count < CAPACITY;
  }

  line(index: number): number {
    return this.#lines[index]!;
  }

  place(index: number): Place {
    return this.#places[index]!;
  }

  fields(index: number): Int32Array {
    return this.#views[index]!;
  }

  /** @returns nothing of use: a sum keeps the looks from being left out */
  fetch(table: Table): number {
    const { form, blocked } = this.#places[0]!;
    if (form === FORM.name) return this.#fetchNames(table);
    return form === FORM.v4 ? this.#fetchV4(table.addresses(blocked)) : 0;
  }

  #fetchNames({ names }: Table): number {
    for (let index = 0; index < this.count; index++) {
      const place = this.#places[index]!;
      const root = place.blocked ? ROOT.block : ROOT.dom;
      this.#ahead[index] = names.slotAhead(root, place.name, place.nameLength);
    }
    let sum = 0;
    for (let index = 0; index < this.count; index++) sum += names.slots[this.#ahead[index]!]!;
    return sum;
  }

  #fetchV4({ v4, prefixes }: Addresses): number {
    for (let index = 0; index < this.count; index++) {
      const address = this.#places[index]!.v4;
      this.#ahead[index] = v4.slotAhead(address);
      this.#beyond[index] = prefixes.slotAhead(prefixKey(address >>> 8, 3));
    }
    let sum = 0;
    for (let index = 0; index < this.count; index++) {
      sum += v4.slots[this.#ahead[index]!]! + prefixes.slots[this.#beyond[index]!]!;
    }
    return sum;
  }
}
