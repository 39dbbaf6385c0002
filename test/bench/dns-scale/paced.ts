/** The generator of paced.c, driven by lines. */
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { type CProgram, compiled, missingPrograms } from '../compiled.ts';
import { messageOf, startByLines, stop } from '../relay/children.ts';

/** Times in ms, from a question to the arrival of its answer. */
export type PacedReport = {
  sent: number;
  answered: number;
  lost: number;
  /** Answers that do not say what they must. */
  wrong: number;
  p50Ms: number;
  p99Ms: number;
  p999Ms: number;
  worstMs: number;
  /** How late a question left at most; no part of the times above. */
  latestMs: number;
};

const program: CProgram = { name: 'dns-paced', sources: [join(import.meta.dirname, 'paced.c')] };

/** The reason why it cannot run here. */
export function missingPaced(): string | false {
  return missingPrograms([program], 'gcc libc6-dev');
}

export class Paced {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  static async start(port: number, queriesFile: string): Promise<Paced> {
    const child = startByLines([compiled(program), String(port), queriesFile]);
    await messageOf(child, 20_000, 'the load');
    return new Paced(child);
  }

  async run(seconds: number, rate: number): Promise<PacedReport> {
    const report = messageOf<PacedReport>(this.#child, seconds * 1000 + 20_000, 'the load');
    this.#child.stdin!.write(`${seconds} ${rate}\n`);
    return report;
  }

  stop(): Promise<void> {
    return stop(this.#child);
  }
}
