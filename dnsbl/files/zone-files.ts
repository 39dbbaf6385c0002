/**
 * A zone that is what its files say: loaded at the start, when they change, and when asked.
 *
 * Promise: the old entries answer until all files were read; when one cannot be read, they go on. What
 * was not taken is in the log by file and line. A disk that hangs keeps a thread from ending, but not this one
 * from answering, nor stop() from coming to its end.
 *
 * Limit: what files say of the zone itself is taken at the start; where it changes, the log asks for a restart.
 */
import { stat } from 'node:fs/promises';
import type { Logger } from 'pino';
import type { Zone } from '../zone.ts';
import { loadZone, unlessAborted } from './load-zone.ts';
import type { Loaded, ZoneHead, ZoneSource } from './source.ts';

export type ZoneFilesOptions = {
  apex: string;
  sources: readonly ZoneSource[];
  log: Logger;
  count: (what: string, reason?: string) => void;
  now: () => number;
  /** How often the files are looked at; 0: never. */
  pollMs: number;
};

export class FollowedFiles {
  readonly #options: ZoneFilesOptions;
  readonly #ending = new AbortController();
  #zone: Zone | undefined;
  #stamp = '';
  #loaded: Loaded | undefined;
  /** What the zone was made of. */
  #head: ZoneHead | undefined;
  #isLooking = false;
  #timer: NodeJS.Timeout | undefined;
  #loading: Promise<boolean> | undefined;

  constructor(options: ZoneFilesOptions) {
    this.#options = options;
  }

  /** Unix ms: the newest file's, of those that are answered. */
  get modifiedMs(): number {
    return this.#loaded?.modifiedMs ?? 0;
  }

  /**
   * The first time; the zone is made of what the files say of it.
   *
   * @throws Error for a file that cannot be read, and with what `given` aborts
   */
  async load(given?: AbortSignal): Promise<Loaded> {
    const { apex, sources } = this.#options;
    const { signal } = this.#ending;
    const either = given ? AbortSignal.any([signal, given]) : signal;
    this.#stamp = await unlessAborted(stampOf(sources), either);
    const loaded = await loadZone({ apex, sources }, { signal: either });
    this.#head = loaded.head;
    this.#told(loaded);
    return loaded;
  }

  /** From now on the zone follows the files. */
  follow(zone: Zone): void {
    const { pollMs } = this.#options;
    this.#zone = zone;
    if (pollMs === 0 || this.#ending.signal.aborted) return;
    this.#timer = setInterval(() => void this.#look(), pollMs);
    this.#timer.unref();
  }

  /** @returns false when a file could not be read; the zone is as it was then */
  reload(): Promise<boolean> {
    const before = this.#loading ?? Promise.resolve(true);
    const loading = before
      .then(() => this.#reload())
      .finally(() => {
        if (this.#loading === loading) this.#loading = undefined;
      });
    this.#loading = loading;
    return loading;
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#ending.abort();
    await this.#loading;
  }

  /** What changes while they are read is seen by the next look, for the stamp is taken before. */
  async #look(): Promise<void> {
    if (this.#loading || this.#isLooking) return;
    this.#isLooking = true;
    const stamp = await stampOf(this.#options.sources);
    this.#isLooking = false;
    if (!this.#loading && stamp !== this.#stamp) void this.reload();
  }

  async #reload(): Promise<boolean> {
    const { log, count, apex, sources } = this.#options;
    const { signal } = this.#ending;
    if (signal.aborted) return false;
    try {
      const stamp = await unlessAborted(stampOf(sources), signal);
      const loaded = await loadZone({ apex, sources }, { signal, isBeside: true });
      this.#zone?.adopt(loaded.table);
      this.#stamp = stamp;
      this.#told(loaded);
      this.#tellOfHead(loaded.head);
      count('dns_reloads', 'done');
      return true;
    } catch (error) {
      if (signal.aborted) return false;
      count('dns_reloads', 'failed');
      log.error({ err: error }, 'DNS zone files not loaded, the entries before them stay');
      return false;
    }
  }

  #tellOfHead(head: ZoneHead): void {
    const { log, apex } = this.#options;
    const changed = changedIn(head, this.#head ?? {});
    if (changed.length > 0) log.warn({ apex, changed }, 'DNS zone: what its files say of it needs a restart');
  }

  #told(loaded: Loaded): void {
    const { log, apex, now } = this.#options;
    const { entries, notTaken, notTakenCount, repeated, modifiedMs } = loaded;
    this.#loaded = loaded;
    for (const { file, line, why } of notTaken)
      log.warn({ file, line, why }, 'DNS zone file: line not taken');
    const ageSeconds = Math.max(0, Math.round((now() - modifiedMs) / 1000));
    log.info({ apex, entries, ageSeconds, notTaken: notTakenCount, repeated }, 'DNS zone files loaded');
  }
}

/** Serials are no change: they are the zone's own. */
function changedIn(head: ZoneHead, before: ZoneHead): string[] {
  const said = (of: ZoneHead): Record<string, unknown[]> => ({
    $TTL: [of.ttl],
    $NS: of.nameservers ?? [],
    $SOA: [of.hostmaster, of.negativeTtl],
  });
  const [now, then] = [said(head), said(before)];
  return Object.keys(now).filter((word) => now[word]!.join(' ') !== then[word]!.join(' '));
}

/** Other when any file is another, is away, or cannot be looked at: why, is in the log when it is read. */
async function stampOf(sources: readonly ZoneSource[]): Promise<string> {
  return (await Promise.all(sources.map(({ file }) => stampOfOne(file)))).join('\n');
}

async function stampOfOne(file: string): Promise<string> {
  try {
    const { ino, size, mtimeMs } = await stat(file);
    return `${ino} ${size} ${mtimeMs}`;
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  }
}
