/**
 * The queue in SQL: what one transaction holds, and what can be read back.
 *
 * Promise: commit() returns only after everything it reports as done is on disk (WAL, synchronous=FULL).
 * A message, its recipients, its usage and its event are one transaction; so are an attempt, the state
 * that follows from it, its event and its DSN. Large bodies are files, durable before their row commits.
 *
 * Synchronous, for the worker thread alone. No clock of its own: each write brings its time.
 */
import { type Database, isCorruption, transaction } from '../../appview/database.ts';
import { eventIds, outboxes } from '../enforcement/events.ts';
import type { Bodies } from './bodies.ts';
import type { Reached } from './crash.ts';
import type {
  Accepted,
  AttemptRecord,
  NewMessage,
  NewRecipient,
  NextState,
  Settled,
  Settlement,
} from './message.ts';
import { openStates } from './states.ts';
import { Usage } from './usage.ts';

/** Bodies above this are files: a row that large would go through the WAL twice. */
const maxBodyInRow = 256 * 1024;
const housekeepingEveryMs = 60_000;
/** Finished messages removed by one commit at most, so that none becomes slow; the next one goes on. */
const removedAtOnce = 200;

export type Write =
  | { kind: 'accept'; at: number; message: NewMessage }
  | { kind: 'settle'; at: number; settlement: Settlement }
  | { kind: 'forget-events'; at: number; through: string }
  /** Nothing but its time: what is past its retention by then is removed. */
  | { kind: 'housekeep'; at: number };

/** `refused`: this write alone did not happen; the others of its transaction did. */
export type Written = { kind: 'done'; value?: Accepted | Settled } | { kind: 'refused'; reason: string };

type Statement = Database.Statement<unknown[]>;
type OpenRow = { queue_id: string; kind: string; did: string; domain: string; address: string };

export class Store {
  readonly #db: Database.Database;
  readonly #bodies: Bodies;
  readonly #retainMs: number;
  readonly #reached: Reached;
  readonly #usage: Usage;
  readonly #sql: Record<keyof typeof statements, Statement>;
  readonly #nextEventId: () => string;
  #clock = 0;
  #housekeptAt = Number.NEGATIVE_INFINITY;
  #isBehind = false;
  /** Body files of the transaction at hand: new ones go if it fails, finished ones when it is done. */
  #written: string[] = [];
  #finished: string[] = [];

  /** @param retainMs how long the history of a finished message is kept */
  constructor(db: Database.Database, bodies: Bodies, retainMs: number, reached: Reached) {
    this.#db = db;
    this.#bodies = bodies;
    this.#retainMs = retainMs;
    this.#reached = reached;
    this.#usage = new Usage(db);
    this.#sql = prepareAll(db);
    const { last } = db.prepare('SELECT COALESCE(MAX(id), 0) AS last FROM event').get() as { last: number };
    this.#nextEventId = eventIds(outboxes.spool, () => this.#clock, last);
  }

  /**
   * One transaction over all of `writes`.
   *
   * @throws when it could not be committed: then none of them happened
   */
  commit(writes: readonly Write[]): Written[] {
    this.#written = [];
    this.#finished = [];
    const results = this.#transact(writes);
    this.#reached('after-commit');
    for (const queueId of this.#finished) this.#bodies.remove(queueId);
    return results;
  }

  /** More history is past its retention than the last commit could remove. */
  get isBehind(): boolean {
    return this.#isBehind;
  }

  #transact(writes: readonly Write[]): Written[] {
    try {
      return transaction(this.#db, () => {
        const results = writes.map((write) => this.#apply(write));
        this.#housekeep();
        this.#reached('before-commit');
        return results;
      });
    } catch (error) {
      this.#usage.forget();
      // A disk that is full now is not asked again at once.
      this.#isBehind = false;
      for (const queueId of this.#written) this.#bodies.remove(queueId);
      throw error;
    }
  }

  /** A savepoint each, so that one write that cannot be done does not take its neighbours with it. */
  #apply(write: Write): Written {
    this.#clock = write.at;
    const before = { written: this.#written.length, finished: this.#finished.length };
    this.#sql.savepoint.run();
    try {
      const value = this.#do(write);
      this.#sql.release.run();
      return value ? { kind: 'done', value } : { kind: 'done' };
    } catch (error) {
      // SQLite itself ends the transaction on a full disk or an I/O error: nothing of it is left.
      if (isCorruption(error) || !this.#db.inTransaction) throw error;
      this.#sql.rollback.run();
      this.#sql.release.run();
      this.#usage.forget();
      for (const queueId of this.#written.splice(before.written)) this.#bodies.remove(queueId);
      this.#finished.splice(before.finished);
      return { kind: 'refused', reason: (error as Error).message };
    }
  }

  #do(write: Write): Accepted | Settled | undefined {
    switch (write.kind) {
      case 'accept':
        return this.#accept(write.message);
      case 'settle':
        return this.#settle(write.settlement);
      case 'forget-events':
        // The newest stays: after a restart its id is what the next one must exceed.
        this.#sql.forgetEvents.run(Number(write.through));
        return undefined;
      case 'housekeep':
        return undefined;
    }
  }

  #accept(message: NewMessage): Accepted {
    const count = message.recipients.length;
    if (count === 0) throw new Error(`message ${message.queueId} has no recipient`);
    const cap = this.#usage.exceeded(message.caps, count, this.#clock);
    if (cap) return { kind: 'over-cap', cap };
    this.#insert(message);
    this.#usage.add(message.caps, count, this.#clock);
    return { kind: 'committed' };
  }

  #insert(m: NewMessage): void {
    const inFile = m.body.length > maxBodyInRow;
    if (inFile) this.#writeBodyFile(m);
    const { queueId, kind, did, domain, via, mailFrom, receivedAt, expiresAt } = m;
    const size = m.body.length;
    const open = m.recipients.length;
    const row = [
      queueId,
      kind,
      did,
      domain,
      via,
      mailFrom,
      receivedAt,
      expiresAt,
      size,
      inFile ? 1 : 0,
      open,
    ];
    this.#sql.insertMessage.run(row);
    if (!inFile) this.#sql.insertBody.run([queueId, m.body]);
    for (const recipient of m.recipients) this.#insertRecipient(m, recipient);
  }

  #writeBodyFile(m: NewMessage): void {
    // Before anything touches the disk: the file of a repeated id would replace a stored message's body.
    if (this.#sql.exists.get(m.queueId)) throw new Error(`queue id ${m.queueId} is taken`);
    this.#written.push(m.queueId);
    this.#bodies.write(m.queueId, m.body);
    this.#reached('after-body-file');
  }

  #insertRecipient(m: NewMessage, r: NewRecipient): void {
    const domain = r.address.slice(r.address.lastIndexOf('@') + 1).toLowerCase();
    const lines = [r.signatures, r.signedAt, r.prefix];
    this.#sql.insertRecipient.run([
      ...[r.id, m.queueId, r.address, domain, r.returnPath],
      ...lines,
      m.receivedAt,
    ]);
    if (m.kind === 'mail') this.#emitAccepted(m, r, domain);
  }

  #settle({ recipientId, attempt, next, dsn }: Settlement): Settled {
    const row = this.#sql.openRecipient.get(recipientId) as OpenRow | undefined;
    if (!row) return 'not-open';
    const repeated = this.#record(recipientId, attempt);
    this.#move(recipientId, row.queue_id, next, attempt.counted ? 1 : 0);
    if (row.kind === 'mail' && !repeated) this.#emitResult(recipientId, row, attempt, next);
    if (dsn) this.#insert(dsn);
    return 'settled';
  }

  /**
   * A failure of our own may repeat for days at every recipient; it is kept once, with a count.
   *
   * @returns whether it was such a repetition
   */
  #record(recipientId: string, attempt: AttemptRecord): boolean {
    const last = this.#sql.lastAttempt.get(recipientId) as
      | { id: number; counted: number; summary: string }
      | undefined;
    const body = JSON.stringify(attempt);
    const repeated = last?.counted === 0 && !attempt.counted && last.summary === attempt.summary;
    if (repeated) this.#sql.repeatAttempt.run([body, last.id]);
    else this.#sql.insertAttempt.run([recipientId, attempt.counted ? 1 : 0, attempt.summary, body]);
    return repeated;
  }

  #move(recipientId: string, queueId: string, next: NextState, counted: 0 | 1): void {
    if (next.state === 'deferred') {
      this.#sql.defer.run([counted, next.at, recipientId]);
      return;
    }
    this.#sql.finishRecipient.run([next.state, counted, recipientId]);
    this.#sql.closeOne.run(queueId);
    const { open, in_file } = this.#sql.openCount.get(queueId) as { open: number; in_file: number };
    if (open > 0) return;
    this.#sql.finishMessage.run([this.#clock, queueId]);
    if (in_file) this.#finished.push(queueId);
    else this.#sql.deleteBody.run(queueId);
  }

  #emitAccepted(m: NewMessage, r: NewRecipient, recipientDomain: string): void {
    this.#emit('relay_attempt', m.did, m.domain, m.queueId, r.id, {
      via: m.via,
      recipient: r.address,
      recipientDomain,
      size: m.body.length,
    });
  }

  #emitResult(recipientId: string, row: OpenRow, attempt: AttemptRecord, next: NextState): void {
    const { host, reply, status, summary, counted, recipientInvalid } = attempt;
    this.#emit('delivery_result', row.did, row.domain, row.queue_id, recipientId, {
      state: next.state,
      recipient: row.address,
      host,
      reply,
      status,
      summary,
      counted,
      recipientInvalid: recipientInvalid === true,
    });
  }

  #emit(
    type: 'relay_attempt' | 'delivery_result',
    did: string,
    domain: string,
    messageId: string,
    recipientId: string,
    detail: Record<string, unknown>,
  ): void {
    const id = this.#nextEventId();
    const event = { id, type, at: this.#clock, did, domain, messageId, recipientId, detail };
    this.#sql.insertEvent.run([Number(id), JSON.stringify(event)]);
  }

  #housekeep(): void {
    const isTime = Math.abs(this.#clock - this.#housekeptAt) >= housekeepingEveryMs;
    if (!isTime && !this.#isBehind) return;
    this.#housekeptAt = this.#clock;
    this.#usage.trim(this.#clock);
    const { changes } = this.#sql.removeFinished.run([this.#clock - this.#retainMs, removedAtOnce]);
    this.#isBehind = changes === removedAtOnce;
  }
}

const statements = {
  savepoint: 'SAVEPOINT one_write',
  rollback: 'ROLLBACK TO one_write',
  release: 'RELEASE one_write',
  exists: 'SELECT 1 AS found FROM message WHERE queue_id = ?',
  insertMessage: `
    INSERT INTO message (queue_id, kind, did, domain, via, mail_from, received_at, expires_at, size, in_file, open)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  insertBody: 'INSERT INTO body (queue_id, bytes) VALUES (?, ?)',
  insertRecipient: `
    INSERT INTO recipient (id, queue_id, address, recipient_domain, return_path,
      signatures, signed_at, prefix, state, attempts, next_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'accepted', 0, ?)`,
  openRecipient: `
    SELECT r.queue_id, r.address, m.kind, m.did, m.domain FROM recipient r JOIN message m USING (queue_id)
    WHERE r.id = ? AND r.state IN (${openStates.map((state) => `'${state}'`).join(', ')})`,
  lastAttempt: 'SELECT id, counted, summary FROM attempt WHERE recipient_id = ? ORDER BY id DESC LIMIT 1',
  insertAttempt: 'INSERT INTO attempt (recipient_id, counted, summary, repeats, body) VALUES (?, ?, ?, 0, ?)',
  repeatAttempt: 'UPDATE attempt SET repeats = repeats + 1, body = ? WHERE id = ?',
  defer: "UPDATE recipient SET state = 'deferred', attempts = attempts + ?, next_at = ? WHERE id = ?",
  finishRecipient: `
    UPDATE recipient SET state = ?, attempts = attempts + ?, next_at = NULL, signatures = x'', prefix = x''
    WHERE id = ?`,
  closeOne: 'UPDATE message SET open = open - 1 WHERE queue_id = ?',
  openCount: 'SELECT open, in_file FROM message WHERE queue_id = ?',
  finishMessage: 'UPDATE message SET finished_at = ? WHERE queue_id = ?',
  deleteBody: 'DELETE FROM body WHERE queue_id = ?',
  insertEvent: 'INSERT INTO event (id, body) VALUES (?, ?)',
  forgetEvents: 'DELETE FROM event WHERE id <= ? AND id < (SELECT MAX(id) FROM event)',
  removeFinished: `
    DELETE FROM message WHERE queue_id IN
      (SELECT queue_id FROM message WHERE finished_at < ? ORDER BY finished_at LIMIT ?)`,
} as const;

function prepareAll(db: Database.Database): Record<keyof typeof statements, Statement> {
  const prepared = Object.entries(statements).map(([name, sql]) => [name, db.prepare(sql)]);
  return Object.fromEntries(prepared) as Record<keyof typeof statements, Statement>;
}
