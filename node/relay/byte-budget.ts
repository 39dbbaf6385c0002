/**
 * How many octets of unfinished messages this node holds in memory, over all sessions.
 *
 * Without it, connections × message size is the bound, and that is gigabytes.
 */
export class ByteBudget {
  readonly #limit: number;
  #used = 0;

  /** @param limit octets; as much again is in memory while a message is put together */
  constructor(limit = 64 * 1024 * 1024) {
    this.#limit = limit;
  }

  /** @returns false when there is no room; then nothing is taken */
  take(octets: number): boolean {
    if (this.#used + octets > this.#limit) return false;
    this.#used += octets;
    return true;
  }

  release(octets: number): void {
    this.#used -= octets;
  }

  /** Takes octets for something that ends in more than one way. @returns what gives them back, once however often called */
  hold(octets: number): (() => void) | undefined {
    if (!this.take(octets)) return undefined;
    let held = octets;
    return () => {
      this.release(held);
      held = 0;
    };
  }
}
