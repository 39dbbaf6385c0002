/**
 * The signals that this cooperative has issued: signs what is due, and keeps what the channel serves.
 *
 * Promise: what a commit made due (outbox.ts) is signed and in the log sooner or later, in its order, also after a
 * crash; its row goes in the commit of the signals. A signal stands on the member's DID and on the URI of each of
 * its domains' attestations, so that a peer finds it by either. A signal that an older key signed is signed anew
 * when it is read.
 */
import type { Keypair } from '@atproto/crypto';
import type { Logger } from 'pino';
import { attestationUri, attestedDomain } from '../../appview/attestation-uri.ts';
import { CorruptState, type Database, isCorruption, transaction } from '../../appview/database.ts';
import type { UnsignedLabel } from '../../appview/labels/codec.ts';
import {
  decodeSignal,
  encodeSignal,
  type Signal,
  type SignalFigures,
  type SignalWords,
  signSignal,
} from '../../appview/labels/signal.ts';
import type { SignalBatch, SignalLog } from './channel.ts';
import type { Due } from './outbox.ts';

export type IssuedSignalsOptions = {
  /** node.db. */
  db: Database.Database;
  /** Ours: `src` of every signal. */
  did: string;
  /** Of `#atproto_label`, as it is now. */
  key: () => Keypair;
  /** Enrolled here, in their normal form. */
  domainsOf: (did: string) => readonly string[];
  /** This relay's own counts of a member. */
  figuresOf: (did: string) => SignalFigures[];
  now: () => number;
  log: Logger;
  count: (what: string, reason?: string) => void;
  /** How often is looked for what another process made due. Default 10 s. */
  intervalMs?: number;
};

type Row = { uri: string; val: string; seq: number; key: string; body: ArrayBuffer };
type DueRow = Due & { id: number };

export class IssuedSignals implements SignalLog {
  readonly #o: IssuedSignalsOptions;
  readonly #sql: ReturnType<typeof prepare>;
  readonly #listeners = new Set<() => void>();
  #timer: NodeJS.Timeout | undefined;
  #working: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(options: IssuedSignalsOptions) {
    this.#o = options;
    this.#sql = prepare(options.db);
  }

  start(): void {
    void this.publishDue();
    this.#timer = setInterval(() => void this.publishDue(), this.#o.intervalMs ?? 10_000);
    this.#timer.unref();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearInterval(this.#timer);
    await this.#working;
  }

  /**
   * Signs what is due, in order; a call meanwhile comes after. Rejects, unhandled on purpose where nobody awaits
   * it, when node.db is damaged; what else fails is tried again.
   */
  publishDue(): Promise<void> {
    this.#working = this.#working.then(() => this.#publishAll());
    return this.#working;
  }

  get newest(): number {
    return (this.#sql.newest.get() as { seq: number | null }).seq ?? 0;
  }

  async since(seq: number, limit: number, beginner: boolean): Promise<SignalBatch | undefined> {
    const rows = this.#sql.since.all(seq, limit) as (Row & { neg: number; exp: number | null })[];
    if (rows.length === 0) return undefined;
    const now = this.#o.now();
    const isOver = ({ neg, exp }: (typeof rows)[number]) => neg === 1 || (exp !== null && exp <= now);
    const wanted = beginner ? rows.filter((row) => !isOver(row)) : rows;
    return { seq: rows.at(-1)!.seq, signals: await this.#signedByUs(wanted) };
  }

  async inForce(o: { subjects?: readonly string[]; after: number; limit: number }): Promise<SignalBatch> {
    const subjects = o.subjects ? JSON.stringify(o.subjects) : null;
    const rows = this.#sql.inForce.all(o.after, this.#o.now(), subjects, o.limit) as Row[];
    return { seq: rows.at(-1)?.seq ?? o.after, signals: await this.#signedByUs(rows) };
  }

  onAppended(callback: () => void): () => void {
    this.#listeners.add(callback);
    return () => this.#listeners.delete(callback);
  }

  async #publishAll(): Promise<void> {
    try {
      for (;;) {
        const due = this.#sql.due.get() as DueRow | undefined;
        if (!due || this.#stopped) return;
        await this.#publish(due);
      }
    } catch (error) {
      if (isCorruption(error)) throw error;
      this.#o.count('signals_failed');
      this.#o.log.error({ err: error }, 'signals to peers are not signed yet; trying again');
    }
  }

  async #publish(due: DueRow): Promise<void> {
    const { db, count, log } = this.#o;
    const key = this.#o.key();
    const signed = await Promise.all(
      this.#labelsOf(due).map((label) => signSignal(label, label.neg ? {} : this.#words(due), key)),
    );
    transaction(db, () => {
      for (const signal of signed) this.#put(signal, key.did());
      this.#sql.done.run(due.id);
    });
    for (const { label } of signed) count(label.neg ? 'signals_ended' : 'signals_issued', label.val);
    log.info({ did: due.did, val: due.val, signals: signed.length }, 'signals to peers');
    if (signed.length > 0) for (const wake of [...this.#listeners]) wake();
  }

  /** What is in force from now on, and the end of what was. */
  #labelsOf({ did, val, until }: DueRow): UnsignedLabel[] {
    const { domainsOf, now } = this.#o;
    const before = this.#sql.ofMember.all(did, now()) as { uri: string; val: string }[];
    const ended = before
      .filter((one) => one.val !== val)
      .map((one) => this.#label(one.uri, one.val, { neg: true }));
    if (val === null) return ended;
    const uris = [did, ...domainsOf(did).map((domain) => attestationUri(did, domain))];
    const exp = until === null ? {} : { exp: iso(until) };
    return [...ended, ...uris.map((uri) => this.#label(uri, val, exp))];
  }

  /** Of one (uri, val) each is younger than the one before, also when the clock steps back. */
  #label(uri: string, val: string, more: { neg?: true; exp?: string }): UnsignedLabel {
    const last = this.#sql.lastCts.get(uri, val) as { cts: number } | undefined;
    const cts = Math.max(this.#o.now(), (last?.cts ?? -1) + 1);
    return { ver: 1, src: this.#o.did, uri, val, cts: iso(cts), ...more };
  }

  #words({ did, reason, evidence }: DueRow): SignalWords {
    return { reason, evidence, figures: this.#o.figuresOf(did) };
  }

  #put(signal: Signal, didKey: string): void {
    const { uri, val, neg, cts, exp } = signal.label;
    const did = uri.startsWith('at://') ? uri.slice(5).split('/', 1)[0]! : uri;
    const times = [Date.parse(cts), exp === undefined ? null : Date.parse(exp)];
    const about = [uri, val, did, attestedDomain(uri) ?? null, this.newest + 1, neg ? 1 : 0];
    this.#sql.put.run(...about, ...times, didKey, Buffer.from(encodeSignal(signal)));
  }

  #signedByUs(rows: readonly Row[]): Promise<Signal[]> {
    return Promise.all(
      rows.map(async (row) => {
        const signal = decodeSignal(new Uint8Array(row.body));
        if (!signal)
          throw new CorruptState(`node.db: signal ${row.seq} does not decode. Restore it from a backup.`);
        return row.key === this.#o.key().did() ? signal : this.#resigned(row, signal);
      }),
    );
  }

  async #resigned({ seq }: Row, { label: { sig: _, ...label }, ...words }: Signal): Promise<Signal> {
    const key = this.#o.key();
    const signal = await signSignal(label, words, key);
    this.#sql.resign.run(key.did(), Buffer.from(encodeSignal(signal)), seq);
    return signal;
  }
}

function iso(at: number): string {
  return new Date(at).toISOString();
}

function prepare(db: Database.Database) {
  const columns = 'uri, val, seq, neg, exp, key, body';
  const stands = 'neg = 0 AND (exp IS NULL OR exp > ?)';
  return {
    due: db.prepare('SELECT id, did, val, until, reason, evidence FROM reputation_due ORDER BY id LIMIT 1'),
    done: db.prepare('DELETE FROM reputation_due WHERE id = ?'),
    newest: db.prepare('SELECT max(seq) AS seq FROM issued_signal'),
    since: db.prepare(`SELECT ${columns} FROM issued_signal WHERE seq > ? ORDER BY seq LIMIT ?`),
    inForce: db.prepare(
      `SELECT ${columns} FROM issued_signal WHERE seq > ?1 AND neg = 0 AND (exp IS NULL OR exp > ?2)
       AND (?3 IS NULL OR did IN (SELECT value FROM json_each(?3)) OR domain IN (SELECT value FROM json_each(?3)))
       ORDER BY seq LIMIT ?4`,
    ),
    ofMember: db.prepare(`SELECT uri, val FROM issued_signal WHERE did = ? AND ${stands} ORDER BY seq`),
    lastCts: db.prepare('SELECT cts FROM issued_signal WHERE uri = ? AND val = ?'),
    put: db.prepare(
      `INSERT OR REPLACE INTO issued_signal (uri, val, did, domain, seq, neg, cts, exp, key, body)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ),
    resign: db.prepare('UPDATE issued_signal SET key = ?, body = ? WHERE seq = ?'),
  };
}
