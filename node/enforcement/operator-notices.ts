/**
 * What the operator is to be told: of measures that a program took, and of failures that keep members from sending.
 *
 * Promise: a notice of a measure stands in the commit of the measure's event, so a crash loses none. A failure
 * that goes on is told of once an hour; where the disk is what fails, the notice is written when it is well
 * again. Sending them is notice-sender.ts's business. Rows live for 30 days.
 */
import type { Logger } from 'pino';
import { type Database, isCorruption } from '../../appview/database.ts';
import type { Projection } from './event-store.ts';
import type { Event } from './events.ts';
import { type PeerSignalDetail, peerSignalActor, peerSignalText } from './peer-signal.ts';

export type Notice = { subject: string; text: string };
export type WaitingNotice = Notice & { id: number; at: number };

export type OperatorNoticesOptions = {
  /** node.db. */
  db: Database.Database;
  now: () => number;
  log: Logger;
};

const hourMs = 3_600_000;
const keptMs = 30 * 24 * hourMs;
const removedAtOnce = 1_000;

export class OperatorNotices implements Projection {
  readonly #options: OperatorNoticesOptions;
  readonly #sql: ReturnType<typeof prepareAll>;
  /** By subject: when it was raised last. */
  readonly #raisedAt = new Map<string, number>();
  #unwritten: (Notice & { at: number })[] = [];

  constructor(options: OperatorNoticesOptions) {
    this.#options = options;
    this.#sql = prepareAll(options.db);
  }

  project(events: readonly Event[]): void {
    for (const event of events) {
      const notice = noticeOf(event);
      if (notice) this.#sql.add.run(event.at, notice.subject, notice.text);
    }
  }

  housekeep(): boolean {
    const { changes } = this.#sql.trim.run(this.#options.now() - keptMs, removedAtOnce);
    return changes === removedAtOnce;
  }

  /**
   * Something keeps failing. Cheap to call for each failure, and never throws but for damaged state.
   *
   * @param notice its subject is one of a few fixed texts
   */
  raise(notice: Notice): void {
    const at = this.#options.now();
    const last = this.#raisedAt.get(notice.subject);
    // The other way round the clock was put back.
    if (last !== undefined && Math.abs(at - last) < hourMs) return;
    this.#raisedAt.set(notice.subject, at);
    this.#unwritten.push({ ...notice, at });
    this.#options.log.error({ subject: notice.subject }, 'notice to the operator');
    this.#write();
  }

  /** Those that were not sent yet, oldest first. */
  waiting(limit: number): WaitingNotice[] {
    this.#write();
    return this.#sql.waiting.all(limit) as WaitingNotice[];
  }

  /** How many letters went out since then. @param since Unix ms */
  lettersSince(since: number): number {
    return (this.#sql.letters.get(since, this.#options.now()) as { letters: number }).letters;
  }

  /** These went out together, in one letter. */
  markSent(notices: readonly WaitingNotice[]): void {
    const ids = JSON.stringify(notices.map(({ id }) => id));
    this.#sql.markSent.run(this.#options.now(), ids);
  }

  #write(): void {
    try {
      while (this.#unwritten[0]) {
        const { at, subject, text } = this.#unwritten[0];
        this.#sql.add.run(at, subject, text);
        this.#unwritten.shift();
      }
    } catch (error) {
      if (isCorruption(error)) throw error;
      this.#options.log.error({ err: error }, 'a notice to the operator is not written yet');
      // One of each subject: what fails for days is told of once.
      this.#unwritten = [...new Map(this.#unwritten.map((one) => [one.subject, one])).values()];
    }
  }
}

/** What a program did to a member. What a person did, somebody knows; the end of a measure is no news. */
function noticeOf(event: Event): Notice | undefined {
  const { type, did, detail } = event;
  if (type === 'peer_signal') return signalNotice(event);
  const { act, by, state } = detail;
  if (type !== 'staff_act' || act !== 'standing' || by !== 'automatic' || state === 'active')
    return undefined;
  // The signal has a notice of its own.
  if (detail.actor === peerSignalActor) return undefined;
  const [actor, reason, breaker] = [detail.actor, detail.reason, detail.breaker].map(wordsOf);
  const what = state === 'held' ? 'held for review, with all of its queue' : wordsOf(state);
  const who = `${actor || 'program'} did this by itself${breaker && ` (${breaker})`}`;
  const next = `Look at the member's mail (atmos queue list --did ${did}), then end it (atmos member reinstate ${did} --reason …) or leave it so.`;
  return {
    subject: `${did} is ${what}`,
    text: `${did} is ${what}.\n\n${reason}\n\nThe ${who}. The member sees the same reason. ${next}\n`,
  };
}

/** What a peer says of one of our members, privately. */
function signalNotice({ did, detail }: Event): Notice {
  const { held, ...finding } = detail;
  const said = peerSignalText(finding as PeerSignalDetail);
  const next = held
    ? `${did} enrolled here and is held for review; it reads no more than that. Look, then let it go on (atmos member reinstate ${did} --reason …) or leave it so.`
    : `${did} goes on as before. Look at it (atmos member show ${did}) and decide.`;
  return { subject: `${did}: a signal from ${wordsOf(detail.src)}`, text: `${said}\n\n${next}\n` };
}

function wordsOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function prepareAll(db: Database.Database) {
  return {
    add: db.prepare('INSERT INTO operator_notice (at, subject, text) VALUES (?, ?, ?)'),
    waiting: db.prepare(
      'SELECT id, at, subject, text FROM operator_notice WHERE sent_at IS NULL ORDER BY id LIMIT ?',
    ),
    letters: db.prepare(
      'SELECT count(DISTINCT sent_at) AS letters FROM operator_notice WHERE sent_at > ? AND sent_at <= ?',
    ),
    markSent: db.prepare(
      'UPDATE operator_notice SET sent_at = ? WHERE id IN (SELECT value FROM json_each(?))',
    ),
    trim: db.prepare(
      'DELETE FROM operator_notice WHERE id IN (SELECT id FROM operator_notice WHERE at < ? ORDER BY id LIMIT ?)',
    ),
  };
}
