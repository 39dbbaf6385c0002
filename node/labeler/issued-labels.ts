/**
 * Every label that this cooperative has issued: an append-only, signed log.
 *
 * Promise: a label is in the log before anyone sees it; `seq` grows with each; of one (uri, val) each
 * label is younger than the one before, even when the clock steps back, because consumers let the latest
 * `cts` win. follow() hands over every label after a cursor, replay and live without a gap.
 * Which labels a member deserves is decision.ts's business.
 */
import type { Keypair } from '@atproto/crypto';
import { CorruptState, type Database, transaction } from '../../appview/database.ts';
import {
  decodeLabel,
  encodeLabel,
  encodeLabelsFrame,
  type SignedLabel,
  signLabel,
} from '../../appview/labels/codec.ts';
import type { Decision, Label } from './decision.ts';

/** One entry of the log. */
export class IssuedLabel {
  readonly seq: number;
  readonly label: SignedLabel;
  #frame: Uint8Array | undefined;

  constructor(seq: number, label: SignedLabel) {
    this.seq = seq;
    this.label = label;
  }

  /** The message of `subscribeLabels`, encoded once for all who read it. */
  get frame(): Uint8Array {
    this.#frame ??= encodeLabelsFrame(this.seq, [this.label]);
    return this.#frame;
  }
}

export type IssuedLabelsOptions = {
  /** node.db. */
  db: Database.Database;
  /** Ours: `src` of every label. */
  did: string;
  /** Of `#atproto_label`. */
  key: Keypair;
  now: () => number;
};

/** libsql gives a blob as an ArrayBuffer from all(), and as a Buffer from get(). */
export type LogRow = { seq: number; body: ArrayBuffer };

/** Live followers share these; whoever is further behind reads from disk. */
const maxRecent = 1_024;
const replayBatch = 200;

export class IssuedLabels {
  readonly #db: Database.Database;
  readonly #did: string;
  readonly #key: Keypair;
  readonly #now: () => number;
  readonly #waiting = new Set<() => void>();
  #recent: IssuedLabel[] = [];
  #newest: number;

  constructor({ db, did, key, now }: IssuedLabelsOptions) {
    this.#db = db;
    this.#did = did;
    this.#key = key;
    this.#now = now;
    this.#newest =
      (db.prepare('SELECT max(seq) AS seq FROM issued_label').get() as { seq: number | null }).seq ?? 0;
  }

  /** `src` of every label here. */
  get did(): string {
    return this.#did;
  }

  /** `seq` of the last label; 0 before the first. */
  get newest(): number {
    return this.#newest;
  }

  /**
   * Signs and appends, all in one commit. Callers take turns: what they decided rests on inForce().
   *
   * @returns what was appended, negations after issues
   */
  async append({ issue, negate }: Decision): Promise<IssuedLabel[]> {
    if (issue.length + negate.length === 0) return [];
    const signed = await Promise.all([
      ...issue.map((label) => this.#sign(label)),
      // Without cid: it negates whatever version the label stood on.
      ...negate.map(({ uri, val }) => this.#sign({ uri, val, neg: true })),
    ]);
    const appended = transaction(this.#db, () => signed.map((label) => this.#insert(label)));
    this.#remember(appended);
    return appended;
  }

  /** Labels on an account and on its records that are neither negated nor expired. */
  inForce(did: string): Label[] {
    const rows = this.#db
      .prepare(
        `SELECT uri, val, cid FROM issued_label AS l
         WHERE (uri = ? OR (uri >= ? AND uri <= ?)) AND ${inForceClause} ORDER BY uri, val`,
      )
      .all(did, `at://${did}/`, `at://${did}/${lastCharacter}`, isoTime(this.#now())) as {
      uri: string;
      val: string;
      cid: string | null;
    }[];
    return rows.map(({ uri, val, cid }) => (cid === null ? { uri, val } : { uri, val, cid }));
  }

  /** At most `limit` labels after `seq`, oldest first. */
  since(seq: number, limit: number = replayBatch): IssuedLabel[] {
    const oldest = this.#recent[0];
    if (seq >= this.#newest) return [];
    if (oldest && oldest.seq <= seq + 1) {
      const from = this.#recent.findLastIndex((entry) => entry.seq <= seq) + 1;
      return this.#recent.slice(from, from + limit);
    }
    const rows = this.#db
      .prepare('SELECT seq, body FROM issued_label WHERE seq > ? ORDER BY seq LIMIT ?')
      .all(seq, limit) as LogRow[];
    return rows.map((row) => new IssuedLabel(row.seq, storedLabel(row)));
  }

  /** Every label after `seq`, then each new one as it comes; ends on `signal`. */
  async *follow(seq: number, signal: AbortSignal): AsyncGenerator<IssuedLabel, void, undefined> {
    let cursor = seq;
    while (!signal.aborted) {
      const batch = this.since(cursor);
      for (const entry of batch) {
        if (signal.aborted) return;
        yield entry;
        cursor = entry.seq;
      }
      // Between the empty read and the wait nothing else runs, so no label falls between them.
      if (batch.length === 0) await this.#nextAppend(signal);
    }
  }

  async #sign(label: Label & { neg?: true }): Promise<SignedLabel> {
    const before = this.#db
      .prepare('SELECT cts FROM issued_label WHERE uri = ? AND val = ? ORDER BY seq DESC LIMIT 1')
      .get(label.uri, label.val) as { cts: string } | undefined;
    const cts = Math.max(this.#now(), before ? Date.parse(before.cts) + 1 : 0);
    return signLabel({ ver: 1, src: this.#did, ...label, cts: isoTime(cts) }, this.#key);
  }

  #insert(label: SignedLabel): IssuedLabel {
    const { lastInsertRowid } = this.#db
      .prepare('INSERT INTO issued_label (uri, val, cid, neg, cts, exp, body) VALUES (?, ?, ?, ?, ?, ?, ?)')
      .run(
        label.uri,
        label.val,
        label.cid ?? null,
        label.neg ? 1 : 0,
        label.cts,
        label.exp ?? null,
        Buffer.from(encodeLabel(label)),
      );
    return new IssuedLabel(Number(lastInsertRowid), label);
  }

  #remember(appended: IssuedLabel[]): void {
    this.#recent = [...this.#recent, ...appended].slice(-maxRecent);
    this.#newest = appended.at(-1)!.seq;
    for (const wake of [...this.#waiting]) wake();
  }

  #nextAppend(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        this.#waiting.delete(wake);
        signal.removeEventListener('abort', wake);
        resolve();
      };
      this.#waiting.add(wake);
      signal.addEventListener('abort', wake);
    });
  }
}

/**
 * The current label of each (uri, val), when it stands. One parameter: now, as isoTime() writes it.
 * `cts` grows with `seq` within one (uri, val), so the newest row is the current one.
 */
export const inForceClause = `
  l.neg = 0 AND (l.exp IS NULL OR l.exp > ?) AND NOT EXISTS (
    SELECT 1 FROM issued_label AS later WHERE later.uri = l.uri AND later.val = l.val AND later.seq > l.seq)`;

/** Sorts after every character that a URI can hold, so `prefix + this` ends the range of a prefix. */
export const lastCharacter = '\u{10ffff}';

/** All times in the log have this one form, so they compare as text. @param ms Unix ms */
export function isoTime(ms: number): string {
  return new Date(ms).toISOString();
}

/** @throws CorruptState when the log holds what we never wrote */
export function storedLabel(row: LogRow): SignedLabel {
  const label = decodeLabel(new Uint8Array(row.body));
  if (!label) throw new CorruptState(`node.db: label ${row.seq} does not decode. Restore it from a backup.`);
  return label;
}
