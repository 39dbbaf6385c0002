/**
 * Loads a zone's files beside everything else: the caller's thread does nothing but wait.
 *
 * What comes back is a table in shared memory, for Zone.adopt(). Large files of names and of addresses are read
 * by a thread each, when nobody answers yet: then the caller's thread joins what they made, 0.1 s for millions.
 */
import { once } from 'node:events';
import { stat } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { newSeed } from '../table/builder.ts';
import { joined } from '../table/join.ts';
import { letGoLast } from '../table/letting-go.ts';
import type { LoadOrder, ZoneFiles } from './read-zone.ts';
import { type Loaded, MAX_REPORTED_LINES, type ZoneSource } from './source.ts';

export type LoadOptions = {
  signal?: AbortSignal;
  /** Others answer meanwhile, and go first where cores are few. */
  isBeside?: boolean;
  /** Octets of names, and of addresses, from which on a thread of their own is worth it. */
  minHalfOctets?: number;
  /** When to give up. */
  maxMs?: number;
};

/** A disk that hangs, hangs for longer: fifty million lines take a minute. */
const MAX_MS = 10 * 60_000;
/** What a thread may take to end that is told to. One in the middle of a read that hangs never does. */
const MAX_ENDING_MS = 2_000;
const MIN_HALF_OCTETS = 16 * 1024 * 1024;

/** @throws Error for a file that cannot be read or changes meanwhile, and with what `signal` aborts */
export async function loadZone(files: ZoneFiles, options: LoadOptions = {}): Promise<Loaded> {
  const { signal, isBeside = false, minHalfOctets = MIN_HALF_OCTETS, maxMs = MAX_MS } = options;
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(tooSlow(files, maxMs)), maxMs);
  const either = signal ? AbortSignal.any([signal, late.signal]) : late.signal;
  try {
    return await inThreads(files, { isBeside, minHalfOctets, signal: either });
  } catch (error) {
    // once() has a reason of its own for what is aborted.
    throw late.signal.aborted && !signal?.aborted ? late.signal.reason : error;
  } finally {
    clearTimeout(timer);
  }
}

function tooSlow({ sources }: ZoneFiles, maxMs: number): Error {
  return new Error(`${sources.map(({ file }) => file).join(', ')} were not read within ${maxMs} ms`);
}

async function inThreads(
  files: ZoneFiles,
  { signal, isBeside, minHalfOctets }: { signal: AbortSignal; isBeside: boolean; minHalfOctets: number },
): Promise<Loaded> {
  const names = files.sources.filter(({ form }) => form === 'dnset');
  const addresses = files.sources.filter(({ form }) => form !== 'dnset');
  const sizes = await unlessAborted(Promise.all([names, addresses].map(octetsOf)), signal);
  const isWorthTwo = !isBeside && sizes.every((octets) => octets >= minHalfOctets);
  const both = isWorthTwo ? await loadHalves(files, [names, addresses], signal) : undefined;
  return both ?? inThread({ files, isBeside }, signal);
}

/** @returns undefined when one table cannot hold it all: then what is too much is told line by line */
async function loadHalves(
  { apex, sources }: ZoneFiles,
  [names, addresses]: [ZoneSource[], ZoneSource[]],
  signal?: AbortSignal,
): Promise<Loaded | undefined> {
  const seed = newSeed();
  const failed = new AbortController();
  const ended = signal ? AbortSignal.any([signal, failed.signal]) : failed.signal;
  const load = (own: ZoneSource[], others: ZoneSource[]) =>
    inThread({ files: { apex, sources: own }, half: { seed, others }, isBeside: false }, ended);
  const loading = [load(names, addresses), load(addresses, names)] as const;
  try {
    const [ofNames, ofAddresses] = await Promise.all(loading);
    const table = joined(ofNames.table, ofAddresses.table);
    // What was copied from the one to the other.
    letGoLast(ofAddresses.entries);
    // Of what both say of the zone, that of the first file counts.
    const inOrder = sources[0] === names[0] ? [ofNames, ofAddresses] : [ofAddresses, ofNames];
    return table && { ...together(inOrder as [Loaded, Loaded]), table };
  } finally {
    failed.abort();
    await Promise.allSettled(loading);
  }
}

function together([first, second]: [Loaded, Loaded]): Omit<Loaded, 'table'> {
  return {
    entries: first.entries + second.entries,
    head: { ...second.head, ...first.head },
    notTaken: [...first.notTaken, ...second.notTaken].slice(0, MAX_REPORTED_LINES),
    notTakenCount: first.notTakenCount + second.notTakenCount,
    repeated: first.repeated + second.repeated,
    modifiedMs: Math.max(first.modifiedMs, second.modifiedMs),
  };
}

async function inThread(order: LoadOrder, signal?: AbortSignal): Promise<Loaded> {
  const thread = new Worker(new URL('./load-thread.ts', import.meta.url), {
    name: 'dns-load',
    workerData: order,
  });
  try {
    const [loaded] = await once(thread, 'message', { signal });
    return loaded as Loaded;
  } finally {
    thread.unref();
    await Promise.race([thread.terminate(), pause(MAX_ENDING_MS, undefined, { ref: false })]);
  }
}

/** A file that is away has none; reading it will say so. */
async function octetsOf(sources: readonly ZoneSource[]): Promise<number> {
  const sizes = sources.map(({ file }) =>
    stat(file).then(
      ({ size }) => size,
      () => 0,
    ),
  );
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
}

/** A disk that hangs never answers. */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const abort = () => aborted.reject(signal.reason);
  if (signal.aborted) abort();
  signal.addEventListener('abort', abort, { once: true });
  try {
    return await Promise.race([work, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
