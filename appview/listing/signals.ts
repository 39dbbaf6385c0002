/**
 * Private signals of peers, in ledger.db: a rebuild never touches them.
 *
 * Promise: the cursor of a peer moves in the commit of what it brought, so a replay changes nothing; of one
 * (src, uri, val) the latest `cts` wins; an `exp` counts when it is read. A quarantine stands here too, over
 * restarts. Signals of a quarantined peer are kept and not answered. When all was read that a peer had to say is
 * written with what comes next, and else every ten minutes at most: a crash makes it so much earlier.
 *
 * of(did, domain) is what the listing policy and enrolment ask. Who is a peer is the caller's to say.
 */
import { attestedDomain } from '../attestation-uri.ts';
import { CorruptState, type Database, transaction } from '../database.ts';
import { decodeSignal, encodeSignal, type Signal } from '../labels/signal.ts';

/** Unix ms. */
export type StoredSignal = { signal: Signal; receivedAt: number; expiresAt?: number };

export type SignalQuarantine = { reason: string; at: number };

/** What is known of a peer's channel. Times are Unix ms. */
export type SignalPeer = {
  /** `seq` of the last frame that was stored. */
  cursor?: number;
  /** When we last had read all that it had to say. */
  caughtUpAt?: number;
  quarantine?: SignalQuarantine;
  releasedAt?: number;
};

/** Which subject: any is enough. */
export type SignalSubject = { did?: string; domain?: string };

type Row = { body: ArrayBuffer; received_at: number; expires_at: number | null };
type PeerRow = {
  cursor: number | null;
  caught_up_at: number | null;
  quarantine_reason: string | null;
  quarantined_at: number | null;
  released_at: number | null;
};

/** What is over is remembered for so long, as far as there is place. */
const keptMs = 30 * 86_400_000;
const caughtUpEveryMs = 10 * 60_000;

export class Signals {
  readonly #db: Database.Database;
  readonly #now: () => number;
  readonly #sql: ReturnType<typeof prepare>;
  /** When we last had read all of each, where that is not written yet. */
  readonly #caughtUp = new Map<string, number>();

  /** @param o.db opened with ledgerMigrations */
  constructor(o: { db: Database.Database; now: () => number }) {
    this.#db = o.db;
    this.#now = o.now;
    this.#sql = prepare(o.db);
  }

  /**
   * Stores what one frame of `src` brought, verified, and moves the cursor: one commit.
   *
   * @param countedAt when each counts as made, for the limit on suspensions
   * @param o.maxStored of one peer; changes of what is stored are not refused
   * @param o.quarantine begins with this frame, for this reason
   * @returns how many were refused for that; a replay refuses none and changes nothing
   */
  receive(
    src: string,
    seq: number,
    signals: readonly Signal[],
    o: { countedAt: (signal: Signal) => number; maxStored: number; quarantine?: string },
  ): number {
    return transaction(this.#db, () => {
      if (o.quarantine !== undefined) this.quarantine(src, o.quarantine);
      this.saveCaughtUp(src);
      if (seq <= (this.peer(src).cursor ?? 0)) return 0;
      this.#sql.moveCursor.run(src, seq);
      let room = this.#room(src, o.maxStored);
      let refused = 0;
      for (const signal of signals) {
        const { uri, val } = signal.label;
        const known = this.#sql.find.get(src, uri, val) as { made_at: number } | undefined;
        if (!known && room <= 0) refused += 1;
        else if (!known || this.#madeAt(signal) >= known.made_at) this.#put(signal, o.countedAt(signal));
        if (!known) room -= 1;
      }
      return refused;
    });
  }

  peer(src: string): SignalPeer {
    const row = this.#sql.peer.get(src) as PeerRow | undefined;
    if (!row) return {};
    const caughtUpAt = this.#caughtUp.get(src) ?? row.caught_up_at;
    return {
      ...(row.cursor !== null && { cursor: row.cursor }),
      ...(caughtUpAt !== null && { caughtUpAt }),
      ...(row.quarantined_at !== null && {
        quarantine: { reason: row.quarantine_reason!, at: row.quarantined_at },
      }),
      ...(row.released_at !== null && { releasedAt: row.released_at }),
    };
  }

  /** All that it had to say is read. */
  caughtUp(src: string): void {
    this.#caughtUp.set(src, this.#now());
    const { caught_up_at: written } = (this.#sql.peer.get(src) ?? {}) as Partial<PeerRow>;
    if (Math.abs(this.#now() - (written ?? Number.NEGATIVE_INFINITY)) >= caughtUpEveryMs)
      this.saveCaughtUp(src);
  }

  /** At the latest when it is read no more. */
  saveCaughtUp(src: string): void {
    const at = this.#caughtUp.get(src);
    if (at === undefined) return;
    this.#sql.caughtUp.run(src, at);
    this.#caughtUp.delete(src);
  }

  quarantine(src: string, reason: string): void {
    this.#sql.quarantine.run(src, reason, this.#now());
  }

  /** A person's act. One that was behind our cursor is read from its oldest frame on. @returns false: there is none */
  release(src: string): boolean {
    return this.#sql.release.run(this.#now(), src).changes > 0;
  }

  /** Accounts that `src` suspended or removed, by when that counts as made. @param since Unix ms */
  suspendedSince(src: string, since: number): Set<string> {
    const rows = this.#sql.suspended.all(src, since) as { did: string }[];
    return new Set(rows.map(({ did }) => did));
  }

  /** In force on this account, or on a record for this domain, whoever's; of all peers but quarantined ones. */
  of({ did, domain }: SignalSubject): StoredSignal[] {
    const rows = this.#sql.of.all(did ?? null, domain ?? null, this.#now()) as Row[];
    return rows.map(stored);
  }

  /** In force, of `src`, and not told yet. A quarantined peer's wait. */
  untold(limit: number): StoredSignal[] {
    return (this.#sql.untold.all(this.#now(), limit) as Row[]).map(stored);
  }

  markTold({ label: { src, uri, val, cts } }: Signal): void {
    this.#sql.told.run(src, uri, val, Date.parse(cts));
  }

  /** Of a peer that is one no more: all that it said. */
  forget(src: string): void {
    transaction(this.#db, () => {
      this.#sql.dropSignals.run(src);
      this.#sql.dropPeer.run(src);
    });
    this.#caughtUp.delete(src);
  }

  /** Every peer of whom something is stored. */
  sources(): string[] {
    return (this.#sql.sources.all() as { src: string }[]).map(({ src }) => src);
  }

  #put(signal: Signal, countedAt: number): void {
    const { src, uri, val, neg, exp } = signal.label;
    const subject = [didOf(uri), attestedDomain(uri) ?? null];
    const expiresAt = exp === undefined ? null : Date.parse(exp);
    // The end of what we never heard of is no suspension.
    const times = [this.#madeAt(signal), expiresAt, this.#now(), neg ? 0 : countedAt];
    this.#sql.put.run(src, uri, val, ...subject, neg ? 1 : 0, ...times, Buffer.from(encodeSignal(signal)));
  }

  /** Where it is full, what has been over for long makes place. */
  #room(src: string, maxStored: number): number {
    const room = () => maxStored - (this.#sql.stored.get(src) as { n: number }).n;
    if (room() > 0) return room();
    this.#sql.dropOld.run(src, this.#now(), this.#now() - keptMs);
    return room();
  }

  /** A cts ahead of our clock buys no precedence over what comes later. */
  #madeAt({ label: { cts } }: Signal): number {
    return Math.min(Date.parse(cts), this.#now());
  }
}

/** The account that a signal is about, of a bare DID or a record's URI. */
export function didOf(uri: string): string {
  return uri.startsWith('at://') ? uri.slice(5).split('/', 1)[0]! : uri;
}

function stored({ body, received_at, expires_at }: Row): StoredSignal {
  const signal = decodeSignal(new Uint8Array(body));
  if (!signal) throw new CorruptState('ledger.db holds a signal that is none. Restore it from a backup.');
  return { signal, receivedAt: received_at, ...(expires_at !== null && { expiresAt: expires_at }) };
}

function prepare(db: Database.Database) {
  const inForce = `neg = 0 AND (expires_at IS NULL OR expires_at > ?)
    AND NOT EXISTS (SELECT 1 FROM signal_peer p WHERE p.src = s.src AND p.quarantined_at IS NOT NULL)`;
  const isRenewal = `neg = 0 AND excluded.neg = 0 AND (expires_at IS NULL OR expires_at > excluded.made_at)`;
  return {
    peer: db.prepare('SELECT * FROM signal_peer WHERE src = ?'),
    moveCursor: db.prepare(
      `INSERT INTO signal_peer (src, cursor) VALUES (?, ?)
       ON CONFLICT (src) DO UPDATE SET cursor = excluded.cursor`,
    ),
    caughtUp: db.prepare(
      `INSERT INTO signal_peer (src, caught_up_at) VALUES (?, ?)
       ON CONFLICT (src) DO UPDATE SET caught_up_at = excluded.caught_up_at`,
    ),
    quarantine: db.prepare(
      `INSERT INTO signal_peer (src, quarantine_reason, quarantined_at) VALUES (?, ?, ?)
       ON CONFLICT (src) DO UPDATE SET quarantine_reason = excluded.quarantine_reason,
         quarantined_at = excluded.quarantined_at`,
    ),
    release: db.prepare(
      `UPDATE signal_peer SET released_at = ?, quarantined_at = NULL, quarantine_reason = NULL,
         cursor = CASE quarantine_reason WHEN 'future_cursor' THEN NULL ELSE cursor END
       WHERE src = ? AND quarantined_at IS NOT NULL`,
    ),
    stored: db.prepare('SELECT count(*) AS n FROM signal WHERE src = ?'),
    find: db.prepare('SELECT made_at FROM signal WHERE src = ? AND uri = ? AND val = ?'),
    // A renewal of what is in force already is not told again; neither it nor an end counts as a new suspension.
    put: db.prepare(
      `INSERT INTO signal (src, uri, val, did, domain, neg, made_at, expires_at, received_at, counted_at, body)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT (src, uri, val) DO UPDATE SET
         told = CASE WHEN ${isRenewal} THEN told ELSE 0 END,
         counted_at = CASE WHEN excluded.neg = 1 OR (${isRenewal}) THEN counted_at ELSE excluded.counted_at END,
         received_at = CASE WHEN ${isRenewal} THEN received_at ELSE excluded.received_at END,
         neg = excluded.neg, made_at = excluded.made_at, expires_at = excluded.expires_at, body = excluded.body`,
    ),
    suspended: db.prepare(
      `SELECT DISTINCT did FROM signal WHERE src = ? AND counted_at > ? AND val IN ('suspended', 'removed')`,
    ),
    of: db.prepare(
      `SELECT body, received_at, expires_at FROM signal s
       WHERE (did = ? OR domain = ?) AND ${inForce} ORDER BY received_at, src, uri LIMIT 1000`,
    ),
    untold: db.prepare(
      `SELECT body, received_at, expires_at FROM signal s
       WHERE told = 0 AND ${inForce} ORDER BY received_at LIMIT ?`,
    ),
    told: db.prepare('UPDATE signal SET told = 1 WHERE src = ? AND uri = ? AND val = ? AND made_at <= ?'),
    dropOld: db.prepare(
      `DELETE FROM signal WHERE src = ? AND (neg = 1 OR expires_at <= ?) AND received_at < ?`,
    ),
    dropSignals: db.prepare('DELETE FROM signal WHERE src = ?'),
    dropPeer: db.prepare('DELETE FROM signal_peer WHERE src = ?'),
    sources: db.prepare('SELECT src FROM signal UNION SELECT src FROM signal_peer'),
  };
}
