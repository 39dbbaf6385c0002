/**
 * How many octets of unfinished messages this node holds in memory, over all sessions and of one member.
 *
 * Without it, connections × message size is the bound, and that is gigabytes. One member gets a share of it, so
 * that its connections leave room for those of the others.
 */
export type Octets = {
  /** @returns false when there is no room; then nothing is taken */
  take(octets: number): boolean;
  release(octets: number): void;
};

export class ByteBudget implements Octets {
  readonly #limit: number;
  readonly #perMember: number;
  readonly #members = new Map<string, number>();
  #used = 0;

  /**
   * @param limit octets; as much again is in memory while a message is put together
   * @param perMember of those. Twice the largest message at least, which is in memory twice for a moment
   */
  constructor(limit = 64 * 1024 * 1024, perMember = limit) {
    this.#limit = limit;
    this.#perMember = perMember;
  }

  take(octets: number): boolean {
    if (this.#used + octets > this.#limit) return false;
    this.#used += octets;
    return true;
  }

  release(octets: number): void {
    this.#used -= octets;
  }

  /** What one member may take. */
  of(did: string): Octets {
    return {
      take: (octets) => this.#takeFor(did, octets),
      release: (octets) => this.#releaseFor(did, octets),
    };
  }

  #takeFor(did: string, octets: number): boolean {
    const used = (this.#members.get(did) ?? 0) + octets;
    if (used > this.#perMember || !this.take(octets)) return false;
    this.#members.set(did, used);
    return true;
  }

  #releaseFor(did: string, octets: number): void {
    this.release(octets);
    const left = (this.#members.get(did) ?? 0) - octets;
    if (left > 0) this.#members.set(did, left);
    else this.#members.delete(did);
  }
}
