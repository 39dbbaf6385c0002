/**
 * How large the parts of a table are, and how they grow.
 *
 * Room that is not used costs addresses, not memory: the kernel gives pages as they are written.
 */
import type { Addresses } from './addresses.ts';
import { maxUsed, slotsFor } from './key-map.ts';
import { type Names, nodeWords, SPARE_NODES, unitsFor } from './names.ts';
import type { AddressesShare, TableShare } from './share.ts';
import { STATE } from './state.ts';
import type { Texts } from './texts.ts';
import { branchWords, leafWords } from './trie6.ts';
import { type Values, valueWords } from './values.ts';

export type Room = {
  values: number;
  texts: number;
  textOctets: number;
  names: number;
  nodeUnits: number;
  ip: AddressRoom;
  block: AddressRoom;
};

type Parts = { values: Values; texts: Texts; names: Names; ip: Addresses; block: Addresses };

export type AddressRoom = { v4: number; prefixes: number; v6: number };

/** A text template with its DID, at most; what is longer is not listable. */
export const MAX_INTERNED_OCTETS = 16_384;
/** What there is room for at least. */
export const FEW = 1024;

/** Entries of each kind. `joined`: values that another table brings (join.ts). */
export type Expected = { names: number; v4: number; v6: number; joined?: number };

export function roomFor({ names, v4, v6, joined = 0 }: Expected): Room {
  const atLeast = (entries: number) => Math.max(entries, FEW);
  return {
    values: names + v4 + v6 + joined + 2 * FEW,
    texts: FEW,
    textOctets: 4 * MAX_INTERNED_OCTETS,
    names: atLeast(names) + SPARE_NODES,
    nodeUnits: unitsFor(atLeast(names)),
    ip: { v4: atLeast(v4), prefixes: FEW, v6: atLeast(v6) },
    block: { v4: FEW, prefixes: FEW, v6: FEW },
  };
}

/**
 * Twice as much where there is none left for another listing; as much as there is where most of it is
 * kept by what is gone, for a copy leaves that out.
 */
export function widerRoom({ values, texts, names, ip, block }: Parts, forTexts = false): Room {
  const grown = forTexts || !texts.hasRoom(MAX_INTERNED_OCTETS) ? 2 : 1;
  const current = roomOfTexts(texts);
  const named = names.hasRoom || names.isMostlyGone ? 1 : 2;
  return {
    values: values.capacity * (values.hasRoom ? 1 : 2),
    texts: current.texts * grown,
    textOctets: current.textOctets * grown,
    names: maxUsed(names.slots.length) * named,
    nodeUnits: names.capacity * named,
    ip: widerAddresses(ip),
    block: widerAddresses(block),
  };
}

export function roomOfTexts({ slots, octets }: Texts): Pick<Room, 'texts' | 'textOctets'> {
  return { texts: maxUsed(slots.length), textOctets: octets.length };
}

function widerAddresses({ v4, prefixes, v6 }: Addresses): AddressRoom {
  return {
    v4: maxUsed(v4.capacity) * (v4.hasRoom(1) || v4.isMostlyGone ? 1 : 2),
    prefixes: maxUsed(prefixes.capacity) * (prefixes.hasRoom(3) || prefixes.isMostlyGone ? 1 : 2),
    v6: v6.capacity * (v6.hasRoom || v6.isMostlyGone ? 1 : 2),
  };
}

const words = (length: number) => new SharedArrayBuffer(length * 4);

export function emptyShare(seed: number, room: Room): TableShare {
  return {
    seed,
    state: words(STATE.words),
    values: words(valueWords(room.values)),
    texts: { octets: new SharedArrayBuffer(room.textOctets), slots: words(slotsFor(room.texts)) },
    names: {
      nodes: words(nodeWords(room.nodeUnits)),
      slots: words(slotsFor(room.names)),
    },
    ip: emptyAddresses(room.ip),
    block: emptyAddresses(room.block),
  };
}

function emptyAddresses({ v4, prefixes, v6 }: AddressRoom): AddressesShare {
  return {
    v4: { leaves: words(2 * slotsFor(v4)), prefixes: words(2 * slotsFor(prefixes)) },
    v6: { leaves: words(leafWords(v6)), branches: words(branchWords(v6)) },
  };
}
