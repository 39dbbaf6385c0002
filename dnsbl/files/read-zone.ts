/** All files of a zone into one table, in whatever thread: seconds of work for millions of lines. */
import { closeSync, fstatSync, readSync, statSync } from 'node:fs';
import { TableBuilder } from '../table/builder.ts';
import type { Expected } from '../table/room.ts';
import { Dataset } from './dataset.ts';
import { openFile, readLines } from './lines.ts';
import { type Loaded, MAX_REPORTED_LINES, type NotTaken, type ZoneHead, type ZoneSource } from './source.ts';
import { Specials } from './specials.ts';

export type ZoneFiles = { apex: string; sources: readonly ZoneSource[] };

/** For one of two threads, whose tables are joined then. `others`: what the other one reads. */
export type Half = { seed: number; others: readonly ZoneSource[] };

/** What a thread that reads them gets (load-zone.ts). */
export type LoadOrder = { files: ZoneFiles; half?: Half; isBeside: boolean };

/** @throws Error for a file that cannot be read, or that changes meanwhile */
export function readZone({ apex, sources }: ZoneFiles, half?: Half): Loaded {
  const expected = expectedEntries(sources);
  const expect = half ? { ...expected, joined: sumOf(expectedEntries(half.others)) } : expected;
  const builder = new TableBuilder({ apex, expect, seed: half?.seed });
  const head: ZoneHead = {};
  const notTaken: NotTaken[] = [];
  let notTakenCount = 0;
  let repeated = 0;
  const onNotTaken = (file: string, line: number, why: string) => {
    notTakenCount += 1;
    if (notTaken.length < MAX_REPORTED_LINES) notTaken.push({ file, line, why });
  };
  for (const files of datasetsOf(sources)) {
    const { subtree, form } = files[0]!;
    const dataset = new Dataset({ builder, subtree, form, specials: new Specials(head, apex), onNotTaken });
    for (const { file, sha256 } of files) {
      dataset.beginFile(file);
      const onPassed = (line: number, why: string) => onNotTaken(file, line, why);
      readLines(file, { onLine: dataset.read, onUsualLine: dataset.readUsual, onPassed }, sha256);
    }
    dataset.finish();
    repeated += dataset.repeated;
  }
  const modifiedMs = Math.max(0, ...sources.map(({ file }) => statSync(file).mtimeMs));
  return {
    table: builder.finish(),
    entries: builder.size,
    head,
    notTaken,
    notTakenCount,
    repeated: repeated + builder.repeated,
    modifiedMs,
  };
}

/** Files of one form under one subtree are one dataset; mail types come behind the names that have them. */
function datasetsOf(sources: readonly ZoneSource[]): ZoneSource[][] {
  const groups = Map.groupBy(sources, ({ subtree, form }) => `${subtree} ${form}`);
  return [...groups.values()].sort(
    (a, b) => Number(a[0]!.subtree === '_vouch') - Number(b[0]!.subtree === '_vouch'),
  );
}

/** A guess by the length of some lines; memory that is not used costs nothing, but places for hashes do. */
function expectedEntries(sources: readonly ZoneSource[]): Expected {
  const expected = { names: 0, v4: 0, v6: 0 };
  for (const { subtree, form, file } of sources) {
    const key = form === 'dnset' ? 'names' : form === 'ip4set' ? 'v4' : 'v6';
    if (subtree !== '_vouch') expected[key] += expectedLines(file);
  }
  return expected;
}

function sumOf({ names, v4, v6 }: Expected): number {
  return names + v4 + v6;
}

const SAMPLES = 4;
const SAMPLE_OCTETS = 16 * 1024;

function expectedLines(file: string): number {
  const fd = openFile(file);
  try {
    const { size } = fstatSync(fd);
    const sample = Buffer.alloc(SAMPLE_OCTETS);
    let octets = 0;
    let lines = 1;
    for (let index = 0; index < SAMPLES; index++) {
      const read = readSync(fd, sample, 0, SAMPLE_OCTETS, Math.floor((size * index) / SAMPLES));
      lines += sample.subarray(0, read).filter((octet) => octet === 0x0a).length;
      octets += read;
    }
    return Math.ceil((size / Math.max(octets, 1)) * lines * 1.02);
  } finally {
    closeSync(fd);
  }
}
