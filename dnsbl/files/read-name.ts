/** A host name from octets straight into a place of the table: the usual case without a string. */
import { FORM, type Place } from '../table/place.ts';

const DOT = 0x2e;
const HYPHEN = 0x2d;
const SPACE = 0x20;
const TAB = 0x09;
const MAX_LABEL_OCTETS = 63;
const MAX_NAME_OCTETS = 253;
const LOWER_D = 0x64;
const NINE = 0x39;
/** Of `test`, with its length. */
const TEST_OCTETS = 5;

/** By octet, in lower case: what a label may have (RFC 1123 §2.1). 0 for the others. */
const hostLetters = new Uint8Array(256);
for (const letter of 'abcdefghijklmnopqrstuvwxyz0123456789-') {
  hostLetters[letter.charCodeAt(0)] = letter.charCodeAt(0);
  hostLetters[letter.toUpperCase().charCodeAt(0)] = letter.charCodeAt(0);
}

/** @returns where the name ends; -1 for what is no host name, does not fit, or may not be listed */
export function readName(octets: Uint8Array, start: number, end: number, place: Place): number {
  const { name } = place;
  let label = 0;
  let at = start;
  for (; at < end; at++) {
    const to = at - start + 1;
    if (to > MAX_NAME_OCTETS + 1) return -1;
    const letter = hostLetters[octets[at]!]!;
    if (letter !== 0) {
      name[to] = letter;
      continue;
    }
    if (octets[at] === SPACE || octets[at] === TAB) break;
    if (octets[at] !== DOT || !endLabel(name, label, to - 1)) return -1;
    label = to;
  }
  const length = at - start;
  // A final dot is only another way to write the name.
  const isClosed = length > 1 && label === length;
  if (!isClosed && !endLabel(name, label, length)) return -1;
  place.form = FORM.name;
  place.nameLength = isClosed ? length : length + 1;
  const last = name[place.nameLength - 1]!;
  // `test`, `invalid` and numbers end like this; the few other names that do are read as strings.
  if (last === LOWER_D || last <= NINE || place.nameLength === TEST_OCTETS) {
    const text = Buffer.from(octets.buffer, octets.byteOffset + start, place.nameLength - 1).toString(
      'latin1',
    );
    return place.readName(text.toLowerCase()) ? at : -1;
  }
  return place.fits ? at : -1;
}

/** Writes the length before a label's octets. @param end the last of them */
function endLabel(name: Uint8Array, label: number, end: number): boolean {
  const length = end - label;
  const isLabel = length > 0 && length <= MAX_LABEL_OCTETS;
  if (!isLabel || name[label + 1] === HYPHEN || name[end] === HYPHEN) return false;
  name[label] = length;
  return true;
}
