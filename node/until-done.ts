/**
 * Work that nobody waits for, and that a database which fails for a while (a full disk, a lock) must not end.
 *
 * Promise: what failed is done again after a while, until it succeeds or is stopped. Corrupt state of our own is
 * thrown on, to stop the process.
 */
import { isCorruption } from '../appview/database.ts';

export type Retried = { (): void; stop(): void };

/** @param o.retryMs default 10 s */
export function untilDone(o: {
  work: () => void;
  onFailure: (error: unknown) => void;
  retryMs?: number;
}): Retried {
  let isOver = false;
  let again: NodeJS.Timeout | undefined;
  const run = () => {
    clearTimeout(again);
    if (isOver) return;
    try {
      o.work();
    } catch (error) {
      if (isCorruption(error)) throw error;
      o.onFailure(error);
      again = setTimeout(run, o.retryMs ?? 10_000).unref();
    }
  };
  const stop = () => {
    isOver = true;
    clearTimeout(again);
  };
  return Object.assign(run, { stop });
}
