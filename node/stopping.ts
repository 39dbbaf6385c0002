/**
 * The order in which a node stops.
 *
 * Promise: every part is asked to stop, whatever the others do; listeners close first and together, then
 * the work in flight ends, then the stores close, the last opened first. A part that fails or hangs is
 * named in the log. run() ends within the sum of the phases' limits, 10 s.
 */
import type { Logger } from 'pino';

type Stop = { name: string; stop: () => unknown };

/** Of each phase. */
export const stopLimitMs = { listeners: 3_500, work: 5_000, stores: 1_500 };

export class Stops {
  readonly #log: Pick<Logger, 'error'>;
  #listeners: Stop[] = [];
  #work: Stop[] = [];
  #stores: Stop[] = [];
  readonly #unfinished = new Set<Stop>();
  #running: Promise<void> | undefined;

  constructor(log: Pick<Logger, 'error'>) {
    this.#log = log;
  }

  /** Takes something from outside: a port. @param stop may return a promise */
  listener(name: string, stop: Stop['stop']): void {
    this.#listeners.push({ name, stop });
  }

  /** Does something by itself, with what listeners took or with the stores. */
  work(name: string, stop: Stop['stop']): void {
    this.#work.push({ name, stop });
  }

  /** Holds what the others write. */
  store(name: string, stop: Stop['stop']): void {
    this.#stores.unshift({ name, stop });
  }

  /** Never throws. A second call awaits the first. */
  run(): Promise<void> {
    this.#running ??= this.#run();
    return this.#running;
  }

  async #run(): Promise<void> {
    await within(stopLimitMs.listeners, Promise.all(this.#listeners.map((one) => this.#stop(one))));
    await within(stopLimitMs.work, Promise.all(this.#work.map((one) => this.#stop(one))));
    // One after the other: what was opened on top of another closes before it.
    await within(
      stopLimitMs.stores,
      this.#stores.reduce((before, one) => before.then(() => this.#stop(one)), Promise.resolve()),
    );
    for (const { name } of this.#unfinished)
      this.#log.error({ part: name }, 'this part did not stop in time');
  }

  async #stop(one: Stop): Promise<void> {
    this.#unfinished.add(one);
    try {
      await one.stop();
    } catch (error) {
      this.#log.error({ err: error, part: one.name }, 'this part failed to stop');
    }
    this.#unfinished.delete(one);
  }
}

/** Resolves when `work` does, or after the time. */
async function within(ms: number, work: Promise<unknown>): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  await Promise.race([work, promise]);
  clearTimeout(timer);
}
