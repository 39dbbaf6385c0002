/**
 * Who is due, and who is being tried right now.
 *
 * A claim lives in memory only: a crash gives every claimed recipient back, so it is tried again rather
 * than forgotten. Between claim and settlement nobody else gets the recipient. Whose turn it is, lanes.ts
 * knows; of each lane the next few recipients are kept here, the rest stays on disk.
 */
import { CorruptState, type Database } from '../../appview/database.ts';
import type { Effects, Entered, Waiting } from './effects.ts';
import type { Fresh } from './fresh.ts';
import { recipientId, recipientsPerMessage } from './ids.ts';
import { type Blocked, type Head, type Lane, Lanes } from './lanes.ts';
import { type Claim, type MessageKind, maxBodyInRow, type NewRecipient } from './message.ts';
import { asBuffer } from './packing.ts';
import type { DueQuery, Except } from './protocol.ts';
import { type MessageDetails, type RecipientDetails, read } from './rows.ts';
import { cancellingAt, heldAt } from './schema.ts';

type Statement = Database.Statement<unknown[]>;

/** Of one lane, so that a long one is not asked for each. */
const keptHeads = 16;
/** Octets of bodies that one answer of take() carries. */
const maxBodies = 4 * 1024 * 1024;

export class Claims {
  readonly #sql: Record<keyof typeof statements, Statement>;
  readonly #fresh: Fresh;
  readonly #lanes = new Lanes();
  /** Recipient ids to what is claimed. */
  readonly #flights = new Map<string, { seq: number; lane: Lane }>();
  readonly #flying = new Set<number>();
  #now = 0;
  /** Of the last question. */
  #blocked: Blocked = { sites: new Set(), members: new Set() };

  constructor(db: Database.Database, fresh: Fresh) {
    this.#fresh = fresh;
    const prepared = Object.entries(statements).map(([name, sql]) => [name, db.prepare(sql)]);
    this.#sql = Object.fromEntries(prepared) as Record<keyof typeof statements, Statement>;
    this.load();
  }

  /** Reads anew what waits; claims stay. */
  load(): void {
    this.#lanes.clear();
    for (const flight of this.#flights.values()) {
      flight.lane = this.#lanes.at(flight.lane.site, flight.lane.did);
      flight.lane.flying += 1;
    }
    // Each row brings a string of its own, and there are few members.
    const dids = new Map<string, string>();
    for (const { site, did, at } of this.#sql.lanes.iterate([]) as Iterable<Waiting>) {
      if (!dids.has(did)) dids.set(did, did);
      const lane = this.#lanes.at(site, dids.get(did)!);
      lane.complete = false;
      if (lane.flying === 0) this.#lanes.waits(lane, at);
      else this.#refresh(lane);
    }
  }

  /** Those that are to be cancelled and are not being tried. */
  cancelling(): number[] {
    const rows = this.#sql.cancelling.all([]) as { seq: number }[];
    return rows.map(({ seq }) => seq).filter((seq) => !this.#flying.has(seq));
  }

  isFlying(seq: number): boolean {
    return this.#flying.has(seq);
  }

  /** See Spool.due(). */
  take({ limit, now, ...except }: DueQuery): Claim[] {
    // Lanes remember when they were served: by a clock that was set back, that lies in the future.
    if (now < this.#now) this.load();
    this.#now = now;
    const blocked = blockedBy(except);
    this.#blocked = blocked;
    const claims: Claim[] = [];
    let room = maxBodies;
    while (claims.length < limit) {
      const lane = this.#lanes.first(blocked);
      if (!lane || lane.turn > now) break;
      const head = this.#head(lane);
      if (!head || head.at > now) {
        this.#lanes.waits(lane, head?.at);
        continue;
      }
      const claim = this.#claim(head.seq, room);
      lane.heads.shift();
      this.#begin(claim.recipientId, head.seq, lane);
      this.#lanes.served(lane, now, this.#head(lane)?.at);
      room -= claim.body?.length ?? 0;
      claims.push(claim);
    }
    return claims;
  }

  /** @returns whether one of them is to be cancelled */
  release(recipientIds: readonly string[]): boolean {
    let cancels = false;
    for (const id of recipientIds) {
      const flight = this.#flights.get(id);
      if (!flight) continue;
      this.#end(id);
      const row = this.#sql.place.get(flight.seq) as Waiting | undefined;
      if (row?.at === cancellingAt) cancels = true;
      else if (row && row.at < heldAt) this.#waits({ ...row, seq: flight.seq });
    }
    return cancels;
  }

  /** When the first recipient that take() could give is due; undefined when there is none. */
  nextDueAt(except: Except): number | undefined {
    const blocked = blockedBy(except);
    for (;;) {
      const lane = this.#lanes.first(blocked);
      if (!lane) return undefined;
      const turn = lane.turn;
      this.#lanes.waits(lane, this.#head(lane)?.at);
      if (lane.turn === turn && lane.group) return turn;
    }
  }

  /** What a transaction that is on disk means here. */
  apply({ landed, waiting, changed }: Effects): void {
    for (const id of landed) this.#end(id);
    const lanes = new Set(changed.map(({ site, did }) => this.#lanes.at(site, did)));
    // What an act of the same commit held, ended or moved is read anew, and not claimed as it was accepted.
    for (const one of waiting) if (one.at < heldAt && !this.#takesAtOnce(one, lanes)) this.#waits(one);
    for (const lane of lanes) this.#refresh(lane);
  }

  /** As take() would have handed it out: nothing waits before it, in its lane or in another. */
  #takesAtOnce({ site, did, seq, at, wanted }: Entered, changed: ReadonlySet<Lane>): boolean {
    if (!wanted) return false;
    const { message, answer } = wanted;
    const lane = this.#lanes.at(site, did);
    if (changed.has(lane)) return false;
    const first = this.#lanes.first(this.#blocked);
    if (answer.kind !== 'committed' || lane.group || isBlocked(lane, this.#blocked)) return false;
    if (first && first.turn <= at) return false;
    const content = this.#fresh.take(seq);
    if (!content) return false;
    const [{ id }] = message.recipients as [NewRecipient];
    lane.served = Math.max(lane.served, at);
    this.#begin(id, seq, lane);
    answer.claimed = { site, ...content };
    return true;
  }

  #begin(id: string, seq: number, lane: Lane): void {
    lane.flying += 1;
    this.#flights.set(id, { seq, lane });
    this.#flying.add(seq);
  }

  #end(id: string): void {
    const flight = this.#flights.get(id);
    if (!flight) return;
    this.#flights.delete(id);
    this.#flying.delete(flight.seq);
    flight.lane.flying -= 1;
    if (!flight.lane.group) this.#lanes.waits(flight.lane, undefined);
  }

  /** One more waits; only what is among the first of its lane is kept. */
  #waits({ site, did, seq, at }: Waiting): void {
    const lane = this.#lanes.at(site, did);
    const { heads } = lane;
    const last = heads.at(-1);
    const isLater = !last || at > last.at || (at === last.at && seq > last.seq);
    if (!isLater || lane.complete) {
      const place = isLater
        ? heads.length
        : heads.findIndex((h) => at < h.at || (at === h.at && seq < h.seq));
      lane.heads = heads.toSpliced(place, 0, { seq, at });
      if (lane.heads.length > keptHeads) {
        lane.heads.pop();
        lane.complete = false;
      }
    }
    const first = lane.heads[0]?.at ?? at;
    this.#lanes.waits(lane, lane.group ? Math.min(first, lane.turn) : first);
  }

  #refresh(lane: Lane): void {
    lane.heads = [];
    lane.complete = false;
    this.#lanes.waits(lane, this.#head(lane)?.at);
  }

  #head(lane: Lane): Head | undefined {
    // Those in flight are still due on disk: asking for that many more leaves enough after them.
    for (let limit = keptHeads + lane.flying; lane.heads.length === 0 && !lane.complete; ) {
      const rows = this.#sql.heads.all([lane.site, lane.did, limit]) as Head[];
      lane.heads = rows.filter(({ seq }) => !this.#flying.has(seq));
      lane.complete = rows.length < limit;
      // Some in flight may have come from another site's lane.
      limit += this.#flying.size;
    }
    return lane.heads[0];
  }

  #claim(seq: number, room: number): Claim {
    const fresh = this.#fresh.take(seq);
    const found = (fresh ? this.#sql.claimFresh : this.#sql.claim).get(seq) as Row | undefined;
    const row = found && fresh ? Object.assign(found, fresh) : found;
    if (!row) throw new CorruptState(`the spool lost the header lines of ${seq}. Restore it from a backup.`);
    const isWhole = !row.in_file && row.size <= Math.min(room, maxBodyInRow);
    const body = isWhole ? this.#body(row) : undefined;
    // The lines alone, in memory of their own: a view of them would hold all of the row.
    if (!body && row.bytes.length > row.body_at)
      row.bytes = asBuffer(new Uint8Array(row.bytes.subarray(0, row.body_at)));
    const claim = asClaim(row);
    if (body) claim.body = body;
    return claim;
  }

  #body(row: Row): Buffer {
    const first = Math.floor(row.seq / recipientsPerMessage) * recipientsPerMessage;
    if (row.seq === first + 1) return row.bytes.subarray(row.body_at);
    const body = this.#sql.body.get(first) as { bytes: Buffer | null } | undefined;
    if (!body)
      throw new CorruptState(`the spool lost the body of ${row.queue_id}. Restore it from a backup.`);
    return body.bytes ?? Buffer.alloc(0);
  }
}

/** Where the lines of a recipient are: those of the first before the body. */
const contentSeq = `CASE r.seq % ${recipientsPerMessage} WHEN 1 THEN r.seq - 1 ELSE r.seq END`;

const claimColumns = `r.seq, r.site, r.did, r.address, r.recipient_domain, r.return_path, r.signed_at, r.attempts,
  r.paused_ms, r.details, m.queue_id, m.kind, m.domain, m.mail_from, m.received_at, m.expires_at, m.size, m.in_file,
  m.key_id, m.category, m.details AS message_details`;

const statements = {
  lanes: `SELECT site, did, MIN(next_at) AS at FROM recipient WHERE next_at IS NOT NULL AND next_at < ${heldAt}
    GROUP BY site, did`,
  cancelling: `SELECT seq FROM recipient INDEXED BY recipient_waiting WHERE next_at = ${cancellingAt}`,
  heads: `SELECT seq, next_at AS at FROM recipient INDEXED BY recipient_waiting
    WHERE site = ? AND did = ? AND next_at < ${heldAt} ORDER BY next_at, seq LIMIT ?`,
  place: 'SELECT site, did, next_at AS at FROM recipient WHERE seq = ? AND next_at IS NOT NULL',
  claim: `
    SELECT ${claimColumns}, c.bytes, c.split, c.body_at
    FROM recipient r JOIN content c ON c.seq = ${contentSeq} JOIN message m ON m.seq = r.seq / ${recipientsPerMessage}
    WHERE r.seq = ?`,
  claimFresh: `
    SELECT ${claimColumns} FROM recipient r JOIN message m ON m.seq = r.seq / ${recipientsPerMessage} WHERE r.seq = ?`,
  body: 'SELECT substr(bytes, body_at + 1) AS bytes FROM content WHERE seq = ?',
} as const;

function isBlocked({ site, did }: Lane, { sites, members }: Blocked): boolean {
  return sites.has(site) || members.has(did);
}

function blockedBy({ exceptSites, exceptMembers }: Except): Blocked {
  return { sites: new Set(exceptSites), members: new Set(exceptMembers) };
}

type Row = {
  seq: number;
  site: string;
  did: string;
  address: string;
  recipient_domain: string;
  return_path: string;
  signed_at: number;
  attempts: number;
  paused_ms: number;
  details: string | null;
  bytes: Buffer;
  split: number;
  body_at: number;
  queue_id: string;
  kind: MessageKind;
  domain: string;
  mail_from: string;
  received_at: number;
  expires_at: number;
  size: number;
  in_file: number;
  key_id: string | null;
  category: string | null;
  message_details: string | null;
};

function asClaim(row: Row): Claim {
  const { ret, envid, requireTls } = read<MessageDetails>(row.message_details);
  const { notify, orcpt, simulated, lastSource, delayNoticed, failReason, reroute } = read<RecipientDetails>(
    row.details,
  );
  return {
    recipientId: recipientId(row.queue_id, row.seq % recipientsPerMessage),
    queueId: row.queue_id,
    kind: row.kind,
    did: row.did,
    domain: row.domain,
    address: row.address,
    recipientDomain: row.recipient_domain,
    returnPath: row.return_path,
    signatures: row.bytes.subarray(0, row.split),
    signedAt: row.signed_at,
    prefix: row.bytes.subarray(row.split, row.body_at),
    attempts: row.attempts,
    receivedAt: row.received_at,
    expiresAt: row.expires_at + row.paused_ms,
    mailFrom: row.mail_from,
    site: row.site,
    size: row.size,
    keyId: row.key_id ?? undefined,
    category: row.category ?? undefined,
    requireTls: requireTls === true,
    simulated: simulated === true,
    delayNoticed: delayNoticed === true,
    ...{ ret, envid, notify, orcpt, lastSource, failReason, reroute },
  };
}
