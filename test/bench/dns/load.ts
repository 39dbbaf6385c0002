/** The generator (load.c), driven by lines. */
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { type CProgram, compiled, missingPrograms } from '../compiled.ts';
import { messageOf, startByLines, stop } from '../relay/children.ts';

export type LoadReport = {
  seconds: number;
  sent: number;
  /** Rightly. */
  answered: number;
  lost: number;
  /** Answers that do not say what they must. */
  wrong: number;
  /** Answers to what had been given up. */
  late: number;
  /** Server cookies that came. */
  cookies: number;
};

const program: CProgram = { name: 'dns-load', sources: [join(import.meta.dirname, 'load.c')] };
/** Beyond what was ordered. */
const patienceMs = 20_000;

/** The reason why it cannot run here. */
export function missingLoad(): string | false {
  return missingPrograms([program], 'gcc libc6-dev');
}

export class Load {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  /** @param core where it runs; left out: anywhere */
  static async start(o: { port: number; queriesFile: string; isSpread: boolean; core?: number }) {
    const pinned = o.core === undefined ? [] : ['taskset', '-c', String(o.core)];
    const words = [compiled(program), String(o.port), o.queriesFile, ...(o.isSpread ? ['spread'] : [])];
    const child = startByLines([...pinned, ...words] as [string, ...string[]]);
    await messageOf(child, patienceMs, 'the load');
    return new Load(child);
  }

  /** As fast as it is answered. @param window unanswered queries on each of four sockets */
  closed(seconds: number, window: number): Promise<LoadReport> {
    return this.#order(`closed ${seconds} ${window}`, seconds);
  }

  /** @param rate queries a second, whatever comes back */
  open(seconds: number, rate: number): Promise<LoadReport> {
    return this.#order(`open ${seconds} ${Math.round(rate)}`, seconds);
  }

  stop(): Promise<void> {
    return stop(this.#child);
  }

  async #order(order: string, seconds: number): Promise<LoadReport> {
    const report = messageOf<LoadReport>(this.#child, seconds * 1000 + patienceMs, 'the load');
    this.#child.stdin!.write(`${order}\n`);
    return report;
  }
}
