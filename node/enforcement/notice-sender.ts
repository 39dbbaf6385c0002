/**
 * Mails the operator's notices, and never floods.
 *
 * A letter carries all that waits, up to 50 notices, and at most `perHour` letters go out in an hour: what comes
 * beyond waits, nothing is lost. A notice counts as sent when its letter is in the queue, on disk; a crash right
 * then sends it a second time. Without an address all is in the log and in node.db.
 */
import type { Logger } from 'pino';
import { isCorruption } from '../../appview/database.ts';
import type { Event } from './events.ts';
import type { Notice, OperatorNotices, WaitingNotice } from './operator-notices.ts';

export type NoticeSenderOptions = {
  notices: Pick<OperatorNotices, 'waiting' | 'lettersSince' | 'markSent'>;
  /** @returns whether it is on its way. Undefined: the operator gave no address. */
  send: ((letter: Notice) => Promise<boolean>) | undefined;
  /** Letters. Default 20. */
  perHour?: number;
  /** Between two looks. Default 10 s. */
  intervalMs?: number;
  now: () => number;
  log: Logger;
};

const hourMs = 3_600_000;
const perLetter = 50;

export class NoticeSender {
  readonly #options: Required<NoticeSenderOptions>;
  #timer: NodeJS.Timeout | undefined;
  #sending: Promise<void> | undefined;
  #stopped = false;

  constructor(options: NoticeSenderOptions) {
    this.#options = { perHour: 20, intervalMs: 10_000, ...options };
  }

  start(): void {
    const { send, log, intervalMs } = this.#options;
    if (!send) {
      log.warn('nobody is told when something stops by itself: give operator.email in the configuration');
      return;
    }
    this.#timer = setInterval(() => void this.look(), intervalMs);
    this.#timer.unref();
    void this.look();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearInterval(this.#timer);
    await this.#sending;
  }

  /** One letter at most. Rejects, unhandled on purpose, when node.db is damaged. */
  look(): Promise<void> {
    this.#sending ??= this.#look().finally(() => {
      this.#sending = undefined;
    });
    return this.#sending;
  }

  /** Measures are told of at once. */
  readonly examine = (events: readonly Event[]): void => {
    if (!this.#stopped && events.some(({ type }) => type === 'staff_act')) void this.look();
  };

  async #look(): Promise<void> {
    const { notices, send, perHour, now, log } = this.#options;
    try {
      const waiting = notices.waiting(perLetter);
      if (!send || waiting.length === 0 || notices.lettersSince(now() - hourMs) >= perHour) return;
      if (await send(letterOf(waiting))) notices.markSent(waiting);
      else log.error({ notices: waiting.length }, 'a letter to the operator was not taken; trying again');
    } catch (error) {
      if (isCorruption(error)) throw error;
      log.error({ err: error }, 'a letter to the operator was not sent; trying again');
    }
  }
}

function letterOf(notices: readonly WaitingNotice[]): Notice {
  const [first, ...more] = notices;
  if (more.length === 0) return { subject: first!.subject, text: first!.text };
  const parts = notices.map(({ at, text }) => `${new Date(at).toISOString()}\n\n${text.trimEnd()}\n`);
  return { subject: `${first!.subject}, and ${more.length} more`, text: parts.join('\n----\n\n') };
}
