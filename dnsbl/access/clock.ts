/**
 * What time it is for all that counts, read once for a batch of packets: reading a clock costs more than
 * counting does.
 */
export class Clock {
  /** Milliseconds since 1970. */
  ms = 0;
  /** Microseconds, modulo 2^32, signed. */
  us = 0;
  /** Seconds since 1970. */
  seconds = 0;
  /** Days since 1970, in UTC. */
  day = 0;
  readonly #now: () => number;

  constructor(now: () => number = Date.now) {
    this.#now = now;
    this.tick();
  }

  tick(): void {
    const ms = this.#now();
    if (ms === this.ms) return;
    this.ms = ms;
    this.us = (ms * 1000) | 0;
    this.seconds = Math.floor(ms / 1000);
    this.day = Math.floor(ms / 86_400_000);
  }
}
