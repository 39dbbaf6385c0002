/**
 * Loads a zone's files beside everything else: the caller's thread does nothing but wait.
 *
 * What comes back is a table in shared memory, for Zone.adopt().
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { ZoneFiles } from './read-zone.ts';
import type { Loaded } from './source.ts';

/** What the thread gets. */
export type LoadOrder = { files: ZoneFiles; isBeside: boolean };

export type LoadOptions = {
  signal?: AbortSignal;
  /** Others answer meanwhile, and go first where cores are few. */
  isBeside?: boolean;
};

/** @throws Error for a file that cannot be read or changes meanwhile, and with what `signal` aborts */
export async function loadZone(files: ZoneFiles, options: LoadOptions = {}): Promise<Loaded> {
  const { signal, isBeside = false } = options;
  const thread = new Worker(new URL('./load-thread.ts', import.meta.url), {
    name: 'dns-load',
    workerData: { files, isBeside } satisfies LoadOrder,
  });
  try {
    const [loaded] = await once(thread, 'message', { signal });
    return loaded as Loaded;
  } finally {
    await thread.terminate();
  }
}
