/**
 * When a zone is exported: on demand, and by a timer. One export at a time.
 *
 * A failure is logged and counted; the files of the last success stay, and the next try comes in its time.
 */
import { mkdir } from 'node:fs/promises';
import type { Logger } from 'pino';
import type { Zone } from '../zone.ts';
import { type Exported, type ExportFormat, exportZone } from './export.ts';

export type ExporterOptions = {
  zones: readonly Zone[];
  /** Made where it is not there. */
  dir: string;
  formats: readonly ExportFormat[];
  /** Undefined: on demand alone. */
  everyMinutes?: number;
  log: Logger;
  count: (what: string, reason?: string) => void;
};

export class Exporter {
  readonly #options: ExporterOptions;
  readonly #ending = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<Exported[]> | undefined;
  #next: Promise<Exported[]> | undefined;

  constructor(options: ExporterOptions) {
    this.#options = options;
  }

  start(): void {
    const { everyMinutes } = this.#options;
    if (everyMinutes === undefined) return;
    this.#timer = setInterval(() => this.runLogged(), everyMinutes * 60_000);
    this.#timer.unref();
  }

  /**
   * What is in the zones now, into files; behind an export that runs already, for that one began earlier.
   *
   * @throws what the disk says
   */
  run(): Promise<Exported[]> {
    if (this.#running === undefined) {
      this.#running = this.#export().finally(() => {
        this.#running = undefined;
      });
      return this.#running;
    }
    this.#next ??= this.#running
      .catch(() => undefined)
      .then(() => {
        this.#next = undefined;
        return this.run();
      });
    return this.#next;
  }

  /** For timers and signals: never rejects. */
  async runLogged(): Promise<void> {
    await this.run().catch(() => undefined);
  }

  /** An export in hand is given up; its files stay as they were. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#ending.abort(new Error('stopping'));
    await Promise.allSettled([this.#running, this.#next]);
  }

  async #export(): Promise<Exported[]> {
    const { zones, dir, formats, log, count } = this.#options;
    const { signal } = this.#ending;
    try {
      signal.throwIfAborted();
      await mkdir(dir, { recursive: true });
      const made: Exported[] = [];
      for (const zone of zones) {
        const exported = await exportZone(zone, { folder: dir, formats, signal });
        const { serial, entries, leftOut, tookMs } = exported;
        log.info({ apex: zone.apex, dir, serial, entries, leftOut, tookMs }, 'DNS zone exported');
        made.push(exported);
      }
      count('dns_exports', 'done');
      return made;
    } catch (error) {
      if (!signal.aborted) {
        count('dns_exports', 'failed');
        log.error({ err: error, dir }, 'DNS zone not exported, the files before it stay');
      }
      throw error;
    }
  }
}
