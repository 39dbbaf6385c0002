/**
 * What threads hand each other: shared memory, and nothing that needs code to be understood.
 *
 * Everything here can be posted to a worker. Only the thread that owns a zone writes into it; the
 * rules by which others may read at the same moment stand in table.ts.
 */
import type { NameKey } from '../name.ts';

/** One compact table: which names and addresses are listed, and how. Opaque to all but table/. */
export type TableShare = {
  /** Of the hashes; at random, so nobody can choose names that collide. */
  seed: number;
  state: SharedArrayBuffer;
  values: SharedArrayBuffer;
  texts: { octets: SharedArrayBuffer; slots: SharedArrayBuffer };
  names: { nodes: SharedArrayBuffer; slots: SharedArrayBuffer };
  ip: AddressesShare;
  block: AddressesShare;
};

/** The addresses of one subtree. */
export type AddressesShare = {
  v4: { leaves: SharedArrayBuffer; prefixes: SharedArrayBuffer };
  v6: { leaves: SharedArrayBuffer; branches: SharedArrayBuffer };
};

/** What an answering thread needs of a zone. */
export type ZoneShare = {
  /** Lower case, without a final dot. */
  apex: string;
  nameservers: readonly NameKey[];
  hostmaster: NameKey;
  ttl: number;
  negativeTtl: number;
  /** Int32Array of HEADER words; the same memory for the whole life of the zone. */
  header: SharedArrayBuffer;
  /** Of `table`; behind HEADER.generation as soon as a newer one was published: ask for that, or await its message. */
  generation: number;
  table: TableShare;
};

/** Words of the shared header. Read them with Atomics.load. `letGoSize`: listings in the table before this one. */
export const HEADER = { serial: 0, generation: 1, letGoSize: 2, words: 16 } as const;
