/**
 * Two tables become one that has the first one's names and the second one's addresses: for two threads that each
 * built a half, with one seed. Nobody reads the two yet, and they are of no use afterwards.
 */
import { slotsFor } from './key-map.ts';
import { FEW, MAX_INTERNED_OCTETS } from './room.ts';
import type { TableShare } from './share.ts';
import { STATE, sharedOctets, sharedWords } from './state.ts';
import { Table } from './table.ts';
import { Texts } from './texts.ts';
import { Values, valueWords } from './values.ts';

/** @returns undefined when one table cannot hold both */
export function joined(ofNames: TableShare, ofAddresses: TableShare): TableShare | undefined {
  if (ofNames.seed !== ofAddresses.seed) throw new RangeError('tables of two seeds cannot be joined');
  const names = new Table(ofNames);
  const addresses = new Table(ofAddresses);
  const { state } = names;
  const before = state[STATE.values]!;
  const values = valuesForBoth(names, addresses);
  if (values === undefined) return undefined;
  const texts = textsForBoth(names, addresses);
  values.append(addresses.values, textMover(addresses.texts, texts));
  for (const { v4, v6 } of [addresses.ip, addresses.block]) {
    v4.moveNumbers(before);
    v6.moveValues(before);
  }
  state.set(addresses.state.subarray(STATE.ip, STATE.changed), STATE.ip);
  state[STATE.size]! += addresses.size;
  return {
    ...{ ...ofNames, ip: ofAddresses.ip, block: ofAddresses.block },
    values: values.words.buffer,
    texts: { octets: texts.octets.buffer, slots: texts.slots.buffer },
  };
}

/** The same memory where it has room. */
function valuesForBoth({ values, state }: Table, addresses: Table): Values | undefined {
  const all = state[STATE.values]! + addresses.state[STATE.values]!;
  if (!values.isListableWith(all)) return undefined;
  if (all + FEW <= values.capacity) return values;
  const wider = new Values(sharedWords(valueWords(all + FEW)).buffer, state);
  wider.copyFrom(values);
  return wider;
}

function textsForBoth({ texts, state, seed }: Table, addresses: Table): Texts {
  const octets = state[STATE.textOctets]! + addresses.state[STATE.textOctets]! + 4 * MAX_INTERNED_OCTETS;
  const slots = slotsFor(state[STATE.texts]! + addresses.state[STATE.texts]! + FEW);
  const both = new Texts(sharedOctets(octets).buffer, sharedWords(slots).buffer, seed, state);
  both.copyFrom(texts);
  return both;
}

/** Where a text of the one stands in the other. */
function textMover(from: Texts, to: Texts): (text: number) => number {
  const known = new Map<number, number>();
  return (text) => {
    let moved = known.get(text);
    if (moved === undefined) {
      const length = from.length(text);
      moved = to.intern(from.octets.subarray(text, text + length), length);
      known.set(text, moved);
    }
    return moved;
  };
}
