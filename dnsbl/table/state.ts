/** Counters of one table, in its own shared memory, so that another thread can go on where one ended. */

/** Words of the Int32Array. Readers look at `reclaimed` and `live` alone; the rest is the writer's. */
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
  /** Where the ADDRESSES words of the two subtrees begin. */
  ip: 8,
  block: 16,
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
