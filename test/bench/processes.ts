/** CPU time and memory of processes with all that they started. Linux only: reads /proc. */
import { readdirSync, readFileSync } from 'node:fs';

/** Octets of a page and milliseconds of a clock tick: what x86-64 and arm64 Linux use. */
const pageKb = 4;
const tickMs = 10;

/** The processes and everything below them. */
export function treesOf(pids: readonly number[]): number[] {
  const children = Map.groupBy(stats(), ({ parent }) => parent);
  const below = (pid: number): number[] => [
    pid,
    ...(children.get(pid) ?? []).flatMap((child) => below(child.pid)),
  ];
  return [...new Set(pids.flatMap(below))];
}

/** User and system time so far, also of children that have ended and were waited for. */
export function cpuMsOf(pids: readonly number[]): number {
  return treesOf(pids).reduce((sum, pid) => sum + (statOf(pid)?.cpuMs ?? 0), 0);
}

/** Plain sum of resident memory, in MB: shared pages count once for each process. */
export function rssMbOf(pids: readonly number[]): number {
  return treesOf(pids).reduce((sum, pid) => sum + (statOf(pid)?.rssMb ?? 0), 0);
}

/** Resident memory in MB, with each shared page counted once over those that share it. */
export function pssMbOf(pids: readonly number[]): number {
  return treesOf(pids).reduce((sum, pid) => sum + pssOf(pid), 0);
}

type Stat = { pid: number; parent: number; cpuMs: number; rssMb: number };

function stats(): Stat[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => statOf(Number(name)) ?? []);
}

/** undefined: it ended while we looked. */
function statOf(pid: number): Stat | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // proc(5): the name, in parentheses, may hold anything; field 3, the state, follows it.
    const field = text.slice(text.lastIndexOf(')') + 2).split(' ');
    const at = (number: number) => Number(field[number - 3]);
    return {
      pid,
      parent: at(4),
      cpuMs: (at(14) + at(15) + at(16) + at(17)) * tickMs,
      rssMb: (at(24) * pageKb) / 1024,
    };
  } catch {
    return undefined;
  }
}

function pssOf(pid: number): number {
  try {
    const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
    return Number(/^Pss:\s+(\d+)/m.exec(text)?.[1] ?? 0) / 1024;
  } catch {
    return 0;
  }
}
