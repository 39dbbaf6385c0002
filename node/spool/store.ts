/**
 * The queue in SQL: what one transaction holds.
 *
 * Promise: commit() returns only after everything it reports as done is on disk (WAL, synchronous=FULL).
 * A message, its recipients, its usage, its idempotency key and its event are one transaction; so are an
 * attempt, the state that follows from it, its event and its DSN. Large bodies are files, durable before
 * their row commits.
 *
 * Synchronous, for the worker thread alone. No clock of its own: each write brings its time.
 */
import { CorruptState, type Database, isCorruption } from '../../appview/database.ts';
import { Accepting } from './accepting.ts';
import { Acts } from './acts.ts';
import type { Bodies } from './bodies.ts';
import type { Claims } from './claims.ts';
import type { Reached } from './crash.ts';
import { Effects } from './effects.ts';
import type { Fresh } from './fresh.ts';
import { History } from './history.ts';
import { Answers } from './idempotency.ts';
import { Outbox } from './outbox.ts';
import type { Calls, Quotas } from './protocol.ts';
import { QueueQuotas } from './quotas.ts';
import { Recipients } from './recipients.ts';
import { Scan } from './scan.ts';
import { heldAt } from './schema.ts';
import { Settling } from './settling.ts';
import { Sites } from './sites.ts';
import { SourceCounts } from './source-use.ts';
import { Usage } from './usage.ts';

const housekeepingEveryMs = 60_000;

const writeNames = [
  ...(['accept', 'acceptBatch', 'settle', 'act', 'cancelScheduled', 'assignSite'] as const),
  /** The last three have no answer: `housekeep` brings nothing but its time. */
  ...(['finishCancelled', 'turnBack', 'forgetEvents', 'housekeep'] as const),
];
export type WriteName = (typeof writeNames)[number];
export const writes: ReadonlySet<string> = new Set(writeNames);

/** A call that changes something, with the time at which it was made. */
export type Write = {
  [Name in WriteName]: { call: Name; at: number; args: Parameters<Calls[Name]> };
}[WriteName];

/** `refused`: this write alone did not happen; the others of its transaction did. */
export type Written = { kind: 'done'; value?: unknown } | { kind: 'refused'; reason: string };

export type StoreOptions = {
  db: Database.Database;
  bodies: Bodies;
  claims: Claims;
  fresh: Fresh;
  /** How long the history of a finished message is kept. */
  retainMs: number;
  quotas: Quotas;
  reached: Reached;
};

type Statement = Database.Statement<unknown[]>;

export class Store {
  readonly usage: Usage;
  readonly sources: SourceCounts;
  readonly scan: Scan;
  readonly quotas: QueueQuotas;
  readonly answers: Answers;
  readonly #options: StoreOptions;
  readonly #effects: Effects;
  readonly #outbox: Outbox;
  readonly #sites: Sites;
  readonly #history: History;
  readonly #accepting: Accepting;
  readonly #settling: Settling;
  readonly #acts: Acts;
  readonly #sql: Record<keyof typeof statements, Statement>;
  #clock = 0;
  #housekeptAt = Number.NEGATIVE_INFINITY;
  #isBehind = false;

  constructor(options: StoreOptions) {
    this.#options = options;
    const { db, bodies, claims, fresh, retainMs, quotas, reached } = options;
    const prepared = Object.entries(statements).map(([name, sql]) => [name, db.prepare(sql)]);
    this.#sql = Object.fromEntries(prepared) as Record<keyof typeof statements, Statement>;
    this.usage = new Usage(db);
    this.sources = new SourceCounts(db);
    this.scan = new Scan(db);
    this.quotas = new QueueQuotas(db, quotas);
    this.#effects = new Effects(bodies);
    this.answers = new Answers(db);
    this.#outbox = new Outbox(db);
    this.#sites = new Sites(db);
    this.#history = new History(db, retainMs);
    const recipients = new Recipients(db, this.#effects, this.quotas);
    const shared = { recipients, effects: this.#effects, outbox: this.#outbox };
    const insert: Accepting['insert'] = (message, at) => this.#accepting.insert(message, at);
    const isFlying = (seq: number) => claims.isFlying(seq);
    this.#settling = new Settling({ ...shared, sources: this.sources, isFlying, insert });
    const admitted = { usage: this.usage, quotas: this.quotas, answers: this.answers, sites: this.#sites };
    this.#accepting = new Accepting({
      ...shared,
      ...admitted,
      db,
      bodies,
      fresh,
      settling: this.#settling,
      reached,
    });
    const knows = (did: string, queueId: string) => this.#sql.ofMember.get([queueId, did]) !== undefined;
    this.#acts = new Acts({ ...shared, scan: this.scan, isFlying, knows });
  }

  /** More is past its retention than the last commit could remove. */
  get isBehind(): boolean {
    return this.#isBehind;
  }

  /**
   * One transaction over all of `writes`.
   *
   * @throws when it could not be committed: then none of them happened
   */
  commit(writes: readonly Write[]): Written[] {
    const results = this.#together(writes) ?? this.#oneByOne(writes);
    this.#follow();
    return results;
  }

  /** It is on disk: what fails from here on refuses nothing, but leaves memory behind. Only a new start helps. */
  #follow(): void {
    this.quotas.committed();
    try {
      this.#options.claims.apply(this.#effects);
      this.#options.reached('after-commit');
      this.#effects.done();
    } catch (error) {
      if (isCorruption(error)) throw error;
      const { message } = error as Error;
      throw new CorruptState(`the spool could not follow its own commit (${message}). Start again.`);
    }
  }

  /** @returns undefined when one of them cannot be done: then nothing has happened yet */
  #together(writes: readonly Write[]): Written[] | undefined {
    try {
      return this.#transact(() => writes.map((write) => done(this.#do(write))));
    } catch (error) {
      if (error instanceof Undoable) return undefined;
      throw error;
    }
  }

  /** A savepoint each, so that one write that cannot be done does not take its neighbours with it. */
  #oneByOne(writes: readonly Write[]): Written[] {
    return this.#transact(() => writes.map((write) => this.#apart(write)));
  }

  #transact(work: () => Written[]): Written[] {
    const { db, reached } = this.#options;
    let isCommitting = false;
    try {
      this.#sql.begin.run();
      const results = work();
      isCommitting = true;
      this.#flush();
      this.#housekeep();
      reached('before-commit');
      this.#sql.commit.run();
      return results;
    } catch (error) {
      // SQLite itself ends the transaction on a full disk or an I/O error: nothing of it is left.
      const isOver = !db.inTransaction;
      if (!isOver) this.#sql.rollback.run();
      this.#undo({ effects: [0, 0, 0, 0, 0], quotas: 0 });
      // A disk that is full now is not asked again at once.
      this.#isBehind = false;
      if (isOver || isCommitting || isCorruption(error)) throw error;
      throw new Undoable('one of the writes cannot be done', { cause: error });
    }
  }

  #apart(write: Write): Written {
    const mark = { effects: this.#effects.mark, quotas: this.quotas.mark };
    this.#sql.savepoint.run();
    try {
      const value = this.#do(write);
      this.#flush();
      this.#sql.release.run();
      return done(value);
    } catch (error) {
      if (isCorruption(error) || !this.#options.db.inTransaction) throw error;
      this.#sql.rollbackOne.run();
      this.#sql.release.run();
      this.#undo(mark);
      return { kind: 'refused', reason: (error as Error).message };
    }
  }

  #undo({ effects, quotas }: { effects: readonly number[]; quotas: number }): void {
    this.#effects.backTo(effects);
    this.quotas.backTo(quotas);
    const { fresh } = this.#options;
    for (const part of [this.usage, this.sources, this.#sites, fresh]) part.forget();
  }

  #flush(): void {
    this.usage.flush();
    this.sources.flush();
  }

  #do({ call, at, args }: Write): unknown {
    this.#clock = at;
    switch (call) {
      case 'accept':
        return this.#accepting.accept(args[0], args[1] === true, at);
      case 'acceptBatch':
        return this.#accepting.batch(...args, at);
      case 'settle':
        return this.#settling.settle(...args, at);
      case 'act':
        return this.#acts.step(...args, at);
      case 'cancelScheduled':
        return this.#acts.cancelScheduled(...args, at);
      case 'assignSite':
        return this.#assignSite(...args);
      case 'finishCancelled':
        return this.#settling.finishCancelled(...args, at);
      case 'turnBack':
        this.#sql.turnBack.run([...args, at]);
        return undefined;
      case 'forgetEvents':
        return this.#outbox.forget(...args);
      case 'housekeep':
        return undefined;
    }
  }

  #assignSite(domain: string, site: string, before?: string): string | undefined {
    const from = before ?? this.#sites.of(domain);
    const { lanes, isWhole } = this.#sites.assign(domain, site, from);
    this.#effects.changed.push(...lanes);
    return isWhole ? undefined : from;
  }

  #housekeep(): void {
    const isTime = Math.abs(this.#clock - this.#housekeptAt) >= housekeepingEveryMs;
    if (!isTime && !this.#isBehind) return;
    this.#housekeptAt = this.#clock;
    for (const part of [this.usage, this.sources]) part.trim(this.#clock);
    const isMore = [this.answers, this.#history].map((part) => part.trim(this.#clock));
    this.#isBehind = isMore.includes(true);
  }
}

/** A write threw, and its transaction is rolled back; the others of its group can still be done. */
class Undoable extends Error {}

function done(value: unknown): Written {
  return value === undefined ? { kind: 'done' } : { kind: 'done', value };
}

const statements = {
  begin: 'BEGIN IMMEDIATE',
  commit: 'COMMIT',
  rollback: 'ROLLBACK',
  savepoint: 'SAVEPOINT one_write',
  rollbackOne: 'ROLLBACK TO one_write',
  release: 'RELEASE one_write',
  ofMember: 'SELECT 1 AS found FROM message WHERE queue_id = ? AND did = ?',
  // What was accepted or put off by a clock that was set back by ?1 waits as long as it was to wait.
  turnBack: `UPDATE recipient SET next_at = MAX(next_at - ?1, ?2)
    WHERE next_at > ?2 AND next_at < ${heldAt} AND state IN ('accepted', 'deferred')`,
} as const;
