/**
 * Loads a zone's files beside everything else: the caller's thread does nothing but wait.
 *
 * What comes back is a table in shared memory, for Zone.adopt().
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { ZoneFiles } from './read-zone.ts';
import type { Loaded } from './source.ts';

/** @throws Error for a file that cannot be read or changes meanwhile, and with what `signal` aborts */
export async function loadZone(files: ZoneFiles, signal?: AbortSignal): Promise<Loaded> {
  const thread = new Worker(new URL('./load-thread.ts', import.meta.url), {
    name: 'dns-load',
    workerData: files,
  });
  try {
    const [loaded] = await once(thread, 'message', { signal });
    return loaded as Loaded;
  } finally {
    await thread.terminate();
  }
}
