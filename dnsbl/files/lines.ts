/**
 * The lines of a text file, as octets, without a string for each: millions a second.
 *
 * Synchronous, for a thread of its own. Blank space around a line is left out. A file that changes while
 * it is read would give half of two states, so that throws.
 */
import { createHash, type Hash } from 'node:crypto';
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';

/** @param octets valid during the call only. @param number from 1 */
export type OnLine = (octets: Buffer, start: number, end: number, number: number) => void;

/**
 * A line whose end is found by reading it, which spares looking for it first.
 *
 * @returns where the next line begins; -1 for another kind of line, or one that is not whole before `end`
 */
export type OnUsualLine = (octets: Buffer, start: number, end: number, number: number) => number;

export type LineReader = {
  onLine: OnLine;
  onUsualLine?: OnUsualLine;
  /** Told of a line beyond 64 KiB, which is passed over. */
  onLong: (number: number) => void;
};

/** Small enough to stay in a core's cache from the kernel's copy to our look at it. */
const BLOCK_OCTETS = 128 * 1024;
const MAX_LINE_OCTETS = 64 * 1024;
const NEWLINE = 0x0a;
const SPACE = 0x20;
const GZIP = 0x1f8b;

/**
 * @param sha256 in hex, what the whole file must have
 * @throws Error when the file cannot be read, is compressed or another than it must be, or changes meanwhile
 */
export function readLines(file: string, reader: LineReader, sha256?: string): void {
  const fd = openSync(file, 'r');
  try {
    const before = fstatSync(fd);
    const hash = sha256 === undefined ? undefined : createHash('sha256');
    readAll(fd, file, reader, hash);
    if (hash && hash.digest('hex') !== sha256) throw new Error(`${file} is damaged: its SHA-256 is another`);
    const after = fstatSync(fd);
    if (after.mtimeMs !== before.mtimeMs || after.size !== before.size) {
      throw new Error(`${file} changed while it was read: write beside it, and rename`);
    }
  } finally {
    closeSync(fd);
  }
}

function readAll(fd: number, file: string, reader: LineReader, hash?: Hash): void {
  const { onLine, onUsualLine = never, onLong } = reader;
  const buffer = Buffer.allocUnsafe(BLOCK_OCTETS + MAX_LINE_OCTETS);
  let number = 1;
  let kept = 0;
  let isLong = false;
  for (let isFirst = true; ; isFirst = false) {
    const read = readSync(fd, buffer, kept, BLOCK_OCTETS, null);
    if (isFirst && read >= 2 && buffer.readUInt16BE(0) === GZIP) {
      throw new Error(`${file} is compressed: unpack it first`);
    }
    const end = kept + read;
    hash?.update(buffer.subarray(kept, end));
    let start = 0;
    for (;;) {
      const next = isLong ? -1 : onUsualLine(buffer, start, end, number);
      if (next >= 0) {
        start = next;
        number += 1;
        continue;
      }
      let newline = buffer.indexOf(NEWLINE, start);
      if (newline < 0 || newline >= end) {
        if (read > 0 || start === end) break;
        newline = end;
      }
      if (!isLong) trimmed(buffer, start, newline, number, onLine);
      isLong = false;
      number += 1;
      start = newline + 1;
      if (start > end) break;
    }
    if (read === 0) return;
    kept = end - start;
    if (kept > MAX_LINE_OCTETS) {
      if (!isLong) onLong(number);
      isLong = true;
      kept = 0;
    } else buffer.copy(buffer, 0, start, end);
  }
}

function never(): number {
  return -1;
}

function trimmed(buffer: Buffer, from: number, to: number, number: number, onLine: OnLine): void {
  let start = from;
  let end = to;
  while (start < end && isBlank(buffer[start]!)) start += 1;
  while (end > start && isBlank(buffer[end - 1]!)) end -= 1;
  onLine(buffer, start, end, number);
}

function isBlank(octet: number): boolean {
  return octet === SPACE || (octet >= 0x09 && octet <= 0x0d && octet !== NEWLINE);
}
