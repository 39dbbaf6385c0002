/**
 * The index of attestations, and where we are in each firehose.
 *
 * Promise: a proved change and the cursor past it are one transaction, so a restart neither loses nor
 * repeats one. Only valid records are here; of accounts that are not active nothing is shown. What an
 * older commit or an older account event says changes nothing, so any part of a firehose may be read twice.
 * An account event is unsigned, so it hides and shows again, and destroys nothing that was signed, unless
 * the account stays deleted for a month.
 * Whether a change is true is proof.ts's business; this file believes its callers.
 */
import type { Logger } from 'pino';
import type { email } from '../../lexicons/index.ts';
import { attestationUri } from '../attestation-uri.ts';
import { type Database, transaction } from '../database.ts';
import { appviewDamaged } from '../rebuild.ts';
import type { AccountFrame } from './frame.ts';
import { Rechecks } from './rechecks.ts';
import { judge } from './validity.ts';

export type AttestationRow = {
  did: string;
  /** Equal to `record.domain`. */
  rkey: string;
  /** `at://<did>/email.atmos.attestation/<rkey>` */
  uri: string;
  cid: string;
  /** TID of the commit in which we last saw it. */
  rev: string;
  record: email.atmos.attestation.Main;
  /** Unix ms of the first sight of this `cid`. */
  indexedAt: number;
};

/** `cid` absent: the attestation is gone, or its account is not active; hidden() tells which. */
export type AttestationChange = { did: string; rkey: string; uri: string; cid?: string };

/** What one signed tree holds at one key: `cid` absent, nothing; `value` absent, what cannot be decoded. */
export type ProvedEntry = { rkey: string; cid?: string; value?: unknown };

/** Of an account that is not active: what comes back with it. `since`: Unix ms, by our own clock. */
export type Hidden = { since: number; rows: AttestationRow[] };

export type Cursor = { source: string; seq: number };

/** Of one account; a member has a handful of domains. */
const maxPerAccount = 100;
/** What a deleted account attested is kept for so long, should the word of its deletion have been false. */
const keepDeletedMs = 30 * 86_400_000;

type Options = {
  db: Database.Database;
  log: Logger;
  count: (what: string, reason?: string) => void;
  /** Unix ms. */
  now: () => number;
};

type Account = {
  status: string;
  status_at: number | null;
  rev: string | null;
  inactive_since: number | null;
};
type StoredRow = Omit<AttestationRow, 'record' | 'indexedAt'> & { record: string; indexed_at: number };

export class Attestations {
  /** What waits to be proved at its PDS. */
  readonly rechecks: Rechecks;
  readonly #options: Options;
  readonly #statements;
  readonly #listeners = new Set<(change: AttestationChange) => void>();

  constructor(options: Options) {
    this.#options = options;
    this.rechecks = new Rechecks(options.db, options.now);
    this.#statements = prepare(options.db);
  }

  /** Of active accounts only, as the three below. */
  of(did: string): AttestationRow[] {
    return (this.#statements.ofAccount.all(did) as StoredRow[]).map(toRow);
  }

  /** @param domain A-label form, lower case */
  byDomain(domain: string): AttestationRow[] {
    return (this.#statements.byDomain.all(domain) as StoredRow[]).map(toRow);
  }

  get(uri: string): AttestationRow | undefined {
    const row = this.#statements.byUri.get(uri) as StoredRow | undefined;
    return row && toRow(row);
  }

  /** @returns undefined for an active account, and for one that we do not know */
  hidden(did: string): Hidden | undefined {
    const account = this.#account(did);
    if (!account || account.status === 'active') return undefined;
    const rows = (this.#statements.allOf.all(did) as StoredRow[]).map(toRow);
    return { since: account.inactive_since ?? 0, rows };
  }

  /** Each domain that an active account attests, once. */
  domains(): string[] {
    return (this.#statements.domains.all() as { rkey: string }[]).map(({ rkey }) => rkey);
  }

  /** Called after the commit, once for each record. @returns what ends it */
  onChange(listener: (change: AttestationChange) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Whether we keep, or are about to learn, anything of the account. */
  knows(did: string): boolean {
    return this.#statements.account.get(did) !== undefined || this.rechecks.has(did);
  }

  /** Whether we learned of the account's records: only then does it mean something that one is not here. */
  hasRead(did: string): boolean {
    return this.#statements.account.get(did) !== undefined;
  }

  /** Whether the record waits to be proved at its PDS: then that it is not here says nothing yet. */
  isPending(did: string, domain: string): boolean {
    return this.rechecks.hasRecord(did, domain);
  }

  /** The newest commit applied from a firehose. */
  revOf(did: string): string | undefined {
    return this.#account(did)?.rev ?? undefined;
  }

  cursorOf(source: string): number | undefined {
    const row = this.#statements.cursor.get(source) as { seq: number } | undefined;
    return row?.seq;
  }

  moveCursor({ source, seq }: Cursor): void {
    this.#statements.moveCursor.run(source, seq);
  }

  /** Of a proved `#commit`: all of its changes in our collection. An older rev than the newest applied is ignored. */
  applyCommit(commit: { did: string; rev: string; entries: ProvedEntry[] }, cursor: Cursor): void {
    const { did, rev, entries } = commit;
    this.#change(cursor, () => {
      if (rev < (this.revOf(did) ?? '')) {
        this.#options.count('commits_ignored', 'old_rev');
        return [];
      }
      const changes = entries.flatMap((entry) => this.#write(did, rev, entry));
      this.#statements.advance.run(rev, did);
      return this.#asSeen(did, changes);
    });
  }

  /** Of a proof fetched from the PDS. It says nothing of other records, so the account's rev stays. */
  applyRecheck(did: string, rev: string, entry: ProvedEntry): void {
    this.#change(undefined, () => {
      this.rechecks.remove(did, entry.rkey);
      // Only now something was read of it: until its PDS answers, nothing counts as absent.
      this.#statements.addAccount.run(did);
      if (rev < (this.revOf(did) ?? '')) return [];
      return this.#asSeen(did, this.#write(did, rev, entry));
    });
  }

  /**
   * The source's word, for what it is: unsigned. `time` is clamped to now. Not active hides the account's
   * records at once; active again shows them, and has each proved anew at the PDS.
   *
   * @returns whether records were put on the list of rechecks
   */
  applyAccount(event: AccountFrame, cursor: Cursor): 'to recheck' | undefined {
    const { did, active } = event;
    let isBack = false;
    const status = active ? 'active' : (event.status ?? 'inactive');
    const at = Math.min(event.time, this.#options.now());
    this.#change(cursor, () => {
      const before = this.#account(did);
      if (!before || at < (before.status_at ?? 0)) return [];
      this.#statements.setStatus.run({ did, status, at, now: this.#options.now() });
      if ((before.status === 'active') === active) return [];
      isBack = active;
      if (isBack) this.rechecks.addHeld(did);
      const held = this.#statements.keysOf.all(did) as { rkey: string; cid: string }[];
      return held.map(({ rkey, cid }) => (active ? changeOf(did, rkey, cid) : changeOf(did, rkey)));
    });
    return isBack ? 'to recheck' : undefined;
  }

  /** Lets go of what accounts attested that are deleted for long. Nobody was shown it meanwhile. */
  dropLongDeleted(): void {
    this.#change(undefined, () => {
      const before = this.#options.now() - keepDeletedMs;
      const gone = this.#statements.longDeleted.all(before) as { did: string }[];
      return gone.flatMap(({ did }) => this.#drop(did));
    });
  }

  /**
   * Has one record proved at its account's PDS, where the firehose may never show it: it was written
   * before what the sources still keep. The rechecker takes it up at its next look at the list.
   *
   * @returns false when the list has no room
   */
  recheck(did: string, domain: string): boolean {
    const left = transaction(this.#options.db, () => this.rechecks.add(did, [domain]));
    if (left > 0) this.#options.count('rechecks_dropped', 'no_room');
    return left === 0;
  }

  /** Puts records on the list of rechecks; nothing else is known of them now. */
  postpone(did: string, rkeys: readonly string[], cursor: Cursor): void {
    this.#change(cursor, () => {
      const left = this.rechecks.add(did, rkeys);
      for (let i = 0; i < left; i++) this.#options.count('rechecks_dropped', 'no_room');
      return [];
    });
  }

  /** Everything we hold, of one account or of all, may have changed unseen. */
  postponeHeld(did: string | undefined, cursor: Cursor | undefined): void {
    this.#change(cursor, () => {
      this.rechecks.addHeld(did);
      return [];
    });
  }

  #change(cursor: Cursor | undefined, work: () => AttestationChange[]): void {
    const changes = transaction(this.#options.db, () => {
      const changed = work();
      if (cursor) this.moveCursor(cursor);
      return changed;
    });
    for (const change of changes) {
      this.#options.log.info(change, change.cid ? 'attestation indexed' : 'attestation gone');
      for (const listener of this.#listeners) listener(change);
    }
  }

  #write(did: string, rev: string, { rkey, cid, value }: ProvedEntry): AttestationChange[] {
    const held = this.#statements.held.get(did, rkey) as { cid: string; rev: string } | undefined;
    if (held && held.rev > rev) return [];
    const record = cid === undefined ? undefined : this.#judged(did, rkey, value);
    if (cid === undefined || record === undefined) return held ? this.#remove(did, rkey) : [];
    if (!held && !this.#hasRoom(did)) return [];
    this.#statements.addAccount.run(did);
    this.#statements.put.run({
      did,
      rkey,
      uri: attestationUri(did, rkey),
      cid,
      rev,
      record: JSON.stringify(record),
      now: this.#options.now(),
    });
    return held?.cid === cid ? [] : [changeOf(did, rkey, cid)];
  }

  #judged(did: string, rkey: string, value: unknown): email.atmos.attestation.Main | undefined {
    const verdict = judge(rkey, value);
    if (verdict.kind === 'valid') return verdict.record;
    this.#options.count('attestations_refused', verdict.reason);
    this.#options.log.debug({ did, rkey, reason: verdict.reason }, 'attestation counts as absent');
    return undefined;
  }

  #remove(did: string, rkey: string): AttestationChange[] {
    this.#statements.remove.run(did, rkey);
    return [changeOf(did, rkey)];
  }

  #hasRoom(did: string): boolean {
    if (this.#statements.keysOf.all(did).length < maxPerAccount) return true;
    this.#options.count('attestations_refused', 'too_many');
    return false;
  }

  // The account's row stays, so that an old commit read again does not bring its records back.
  #drop(did: string): AttestationChange[] {
    const held = this.#statements.keysOf.all(did) as { rkey: string }[];
    this.#statements.removeAll.run(did);
    this.rechecks.removeAll(did);
    return held.map(({ rkey }) => changeOf(did, rkey));
  }

  /** Nobody sees the records of an account that is not active: to them each change is an absence. */
  #asSeen(did: string, changes: AttestationChange[]): AttestationChange[] {
    const status = this.#account(did)?.status;
    return status === 'active' ? changes : changes.map(({ rkey }) => changeOf(did, rkey));
  }

  #account(did: string): Account | undefined {
    return this.#statements.account.get(did) as Account | undefined;
  }
}

function prepare(db: Database.Database) {
  const ofActive = `FROM attestation a JOIN account ON account.did = a.did AND account.status = 'active'`;
  return {
    ofAccount: db.prepare(`SELECT a.* ${ofActive} WHERE a.did = ? ORDER BY a.rkey`),
    byDomain: db.prepare(`SELECT a.* ${ofActive} WHERE a.rkey = ? ORDER BY a.did`),
    byUri: db.prepare(`SELECT a.* ${ofActive} WHERE a.uri = ?`),
    domains: db.prepare(`SELECT DISTINCT a.rkey ${ofActive}`),
    account: db.prepare('SELECT status, status_at, rev, inactive_since FROM account WHERE did = ?'),
    addAccount: db.prepare(`INSERT INTO account (did, status) VALUES (?, 'active') ON CONFLICT DO NOTHING`),
    advance: db.prepare('UPDATE account SET rev = ? WHERE did = ?'),
    setStatus: db.prepare(`
      UPDATE account SET status = :status, status_at = :at,
        inactive_since = CASE WHEN :status = 'active' THEN NULL ELSE coalesce(inactive_since, :now) END,
        deleted_since = CASE WHEN :status = 'deleted' THEN coalesce(deleted_since, :now) END
      WHERE did = :did`),
    longDeleted: db.prepare(`
      SELECT did FROM account WHERE deleted_since <= ?
        AND EXISTS (SELECT 1 FROM attestation a WHERE a.did = account.did)`),
    allOf: db.prepare('SELECT * FROM attestation WHERE did = ? ORDER BY rkey'),
    held: db.prepare('SELECT cid, rev FROM attestation WHERE did = ? AND rkey = ?'),
    keysOf: db.prepare('SELECT rkey, cid FROM attestation WHERE did = ?'),
    put: db.prepare(`
      INSERT INTO attestation (did, rkey, uri, cid, rev, record, indexed_at)
      VALUES (:did, :rkey, :uri, :cid, :rev, :record, :now)
      ON CONFLICT (did, rkey) DO UPDATE SET
        indexed_at = CASE WHEN cid = excluded.cid THEN indexed_at ELSE excluded.indexed_at END,
        cid = excluded.cid, rev = excluded.rev, record = excluded.record`),
    remove: db.prepare('DELETE FROM attestation WHERE did = ? AND rkey = ?'),
    removeAll: db.prepare('DELETE FROM attestation WHERE did = ?'),
    cursor: db.prepare('SELECT seq FROM firehose_cursor WHERE source = ?'),
    moveCursor: db.prepare(
      'INSERT INTO firehose_cursor (source, seq) VALUES (?, ?) ON CONFLICT DO UPDATE SET seq = excluded.seq',
    ),
  };
}

function toRow({ did, rkey, uri, cid, rev, record, indexed_at }: StoredRow): AttestationRow {
  return { did, rkey, uri, cid, rev, record: parseRecord(uri, record), indexedAt: indexed_at };
}

function parseRecord(uri: string, text: string): email.atmos.attestation.Main {
  try {
    return JSON.parse(text) as email.atmos.attestation.Main;
  } catch (error) {
    throw appviewDamaged(`holds a record of ${uri} that is not JSON`, error);
  }
}

function changeOf(did: string, rkey: string, cid?: string): AttestationChange {
  const change: AttestationChange = { did, rkey, uri: attestationUri(did, rkey) };
  return cid === undefined ? change : { ...change, cid };
}
