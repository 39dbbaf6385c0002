/** Counters of one table, in its own shared memory, so that another thread can go on where one ended. */

/** Words of the Int32Array. Readers look at `reclaimed`, `changed` and `live` alone; the rest is the writer's. */
export const STATE = {
  /** Moves before memory of replaced values is used again: see values.ts. */
  reclaimed: 0,
  /** Listings in force, without the test points. */
  size: 1,
  values: 2,
  textOctets: 3,
  texts: 4,
  nodes: 5,
  nodeUnits: 6,
  /** 1 while nobody reads, and prefixes of IPv4 addresses are not counted yet: see builder.ts. */
  building: 7,
  /** Where the ADDRESSES words of the two subtrees begin. */
  ip: 8,
  block: 16,
  /** Moves with every change: see table.ts, and changed(). */
  changed: 24,
  words: 32,
} as const;

/** Words of one subtree's addresses, from STATE.ip or STATE.block. */
export const ADDRESSES = { leaves4: 0, prefixes4: 1, live: 2, leaves6: 3, branches6: 4 } as const;

/** An array in shared memory of its own. The kernel gives pages only as they are written. */
export function sharedWords(length: number): Int32Array<SharedArrayBuffer> {
  return new Int32Array(new SharedArrayBuffer(length * 4));
}

export function sharedOctets(length: number): Uint8Array<SharedArrayBuffer> {
  return new Uint8Array(new SharedArrayBuffer(length));
}

/**
 * Tells readers that what they read before no longer goes with what they read now: they look again.
 *
 * Every store of a change that can be seen stands before its own call, or behind another one.
 */
export function changed(state: Int32Array): void {
  if (state[STATE.building] === 0) move(state, STATE.changed);
}

/** The next number. */
export function move(state: Int32Array, counter: number): void {
  Atomics.add(state, counter, 1);
  // A load behind a store keeps the writes that follow behind it, on weakly ordered machines too.
  Atomics.load(state, counter);
}

/** One store that readers may see; plain, which is cheaper, while there are none. */
export function publish(state: Int32Array, words: Int32Array, index: number, word: number): void {
  if (state[STATE.building] !== 0) words[index] = word;
  else Atomics.store(words, index, word);
}
