/**
 * The serial of the DNS zone, across restarts, in ledger.db.
 *
 * Promise: the serials of a run are greater than those of the runs before it, though a burst of changes ran
 * ahead of the clock, the clock was set back, or appview.db was thrown away. Written is a reservation of the
 * next serials, so that hundreds of changes cost one commit.
 */
import type { Logger } from 'pino';
import { type Database, isCorruption } from '../database.ts';

/** A run begins so far ahead of the last serial at most; in seconds, as far as serials are the time. */
const reservedAtOnce = 256;

export type ZoneSerialOptions = {
  /** ledger.db */
  db: Database.Database;
  log: Logger;
  count: (what: string, reason?: string) => void;
};

export class ZoneSerial {
  readonly #options: ZoneSerialOptions;
  readonly #put;
  #reserved: number;

  constructor(options: ZoneSerialOptions) {
    this.#options = options;
    const row = options.db.prepare('SELECT serial FROM zone_serial').get() as { serial: number } | undefined;
    this.#reserved = row?.serial ?? 0;
    this.#put = options.db.prepare('INSERT OR REPLACE INTO zone_serial (id, serial) VALUES (1, ?)');
  }

  /** Behind which a zone continues; 0 where there was none. */
  get last(): number {
    return this.#reserved;
  }

  /** A zone is about to hand out this serial. Never throws for what passes: the zone goes on without it. */
  keep(serial: number): void {
    if (serial <= this.#reserved) return;
    try {
      const reserved = Math.min(serial + reservedAtOnce, 2 ** 32 - 1);
      this.#put.run(reserved);
      this.#reserved = reserved;
    } catch (error) {
      if (isCorruption(error)) throw error;
      this.#options.count('zone_serial_not_kept');
      this.#options.log.error({ err: error, serial }, 'the serial of the zone could not be stored');
    }
  }
}
