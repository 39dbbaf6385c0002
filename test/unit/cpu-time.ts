/**
 * Processor time of this process, for bounds on work: a busy machine does not make it longer.
 *
 * A bound that is tested with it is far above what is needed and far below what the mistake would cost.
 */

/** Ms of processor time that `work` took, on all threads. */
export function cpuMs(work: () => unknown): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}
