/** `atmos` as an operator runs it: a process, its signals, and its log as a source of events. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

export type LogLine = { msg: string; listen?: { host: string; port: number }[] } & Record<string, unknown>;

const main = join(import.meta.dirname, '../node/atmos.js');
const children = new Set<ChildProcess>();

/** For `after`: nothing is left running, whatever failed. */
export function killAll(): void {
  for (const child of children) child.kill('SIGKILL');
}

export class AtmosProcess {
  readonly child: ChildProcess;
  readonly lines: LogLine[] = [];
  #waiting: (() => void)[] = [];
  #isGone = false;

  /** @param cwd the folder in which it is called */
  constructor(words: readonly string[], cwd?: string) {
    this.child = spawn(process.execPath, [main, ...words], { stdio: ['ignore', 'inherit', 'pipe'], cwd });
    children.add(this.child);
    this.child.once('close', () => {
      children.delete(this.child);
      this.#isGone = true;
      this.#wake();
    });
    createInterface({ input: this.child.stderr! }).on('line', (line) => {
      this.lines.push(line.startsWith('{') ? (JSON.parse(line) as LogLine) : { msg: line });
      this.#wake();
    });
  }

  /** A line that was said before it was asked for counts too. @throws Error when it ends without the line */
  async logged(text: string, from = 0): Promise<LogLine> {
    for (;;) {
      const line = this.lines.slice(from).find(({ msg }) => msg.includes(text));
      if (line) return line;
      if (this.#isGone)
        throw new Error(`it ended without "${text}": ${JSON.stringify(this.lines.slice(-5))}`);
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  /** Of `atmos dns`: where it answers. */
  async ready(): Promise<{ host: string; port: number }> {
    return (await this.logged('ready')).listen![0]!;
  }

  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    const exited = once(this.child, 'exit');
    this.child.kill(signal);
    const [code] = await exited;
    return code as number | null;
  }

  #wake(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }
}

/** One command, to its end. */
export function atmos(...words: string[]) {
  return atmosIn(undefined, ...words);
}

export function atmosIn(cwd: string | undefined, ...words: string[]) {
  const run = spawnSync(process.execPath, [main, ...words], { encoding: 'utf8', cwd });
  return { code: run.status, out: run.stdout, err: run.stderr };
}
