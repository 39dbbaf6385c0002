/**
 * Every label that this cooperative has issued: a signed log, and what stands of it.
 *
 * Promise: a label is in the log before anyone sees it; `seq` grows with each; of one (uri, val) each
 * label is younger than the one before, even when the clock steps back, because consumers let the latest
 * `cts` win. follow() hands over every label after a cursor, replay and live without a gap. What is decided
 * at the same time shares one commit. A label that an older key signed is signed anew when it is read.
 * Which labels a member deserves is decision.ts's business; label-tables.ts knows the rows.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Keypair } from '@atproto/crypto';
import { CorruptState, type Database, transaction } from '../../appview/database.ts';
import {
  decodeLabel,
  encodeLabel,
  labelBytes,
  type SignedLabel,
  type UnsignedLabel,
} from '../../appview/labels/codec.ts';
import type { Decision, Label } from './decision.ts';
import { doesNotDecode, LabelsFrame } from './label-frame.ts';
import { type LabelSigner, labelSigner } from './label-signer.ts';
import { isoTime, LabelTables, type LogRow } from './label-tables.ts';

/** One entry of the log. */
export type IssuedLabel = { seq: number; label: SignedLabel };

export type IssuedLabelsOptions = {
  /** node.db. */
  db: Database.Database;
  /** Ours: `src` of every label. */
  did: string;
  /** Of `#atproto_label`. One that may be exported signs ten times as fast (label-signer.ts). */
  key: Keypair;
  now: () => number;
  /** For how long what stands no more stays in the log. Default 90 days. */
  historyMs?: number;
};

/** `id`: as the rows of the tables name the key. */
type Signing = { id: number; signer: Promise<LabelSigner> };

type Fresh = { label: SignedLabel; isFirst: boolean };

type Waiting = {
  decision: Decision;
  resolve: (appended: IssuedLabel[]) => void;
  reject: (error: unknown) => void;
};

/** Live followers share these; whoever is further behind reads from disk. */
const maxRecent = 4_096;
const framesAtOnce = 128;
const replayBatch = 200;
const labelsPerReplayedFrame = 50;
/** Labels of one commit, or one decision that is larger. */
const maxGroup = 250;
const ninetyDaysMs = 90 * 86_400_000;

export class IssuedLabels {
  readonly #db: Database.Database;
  readonly #did: string;
  readonly #now: () => number;
  readonly #historyMs: number;
  readonly #tables: LabelTables;
  #signing: Signing;
  readonly #followers = new Set<() => void>();
  #waiting: Waiting[] = [];
  #isCommitting = false;
  /** Without gaps, up to the newest. */
  #recent: LabelsFrame[] = [];
  #newest: number;

  constructor({ db, did, key, now, historyMs = ninetyDaysMs }: IssuedLabelsOptions) {
    this.#db = db;
    this.#did = did;
    this.#now = now;
    this.#historyMs = historyMs;
    this.#tables = new LabelTables(db);
    this.#signing = this.#signingWith(key);
    this.#newest = this.#tables.newest;
  }

  /** `src` of every label here. */
  get did(): string {
    return this.#did;
  }

  /** Of the key that signs now, as the rows of the tables name it. */
  get keyId(): number {
    return this.#signing.id;
  }

  /** From now on this key signs, also what is read. Who read a label before keeps the old signature. */
  useKey(key: Keypair): void {
    this.#signing = this.#signingWith(key);
    this.#recent = [];
  }

  /** `seq` of the last label; 0 before the first. */
  get newest(): number {
    return this.#newest;
  }

  /** What came after this cursor is not all here any more: its holder must ask queryLabels what stands. */
  isOutdated(cursor: number): boolean {
    return cursor > 0 && cursor < this.#tables.prunedThrough;
  }

  /**
   * Signs and appends, all in one commit, which others may share. Who decides about the same (uri, val) as
   * another waits for the other: a decision rests on inForce().
   *
   * @returns what was appended, negations after issues
   */
  append(decision: Decision): Promise<IssuedLabel[]> {
    if (decision.issue.length + decision.negate.length === 0) return Promise.resolve([]);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ decision, resolve, reject });
      if (!this.#isCommitting) void this.#commitAll();
    });
  }

  /** Labels on an account and on its records that are neither negated nor expired. */
  inForce(did: string): Label[] {
    return this.#tables.inForce(did, this.#now());
  }

  /** Frames of some labels after `seq`, oldest first; none when there are no more. */
  async since(seq: number): Promise<LabelsFrame[]> {
    if (seq >= this.#newest) return [];
    const oldest = this.#recent[0];
    if (oldest && oldest.first <= seq + 1) return this.#fromMemory(seq);
    const rows = await this.#signedByUs(this.#tables.rowsAfter(seq, replayBatch));
    const frames: LabelsFrame[] = [];
    for (let at = 0; at < rows.length; at += labelsPerReplayedFrame)
      frames.push(new LabelsFrame(rows.slice(at, at + labelsPerReplayedFrame)));
    return frames;
  }

  /** Every label after `seq`, then each new one as it comes; ends on `signal`. */
  async *follow(seq: number, signal: AbortSignal): AsyncGenerator<LabelsFrame[], void, undefined> {
    let cursor = seq;
    while (!signal.aborted) {
      // Between this look and the wait nothing else runs, so no label falls between them.
      if (cursor >= this.#newest) {
        await this.#nextCommit(signal);
        continue;
      }
      const frames = await this.since(cursor);
      if (signal.aborted) return;
      // The rest of the log was removed while it was read.
      cursor = frames.at(-1)?.seq ?? this.#newest;
      if (frames.length > 0) yield frames;
      // A long replay to a fast reader leaves room for others.
      if (cursor < this.#newest) await nextTurn();
    }
  }

  /**
   * Signs what an older key signed among them with today's, and stores it.
   *
   * @returns undefined once it is stored; where the disk has no room, all of them in that order, for this once
   */
  async resign(seqs: readonly number[]): Promise<SignedLabel[] | undefined> {
    const rows = this.#tables.rowsOf(seqs);
    if (rows.length < seqs.length) throw new CorruptState('node.db: a label that stands is not in the log.');
    const signing = this.#signing;
    const anew = await this.#resign(
      rows.filter(({ key }) => key !== signing.id),
      signing,
    );
    if (anew.every(({ isStored }) => isStored)) return undefined;
    const fresh = new Map(anew.map(({ seq, label }) => [seq, label]));
    return rows.map((row) => fresh.get(row.seq) ?? storedLabel(row));
  }

  async #commitAll(): Promise<void> {
    this.#isCommitting = true;
    // Whoever decides in this turn shares the commit.
    await nextTurn();
    while (this.#waiting.length > 0) {
      const group = this.#takeGroup();
      try {
        const appended = await this.#commit(group.map(({ decision }) => decision));
        for (const [index, { resolve }] of group.entries()) resolve(appended[index]!);
      } catch (error) {
        for (const { reject } of group) reject(error);
      }
      await nextTurn();
    }
    this.#isCommitting = false;
  }

  #takeGroup(): Waiting[] {
    let labels = 0;
    const end = this.#waiting.findIndex(({ decision }) => {
      labels += decision.issue.length + decision.negate.length;
      return labels > maxGroup;
    });
    return this.#waiting.splice(0, end < 0 ? this.#waiting.length : Math.max(1, end));
  }

  /** @returns per decision what was appended */
  async #commit(decisions: readonly Decision[]): Promise<IssuedLabel[][]> {
    const signing = this.#signing;
    const signed = await this.#signAll(decisions, signing);
    const frames: LabelsFrame[] = [];
    const appended = transaction(this.#db, () => {
      const now = this.#now();
      this.#tables.prune(now, now - this.#historyMs);
      return signed.map((labels) => {
        const rows = labels.map(({ label, isFirst }) => {
          return { ...this.#tables.insert(label, { key: signing.id, isFirst, now }), label };
        });
        frames.push(
          new LabelsFrame(
            rows,
            rows.map(({ label }) => label),
          ),
        );
        return rows.map(({ seq, label }) => ({ seq, label }));
      });
    });
    this.#remember(frames, signing);
    return appended;
  }

  async #signAll(decisions: readonly Decision[], signing: Signing): Promise<Fresh[][]> {
    const signer = await signing.signer;
    const times = new Map<string, number>();
    return Promise.all(
      decisions.map(({ issue, negate }) => {
        // A negation has no cid: it negates whatever version the label stood on.
        const negations = negate.map(({ uri, val }) => ({ uri, val, neg: true as const }));
        const dated = [...issue, ...negations].map((label) => this.#dated(label, times));
        return Promise.all(
          dated.map(async ({ label, isFirst }) => ({ label: await signed(label, signer), isFirst })),
        );
      }),
    );
  }

  /** @param times of labels that are in no table yet */
  #dated({ uri, cid, val, exp, ...rest }: Label & { neg?: true }, times: Map<string, number>) {
    const key = `${val} ${uri}`;
    const before = times.get(key) ?? this.#tables.lastCts(uri, val);
    const cts = Math.max(this.#now(), (before ?? -1) + 1);
    times.set(key, cts);
    const label: UnsignedLabel = {
      ...{ ver: 1, src: this.#did, uri, val, cts: isoTime(cts) },
      ...(cid !== undefined && { cid }),
      ...(exp !== undefined && { exp }),
      ...(rest.neg && { neg: true }),
    };
    return { label, isFirst: before === undefined };
  }

  #signingWith(key: Keypair): Signing {
    return { id: this.#tables.keyId(key.did()), signer: labelSigner(key) };
  }

  async #signedByUs(rows: readonly LogRow[]): Promise<{ seq: number; body: Uint8Array }[]> {
    const signing = this.#signing;
    const foreign = rows.filter(({ key }) => key !== signing.id);
    const anew = new Map((await this.#resign(foreign, signing)).map(({ seq, body }) => [seq, body]));
    return rows.map(({ seq, body }) => ({ seq, body: anew.get(seq) ?? new Uint8Array(body) }));
  }

  async #resign(rows: readonly LogRow[], { id, signer: signs }: Signing) {
    if (rows.length === 0) return [];
    const signer = await signs;
    const labels = await Promise.all(
      rows.map(async (row) => ({ seq: row.seq, label: await signed(storedLabel(row), signer) })),
    );
    const store = () => labels.map((one) => ({ ...one, body: this.#tables.resign(one.seq, one.label, id) }));
    try {
      return transaction(this.#db, store).map((one) => ({ ...one, isStored: true }));
    } catch (error) {
      // A read needs no room: whoever reads gets it, and the next reader has it signed again.
      if (!isFull(error)) throw error;
      return labels.map((one) => ({ ...one, body: encodeLabel(one.label), isStored: false }));
    }
  }

  #fromMemory(seq: number): LabelsFrame[] {
    // Most readers are at the end.
    let from = this.#recent.length;
    while (from > 0 && this.#recent[from - 1]!.seq > seq) from -= 1;
    const frames = this.#recent.slice(from, from + framesAtOnce);
    const [first] = frames;
    if (first && first.first <= seq) frames[0] = first.after(seq);
    return frames;
  }

  #remember(frames: readonly LabelsFrame[], signing: Signing): void {
    // What the key before signed in the meantime is read from disk, and signed anew.
    if (signing === this.#signing) this.#recent.push(...frames);
    else this.#recent = [];
    // A quarter at once, so that most commits move nothing.
    if (this.#recent.length > maxRecent * 1.25) this.#recent = this.#recent.slice(-maxRecent);
    this.#newest = frames.at(-1)!.seq;
    for (const wake of [...this.#followers]) wake();
  }

  #nextCommit(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        this.#followers.delete(wake);
        signal.removeEventListener('abort', wake);
        resolve();
      };
      this.#followers.add(wake);
      signal.addEventListener('abort', wake);
    });
  }
}

async function signed(label: UnsignedLabel, signer: LabelSigner): Promise<SignedLabel> {
  const { sig: _, ...fields } = label as SignedLabel;
  return { ...fields, sig: await signer.sign(labelBytes(fields)) };
}

function isFull(error: unknown): boolean {
  return /^(SQLITE_FULL|ENOSPC|EDQUOT)/.test((error as NodeJS.ErrnoException).code ?? '');
}

/** @throws CorruptState when the log holds what we never wrote */
function storedLabel(row: LogRow): SignedLabel {
  const label = decodeLabel(new Uint8Array(row.body));
  if (!label) throw doesNotDecode(row.seq);
  return label;
}
