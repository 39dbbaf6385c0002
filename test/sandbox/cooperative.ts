/**
 * One cooperative of the sandbox: the real program as a child process.
 *
 * Promise: `start` resolves when the node says it is ready and fails with the node's last words when it
 * ends before that. A node never outlives the sandbox: it has an IPC channel and stops when that closes.
 * It stands in a process group of its own, so that Ctrl-C reaches the sandbox alone, which then stops
 * things in order.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { CooperativeCast } from './cast.ts';
import { compileCache } from './compile-cache.ts';

export type CooperativeOptions = {
  cast: CooperativeCast;
  configFile: string;
  /** The node's log; begun anew at each start. */
  logFile: string;
  /** Called when a node that was ready ends unasked. */
  onEnd: (reason: string) => void;
  /** Default 30 s. */
  readyTimeoutMs?: number;
  /** Default 3.5 s: the sandbox has 5 s to stop in all. */
  stopTimeoutMs?: number;
  /** What is started, for tests. Default the `atmos` command. */
  program?: string;
};

const atmos = join(import.meta.dirname, '../../node/atmos.js');
/**
 * Two nodes beside a PDS are to fit into 600 MB: a young generation of 2 MB in place of 16, compact code
 * (about a tenth more CPU a message), and below one malloc arena in place of one a thread. The compile
 * cache spares each of them the type stripper (18 MB).
 */
export const nodeFlags = ['--max-semi-space-size=2', '--optimize-for-size'];
const lastLines = 12;

export class Cooperative {
  readonly cast: CooperativeCast;
  readonly #options: CooperativeOptions;
  #child: ChildProcess | undefined;

  constructor(options: CooperativeOptions) {
    this.cast = options.cast;
    this.#options = options;
  }

  get configFile(): string {
    return this.#options.configFile;
  }

  /** undefined while it does not run. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** @throws when it runs already, ends before it is ready, takes too long, or `signal` says stop */
  async start(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (this.#child) throw new Error(`${this.cast.name} runs already`);
    const child = this.#spawn();
    this.#child = child;
    try {
      await readiness(child, this.#options.readyTimeoutMs ?? 30_000, signal);
    } catch (error) {
      await this.kill('SIGKILL');
      throw new Error(`${this.cast.name} did not start: ${(error as Error).message}${this.#lastWords()}`, {
        cause: error,
      });
    }
    child.once('exit', (code, by) => {
      if (this.#child !== child) return;
      this.#child = undefined;
      this.#options.onEnd(`${this.cast.name} has ended (${by ?? `exit code ${code}`})${this.#lastWords()}`);
    });
  }

  /** As a supervisor would: SIGTERM, and SIGKILL to what does not end in time. */
  async stop(): Promise<void> {
    const child = this.#child;
    if (!child) return;
    const timer = setTimeout(() => child.kill('SIGKILL'), this.#options.stopTimeoutMs ?? 3_500);
    await this.kill('SIGTERM');
    clearTimeout(timer);
  }

  /** Sends the signal and resolves when the process is gone; `start` may then be called again. */
  async kill(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    if (!child) return;
    this.#child = undefined;
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'exit');
    child.kill(signal);
    await gone;
  }

  #spawn(): ChildProcess {
    const { program = atmos, configFile, logFile } = this.#options;
    const log = openSync(logFile, 'w', 0o600);
    try {
      return spawn(process.execPath, [...nodeFlags, program, 'start', '--config', configFile], {
        stdio: ['ignore', log, log, 'ipc'],
        detached: true,
        env: {
          ...process.env,
          MALLOC_ARENA_MAX: '1',
          MALLOC_TRIM_THRESHOLD_: '65536',
          NODE_COMPILE_CACHE: compileCache,
        },
      });
    } finally {
      closeSync(log);
    }
  }

  #lastWords(): string {
    const lines = readFileSync(this.#options.logFile, 'utf8').trimEnd().split('\n').slice(-lastLines);
    return `\n${lines.map((line) => `  ${line}`).join('\n')}\n  (the whole log: ${this.#options.logFile})`;
  }
}

/** Resolves on the first message, which is `ready`. */
async function readiness(child: ChildProcess, timeoutMs: number, signal?: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const timer = setTimeout(() => reject(new Error(`not ready after ${timeoutMs} ms`)), timeoutMs);
  const abort = () => reject(new Error('stopped'));
  signal?.addEventListener('abort', abort, { once: true });
  child
    .once('message', () => resolve())
    .once('error', reject)
    .once('exit', (code, by) => reject(new Error(by ? `ended by ${by}` : `exit code ${code}`)));
  try {
    await promise;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', abort);
  }
}
