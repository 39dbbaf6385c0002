/**
 * Processes that a benchmark starts, and that end with it whatever happens.
 *
 * Promise: what is started here is gone after `stopAll`. Our own programs watch their IPC channel or their
 * standard input; foreign ones are told by the kernel (foreign.ts), so that even a killed benchmark leaves
 * nothing running.
 */
import { type ChildProcess, execFile, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { boundToUs } from '../../foreign.ts';

const running = new Set<ChildProcess>();
const stops = new Set<() => Promise<void>>();
const cleanings = new Set<() => void>();
const stopMs = 10_000;

/** A foreign program in the foreground; what it says goes to `logFile`. */
export function startForeign(o: {
  command: string[];
  logFile: string;
  cwd?: string;
  env?: NodeJS.ProcessEnv;
}): ChildProcess {
  const log = openSync(o.logFile, 'a');
  const [command, ...args] = boundToUs(o.command);
  const child = spawn(command, args, {
    stdio: ['ignore', log, log],
    // Ctrl-C reaches the benchmark alone, which stops things in order.
    detached: true,
    ...(o.cwd && { cwd: o.cwd }),
    env: { ...process.env, ...o.env },
  });
  closeSync(log);
  return remember(child);
}

/** A program of this folder that is driven over IPC. */
export function startProgram(
  file: string,
  args: string[] = [],
  { flags = [], env = {} }: { flags?: string[]; env?: NodeJS.ProcessEnv } = {},
): ChildProcess {
  const options = { execArgv: flags, env: { ...process.env, ...env }, detached: true };
  return remember(fork(join(import.meta.dirname, file), args, options));
}

/** A program that takes orders as lines; its reports, lines of JSON, come as messages. */
export function startByLines([file, ...args]: [string, ...string[]]): ChildProcess {
  const child = spawn(file, args, { stdio: ['pipe', 'pipe', 'inherit'], detached: true });
  createInterface({ input: child.stdout }).on('line', (line) => child.emit('message', JSON.parse(line)));
  // It ended before it read: who waits for a message is told of that.
  child.stdin.on('error', () => undefined);
  return remember(child);
}

export function remember(child: ChildProcess): ChildProcess {
  running.add(child);
  child.once('exit', () => running.delete(child));
  return child;
}

/** SIGTERM, and SIGKILL to what does not end in 10 s. */
export async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  const timer = setTimeout(() => child.kill('SIGKILL'), stopMs);
  child.kill('SIGTERM');
  await gone;
  clearTimeout(timer);
}

/** Has something be stopped with the rest. @returns the same, to stop it before */
export function onStop(end: () => Promise<void>): () => Promise<void> {
  stops.add(end);
  return async () => {
    stops.delete(end);
    await end();
  };
}

/** Is done when all have stopped. @returns does it now */
export function inTheEnd(clean: () => void): () => void {
  cleanings.add(clean);
  return () => {
    cleanings.delete(clean);
    clean();
  };
}

export async function stopAll(): Promise<void> {
  await Promise.all([...[...stops].map((end) => end()), ...[...running].map(stop)]);
  for (const clean of cleanings) clean();
}

/**
 * The next message of a child.
 *
 * @throws when it ends before, or after `withinMs`
 */
export async function messageOf<T>(child: ChildProcess, withinMs: number, what: string): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  const timer = setTimeout(() => reject(new Error(`${what}: nothing within ${withinMs} ms`)), withinMs);
  const ended = () => reject(new Error(`${what}: the process ended`));
  child.once('message', resolve).once('exit', ended);
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    child.off('message', resolve).off('exit', ended);
  }
}

const runFile = promisify(execFile);

/** @throws with what the command said when it fails */
export async function run(command: string, ...args: string[]): Promise<string> {
  const { stdout } = await runFile(command, args, { maxBuffer: 16 * 1024 * 1024 });
  return stdout;
}

/** Waits until the port takes connections. @throws with the end of the log after 30 s */
export async function untilListening(port: number, logFile: string): Promise<void> {
  const deadline = Date.now() + 30_000;
  while (!(await takesConnections(port))) {
    if (Date.now() > deadline) {
      const words = readFileSync(logFile, 'utf8').slice(-2000);
      throw new Error(`nothing listens on port ${port}; its log ends:\n${words}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function takesConnections(port: number): Promise<boolean> {
  const socket = createConnection({ port, host: '127.0.0.1' });
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
