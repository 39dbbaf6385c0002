/**
 * Reads a few scalar members of a CBOR map without decoding the rest.
 *
 * Nearly no frame of a firehose concerns us, but each moves our cursor: this finds `seq` (and a DID)
 * at the cost of stepping over heads. Never throws; each step consumes a byte, so time and memory are
 * bounded by the frame. Knows what DRISL allows (https://dasl.ing/drisl.html): no indefinite lengths.
 */

export type Scalars = { values: Record<string, string | number | boolean>; end: number };

type Head = { major: number; argument: number; next: number };

/** A name or a DID; longer texts are stepped over. */
const maxText = 2048;

/**
 * @param offset where the map begins
 * @returns the text, unsigned and boolean members among `wanted`, and where the map ends; undefined when
 *   the bytes are not one complete map there
 */
export function scanMap(bytes: Buffer, offset: number, wanted: readonly string[]): Scalars | undefined {
  const map = readHead(bytes, offset);
  if (map?.major !== 5) return undefined;
  const values: Scalars['values'] = Object.create(null);
  let at = map.next;
  for (let left = map.argument; left > 0; left--) {
    const key = readHead(bytes, at);
    if (key?.major !== 3) return undefined;
    const valueAt = key.next + key.argument;
    const end = skipItem(bytes, valueAt);
    if (end === undefined) return undefined;
    const name = bytes.toString('latin1', key.next, Math.min(valueAt, key.next + maxText));
    if (wanted.includes(name)) {
      const value = scalarAt(bytes, valueAt);
      if (value !== undefined) values[name] = value;
    }
    at = end;
  }
  return { values, end: at };
}

/** @returns the offset after the item, undefined when it is cut off or not CBOR */
function skipItem(bytes: Buffer, offset: number): number | undefined {
  let at = offset;
  for (let left = 1; left > 0; left--) {
    const head = readHead(bytes, at);
    if (!head) return undefined;
    at = head.next;
    if (head.major === 2 || head.major === 3) at += head.argument;
    else if (head.major === 4) left += head.argument;
    else if (head.major === 5) left += 2 * head.argument;
    else if (head.major === 6) left += 1;
    if (at > bytes.length) return undefined;
  }
  return at;
}

function scalarAt(bytes: Buffer, offset: number): string | number | boolean | undefined {
  const head = readHead(bytes, offset)!;
  if (head.major === 0) return head.argument;
  // A text that is not UTF-8 turns into one that equals nothing we compare it with.
  if (head.major === 3 && head.argument <= maxText) {
    return bytes.toString('utf8', head.next, head.next + head.argument);
  }
  if (bytes[offset] === 0xf5) return true;
  return bytes[offset] === 0xf4 ? false : undefined;
}

// RFC 8949 §3: three bits of major type, five of argument, or 1, 2, 4 or 8 bytes of it.
function readHead(bytes: Buffer, offset: number): Head | undefined {
  const first = bytes[offset];
  if (first === undefined) return undefined;
  const major = first >> 5;
  const short = first & 0x1f;
  if (short < 24) return { major, argument: short, next: offset + 1 };
  if (short > 27) return undefined;
  const width = 1 << (short - 24);
  const next = offset + 1 + width;
  if (next > bytes.length) return undefined;
  const argument =
    width === 8 ? Number(bytes.readBigUInt64BE(offset + 1)) : bytes.readUIntBE(offset + 1, width);
  // Major 7 with an argument is a float, whose bits may be anything.
  if (major !== 7 && !Number.isSafeInteger(argument)) return undefined;
  return { major, argument, next };
}
