/**
 * The past of one zone: its journal, kept in step with its changes, and over restarts.
 *
 * Promise: what since() gives leads from a secondary's serial to one that this zone had, with exactly the
 * changes between. How that holds although the zone is built anew at each start: beside each step the
 * journal keeps a digest of the whole content (digest.ts). At start, and whenever all was replaced, the
 * zone's own digest is taken in the background. If both are equal, nothing was missed: the journal goes
 * on, and the serials between are one step without records. If not, it begins anew at the zone's serial,
 * and a secondary that is behind gets the whole zone once.
 *
 * Limit: until the digest is taken (some seconds for a million listings) there is no past to give.
 */
import { setImmediate as nextTurn, setTimeout as pause } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { ZoneChange } from '../difference.ts';
import { MAX_REMEMBERED_CHANGES } from '../limits.ts';
import type { RecordSet } from '../records.ts';
import { isAfter } from '../serial.ts';
import { type Zone, ZoneMoved } from '../zone.ts';
import { ContentDigest } from './digest.ts';
import type { Journal, Steps } from './journal.ts';
import { TURN_MS } from './limits.ts';

/** Before the digest is taken again of a zone that changed too fast. */
const RETRY_MS = 1000;

export type HistoryOptions = {
  zone: Zone;
  journal: Journal;
  /** Zone and journal are joined: since() has something to give. */
  onSettled: () => void;
  log: Logger;
  count: (what: string, reason?: string) => void;
};

export class History {
  readonly #options: HistoryOptions;
  /** Of the journal's end, while it is known to be the zone's present. */
  #digest: ContentDigest | undefined;
  /** Changes while the digest is taken; undefined when they are too many, or all was replaced. */
  #meanwhile: ZoneChange[] | undefined;
  #settling: Promise<void> = Promise.resolve();
  readonly #stopping = new AbortController();

  constructor(options: HistoryOptions) {
    this.#options = options;
  }

  /** Joins zone and journal in the background; from now on every change has to come to changed(). */
  start(): void {
    this.#settling = this.#settle();
  }

  get isSettled(): boolean {
    return this.#digest !== undefined;
  }

  /** Resolves when zone and journal are joined, or when it is stopped. */
  get settled(): Promise<void> {
    return this.#settling;
  }

  changed(change: ZoneChange | 'replaced'): void {
    if (this.#stopping.signal.aborted) return;
    if (this.#digest) {
      if (change === 'replaced') {
        this.#digest = undefined;
        this.start();
      } else this.#append(change);
    } else if (change === 'replaced' || this.#meanwhile?.length === MAX_REMEMBERED_CHANGES) {
      this.#meanwhile = undefined;
    } else this.#meanwhile?.push(change);
  }

  /** True when since() may give something, now or when it is settled. */
  reaches(serial: number): boolean {
    return this.#options.journal.reaches(serial);
  }

  /** @returns undefined when a secondary at this serial needs the whole zone */
  async since(serial: number): Promise<Steps | undefined> {
    return this.isSettled ? this.#options.journal.since(serial) : undefined;
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#settling;
    await this.#options.journal.close();
  }

  async #settle(): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      this.#meanwhile = [];
      const present = await this.#takeDigest();
      // Nothing happens between the last record and here, so no change is missed or counted twice.
      if (present && this.#meanwhile) return this.#join(present, this.#meanwhile);
      await pause(RETRY_MS, undefined, { ref: false, signal: this.#stopping.signal }).catch(() => undefined);
    }
  }

  async #takeDigest(): Promise<{ serial: number; digest: ContentDigest } | undefined> {
    const { zone } = this.#options;
    const records = zone.records();
    const digest = new ContentDigest();
    digest.add({ owner: '', set: withSerial(zone.soa(), 0) });
    let turnEndMs = performance.now() + TURN_MS;
    try {
      for (const record of records) {
        digest.add(record);
        if (performance.now() < turnEndMs) continue;
        await nextTurn();
        if (!this.#meanwhile || this.#stopping.signal.aborted) return undefined;
        turnEndMs = performance.now() + TURN_MS;
      }
      return { serial: records.serial, digest };
    } catch (error) {
      if (error instanceof ZoneMoved) return undefined;
      throw error;
    } finally {
      records.close();
    }
  }

  #join(present: { serial: number; digest: ContentDigest }, meanwhile: readonly ZoneChange[]): void {
    const { journal, log, count, zone, onSettled } = this.#options;
    const { serial } = present;
    const digest = present.digest.octets();
    const { last } = journal;
    const isSame = last?.digest.equals(digest) === true && !isAfter(last.serial, serial);
    if (!isSame) journal.beginAnew({ serial, digest });
    else if (last.serial !== serial)
      journal.append({ from: last.serial, to: serial, removed: [], added: [] }, digest);
    count('dns_journal', isSame ? 'continued' : 'begun');
    log.info(
      { zone: zone.apex, serial, steps: journal.size },
      isSame ? 'journal goes on' : 'journal begins anew',
    );
    this.#digest = present.digest;
    for (const change of meanwhile) this.#append(change);
    onSettled();
  }

  #append(change: ZoneChange): void {
    const digest = this.#digest!;
    for (const records of change.removed) digest.remove(records);
    for (const records of change.added) digest.add(records);
    this.#options.journal.append(change, digest.octets());
  }
}

/** The same SOA at another serial, the first of its five numbers. */
export function withSerial(soa: RecordSet, serial: number): RecordSet {
  const rdata = Buffer.from(soa.rdatas[0]!);
  rdata.writeUInt32BE(serial, rdata.length - 20);
  return { ...soa, rdatas: [rdata] };
}
