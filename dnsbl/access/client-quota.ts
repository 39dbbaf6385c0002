/**
 * Queries per client, a second and a day, for who asks without a key.
 *
 * Promise: memory is fixed, and no query costs more than four places looked at. Where a set of four is
 * full, the client that asked least today gives way and begins anew, so the large ones stay counted.
 *
 * Limits: over UDP the source address may be forged, so a stranger can use up another's quota; a
 * subscriber with a key has its own. Over quota is REFUSED, and REFUSED itself is under the response rate
 * limit. A restart begins the day anew.
 */
import type { Client } from '../seams.ts';
import type { Clock } from './clock.ts';
import type { KeyedHash } from './keyed-hash.ts';
import { type ClientBits, ClientWords } from './prefix.ts';
import { PrefixTable, type PrefixTableShare } from './prefix-table.ts';
import { type Allowance, countOn, USAGE_WORDS, use } from './usage.ts';

/** 1 MiB. */
const CLIENTS = 65_536;
const WAYS = 4;
const CLIENT_WORDS = 1 + USAGE_WORDS;
const SET_WORDS = WAYS * CLIENT_WORDS;
const MASK = CLIENTS / WAYS - 1;

const DOMAIN = { 4: 0x33, 6: 0x44 } as const;

export function newClientMemory(): SharedArrayBuffer {
  return new SharedArrayBuffer(CLIENTS * CLIENT_WORDS * Int32Array.BYTES_PER_ELEMENT);
}

export type ClientQuotasOptions = {
  memory: SharedArrayBuffer;
  client: ClientBits;
  unlimited: PrefixTableShare;
  hash: KeyedHash;
  clock: Clock;
};

export class ClientQuotas {
  readonly #words: Int32Array;
  readonly #client: ClientWords;
  readonly #unlimited: PrefixTable;
  readonly #hash: KeyedHash;
  readonly #clock: Clock;

  constructor({ memory, client, unlimited, hash, clock }: ClientQuotasOptions) {
    this.#words = new Int32Array(memory);
    this.#client = new ClientWords(client);
    this.#unlimited = new PrefixTable(unlimited);
    this.#hash = hash;
    this.#clock = clock;
  }

  /** @param what keeps apart what is counted with different allowances. @returns whether it may ask */
  use(client: Client, what: number, allowance: Allowance): boolean {
    const [hash, words] = [this.#hash, this.#client];
    words.read(client);
    hash.read(DOMAIN[client.family], words.high, words.low, what);
    const at = this.#placeOf(hash.spot, hash.tag);
    return use(this.#words, at + 1, allowance, this.#clock) || this.#unlimited.find(client) !== 0;
  }

  #placeOf(spot: number, tag: number): number {
    const words = this.#words;
    const { day } = this.#clock;
    const first = (spot & MASK) * SET_WORDS;
    let least = first;
    let leastCount = Infinity;
    for (let at = first; at < first + SET_WORDS; at += CLIENT_WORDS) {
      if (words[at] === tag) return at;
      const count = countOn(words, at + 1, day);
      if (count >= leastCount) continue;
      least = at;
      leastCount = count;
    }
    words.fill(0, least, least + CLIENT_WORDS);
    words[least] = tag;
    return least;
  }
}
