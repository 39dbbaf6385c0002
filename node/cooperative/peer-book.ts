/**
 * Whom we know as peers, and what we say of each: the configuration and the table of node.db as one list.
 *
 * Promise: a peer of the configuration is as the configuration has it and no command changes it; every other
 * one is a row, and who reads the list after a change sees the change. At most 1,024 peers, as many as a
 * declaration holds.
 *
 * Beside whose private word is heard, what a stance does is peers.ts's business.
 */
import { CorruptState, type Database } from '../../appview/database.ts';
import type { PeerRecord } from './declaration.ts';

export const stances = ['guarantee', 'endorse', 'hesitate', 'censure'] as const;
export type Stance = (typeof stances)[number];

/** What a peer said of itself when it was added. */
export type DeclaredThen = { name: string; poolDomain: string; labeler: string; labelKey: string };

export type Peer = {
  did: string;
  stance: Stance;
  reason?: string;
  /** Links. */
  evidence: string[];
  from: 'configuration' | 'command';
  /** Absent: of the configuration, or censured without a declaration. */
  declared?: DeclaredThen;
  /** Unix ms, and who; of a row alone. */
  added?: { at: number; by: string };
  changed?: { at: number; by: string };
};

/** As the configuration has it. */
export type ConfiguredPeer = { did: string; stance: Stance; reason?: string; evidence?: string[] };

export type Saying = { stance: Stance; reason?: string; evidence: string[]; by: string };

export const maxPeers = 1_024;

type Row = {
  did: string;
  stance: Stance;
  reason: string | null;
  evidence: string;
  declared: string | null;
  added_at: number;
  added_by: string;
  changed_at: number;
  changed_by: string;
};

export class PeerBook {
  /** By DID. */
  readonly #configured: ReadonlyMap<string, Peer>;
  readonly #sql: ReturnType<typeof prepare>;
  readonly #now: () => number;
  readonly #listeners = new Set<() => void>();
  #version = 0;

  constructor(o: { db: Database.Database; configured: readonly ConfiguredPeer[]; now: () => number }) {
    const peers = o.configured.map((one): Peer => ({ evidence: [], ...one, from: 'configuration' }));
    this.#configured = new Map(peers.map((peer) => [peer.did, peer]));
    this.#sql = prepare(o.db);
    this.#now = o.now;
  }

  /** Another number after each change. */
  get version(): number {
    return this.#version;
  }

  /** Called after each change that this object made. @returns what ends it */
  onChange(callback: () => void): () => void {
    this.#listeners.add(callback);
    return () => this.#listeners.delete(callback);
  }

  /** The configuration's first, then in the order of adding. */
  all(): Peer[] {
    const rows = (this.#sql.all.all() as Row[]).filter(({ did }) => !this.#configured.has(did));
    return [...this.#configured.values(), ...rows.map(peerOf)];
  }

  /** Reads one row at most: strangers make us ask. */
  get(did: string): Peer | undefined {
    const configured = this.#configured.get(did);
    if (configured) return configured;
    const row = this.#sql.get.get(did) as Row | undefined;
    return row && peerOf(row);
  }

  /**
   * @param word a DID, or the domain of a peer: that of its did:web, or its pool domain
   * @returns undefined also where two peers answer to the word
   */
  find(word: string): Peer | undefined {
    const name = word.toLowerCase();
    const isMeant = ({ did, declared }: Peer) =>
      did === word || did === `did:web:${encodeURIComponent(name)}` || declared?.poolDomain === name;
    const found = this.all().filter(isMeant);
    return found.length === 1 ? found[0] : found.find(({ did }) => did === word);
  }

  /** @throws RangeError when it is known already, or there are too many */
  add(did: string, { stance, reason, evidence, by }: Saying, declared: DeclaredThen | undefined): void {
    if (this.get(did)) throw new RangeError(`${did} is a peer already`);
    if (this.all().length >= maxPeers) throw new RangeError(`there are ${maxPeers} peers already`);
    const at = this.#now();
    this.#sql.add.run(
      ...[did, stance, reason ?? null, JSON.stringify(evidence)],
      ...[declared ? JSON.stringify(declared) : null, at, by, at, by],
    );
    this.#changed();
  }

  /**
   * @param declared of one that had said nothing when it was added
   * @returns false when no row has this DID
   */
  say(did: string, { stance, reason, evidence, by }: Saying, declared?: DeclaredThen): boolean {
    const saying = [
      stance,
      reason ?? null,
      JSON.stringify(evidence),
      declared ? JSON.stringify(declared) : null,
    ];
    const { changes } = this.#sql.say.run(...saying, this.#now(), by, did);
    this.#changed();
    return changes > 0;
  }

  /** @returns false when no row has this DID */
  remove(did: string): boolean {
    const { changes } = this.#sql.remove.run(did);
    this.#changed();
    return changes > 0;
  }

  #changed(): void {
    this.#version += 1;
    for (const listener of this.#listeners) listener();
  }
}

/** Whose private word we hear, and who hears ours. */
export function isTrusted({ stance }: Pick<Peer, 'stance'>): boolean {
  return stance === 'guarantee' || stance === 'endorse';
}

/** Our stance as a record. @param issuedAt Unix ms, for a peer of the configuration, which has no time of its own */
export function recordOf({ did, stance, reason, evidence, changed }: Peer, issuedAt: number): PeerRecord {
  return {
    $type: 'email.atmos.peer',
    subject: did,
    stance,
    ...(reason !== undefined && { reason }),
    ...(evidence.length > 0 && { evidence }),
    createdAt: new Date(changed?.at ?? issuedAt).toISOString(),
  } as PeerRecord;
}

/** The record key of our stance towards `did`. */
export function recordKeyOf(did: string): string {
  return did.replaceAll('%', '~');
}

function peerOf(row: Row): Peer {
  return {
    did: row.did,
    stance: row.stance,
    ...(row.reason !== null && { reason: row.reason }),
    evidence: fromJson<string[]>(row.evidence),
    from: 'command',
    ...(row.declared !== null && { declared: fromJson<DeclaredThen>(row.declared) }),
    added: { at: row.added_at, by: row.added_by },
    changed: { at: row.changed_at, by: row.changed_by },
  };
}

function fromJson<T>(text: string): T {
  try {
    return JSON.parse(text) as T;
  } catch (error) {
    throw new CorruptState('node.db holds a peer that is none. Restore it from a backup.', { cause: error });
  }
}

function prepare(db: Database.Database) {
  return {
    all: db.prepare('SELECT * FROM peer ORDER BY added_at, did'),
    get: db.prepare('SELECT * FROM peer WHERE did = ?'),
    add: db.prepare(
      `INSERT INTO peer (did, stance, reason, evidence, declared, added_at, added_by, changed_at, changed_by)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ),
    say: db.prepare(
      `UPDATE peer SET stance = ?, reason = ?, evidence = ?, declared = coalesce(?, declared),
         changed_at = ?, changed_by = ? WHERE did = ?`,
    ),
    remove: db.prepare('DELETE FROM peer WHERE did = ?'),
  };
}
