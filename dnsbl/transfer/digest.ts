/**
 * What a zone holds, in 16 octets: equal for equal content, in whatever order it was read or changed.
 *
 * The sum over all record sets of the first half of their SHA-256, each in four lanes of 32 bits. A sum
 * can be kept up with each change, which is what the journal does. It guards against accidents and
 * against our own faults; whoever could choose records to make two sums equal would have to choose
 * the listings, and would gain that secondaries believe the zone they have.
 */
import { hash } from 'node:crypto';
import type { OwnedRecords } from '../difference.ts';

const LANES = 4;
export const DIGEST_OCTETS = LANES * 4;

export class ContentDigest {
  readonly #lanes = new Uint32Array(LANES);

  static from(octets: Buffer): ContentDigest {
    const digest = new ContentDigest();
    for (let lane = 0; lane < LANES; lane++) digest.#lanes[lane] = octets.readUInt32BE(4 * lane);
    return digest;
  }

  add(records: OwnedRecords): void {
    const octets = hashOf(records);
    for (let lane = 0; lane < LANES; lane++) this.#lanes[lane]! += octets.readUInt32BE(4 * lane);
  }

  remove(records: OwnedRecords): void {
    const octets = hashOf(records);
    for (let lane = 0; lane < LANES; lane++) this.#lanes[lane]! -= octets.readUInt32BE(4 * lane);
  }

  octets(): Buffer {
    const octets = Buffer.alloc(DIGEST_OCTETS);
    for (let lane = 0; lane < LANES; lane++) octets.writeUInt32BE(this.#lanes[lane]!, 4 * lane);
    return octets;
  }
}

let scratch = Buffer.allocUnsafeSlow(8192);

/** In one call, for it is made for every record of a zone at each start. */
function hashOf({ owner, set }: OwnedRecords): Buffer {
  const octets = set.rdatas.reduce((sum, rdata) => sum + 2 + rdata.length, 7 + owner.length);
  if (octets > scratch.length) scratch = Buffer.allocUnsafeSlow(octets);
  let at = scratch.writeUInt16BE(set.type, 0);
  at = scratch.writeUInt32BE(set.ttl, at);
  at = scratch.writeUInt8(owner.length, at);
  at += scratch.write(owner, at, 'latin1');
  for (const rdata of set.rdatas) {
    at = scratch.writeUInt16BE(rdata.length, at);
    at += rdata.copy(scratch, at);
  }
  return hash('sha256', scratch.subarray(0, at), 'buffer');
}
