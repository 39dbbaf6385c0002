/**
 * `com.atproto.label.queryLabels`: the labels in force under some URIs, in pages.
 *
 * Only current labels are returned, negated and expired ones are not; the stream has the history.
 * Pages follow the order (uri, seq), and the cursor carries both: each page is one walk along an index,
 * however far in, and a label issued meanwhile neither repeats nor hides another.
 */
import type { Database } from '../../appview/database.ts';
import type { SignedLabel } from '../../appview/labels/codec.ts';
import { inForceClause, isoTime, type LogRow, lastCharacter, storedLabel } from './issued-labels.ts';

export type LabelQuery = {
  /** A URI or DID, or a prefix of one followed by `*`. */
  uriPatterns: readonly string[];
  limit: number;
  /** From the page before. */
  cursor?: string;
};

export type LabelPage =
  | { kind: 'page'; labels: SignedLabel[]; cursor?: string }
  /** The question itself is wrong; `why` is for the caller. */
  | { kind: 'bad-query'; why: string };

type Range = { from: string; to: string };
type Position = { uri: string; seq: number };
type Row = LogRow & { uri: string };

const maxPatterns = 100;
const maxPatternLength = 2_900;

/**
 * @param db node.db
 * @param now Unix ms
 */
export function queryLabels(db: Database.Database, query: LabelQuery, now: number): LabelPage {
  const ranges = rangesOf(query.uriPatterns);
  if (typeof ranges === 'string') return { kind: 'bad-query', why: ranges };
  const start = query.cursor === undefined ? { uri: '', seq: 0 } : readCursor(query.cursor);
  if (!start) return { kind: 'bad-query', why: 'the cursor is not one of ours' };
  const rows = read(db, ranges, start, query.limit, now);
  const labels = rows.map(storedLabel);
  const last = rows.length === query.limit ? rows.at(-1) : undefined;
  return last ? { kind: 'page', labels, cursor: writeCursor(last) } : { kind: 'page', labels };
}

function read(db: Database.Database, ranges: Range[], start: Position, limit: number, now: number): Row[] {
  const statement = db.prepare(
    `SELECT uri, seq, body FROM issued_label AS l
     WHERE uri >= ? AND uri <= ? AND (uri, seq) > (?, ?) AND ${inForceClause}
     ORDER BY uri, seq LIMIT ?`,
  );
  const rows: Row[] = [];
  for (const { from, to } of ranges) {
    if (rows.length >= limit) break;
    if (to < start.uri) continue;
    rows.push(...(statement.all(from, to, start.uri, start.seq, isoTime(now), limit - rows.length) as Row[]));
  }
  return rows;
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
  return merge(ranges.sort((a, b) => compareBytes(a.from, b.from)));
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
