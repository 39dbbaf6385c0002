/**
 * Secrets that a person types, or a program writes: one line of standard input each, never an argument, which every
 * user of the machine could read.
 */
import { createInterface, type Interface } from 'node:readline';
import { Writable } from 'node:stream';

/** Asks one after another. @throws Error where standard input ends */
export class Asking {
  #lines: AsyncIterator<string> | undefined;
  #reader: Interface | undefined;

  /** On a terminal the question is shown, and the answer is not. */
  async secret(question: string): Promise<string> {
    if (process.stdin.isTTY) process.stderr.write(`${question}: `);
    const { value, done } = await this.#next();
    if (process.stdin.isTTY) process.stderr.write('\n');
    const answer = (value as string | undefined)?.trim();
    if (done || !answer) throw new Error(`no answer came on standard input: ${question}`);
    return answer;
  }

  close(): void {
    this.#reader?.close();
  }

  #next(): Promise<IteratorResult<string>> {
    if (!this.#lines) {
      const mute = new Writable({ write: (_chunk, _encoding, done) => done() });
      const terminal = process.stdin.isTTY;
      this.#reader = createInterface({ input: process.stdin, output: mute, terminal });
      this.#lines = this.#reader[Symbol.asyncIterator]();
    }
    return this.#lines.next();
  }
}
