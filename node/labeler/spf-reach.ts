/**
 * How much of the address space one SPF record lets send: the first term that holds an address decides about it.
 *
 * Counted in the first 16 bits of an address. Narrower networks are left out: as many as the records of one tree can
 * name come to less than half of a family.
 */
import type { Qualifier } from './spf-record.ts';

export type Family = 4 | 6;

export const widePrefix = 16;
const blocks = 65_536;
/** IPv6 addresses in use are of 2000::/3 (RFC 4291 §2.4); of IPv4, all count. */
const inUse: Record<Family, [from: number, to: number]> = { 4: [0, blocks], 6: [0x2000, 0x4000] };

const unknown = 0;
const decided = 1;
const sends = 2;

export class SpfReach {
  readonly #blocks: Record<Family, Uint8Array> = { 4: new Uint8Array(blocks), 6: new Uint8Array(blocks) };
  readonly #sending: Record<Family, number> = { 4: 0, 6: 0 };

  /** @param address IPv4 in dotted form, or IPv6 */
  network(qualifier: Qualifier, family: Family, address: string, prefix: number): void {
    if (prefix > widePrefix) return;
    const size = 2 ** (widePrefix - prefix);
    const from = Math.floor(firstBits(family, address) / size) * size;
    for (let block = from; block < from + size; block += 1) this.#decide(qualifier, family, block);
  }

  everyone(qualifier: Qualifier): void {
    this.network(qualifier, 4, '0.0.0.0', 0);
    this.network(qualifier, 6, '::', 0);
  }

  /** @param inner of the included record: those it lets send match */
  included(qualifier: Qualifier, inner: SpfReach): void {
    for (const family of [4, 6] as const)
      inner.#blocks[family].forEach((state, block) => {
        if (state === sends) this.#decide(qualifier, family, block);
      });
  }

  /** The family of which at least half may send. */
  get half(): Family | undefined {
    return ([4, 6] as const).find((family) => {
      const [from, to] = inUse[family];
      return this.#sending[family] * 2 >= to - from;
    });
  }

  #decide(qualifier: Qualifier, family: Family, block: number): void {
    if (this.#blocks[family][block] !== unknown) return;
    this.#blocks[family][block] = qualifier === '+' ? sends : decided;
    const [from, to] = inUse[family];
    if (qualifier === '+' && block >= from && block < to) this.#sending[family] += 1;
  }
}

function firstBits(family: Family, address: string): number {
  if (family === 6) return Number.parseInt(address.split(':', 1)[0] || '0', 16);
  const [a, b] = address.split('.');
  return Number(a) * 256 + Number(b);
}
