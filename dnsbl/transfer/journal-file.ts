/**
 * A file of frames, each with its length and checksum: how a journal lies on disk.
 *
 * The first frame is the base: the apex, and the serial and digest at which the steps behind it begin.
 */
import { type FileHandle, open, rename } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { DIGEST_OCTETS } from './digest.ts';
import { JOURNAL_READ_OCTETS } from './limits.ts';

const MAGIC = Buffer.from('atmos dns journal 1\n');
const FRAME_HEAD_OCTETS = 8;
/** No step is longer; a length beyond it is damage. */
const MAX_FRAME_OCTETS = 2 ** 20;

export type Base = { apex: string; serial: number; digest: Buffer };

export function frame(payload: Buffer): Buffer {
  const head = Buffer.alloc(FRAME_HEAD_OCTETS);
  head.writeUInt32BE(payload.length, 0);
  head.writeUInt32BE(crc32(payload), 4);
  return Buffer.concat([head, payload]);
}

/** What a file begins with. */
export function opening({ apex, serial, digest }: Base): Buffer {
  const number = Buffer.alloc(4);
  number.writeUInt32BE(serial);
  return Buffer.concat([MAGIC, frame(Buffer.concat([number, digest, Buffer.from(apex)]))]);
}

function baseOf(payload: Buffer): Base {
  return {
    serial: payload.readUInt32BE(0),
    digest: payload.subarray(4, 4 + DIGEST_OCTETS),
    apex: payload.toString('latin1', 4 + DIGEST_OCTETS),
  };
}

/** One file, open as long as somebody reads or writes it; a file that was replaced can be read to its end. */
export class JournalFile {
  readonly #handle: FileHandle;
  #users = 1;

  private constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  /** @returns undefined when there is none */
  static async existing(path: string): Promise<JournalFile | undefined> {
    try {
      return new JournalFile(await open(path, 'r+'));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  }

  /** At every moment there is the old file or the whole new one. */
  static async replacing(
    path: string,
    pieces: AsyncIterable<Buffer> | Iterable<Buffer>,
  ): Promise<JournalFile> {
    const draft = `${path}.new`;
    const file = new JournalFile(await open(draft, 'w+'));
    try {
      let at = 0;
      for await (const piece of pieces) at += await file.write(piece, at);
      await file.sync();
      await rename(draft, path);
      return file;
    } catch (error) {
      await file.release();
      throw error;
    }
  }

  use(): this {
    this.#users += 1;
    return this;
  }

  async release(): Promise<void> {
    this.#users -= 1;
    if (this.#users === 0) await this.#handle.close();
  }

  async write(octets: Buffer, at: number): Promise<number> {
    for (let done = 0; done < octets.length; ) {
      const { bytesWritten } = await this.#handle.write(octets, done, octets.length - done, at + done);
      done += bytesWritten;
    }
    return octets.length;
  }

  async sync(): Promise<void> {
    await this.#handle.datasync();
  }

  async truncate(octets: number): Promise<void> {
    await this.#handle.truncate(octets);
  }

  async size(): Promise<number> {
    return (await this.#handle.stat()).size;
  }

  async *octets(start: number, end: number): AsyncGenerator<Buffer> {
    for (let at = start; at < end; ) {
      const piece = Buffer.allocUnsafeSlow(Math.min(JOURNAL_READ_OCTETS, end - at));
      const { bytesRead } = await this.#handle.read(piece, 0, piece.length, at);
      if (bytesRead === 0) return;
      yield piece.subarray(0, bytesRead);
      at += bytesRead;
    }
  }

  /** @returns undefined when this is no journal */
  async base(): Promise<{ base: Base; end: number } | undefined> {
    const size = await this.size();
    for await (const octets of this.octets(0, Math.min(size, MAGIC.length))) {
      if (!octets.equals(MAGIC)) return undefined;
    }
    for await (const { payload, end } of this.frames(MAGIC.length, size)) {
      return payload.length >= 4 + DIGEST_OCTETS ? { base: baseOf(payload), end } : undefined;
    }
    return undefined;
  }

  /** Whole frames with the right checksum; the first that is neither ends it. */
  async *frames(start: number, end: number): AsyncGenerator<{ payload: Buffer; at: number; end: number }> {
    let rest: Buffer = Buffer.alloc(0);
    let at = start;
    for await (const piece of this.octets(start, end)) {
      rest = rest.length === 0 ? piece : Buffer.concat([rest, piece]);
      for (;;) {
        const payload = firstFrame(rest);
        if (payload === 'broken') return;
        if (payload === undefined) break;
        const octets = FRAME_HEAD_OCTETS + payload.length;
        yield { payload, at, end: at + octets };
        at += octets;
        rest = rest.subarray(octets);
      }
    }
  }
}

/** @returns undefined when more octets are needed */
function firstFrame(octets: Buffer): Buffer | 'broken' | undefined {
  if (octets.length < FRAME_HEAD_OCTETS) return undefined;
  const length = octets.readUInt32BE(0);
  // Zeros, as a crash may leave them, would be an empty frame with the right checksum.
  if (length === 0 || length > MAX_FRAME_OCTETS) return 'broken';
  if (octets.length < FRAME_HEAD_OCTETS + length) return undefined;
  const payload = octets.subarray(FRAME_HEAD_OCTETS, FRAME_HEAD_OCTETS + length);
  return crc32(payload) === octets.readUInt32BE(4) ? payload : 'broken';
}
