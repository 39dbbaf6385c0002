/**
 * `com.atproto.label.queryLabels`: the labels in force under some URIs, in pages.
 *
 * Only current labels are returned, negated and expired ones are not; the stream has the history.
 * Pages follow the order (uri, seq), and the cursor carries both: each page is one walk along the key of
 * `current_label`, however far in, and a label issued meanwhile neither repeats nor hides another. Labels
 * come as the JSON that was made when they were issued.
 */
import type { Database } from '../../appview/database.ts';
import type { SignedLabel } from '../../appview/labels/codec.ts';
import { labelJson } from './label-json.ts';
import { lastCharacter } from './label-tables.ts';

export type LabelQuery = {
  /** A URI or DID, or a prefix of one followed by `*`. */
  uriPatterns: readonly string[];
  limit: number;
  /** From the page before. */
  cursor?: string;
};

export type LabelPage =
  /** `labels`: each as JSON, with a comma between two. */
  | { kind: 'page'; labels: string; cursor?: string }
  /** The question itself is wrong; `why` is for the caller. */
  | { kind: 'bad-query'; why: string };

/** Satisfied by IssuedLabels. */
export interface Resigning {
  readonly keyId: number;
  /** Signs what an older key signed among them with today's. @returns all of them where it could not be stored */
  resign(seqs: readonly number[]): Promise<SignedLabel[] | undefined>;
}

type Range = { from: string; to: string };
type Position = { uri: string; seq: number };
/** What one walk found, joined by SQLite: half the work of as many rows. All null where it found nothing. */
type Found = { labels: string; seqs: string; last: string; found: number; foreign: number };

const maxPatterns = 100;
const maxPatternLength = 2_900;

export class LabelQueries {
  readonly #issued: Resigning;
  readonly #walk: Database.Statement<unknown[]>;

  /** @param db node.db */
  constructor(db: Database.Database, issued: Resigning) {
    this.#issued = issued;
    // One lower bound alone: with two, SQLite may begin at the range instead of the cursor. Rows come to
    // group_concat in the order of the inner query.
    this.#walk = db.prepare(
      `SELECT group_concat(json, ',') AS labels, group_concat(seq, ',') AS seqs, max(uri) AS last,
         count(*) AS found, coalesce(sum(key IS NOT ?), 0) AS "foreign"
       FROM (SELECT uri, seq, key, json FROM current_label
         WHERE (uri, seq) > (?, ?) AND uri <= ? AND (exp IS NULL OR exp > ?) ORDER BY uri, seq LIMIT ?)`,
    );
  }

  /** @param now Unix ms */
  async page({ uriPatterns, limit, cursor }: LabelQuery, now: number): Promise<LabelPage> {
    const ranges = rangesOf(uriPatterns);
    if (typeof ranges === 'string') return { kind: 'bad-query', why: ranges };
    const start = cursor === undefined ? { uri: '', seq: 0 } : readCursor(cursor);
    if (!start) return { kind: 'bad-query', why: 'the cursor is not one of ours' };
    const parts = this.#read(ranges, start, limit, now);
    // Each at most once: what was signed anew is found as it is now.
    if (parts.some(({ foreign }) => foreign > 0)) {
      const anew = await this.#issued.resign(parts.flatMap(({ seqs }) => seqs.split(',').map(Number)));
      if (anew) return pageOf(parts, anew.map(labelJson).join(','), limit);
      return this.page({ uriPatterns, limit, ...(cursor !== undefined && { cursor }) }, now);
    }
    return pageOf(parts, parts.map((part) => part.labels).join(','), limit);
  }

  #read(ranges: Range[], start: Position, limit: number, now: number): Found[] {
    const parts: Found[] = [];
    let left = limit;
    for (const { from, to } of ranges) {
      if (left === 0) break;
      const isBegun = compareBytes(start.uri, from) >= 0;
      if (isBegun && compareBytes(start.uri, to) > 0) continue;
      const { uri, seq } = isBegun ? start : { uri: from, seq: 0 };
      const part = this.#walk.get([this.#issued.keyId, uri, seq, to, now, left]) as Found;
      if (part.found === 0) continue;
      parts.push(part);
      left -= part.found;
    }
    return parts;
  }
}

function pageOf(parts: readonly Found[], labels: string, limit: number): LabelPage {
  const found = parts.reduce((sum, part) => sum + part.found, 0);
  const last = parts.at(-1);
  return { kind: 'page', labels, ...(last && found === limit && { cursor: writeCursor(lastOf(last)) }) };
}

function lastOf({ last, seqs }: Found): Position {
  return { uri: last, seq: Number(seqs.slice(seqs.lastIndexOf(',') + 1)) };
}

/** Disjoint and sorted, so that one walk visits each label once. @returns a sentence when a pattern is wrong */
function rangesOf(patterns: readonly string[]): Range[] | string {
  if (patterns.length === 0) return 'uriPatterns is empty';
  if (patterns.length > maxPatterns) return `more than ${maxPatterns} uriPatterns`;
  const ranges: Range[] = [];
  for (const pattern of patterns) {
    if (pattern.length > maxPatternLength) return 'a uriPattern is too long';
    const star = pattern.indexOf('*');
    if (star !== -1 && star !== pattern.length - 1) return 'a uriPattern may have * only at its end';
    const from = star === -1 ? pattern : pattern.slice(0, -1);
    ranges.push({ from, to: star === -1 ? pattern : from + lastCharacter });
  }
  return ranges.length === 1 ? ranges : merge(ranges.sort((a, b) => compareBytes(a.from, b.from)));
}

function merge(sorted: Range[]): Range[] {
  const merged: Range[] = [];
  for (const range of sorted) {
    const last = merged.at(-1);
    if (!last || compareBytes(range.from, last.to) > 0) merged.push({ ...range });
    else if (compareBytes(range.to, last.to) > 0) last.to = range.to;
  }
  return merged;
}

/** As SQLite compares: UTF-8 bytes, where JavaScript compares UTF-16 units. */
function compareBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

function writeCursor({ uri, seq }: Position): string {
  return Buffer.from(JSON.stringify([uri, seq])).toString('base64url');
}

function readCursor(text: string): Position | undefined {
  try {
    const [uri, seq] = JSON.parse(Buffer.from(text, 'base64url').toString()) as unknown[];
    return typeof uri === 'string' && Number.isSafeInteger(seq) ? { uri, seq: seq as number } : undefined;
  } catch {
    return undefined;
  }
}
