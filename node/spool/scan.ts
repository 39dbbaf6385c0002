/**
 * Looks through what is open, a page at a time, for what an operator selects.
 *
 * Order: site, member, due time. A page reads a bounded number of rows, and `cursor` says where the next
 * one goes on; what moves between two pages may be met twice or not at all.
 */
import type { Database } from '../../appview/database.ts';
import { partsOf, recipientsPerMessage } from './ids.ts';
import { detailsOf, idOf } from './recipients.ts';
import { type OpenRow, openRowColumns } from './rows.ts';
import { isCursor, type Selection, type SiteSummary } from './selection.ts';
import type { RecipientState } from './states.ts';
import { Summing } from './summing.ts';

const rowsAtOnce = 500;
const idsAtOnce = 100;
const summedAtOnce = 4_000;

type Statement = Database.Statement<unknown[]>;
export type ScannedRow = OpenRow & { received_at: number; expires_at: number };
export type ScanPage = { rows: ScannedRow[]; cursor?: string };
type Place = { site: string; did: string; next_at: number; seq: number };

const columns = `${openRowColumns}, m.received_at, m.expires_at`;
const join = `recipient r JOIN message m ON m.seq = r.seq / ${recipientsPerMessage}`;
const after = '(r.site, r.did, r.next_at, r.seq) > (?1, ?2, ?3, ?4)';

export class Scan {
  readonly #pages: Record<string, Statement>;
  readonly #ofMessage: Statement;
  readonly #summed: Statement;

  constructor(db: Database.Database) {
    const page = (condition: string): Statement =>
      db.prepare(`SELECT ${columns} FROM ${join} WHERE r.next_at IS NOT NULL ${condition} AND ${after}
        ORDER BY r.site, r.did, r.next_at, r.seq LIMIT ?5`);
    this.#pages = {
      all: page(''),
      site: page('AND r.site = ?6'),
      did: page('AND r.did = ?6'),
      both: page('AND r.site = ?6 AND r.did = ?7'),
    };
    this.#ofMessage = db.prepare(`SELECT ${columns} FROM message m JOIN recipient r
      ON r.seq BETWEEN m.seq * ${recipientsPerMessage} AND (m.seq + 1) * ${recipientsPerMessage} - 1
      WHERE m.queue_id = ? AND r.next_at IS NOT NULL ORDER BY r.seq`);
    this.#summed = db.prepare(`SELECT r.site, r.did, r.next_at, r.seq, r.state, m.received_at FROM ${join}
      WHERE r.next_at IS NOT NULL AND ${after} ORDER BY r.site, r.did, r.next_at, r.seq LIMIT ?5`);
  }

  /** @param limit rows read at most; those of `ids` come whole messages at a time */
  page(selection: Selection, cursor: string | undefined, limit = rowsAtOnce): ScanPage {
    if (selection.ids) return this.#byIds(selection, selection.ids, Number(cursor ?? 0));
    const read = this.#read(selection, cursor, Math.min(limit, rowsAtOnce));
    const rows = read.filter((row) => matches(row, selection));
    return read.length < Math.min(limit, rowsAtOnce) ? { rows } : { rows, cursor: cursorAt(read.at(-1)!) };
  }

  /** One step of a summary: what is to be added up, and the cursor of the next step. */
  sum(now: number, cursor: string | undefined): { sites: SiteSummary[]; cursor?: string } {
    const rows = this.#summed.all([...placeOf(cursor), summedAtOnce]) as (Place & {
      state: RecipientState;
      received_at: number;
    })[];
    const sum = new Summing();
    for (const row of rows) sum.add(row.site, row.state, row.received_at, now);
    return rows.length < summedAtOnce
      ? { sites: sum.sites }
      : { sites: sum.sites, cursor: cursorAt(rows.at(-1)!) };
  }

  #byIds(selection: Selection, ids: readonly string[], from: number): ScanPage {
    const until = from + idsAtOnce;
    const rows = [...new Set(ids.slice(from, until))].flatMap((id) => this.#byId(id));
    const found = rows.filter((row) => matches(row, selection));
    return until < ids.length ? { rows: found, cursor: String(until) } : { rows: found };
  }

  #byId(id: string): ScannedRow[] {
    const parts = partsOf(id);
    const rows = this.#ofMessage.all(parts?.queueId ?? id) as ScannedRow[];
    return parts ? rows.filter((row) => idOf(row) === id) : rows;
  }

  #read({ site, did }: Selection, cursor: string | undefined, limit: number): ScannedRow[] {
    const which = site !== undefined && did !== undefined ? 'both' : site !== undefined ? 'site' : 'did';
    const fixed = [site, did].filter((value) => value !== undefined);
    const statement = fixed.length === 0 ? this.#pages.all! : this.#pages[which]!;
    return statement.all([...placeOf(cursor), limit, ...fixed]) as ScannedRow[];
  }
}

function matches(row: ScannedRow, s: Selection): boolean {
  return (
    (s.did === undefined || row.did === s.did) &&
    (s.site === undefined || row.site === s.site) &&
    (s.keyId === undefined || row.key_id === s.keyId) &&
    (s.domain === undefined || row.domain === s.domain) &&
    (s.recipientDomain === undefined || row.recipient_domain === s.recipientDomain) &&
    (s.states === undefined || s.states.includes(row.state)) &&
    (s.kind === undefined || row.kind === s.kind) &&
    !(row.kind === 'mail' && s.exceptMailOf?.includes(row.did)) &&
    (s.heldBy === undefined || (row.state === 'held' && detailsOf(row).held?.by === s.heldBy)) &&
    (s.before === undefined || row.received_at < s.before)
  );
}

function cursorAt({ site, did, next_at, seq }: Place): string {
  return JSON.stringify([site, did, next_at, seq]);
}

/** @throws when it is no cursor of ours */
function placeOf(cursor: string | undefined): unknown[] {
  if (cursor === undefined) return ['', '', 0, 0];
  if (!isCursor(cursor, {})) throw new Error('the cursor is not valid');
  return JSON.parse(cursor) as unknown[];
}
