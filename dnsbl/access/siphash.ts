/**
 * SipHash-2-4 (Aumasson, Bernstein 2012): 64 bits under a key of 128, in halves of 32.
 *
 * Allocates nothing; the result stands in `low` and `high` until the next read().
 */

const C_ROUNDS = 2;
const D_ROUNDS = 4;

export class SipHash {
  /** The first four octets of the result as SipHash writes it, then the other four; little-endian, signed. */
  low = 0;
  high = 0;
  readonly #key = new Int32Array(4);
  /** v0 to v3, the lower half of each first. */
  #a = 0;
  #A = 0;
  #b = 0;
  #B = 0;
  #c = 0;
  #C = 0;
  #d = 0;
  #D = 0;

  /** @param key 16 octets */
  constructor(key: Uint8Array) {
    if (key.length !== 16) throw new RangeError('a SipHash key has 16 octets');
    for (let index = 0; index < 4; index++) this.#key[index] = littleEndian(key, index * 4);
  }

  read(octets: Uint8Array, start: number, length: number): void {
    this.#begin();
    const whole = length & ~7;
    for (let at = start; at < start + whole; at += 8) {
      this.#take(littleEndian(octets, at), littleEndian(octets, at + 4));
    }
    let low = 0;
    let high = length << 24;
    for (let index = 0; index < (length & 7); index++) {
      const octet = octets[start + whole + index]!;
      if (index < 4) low |= octet << (8 * index);
      else high |= octet << (8 * (index - 4));
    }
    this.#take(low, high);
    this.#c ^= 0xff;
    this.#rounds(D_ROUNDS);
    this.low = this.#a ^ this.#b ^ this.#c ^ this.#d;
    this.high = this.#A ^ this.#B ^ this.#C ^ this.#D;
  }

  #begin(): void {
    const key = this.#key;
    this.#a = key[0]! ^ 0x70736575;
    this.#A = key[1]! ^ 0x736f6d65;
    this.#b = key[2]! ^ 0x6e646f6d;
    this.#B = key[3]! ^ 0x646f7261;
    this.#c = key[0]! ^ 0x6e657261;
    this.#C = key[1]! ^ 0x6c796765;
    this.#d = key[2]! ^ 0x79746573;
    this.#D = key[3]! ^ 0x74656462;
  }

  #take(low: number, high: number): void {
    this.#d ^= low;
    this.#D ^= high;
    this.#rounds(C_ROUNDS);
    this.#a ^= low;
    this.#A ^= high;
  }

  #rounds(count: number): void {
    let a = this.#a;
    let A = this.#A;
    let b = this.#b;
    let B = this.#B;
    let c = this.#c;
    let C = this.#C;
    let d = this.#d;
    let D = this.#D;
    let turned = 0;
    for (let round = 0; round < count; round++) {
      // v0 += v1; v1 <<<= 13; v1 ^= v0; v0 <<<= 32
      a = (a + b) | 0;
      A = (A + B + carry(a, b)) | 0;
      turned = (b << 13) | (B >>> 19);
      B = ((B << 13) | (b >>> 19)) ^ A;
      b = turned ^ a;
      turned = a;
      a = A;
      A = turned;
      // v2 += v3; v3 <<<= 16; v3 ^= v2
      c = (c + d) | 0;
      C = (C + D + carry(c, d)) | 0;
      turned = (d << 16) | (D >>> 16);
      D = ((D << 16) | (d >>> 16)) ^ C;
      d = turned ^ c;
      // v0 += v3; v3 <<<= 21; v3 ^= v0
      a = (a + d) | 0;
      A = (A + D + carry(a, d)) | 0;
      turned = (d << 21) | (D >>> 11);
      D = ((D << 21) | (d >>> 11)) ^ A;
      d = turned ^ a;
      // v2 += v1; v1 <<<= 17; v1 ^= v2; v2 <<<= 32
      c = (c + b) | 0;
      C = (C + B + carry(c, b)) | 0;
      turned = (b << 17) | (B >>> 15);
      B = ((B << 17) | (b >>> 15)) ^ C;
      b = turned ^ c;
      turned = c;
      c = C;
      C = turned;
    }
    this.#a = a;
    this.#A = A;
    this.#b = b;
    this.#B = B;
    this.#c = c;
    this.#C = C;
    this.#d = d;
    this.#D = D;
  }
}

/** Of a sum of two words, one of which was `part`. */
function carry(sum: number, part: number): number {
  return sum >>> 0 < part >>> 0 ? 1 : 0;
}

function littleEndian(octets: Uint8Array, at: number): number {
  return octets[at]! | (octets[at + 1]! << 8) | (octets[at + 2]! << 16) | (octets[at + 3]! << 24);
}
