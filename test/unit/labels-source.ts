/** An issuer in the same process, with a clock that stands: what it streams, what it serves, under which key. */
import { setImmediate as breathe } from 'node:timers/promises';
import type { Database } from '../../appview/database.ts';
import type { Frame, SignedLabel } from '../../appview/labels/codec.ts';
import { LabelConsumer, type LabelConsumerOptions } from '../../appview/labels/consumer.ts';
import type { LabelAnswer, LabelQuestion, LabelSource } from '../../appview/labels/source.ts';
import { LabelStore } from '../../appview/labels/store.ts';
import { counters, june, memoryDatabases, quiet } from './labels-fixtures.ts';

export class StandingLabeler implements LabelSource {
  readonly frames: Frame[] = [];
  /** What queryLabels answers, page by page. */
  pages: SignedLabel[][] = [[]];
  /** Cursors of a server that does not know where to end. */
  cursorAfter = (page: number): string | undefined =>
    page + 1 < this.pages.length ? String(page + 1) : undefined;
  readonly questions: LabelQuestion[] = [];
  #wake = Promise.withResolvers<void>();

  emit(...labels: unknown[]): void {
    this.send({ kind: 'labels', seq: this.frames.length + 1, labels });
  }

  send(frame: Frame): void {
    this.frames.push(frame);
    this.#wake.resolve();
    this.#wake = Promise.withResolvers();
  }

  async follow(cursor: number | undefined, onFrame: (frame: Frame) => Promise<void>, signal: AbortSignal) {
    const aborted = new Promise((resolve) => signal.addEventListener('abort', resolve));
    for (let next = cursor ?? 0; !signal.aborted; ) {
      const frame = this.frames[next];
      if (!frame) await Promise.race([this.#wake.promise, aborted]);
      else {
        next += 1;
        await onFrame(frame);
      }
    }
  }

  async query(question: LabelQuestion): Promise<LabelAnswer> {
    this.questions.push(question);
    if (question.uriPatterns[0] !== '*') {
      const labels = this.pages.flat().filter(({ uri }) => question.uriPatterns.includes(uri));
      return { labels: labels.map(inJson) };
    }
    const page = Number(question.cursor ?? 0);
    const cursor = this.cursorAfter(page);
    const labels = (this.pages[page] ?? []).map(inJson);
    return cursor === undefined ? { labels } : { labels, cursor };
  }
}

function inJson(label: SignedLabel): unknown {
  return { ...label, sig: { $bytes: Buffer.from(label.sig).toString('base64').replace(/=+$/, '') } };
}

/** A consumer of it. Time stands unless a test moves it; `key` is what the issuer's document says. */
export function worldOf(src: string, key: string, more: Partial<LabelConsumerOptions> = {}) {
  const clock = { now: june };
  const document = { key };
  const counted = counters();
  const { db } = memoryDatabases();
  const now = () => clock.now;
  const labeler = new StandingLabeler();
  const store = new LabelStore({ db, now, count: counted.count });
  const alerts: unknown[][] = [];
  const open = (options: Partial<LabelConsumerOptions> = {}) =>
    new LabelConsumer({
      ...{ src, source: labeler, store, log: quiet, count: counted.count, now, firstRetryMs: 1 },
      identities: { forget: () => undefined, resolve: async () => ({ labelKey: document.key }) },
      onQuarantine: (...what) => alerts.push(['quarantine', ...what]),
      onKeyChange: (...what) => alerts.push(['key', ...what]),
      onVanished: (...what) => alerts.push(['vanished', ...what]),
      random: () => 0.5,
      ...{ ...more, ...options },
    });
  return { clock, document, counted, db: db as Database.Database, labeler, store, alerts, open };
}

/** Until the stream has nothing more for us. */
export async function settled(store: LabelStore, src: string, seq: number): Promise<void> {
  for (let turns = 0; (store.cursor(src) ?? 0) < seq; turns++) {
    if (turns > 20_000) throw new Error(`the cursor stays at ${store.cursor(src)}`);
    await breathe();
  }
}
