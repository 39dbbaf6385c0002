/**
 * All listings of a table as they are at one moment, read piece by piece while it changes.
 *
 * Whoever changes the table tells first what stands there (remember()); the iteration takes that instead.
 * When more changed than may be remembered the picture is lost: iterating throws, and its user begins anew.
 */
import { MAX_REMEMBERED_CHANGES } from '../limits.ts';
import type { Listing } from '../listing.ts';
import type { Addresses } from './addresses.ts';
import { listingOf } from './decode.ts';
import { FORM, type Form, type Place } from './place.ts';
import type { Table } from './table.ts';

/** More changed during an iteration than may be remembered: begin anew. */
export class ZoneMoved extends Error {}

export class Picture implements Iterable<Listing> {
  readonly #table: Table;
  readonly #onEnd: (picture: Picture) => void;
  /** Entries that changed since, and what they were. */
  readonly #before = new Map<number, Listing | undefined>();
  #isLost = false;

  constructor(table: Table, onEnd: (picture: Picture) => void) {
    this.#table = table;
    this.#onEnd = onEnd;
  }

  /** Before each change of this table; one that goes on in other memory leaves this as it is. */
  remember(place: Place, was: Listing | undefined): void {
    const key = keyOf(place.form, place.blocked, this.#table.keyOf(place));
    if (this.#before.has(key)) return;
    if (this.#before.size >= MAX_REMEMBERED_CHANGES) {
      this.#isLost = true;
      this.close();
    } else this.#before.set(key, was);
  }

  close(): void {
    this.#before.clear();
    this.#onEnd(this);
  }

  *[Symbol.iterator](): Iterator<Listing> {
    try {
      for (const listing of this.#all()) {
        if (this.#isLost) throw new ZoneMoved('more changed during an iteration than may be remembered');
        if (listing) yield listing;
      }
    } finally {
      this.close();
    }
  }

  *#all(): Generator<Listing | undefined> {
    const { names } = this.#table;
    for (let slot = 0; slot < names.slots.length; slot++) {
      const node = names.inSlot(slot);
      if (node !== 0) yield this.#entry(FORM.name, false, slot, node, names.value(node));
    }
    yield* this.#addresses(this.#table.ip, false);
    yield* this.#addresses(this.#table.block, true);
  }

  *#addresses({ v4, v6 }: Addresses, blocked: boolean): Generator<Listing | undefined> {
    const { slots } = v4;
    for (let at = 0; at < slots.length; at += 2) {
      const address = slots[at]!;
      if (slots[at + 1] !== 0) yield this.#entry(FORM.v4, blocked, address, address, v4.get(address));
    }
    for (let leaf = 1; leaf <= v6.last; leaf++) {
      yield this.#entry(FORM.v6, blocked, leaf, leaf, v6.value(leaf));
    }
  }

  #entry(form: Form, blocked: boolean, key: number, ref: number, value: number): Listing | undefined {
    const unique = keyOf(form, blocked, key);
    if (this.#before.has(unique)) return this.#before.get(unique);
    return value === 0 ? undefined : listingOf(this.#table, form, ref, value);
  }
}

/** Names of both subtrees are in one tree, so no two have the same slot. */
function keyOf(form: Form, blocked: boolean, key: number): number {
  const kind = form === FORM.name ? 0 : 2 * form + Number(blocked);
  return kind * 2 ** 32 + (key >>> 0);
}
