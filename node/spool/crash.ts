/**
 * Named points at which a test makes the process die as if the power went, to prove what survives.
 */
export type CrashPoint = 'before-commit' | 'after-commit' | 'after-body-file';

export type Reached = (point: CrashPoint) => void;

/** SIGKILL at `chosen`: no handler, no flush, no exit code of ours. Does nothing anywhere else. */
export function crashAt(chosen: CrashPoint | undefined): Reached {
  return (point) => {
    if (point === chosen) process.kill(process.pid, 'SIGKILL');
  };
}
