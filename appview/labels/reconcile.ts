/**
 * Compares what we hold of an issuer with what it serves: one walk through its `queryLabels`.
 *
 * For what a stream cannot show: labels that were lost between backfill and live, negations that fell out of the
 * history before we read them, signatures made anew after a rotation.
 *
 * Promise: what it serves and we lack is stored, verified like everything else. What we hold and it serves no
 * more, asked for by its own URI too, is not in force any longer. Only a complete walk shows an absence, only a
 * label made and received well before the walk can be absent, and where too many are, nothing is touched: an
 * index that broke looks like that. Nor is it while a new key of the issuer waits.
 */
import { setImmediate as breathe } from 'node:timers/promises';
import { labelBytes, parseJsonLabel, type SignedLabel } from './codec.ts';
import { type Confirmation, clockDriftMs } from './confirmation.ts';
import type { LabelSource } from './source.ts';
import type { Held, LabelName, LabelStore } from './store.ts';

export type ReconciliationOptions = {
  src: string;
  source: LabelSource;
  store: LabelStore;
  confirmation: Confirmation;
  /** Resolves when so many may be looked at; rejects on `signal`. */
  pace: (labels: number, signal: AbortSignal) => Promise<void>;
  count: (what: string, reason?: string) => void;
  now: () => number;
};

/**
 * `incomplete`: the walk did not come to an end. `vanished`: so many labels are missing that none was touched.
 */
export type Reconciled =
  | { kind: 'complete'; gone: number }
  | { kind: 'incomplete' }
  | { kind: 'vanished'; missing: number; held: number };

/** Two million labels. */
const maxPages = 8_000;
/** More missing labels than these at once are an accident of the issuer's and no withdrawal. */
const missingBorne = { labels: 20, share: 0.1 };
const urisPerQuestion = 10;
/** Missing ones that one walk asks for by their own URI; the rest is the next walk's. */
const maxAsked = 1_000;
const heldPerPage = 500;

export class Reconciliation {
  readonly #options: ReconciliationOptions;

  constructor(options: ReconciliationOptions) {
    this.#options = options;
  }

  /** @throws when the issuer does not answer, and on `signal` */
  async run(signal: AbortSignal): Promise<Reconciled> {
    const { src, store, count, now } = this.#options;
    const madeBefore = now() - clockDriftMs;
    const served = new Set<number>();
    if (!(await this.#walk(['*'], served, signal))) return { kind: 'incomplete' };
    const { missing, held } = await this.#missing(madeBefore, served);
    // An answer carries no signature: while a key waits, whoever holds the web server may have written it.
    if (!store.weighs(src)) return { kind: 'complete', gone: 0 };
    if (missing.length > Math.max(missingBorne.labels, held * missingBorne.share)) {
      return { kind: 'vanished', missing: missing.length, held };
    }
    const gone = await this.#confirmedGone(missing.slice(0, maxAsked), served, signal);
    store.withdraw(src, gone, madeBefore);
    for (const _ of gone) count('labels_gone');
    return { kind: 'complete', gone: gone.length };
  }

  /** @returns whether it came to the end. @param served gets the `rowid` of what we hold already */
  async #walk(uriPatterns: readonly string[], served: Set<number>, signal: AbortSignal): Promise<boolean> {
    const { src, source, pace } = this.#options;
    const cursors = new Set<string>();
    let cursor: string | undefined;
    for (let page = 0; page < maxPages; page++) {
      const question = { uriPatterns, src, ...(cursor !== undefined && { cursor }) };
      const answer = await source.query!(question, signal);
      await pace(Math.max(answer.labels.length, 1), signal);
      await this.#take(answer.labels, served, signal);
      cursor = answer.cursor;
      if (answer.labels.length === 0 || cursor === undefined) return true;
      // Some servers never end; what lies between is then not known.
      if (cursors.has(cursor)) return false;
      cursors.add(cursor);
    }
    return false;
  }

  async #take(values: readonly unknown[], served: Set<number>, signal: AbortSignal): Promise<void> {
    const { src, store, confirmation, count } = this.#options;
    const fresh: SignedLabel[] = [];
    const resigned = new Map<SignedLabel, number>();
    /** A server of its whole history ends with what stands: that is not the same when what is older came again. */
    const renewed = new Set<number>();
    for (const label of values.flatMap((value) => this.#own(value) ?? [])) {
      const held = store.find(label);
      if (held && !held.isGone && !renewed.has(held.rowid) && saysTheSame(held.label, label)) {
        served.add(held.rowid);
        if (Buffer.compare(held.label.sig, label.sig) !== 0) resigned.set(label, held.rowid);
      } else if (Date.parse(label.cts) >= (held?.madeAt ?? 0)) {
        fresh.push(label);
        if (held) renewed.add(held.rowid);
      }
    }
    const { keyOf, bad } = await confirmation.check([...fresh, ...resigned.keys()], signal);
    for (const _ of bad) count('labels_refused', 'bad_signature');
    store.apply(
      src,
      fresh.filter((label) => !bad.has(label)),
      keyOf,
    );
    if (!store.weighs(src)) return;
    for (const [label, rowid] of resigned) if (!bad.has(label)) store.resign(rowid, label);
  }

  #own(value: unknown): SignedLabel | undefined {
    const label = parseJsonLabel(value);
    if (label?.src === this.#options.src) return label;
    this.#options.count('labels_refused', label ? 'foreign_src' : 'malformed');
    return undefined;
  }

  async #missing(before: number, served: ReadonlySet<number>): Promise<{ missing: Held[]; held: number }> {
    const { src, store } = this.#options;
    const missing: Held[] = [];
    let held = 0;
    let after: LabelName | undefined;
    for (;;) {
      const page = store.heldBefore(src, before, after, heldPerPage);
      held += page.length;
      missing.push(...page.filter(({ rowid }) => !served.has(rowid)));
      if (page.length < heldPerPage) return { missing, held };
      after = page.at(-1)!.label;
      await breathe();
    }
  }

  /** A page order that shifts under a walk hides labels that are there: each is asked for by its URI. */
  async #confirmedGone(
    missing: readonly Held[],
    served: Set<number>,
    signal: AbortSignal,
  ): Promise<number[]> {
    const askable = missing.filter(({ label }) => !hasWildcard(label.uri));
    const uris = [...new Set(askable.map(({ label }) => label.uri))];
    const answered = new Set<string>();
    for (let from = 0; from < uris.length; from += urisPerQuestion) {
      const asked = uris.slice(from, from + urisPerQuestion);
      if (await this.#walk(asked, served, signal)) for (const uri of asked) answered.add(uri);
    }
    return askable
      .filter(({ rowid, label }) => answered.has(label.uri) && !served.has(rowid))
      .map(({ rowid }) => rowid);
  }
}

/** To some servers these mean something in a pattern, so that their answer says nothing about the URI. */
function hasWildcard(uri: string): boolean {
  return /[%_*]/.test(uri);
}

function saysTheSame(held: SignedLabel, label: SignedLabel): boolean {
  return Buffer.compare(labelBytes(held), labelBytes(label)) === 0;
}
