/**
 * The frames of one connection that came and are not stored yet, in order.
 *
 * Promise: holds a few hundred small frames or one large one; whoever brings more waits. What stands in line
 * together is taken together, so that under load one commit carries many frames.
 */
import type { Frame, LabelsFrame } from './codec.ts';

/** Of labels that one commit stores: 10 ms of the main loop. */
export const labelsAtOnce = 256;

export class Inbox {
  readonly #frames: Frame[] = [];
  #labels = 0;
  #isOver = false;
  #onChange = Promise.withResolvers<void>();

  /** Resolves when there is room for the next. @throws on `signal` */
  async put(frame: Frame, signal: AbortSignal): Promise<void> {
    this.#frames.push(frame);
    this.#labels += sizeOf(frame);
    this.#changed();
    while (this.#labels >= labelsAtOnce && !signal.aborted) await this.#onChange.promise;
    signal.throwIfAborted();
  }

  /** Nothing comes any more. */
  end(): void {
    this.#isOver = true;
    this.#changed();
  }

  /** More than one commit's worth stands in line. */
  get isFull(): boolean {
    return this.#labels >= labelsAtOnce;
  }

  /** One frame, or as many frames of labels as one commit takes; undefined when there will be none. */
  async take(): Promise<Exclude<Frame, LabelsFrame> | LabelsFrame[] | undefined> {
    while (this.#frames.length === 0 && !this.#isOver) await this.#onChange.promise;
    const first = this.#frames[0];
    if (!first) return undefined;
    const frames = this.#frames.splice(0, first.kind === 'labels' ? this.#labelsInLine() : 1);
    for (const frame of frames) this.#labels -= sizeOf(frame);
    this.#changed();
    return first.kind === 'labels' ? frames.filter((frame) => frame.kind === 'labels') : first;
  }

  #labelsInLine(): number {
    let size = 0;
    for (const [index, frame] of this.#frames.entries()) {
      size += sizeOf(frame);
      if (frame.kind !== 'labels' || (index > 0 && size > labelsAtOnce)) return index;
    }
    return this.#frames.length;
  }

  #changed(): void {
    const { resolve } = this.#onChange;
    this.#onChange = Promise.withResolvers();
    resolve();
  }
}

/** A frame without labels costs as one. */
export function sizeOf(frame: Frame): number {
  return frame.kind === 'labels' ? Math.max(frame.labels.length, 1) : 1;
}
