/**
 * The steps of one zone, on disk: what a secondary gets that asks for the changes since its serial.
 *
 * Promise: what read() yields are the steps as they were appended, without a gap, each proved by its
 * checksum. Appending never waits for the disk: steps are written together, some ten times a second.
 *
 * It is a cache: with it a secondary gets changes, without it the whole zone. So nothing is synced but a
 * new file before it takes the place of the old, and the end at a clean stop. From the first frame that a
 * crash or a bad disk left damaged, the rest is cut off and told; what is no journal of this zone at all is
 * told loudly and set aside as `<file>.broken`. Neither stops the process, for nothing wrong can come of it:
 * a journal goes on only where its digest shows that it ends in just what the zone holds (history.ts).
 */
import { mkdir, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Logger } from 'pino';
import type { ZoneChange } from '../difference.ts';
import { DIGEST_OCTETS } from './digest.ts';
import { frame, JournalFile, opening } from './journal-file.ts';
import { decodeHead, decodeStep, encodeStep } from './step-codec.ts';

/** Before the disk is tried again after it failed. */
const RETRY_MS = 30_000;

export type JournalOptions = {
  path: string;
  apex: string;
  maxOctets: number;
  /** How long a step may wait to be written with others. */
  writeMs: number;
  log: Logger;
  count: (what: string, reason?: string) => void;
};

/** A serial, and what the zone held at it. */
export type Point = { serial: number; digest: Buffer };

/** Steps up to one serial; to be closed in any case. */
export type Steps = {
  to: number;
  octets: number;
  read(): AsyncGenerator<ZoneChange>;
  close(): Promise<void>;
};

type Written = { end: number; point: Point | undefined };

export class Journal {
  readonly #options: JournalOptions;
  #file: JournalFile | undefined;
  /** Where the step behind each serial begins in the file; the oldest first. */
  #steps = new Map<number, number>();
  #last: Point | undefined;
  /** Where the next step will stand. */
  #end = 0;
  #waiting: Buffer[] = [];
  /** How far the file is written. */
  #written: Written = { end: 0, point: undefined };
  /** Moves when everything before is void. */
  #epoch = 0;
  /** How a file begins that has yet to be made. */
  #opening: Buffer | undefined;
  #hasFailed = false;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> = Promise.resolve();

  private constructor(options: JournalOptions) {
    this.#options = options;
  }

  /** @throws the error of the file system when the folder or file cannot be used at all */
  static async open(options: JournalOptions): Promise<Journal> {
    await mkdir(dirname(options.path), { recursive: true });
    const journal = new Journal(options);
    const file = await JournalFile.existing(options.path);
    if (file && !(await journal.#take(file))) {
      await file.release();
      await journal.#setAside();
    }
    return journal;
  }

  /** Where it ends; undefined while there is nothing. */
  get last(): Point | undefined {
    return this.#last;
  }

  /** Steps on disk and about to be. */
  get size(): number {
    return this.#steps.size;
  }

  /** True when the changes since this serial are all here. */
  reaches(serial: number): boolean {
    return this.#steps.has(serial) || this.#last?.serial === serial;
  }

  /** Drops all steps: the zone at this point has no past. */
  beginAnew(point: Point): void {
    this.#epoch += 1;
    this.#opening = opening({ apex: this.#options.apex, ...point });
    this.#steps = new Map();
    this.#waiting = [];
    this.#last = point;
    this.#written = { end: 0, point: undefined };
    this.#end = this.#opening.length;
    if (!this.#hasFailed) this.#writeSoon(this.#options.writeMs);
  }

  /** @param change from where the last one ended. @param digest of the content after it */
  append(change: ZoneChange, digest: Buffer): void {
    if (change.from !== this.#last?.serial) throw new Error('a journal has no gaps');
    const octets = frame(encodeStep(change, digest));
    this.#last = { serial: change.to, digest };
    // While the disk fails nothing is piled up.
    if (this.#hasFailed) {
      this.beginAnew(this.#last);
      return;
    }
    this.#steps.set(change.from, this.#end);
    this.#end += octets.length;
    this.#waiting.push(octets);
    this.#writeSoon(this.#options.writeMs);
  }

  /** @returns undefined when it does not reach back to this serial, or the disk failed */
  async since(serial: number): Promise<Steps | undefined> {
    await this.#write();
    const start = this.#steps.get(serial);
    const { end, point } = this.#written;
    if (start === undefined || start >= end || !point || !this.#file) return undefined;
    const file = this.#file.use();
    const read = () => this.#told(readSteps(file, start, end, { from: serial, to: point.serial }));
    return { to: point.serial, octets: end - start, read, close: () => file.release() };
  }

  /** Resolves when all is on disk. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    await this.#write();
    clearTimeout(this.#timer);
    await this.#file?.sync();
    await this.#file?.release();
    this.#file = undefined;
  }

  /** Damage ends the reading, and the journal begins anew: who comes again gets the whole zone. */
  async *#told(steps: AsyncGenerator<ZoneChange>): AsyncGenerator<ZoneChange> {
    const epoch = this.#epoch;
    try {
      yield* steps;
    } catch (error) {
      const { log, count, path } = this.#options;
      count('dns_journal', 'damaged');
      log.error({ err: error, path }, 'the journal of the zone is damaged and begins anew');
      if (epoch === this.#epoch && this.#last) this.beginAnew(this.#last);
      throw error;
    }
  }

  #writeSoon(delayMs: number): void {
    this.#timer ??= setTimeout(() => void this.#write(), delayMs).unref();
  }

  /** One write at a time. Never rejects. */
  #write(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#writing = this.#writing.then(() => this.#writeNow()).catch((error) => this.#fail(error));
    return this.#writing;
  }

  async #writeNow(): Promise<void> {
    const epoch = this.#epoch;
    const written = { end: this.#end, point: this.#last };
    const octets = Buffer.concat(this.#waiting.splice(0));
    if (this.#opening) await this.#replace([this.#opening, octets]);
    else if (octets.length > 0) await this.#file!.write(octets, this.#written.end);
    this.#hasFailed = false;
    if (epoch !== this.#epoch) return this.#writeNow();
    this.#opening = undefined;
    this.#written = written;
    if (this.#written.end > this.#options.maxOctets) await this.#dropOlderHalf();
  }

  async #replace(pieces: AsyncIterable<Buffer> | Iterable<Buffer>): Promise<void> {
    const file = await JournalFile.replacing(this.#options.path, pieces);
    await this.#file?.release();
    this.#file = file;
  }

  /** The newest steps move to a new file. What is appended meanwhile waits. */
  async #dropOlderHalf(): Promise<void> {
    const epoch = this.#epoch;
    const { end } = this.#written;
    const kept = [...this.#steps].find(([, at]) => end - at <= this.#options.maxOctets / 2);
    const last = this.#written.point!;
    const from = kept ? Math.min(kept[1], end) : end;
    // Of the digests only the last one matters: that of the last step, and without steps that of the base.
    const base = kept && from < end ? { serial: kept[0], digest: Buffer.alloc(DIGEST_OCTETS) } : last;
    const head = opening({ apex: this.#options.apex, ...base });
    await this.#replace(headAndTail(head, this.#file!, from, end));
    if (epoch !== this.#epoch) return this.#writeNow();
    const moved = from - head.length;
    this.#steps = new Map(
      [...this.#steps].filter(([, at]) => at >= from).map(([step, at]) => [step, at - moved]),
    );
    this.#written = { end: end - moved, point: last };
    this.#end -= moved;
    this.#options.count('dns_journal', 'shortened');
  }

  #fail(error: unknown): void {
    const { log, count, path } = this.#options;
    this.#hasFailed = true;
    count('dns_journal', 'write_failed');
    log.error({ err: error, path }, 'the journal of the zone cannot be written: secondaries get whole zones');
    if (this.#last) this.beginAnew(this.#last);
    this.#writeSoon(RETRY_MS);
  }

  /** Reads what an earlier run left. @returns false when it is no journal of this zone */
  async #take(file: JournalFile): Promise<boolean> {
    const { log, count, path, apex } = this.#options;
    const begin = await file.base();
    if (begin?.base.apex !== apex) return false;
    const { end: firstAt, base } = begin;
    const size = await file.size();
    this.#last = { serial: base.serial, digest: Buffer.from(base.digest) };
    this.#end = firstAt;
    for await (const { payload, at, end } of file.frames(firstAt, size)) {
      const step = decodeHead(payload);
      if (step?.from !== this.#last.serial) return false;
      this.#steps.set(step.from, at);
      this.#last = { serial: step.to, digest: Buffer.from(step.digest) };
      this.#end = end;
    }
    if (this.#end < size) {
      count('dns_journal', 'torn');
      log.warn({ path, octets: size - this.#end }, 'the end of the journal is damaged and was cut off');
      await file.truncate(this.#end);
    }
    this.#file = file;
    this.#written = { end: this.#end, point: this.#last };
    return true;
  }

  async #setAside(): Promise<void> {
    const { log, count, path } = this.#options;
    count('dns_journal', 'broken');
    const aside = `${path}.broken`;
    await rename(path, aside);
    log.error(
      { path, aside },
      'this is no journal of the zone; it was set aside, and secondaries get whole zones',
    );
    this.#steps = new Map();
    this.#last = undefined;
    this.#end = 0;
  }
}

async function* headAndTail(
  head: Buffer,
  file: JournalFile,
  from: number,
  end: number,
): AsyncGenerator<Buffer> {
  yield head;
  yield* file.octets(from, end);
}

/** @throws Error when the file does not hold the steps any more that were written into it */
async function* readSteps(
  file: JournalFile,
  start: number,
  end: number,
  { from, to }: { from: number; to: number },
): AsyncGenerator<ZoneChange> {
  let serial = from;
  for await (const { payload } of file.frames(start, end)) {
    const change = decodeStep(payload);
    if (change.from !== serial) break;
    serial = change.to;
    yield change;
  }
  if (serial !== to) throw new Error(`the journal is damaged behind serial ${serial}`);
}
