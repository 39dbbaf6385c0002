/** Postfix's own load generator and sink, for table 2. Counts what the sink says that it took. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { boundToUs } from '../../foreign.ts';
import { freePort } from '../../free-port.ts';
import { remember, stop, untilListening } from './children.ts';
import { now } from './clock.ts';
import type { Load } from './ends.ts';
import type { Exchange } from './round.ts';

export class SourceAndSink {
  readonly #child: ChildProcess;
  readonly port: number;
  #seen = 0;
  #before = 0;
  #onSeen: (() => void) | undefined;

  private constructor(child: ChildProcess, port: number) {
    this.#child = child;
    this.port = port;
    // smtp-sink(1) -c: "sess=1 quit=0 mesg=12" and a carriage return, after each event.
    child.stdout!.setEncoding('latin1').on('data', (text: string) => {
      const last = [...text.matchAll(/mesg=(\d+)\s/g)].at(-1);
      if (last) this.#seen = Number(last[1]);
      this.#onSeen?.();
    });
  }

  static async start(dir: string): Promise<SourceAndSink> {
    const port = await freePort();
    // Line by line: its standard output would else be held back until 4 KB are full.
    const command = ['stdbuf', '-o0', 'smtp-sink', '-u', 'nobody', '-c', `127.0.0.1:${port}`, '1000'];
    const [file, ...args] = boundToUs(command);
    const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit'], detached: true, cwd: dir });
    remember(child);
    await untilListening(port, '/dev/null');
    return new SourceAndSink(child, port);
  }

  /** Counts from before `send` until all `messages` are here. @throws when more or fewer came */
  async whileCounting<Sent>(messages: number, send: () => Promise<Sent>): Promise<Exchange<Sent>> {
    const [lastAt, sent] = await Promise.all([this.#arrived(messages), send()]);
    return { sent, lastAt };
  }

  async #arrived(messages: number, withinMs = 120_000): Promise<number> {
    if (this.#seen > this.#before) throw new Error('more than was sent arrived in the round before');
    const wanted = this.#seen + messages;
    this.#before = wanted;
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    const timer = setTimeout(
      () => reject(new Error(`${wanted - this.#seen} of ${messages} did not arrive`)),
      withinMs,
    );
    this.#onSeen = () => {
      if (this.#seen >= wanted) resolve(now());
    };
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#onSeen = undefined;
    }
  }

  async send(load: Load): Promise<{ startedAt: number; endedAt: number }> {
    const { sessions, messages, bytes, reuse, from, to, port } = load;
    const args = ['-s', String(sessions), '-m', String(messages), '-l', String(bytes)];
    const envelope = ['-f', from, '-t', to, ...(reuse ? ['-d'] : [])];
    const startedAt = now();
    const child = remember(
      spawn('smtp-source', [...args, ...envelope, `127.0.0.1:${port}`], {
        stdio: ['ignore', 'ignore', 'inherit'],
      }),
    );
    const [code] = await once(child, 'exit');
    if (code !== 0) throw new Error(`smtp-source ended with ${code}`);
    return { startedAt, endedAt: now() };
  }

  stop(): Promise<void> {
    return stop(this.#child);
  }
}
