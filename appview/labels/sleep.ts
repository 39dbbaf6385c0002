import { setTimeout as pause } from 'node:timers/promises';

/** Resolves after so long; rejects on `signal`. */
export function sleepFor(ms: number, signal: AbortSignal): Promise<unknown> {
  return pause(ms, undefined, { signal });
}
