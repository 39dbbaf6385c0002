/**
 * `npm start` of a new world: seconds to `ready`, memory of all its processes (npm's included), seconds to
 * stop. Beside each stands its budget, so here "theirs" is what was promised. Linux only.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { freeOffset } from '../sandbox/ports.ts';
import { fromPairs, type Row } from './compare.ts';
import { pssMbOf, rssMbOf } from './processes.ts';

const rounds = 3;
const root = join(import.meta.dirname, '../..');

type Figures = { readySeconds: number; rssMb: number; pssMb: number; stopSeconds: number };

export async function bench(): Promise<Row[]> {
  const runs: Figures[] = [];
  for (let round = 0; round < rounds; round++) runs.push(await startOnce());
  const row = (what: string, unit: string, key: keyof Figures, budget: number) =>
    fromPairs(
      what,
      unit,
      runs.map((run) => [run[key], budget]),
    );
  return [
    row('npm start, new world: to ready / budget', 's', 'readySeconds', 8),
    row('… memory, plain sum of RSS / budget', 'MB', 'rssMb', 600),
    row('… memory, shared pages once (PSS) / budget', 'MB', 'pssMb', 600),
    row('… Ctrl-C to stopped / budget', 's', 'stopSeconds', 5),
  ];
}

async function startOnce(): Promise<Figures> {
  const state = mkdtempSync(join(tmpdir(), 'atmos-bench-'));
  const offset = String(await freeOffset());
  const began = performance.now();
  // A group of its own, so that the interrupt reaches all of it, as Ctrl-C does.
  const npm = spawn('npm', ['start', '--', '--port-offset', offset, '--state', state], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true,
  });
  try {
    await line(npm, /^ready in /);
    const readySeconds = (performance.now() - began) / 1000;
    const [rssMb, pssMb] = [rssMbOf([npm.pid!]), pssMbOf([npm.pid!])];
    const interrupted = performance.now();
    const exited = once(npm, 'exit');
    process.kill(-npm.pid!, 'SIGINT');
    await exited;
    return { readySeconds, rssMb, pssMb, stopSeconds: (performance.now() - interrupted) / 1000 };
  } finally {
    rmSync(state, { recursive: true, force: true });
  }
}

async function line(child: ChildProcess, wanted: RegExp): Promise<void> {
  for await (const text of createInterface({ input: child.stdout! })) if (wanted.test(text)) return;
  throw new Error('npm start ended before it was ready');
}
