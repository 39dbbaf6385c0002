/**
 * Changes a member's standing: by the guard, by rules, by people.
 *
 * Promise: the state, who set it, why and until when, and the `staff_act` event that tells of it are one
 * commit. What a person decided outranks what a program would do, until its end; a program only ever makes a
 * standing harder, never milder. The member's open mail follows: held while the standing is held, suspended
 * or removed, released when that is over. node.db says what must be so and remembers what is still to do, so
 * a crash or a failing spool in between changes nothing but the moment.
 */
import type { Logger } from 'pino';
import { type Database, isCorruption } from '../../appview/database.ts';
import type { RecordEvents } from './event-log.ts';
import { type StandingState, states } from './standing.ts';

export type Measure = {
  did: string;
  /** For the member, with the figures that led to it. */
  reason: string;
  /** Unix ms; without it the measure lasts until somebody ends it. */
  until?: number;
  by: 'automatic' | 'person';
  /** Who or what: `guard`, the name of an operator. */
  actor: string;
  /** Into the event, for the record of the case. */
  evidence?: Record<string, unknown>;
};

/** `unchanged`: the standing is as hard already. `outranked`: a person set it. */
export type MeasureOutcome = 'done' | 'unchanged' | 'outranked' | 'unknown-member';

/** What this file needs of the spool: all of a member's open mail. Both are repeated, and may be in vain. */
export type MemberQueue = {
  hold(did: string, reason: string): Promise<unknown>;
  /** Releases what hold() held, and nothing that a person held for another reason. */
  release(did: string, reason: string): Promise<unknown>;
};

export type MeasuresOptions = {
  /** node.db. */
  db: Database.Database;
  record: RecordEvents;
  queue: MemberQueue;
  now: () => number;
  log: Logger;
  count: (what: string, reason?: string) => void;
  /** How often ends and unfinished work are looked for. Default 10 s. */
  intervalMs?: number;
};

/** States in which a member's open mail waits. */
export const holding: readonly StandingState[] = ['held', 'suspended', 'removed'];
/** Work of one look; the rest waits for the next. */
const atOnce = 100;

export class Measures {
  readonly #options: Required<MeasuresOptions>;
  readonly #sql: ReturnType<typeof prepareAll>;
  #timer: NodeJS.Timeout | undefined;
  #working: Promise<void> | undefined;
  #again = false;
  #stopped = false;

  constructor(options: MeasuresOptions) {
    this.#options = { intervalMs: 10_000, ...options };
    this.#sql = prepareAll(options.db);
  }

  /** Finishes what a crash broke off, then looks at intervals. */
  start(): void {
    void this.#look();
    this.#timer = setInterval(() => void this.#look(), this.#options.intervalMs);
    this.#timer.unref();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearInterval(this.#timer);
    await this.#working;
  }

  throttle(measure: Measure): MeasureOutcome {
    return this.setStanding('throttled', measure);
  }

  hold(measure: Measure): MeasureOutcome {
    return this.setStanding('held', measure);
  }

  suspend(measure: Measure): MeasureOutcome {
    return this.setStanding('suspended', measure);
  }

  setStanding(state: StandingState, measure: Measure): MeasureOutcome {
    const current = this.#current(measure.did);
    if (!current) return 'unknown-member';
    if (measure.by === 'automatic') {
      const outcome = automaticOutcome(current, state);
      if (outcome !== 'done') return outcome;
    }
    this.#write(current, state, measure);
    void this.#look();
    return 'done';
  }

  /** Unix ms at which a person last changed the standing, whatever a program did since; 0 when none did. */
  personActedAt(did: string): number {
    const row = this.#sql.find.get(did) as Row | undefined;
    return row?.personAt ?? 0;
  }

  /** Members whose mail waits for as long as their standing is what it is. */
  stoppedMembers(): string[] {
    return (this.#sql.stopped.all(this.#options.now()) as { did: string }[]).map(({ did }) => did);
  }

  /** Does what is due now. Tests, and whoever must know that it is done. */
  async settle(): Promise<void> {
    await this.#working;
    await this.#look();
  }

  /** As it counts now: a measure is over at its end. */
  #current(did: string): Current | undefined {
    const row = this.#sql.find.get(did) as Row | undefined;
    if (!row) return undefined;
    const isOver = row.until !== null && row.until <= this.#options.now();
    return { state: isOver ? 'active' : row.state, by: row.by };
  }

  #write(from: Current, state: StandingState, { did, reason, until, by, actor, evidence }: Measure): void {
    const detail = { act: 'standing', state, from: from.state, reason, until: until ?? null, by, actor };
    this.#options.record({ type: 'staff_act', did, detail: { ...detail, ...evidence } }, () => {
      const why = state === 'active' ? null : reason;
      const personAt = by === 'person' ? this.#options.now() : null;
      this.#sql.set.run(state, why, until ?? null, by, this.#options.now(), personAt, did);
    });
    this.#options.count('standings_set', state);
    this.#options.log.warn({ did, state, from: from.state, reason, by, actor }, 'a standing was changed');
  }

  /** One at a time; a call meanwhile makes it look once more. */
  #look(): Promise<void> {
    this.#again = true;
    this.#working ??= this.#work().finally(() => {
      this.#working = undefined;
    });
    return this.#working;
  }

  async #work(): Promise<void> {
    while (this.#again && !this.#stopped) {
      this.#again = false;
      try {
        this.#endMeasures();
        await this.#followStandings();
      } catch (error) {
        // Not caught by anybody, on purpose: the process ends.
        if (isCorruption(error)) throw error;
        this.#options.log.error({ err: error }, 'standings: not done yet; trying again');
        this.#options.count('standing_work_failed');
      }
    }
  }

  /** A measure is over at its end by itself; here its row and its mail learn of it. */
  #endMeasures(): void {
    const over = this.#sql.over.all(this.#options.now(), atOnce) as { did: string; state: StandingState }[];
    for (const { did, state } of over) {
      const measure = { did, reason: 'The time of the measure is over.', actor: 'clock' };
      this.#write({ state, by: 'automatic' }, 'active', { ...measure, by: 'automatic' });
    }
  }

  async #followStandings(): Promise<void> {
    const { queue, now, intervalMs } = this.#options;
    const work = this.#sql.work.all(now(), atOnce) as { did: string; dueAt: number; passes: number }[];
    for (const { did, dueAt, passes } of work) {
      const row = this.#sql.find.get(did) as Row | undefined;
      if (row && holding.includes(row.state)) await queue.hold(did, row.reason ?? row.state);
      else await queue.release(did, 'The standing allows it again.');
      // A second pass finds what was being accepted while the first one looked. A change meanwhile keeps its row.
      if (passes > 1) this.#sql.later.run(now() + intervalMs, did, dueAt);
      else this.#sql.done.run(did, dueAt, passes);
    }
  }
}

type Row = {
  state: StandingState;
  reason: string | null;
  until: number | null;
  by: 'automatic' | 'person';
  personAt: number | null;
};

type Current = { state: StandingState; by: 'automatic' | 'person' };

function automaticOutcome(current: Current, wanted: StandingState): MeasureOutcome {
  if (current.state !== 'active' && current.by === 'person') return 'outranked';
  return states.indexOf(wanted) > states.indexOf(current.state) ? 'done' : 'unchanged';
}

function prepareAll(db: Database.Database) {
  return {
    find: db.prepare(
      `SELECT state, state_reason AS reason, state_until AS until, state_by AS by, person_at AS personAt
       FROM member WHERE did = ?`,
    ),
    set: db.prepare(
      `UPDATE member SET state = ?, state_reason = ?, state_until = ?, state_by = ?, state_at = ?,
         person_at = coalesce(?, person_at) WHERE did = ?`,
    ),
    stopped: db.prepare(
      `SELECT did FROM member WHERE state IN (${holding.map((state) => `'${state}'`).join(', ')})
       AND (state_until IS NULL OR state_until > ?)`,
    ),
    over: db.prepare('SELECT did, state FROM member WHERE state_until <= ? ORDER BY state_until LIMIT ?'),
    work: db.prepare(
      'SELECT did, due_at AS dueAt, passes FROM standing_work WHERE due_at <= ? ORDER BY due_at LIMIT ?',
    ),
    later: db.prepare(
      'UPDATE standing_work SET due_at = ?, passes = passes - 1 WHERE did = ? AND due_at = ?',
    ),
    done: db.prepare('DELETE FROM standing_work WHERE did = ? AND due_at = ? AND passes = ?'),
  };
}
