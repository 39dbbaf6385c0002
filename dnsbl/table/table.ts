/**
 * The compact table of one zone's listings, in shared memory: one thread writes, any number read.
 *
 * How readers are kept right without a lock: every change of an answer is one store (see the parts), and
 * nothing that a reader may hold is used for anything else, but the memory of replaced values, which has a
 * counter of its own (values.ts). A search takes several looks, so a counter, `changed`, moves behind that
 * store and before anything that the change leaves behind is touched. Who sees it unmoved has found what
 * there was at one moment; who sees it moved searches again (lookup.ts). Nobody waits for a writer: one that
 * is stopped in the middle has left a whole picture. A search is shorter than a change, so even while one
 * follows the other without a pause, it succeeds within a few attempts.
 * A full table is left as it is and goes on in wider memory; readers of the old one keep the picture of
 * that moment until they take the new share.
 */
import { Addresses } from './addresses.ts';
import { Names, ROOT } from './names.ts';
import { FORM, type Form, type Place } from './place.ts';
import { emptyShare, MAX_INTERNED_OCTETS, widerRoom } from './room.ts';
import type { TableShare } from './share.ts';
import { STATE } from './state.ts';
import { Texts } from './texts.ts';
import { Values } from './values.ts';

export class Table {
  readonly seed: number;
  readonly state: Int32Array<SharedArrayBuffer>;
  readonly values: Values;
  readonly texts: Texts;
  readonly names: Names;
  readonly ip: Addresses;
  readonly block: Addresses;

  constructor(share: TableShare) {
    this.seed = share.seed;
    this.state = new Int32Array(share.state);
    this.values = new Values(share.values, this.state);
    this.texts = new Texts(share.texts.octets, share.texts.slots, this.seed, this.state);
    this.names = new Names(share.names.nodes, share.names.slots, this.seed, this.state);
    this.ip = new Addresses(share.ip, this.seed, this.state, STATE.ip);
    this.block = new Addresses(share.block, this.seed, this.state, STATE.block);
  }

  /** Until built(), nobody reads, so much is cheaper. */
  build(): void {
    this.state[STATE.building] = 1;
  }

  built(): void {
    this.ip.countAll();
    this.block.countAll();
    this.state[STATE.building] = 0;
  }

  /** What another thread needs to read it, or to go on writing. */
  get share(): TableShare {
    return {
      seed: this.seed,
      state: this.state.buffer,
      values: this.values.words.buffer,
      texts: { octets: this.texts.octets.buffer, slots: this.texts.slots.buffer },
      names: { nodes: this.names.nodes.buffer, slots: this.names.slots.buffer },
      ip: this.ip.share,
      block: this.block.share,
    };
  }

  /** Listings in force. */
  get size(): number {
    return this.state[STATE.size]!;
  }

  addresses(blocked: boolean): Addresses {
    return blocked ? this.block : this.ip;
  }

  /** False when the numbers that stand for names and values could run out. */
  get isListable(): boolean {
    return this.names.isListable && this.values.isListable;
  }

  /** For one more listing of this form. */
  hasRoom(form: Form, blocked: boolean): boolean {
    const fits = form === FORM.name ? this.names.hasRoom : this.addresses(blocked).hasRoom;
    return fits && this.values.hasRoom && this.hasRoomForTexts;
  }

  get hasRoomForTexts(): boolean {
    return this.texts.hasRoom(MAX_INTERNED_OCTETS);
  }

  /**
   * The same in other memory, with more room where there was none. Nothing may be written here afterwards.
   *
   * @param forTexts more room for these in any case
   */
  widened(forTexts = false): Table {
    const wider = new Table(emptyShare(this.seed, widerRoom(this, forTexts)));
    wider.state.set(this.state);
    wider.state[STATE.building] = 1;
    wider.values.copyFrom(this.values);
    wider.texts.copyFrom(this.texts);
    wider.names.copyFrom(this.names);
    wider.ip.copyFrom(this.ip);
    wider.block.copyFrom(this.block);
    wider.state[STATE.building] = this.state[STATE.building]!;
    return wider;
  }

  /** Takes a place in hand. @returns its value, 0 for none. @param make what it needs; there must be room */
  open(place: Place, make: boolean): number {
    if (place.form === FORM.v4) return this.addresses(place.blocked).v4.get(place.v4);
    if (place.form === FORM.v6) return this.addresses(place.blocked).v6.valueOf(place.v6);
    return this.names.open(place.blocked ? ROOT.block : ROOT.dom, place.name, place.nameLength, make);
  }

  /** The node, the leaf or the IPv4 address itself: with form and subtree, what stands for a place. */
  refOf(place: Place): number {
    if (place.form === FORM.v4) return place.v4;
    if (place.form === FORM.v6) return this.addresses(place.blocked).v6.find(place.v6);
    return this.names.find(place.blocked ? ROOT.block : ROOT.dom, place.name, place.nameLength);
  }

  /** A number for a place among those of its form and subtree, the same for the life of the table. */
  keyOf(place: Place): number {
    if (place.form === FORM.v4) return place.v4;
    if (place.form === FORM.v6) return this.addresses(place.blocked).v6.leafOf(place.v6);
    return this.names.slotOf(place.blocked ? ROOT.block : ROOT.dom, place.name, place.nameLength);
  }

  /** Gives the place in hand another value, 0 for none. @returns the one that it had, which is dropped */
  put(place: Place, value: number): number {
    const old = this.#set(place, value);
    if (old !== 0) this.values.drop(old);
    return old;
  }

  #set(place: Place, value: number): number {
    if (place.form === FORM.v4) return this.addresses(place.blocked).set4(place.v4, value);
    if (place.form === FORM.v6) return this.addresses(place.blocked).set6(place.v6, value);
    return this.names.assign(value);
  }
}
