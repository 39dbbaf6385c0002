/**
 * The lines of a text file, as octets, without a string for each: millions a second.
 *
 * Synchronous, for a thread of its own. Blank space around a line, and a byte order mark, are left out. A file
 * that changes while it is read would give half of two states, so that throws; a last line without its end may be
 * half of one, so it is not given.
 */
import { createHash, type Hash } from 'node:crypto';
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';

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
  /** Told of a line that is passed over. */
  onPassed: (number: number, why: string) => void;
};

/** Small enough to stay in a core's cache from the kernel's copy to our look at it. */
const BLOCK_OCTETS = 128 * 1024;
const MAX_LINE_OCTETS = 64 * 1024;
const NEWLINE = 0x0a;
const SPACE = 0x20;
const GZIP = 0x1f8b;
const BYTE_ORDER_MARK = 0xefbbbf;

/** @returns its descriptor. @throws Error for a pipe and its like, which could let its reader wait for ever */
export function openFile(file: string): number {
  const fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
  if (fstatSync(fd).isFile()) return fd;
  closeSync(fd);
  throw new Error(`${file} is no regular file`);
}

/**
 * @param sha256 in hex, what the whole file must have
 * @throws Error when the file cannot be read, is compressed or another than it must be, or changes meanwhile
 */
export function readLines(file: string, reader: LineReader, sha256?: string): void {
  const fd = openFile(file);
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
  const { onLine, onUsualLine = never, onPassed } = reader;
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
    let start = isFirst && read >= 3 && buffer.readUIntBE(0, 3) === BYTE_ORDER_MARK ? 3 : 0;
    for (;;) {
      const next = isLong ? -1 : onUsualLine(buffer, start, end, number);
      if (next >= 0) {
        start = next;
        number += 1;
        continue;
      }
      const newline = buffer.indexOf(NEWLINE, start);
      if (newline < 0 || newline >= end) break;
      if (!isLong) trimmed(buffer, start, newline, number, onLine);
      isLong = false;
      number += 1;
      start = newline + 1;
    }
    kept = end - start;
    if (read === 0) {
      const isBegun = !isLong && buffer.subarray(start, end).some((octet) => !isBlank(octet));
      if (isBegun) onPassed(number, 'is the last and has no end: half of a line, perhaps');
      return;
    }
    if (kept > MAX_LINE_OCTETS) {
      if (!isLong) onPassed(number, 'is longer than 64 KiB');
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
