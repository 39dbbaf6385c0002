/** Addresses as people write them, octet by octet and without allocating. Both return where they end. */

const COLON = 0x3a;
const DOT = 0x2e;
const hex = Uint8Array.from(Buffer.from('0123456789abcdef'));
const scratch = Buffer.alloc(64);

export function v4Text(address: number): string {
  return scratch.toString('latin1', 0, writeV4(address, scratch, 0));
}

export function v6Text(key: Int32Array): string {
  return scratch.toString('latin1', 0, writeV6(key, scratch, 0));
}

export function writeV4(address: number, out: Uint8Array, at: number): number {
  let end = at;
  for (let shift = 24; shift >= 0; shift -= 8) {
    const octet = (address >>> shift) & 0xff;
    if (octet > 99) out[end++] = 0x30 + Math.trunc(octet / 100);
    if (octet > 9) out[end++] = 0x30 + (Math.trunc(octet / 10) % 10);
    out[end++] = 0x30 + (octet % 10);
    if (shift > 0) out[end++] = DOT;
  }
  return end;
}

/** RFC 5952 §4: lower case, no leading zeros, the first longest run of two or more zero groups as `::`. */
export function writeV6(key: Int32Array, out: Uint8Array, at: number): number {
  const run = longestZeros(key);
  const length = run & 0xf;
  const start = length > 1 ? run >> 4 : 8;
  let end = at;
  for (let index = 0; index < 8; index++) {
    if (index === start) {
      out[end++] = COLON;
      if (index + length === 8) out[end++] = COLON;
      index += length - 1;
      continue;
    }
    if (index > 0) out[end++] = COLON;
    end = writeGroup(groupOf(key, index), out, end);
  }
  return end;
}

function writeGroup(group: number, out: Uint8Array, at: number): number {
  let end = at;
  for (let shift = 12; shift >= 0; shift -= 4) {
    if (shift === 0 || group >>> shift !== 0) out[end++] = hex[(group >>> shift) & 0xf]!;
  }
  return end;
}

/** @returns start × 16 + length */
function longestZeros(key: Int32Array): number {
  let best = 0;
  for (let start = 0; start < 8; start++) {
    let length = 0;
    while (start + length < 8 && groupOf(key, start + length) === 0) length += 1;
    if (length > (best & 0xf)) best = start * 16 + length;
  }
  return best;
}

function groupOf(key: Int32Array, index: number): number {
  return (key[index >> 1]! >>> (index % 2 === 0 ? 16 : 0)) & 0xffff;
}
