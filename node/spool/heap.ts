/** A binary heap whose members know their place, so that each can be moved or taken out. */

/** Lower `turn` first; of the same turn, lower `order`. */
export type Placed = {
  turn: number;
  order: number;
  /** Index in its heap; −1 outside. Written by the heap alone. */
  place: number;
};

export class Heap<T extends Placed> {
  #members: T[] = [];

  get first(): T | undefined {
    return this.#members[0];
  }

  get size(): number {
    return this.#members.length;
  }

  add(member: T): void {
    member.place = this.#members.length;
    // Most heaps stay with one: an array that grew by push() has room for seventeen.
    if (member.place === 0) this.#members = [member];
    else this.#members.push(member);
    this.#rise(member);
  }

  remove(member: T): void {
    const last = this.#members.pop()!;
    const place = member.place;
    member.place = -1;
    if (last === member) return;
    this.#put(last, place);
    this.moved(last);
  }

  /** To be called after `turn` or `order` of a member changed. */
  moved(member: T): void {
    this.#rise(member);
    this.#sink(member);
  }

  #rise(member: T): void {
    while (member.place > 0) {
      const parent = this.#members[(member.place - 1) >> 1]!;
      if (!isBefore(member, parent)) return;
      this.#swap(member, parent);
    }
  }

  #sink(member: T): void {
    for (;;) {
      const left = this.#members[2 * member.place + 1];
      const right = this.#members[2 * member.place + 2];
      const child = right && isBefore(right, left!) ? right : left;
      if (!child || !isBefore(child, member)) return;
      this.#swap(child, member);
    }
  }

  #swap(a: T, b: T): void {
    const place = a.place;
    this.#put(a, b.place);
    this.#put(b, place);
  }

  #put(member: T, place: number): void {
    this.#members[place] = member;
    member.place = place;
  }
}

function isBefore(a: Placed, b: Placed): boolean {
  return a.turn < b.turn || (a.turn === b.turn && a.order < b.order);
}
