/**
 * Suspensions that this cooperative decides to publish: the public labels `suspended-<reason>`.
 *
 * Promise: a label stands on the URI of the domain's record, whose key is the domain, so it outlives the record; and
 * on the DID; until the end of the term. It is published only of a member that is suspended or removed here, and
 * withdrawn as soon as that is over, after a restart too. Each act is an event, with who did it, before it is a
 * label: what a crash cut short between the two is carried out at the next start.
 * To publish is a decision of the cooperative's governance; until there is one, it is an act of the operator's.
 */
import type { Logger } from 'pino';
import { attestationUri } from '../../appview/attestation-uri.ts';
import type { Database } from '../../appview/database.ts';
import { isCorruption } from '../../appview/database.ts';
import { suspendedPrefix as prefix } from '../../appview/label-values.ts';
import { type SuspensionReason, suspensionReasons } from '../../appview/labels/signal.ts';
import { didOf } from '../../appview/listing/signals.ts';
import type { RecordEvents } from '../enforcement/event-log.ts';
import type { Event } from '../enforcement/events.ts';
import type { Decision, Label } from '../labeler/decision.ts';
import type { IssuedLabel, IssuedLabels } from '../labeler/issued-labels.ts';

export const longestTermMs = 366 * 86_400_000;

export type PublishedSuspension = {
  did: string;
  /** Enrolled here. */
  domain: string;
  reason: SuspensionReason;
  /** Unix ms: the end of the term. */
  until: number;
  /** Who decided. */
  by: string;
};

export type PublicationRefusal = 'not-enrolled' | 'not-suspended' | 'term';

export type PublishedSuspensionsOptions = {
  /** node.db. */
  db: Database.Database;
  issued: Pick<IssuedLabels, 'append' | 'inForce'>;
  record: RecordEvents;
  now: () => number;
  log: Logger;
};

export class PublishedSuspensions {
  readonly #o: PublishedSuspensionsOptions;
  readonly #find: Database.Statement;
  readonly #published: Database.Statement;
  readonly #lastActs: Database.Statement;
  /** What is decided of one member rests on what was decided before. */
  #working: Promise<unknown> = Promise.resolve();

  constructor(options: PublishedSuspensionsOptions) {
    this.#o = options;
    this.#find = options.db.prepare(
      `SELECT m.state, m.state_until AS until, d.name AS domain FROM member m
       LEFT JOIN domain d ON d.did = m.did AND d.name = ? WHERE m.did = ?`,
    );
    this.#published = options.db.prepare(
      `SELECT DISTINCT uri FROM current_label WHERE val IN (SELECT value FROM json_each(?))`,
    );
    // Not of a standing that has changed since.
    this.#lastActs = options.db.prepare(
      `SELECT e.did, e.domain, e.detail FROM member m JOIN event e ON e.id = (
         SELECT max(id) FROM event WHERE did = m.did AND type = 'staff_act'
         AND detail->>'act' IN ('suspension_published', 'suspension_withdrawn'))
       WHERE m.state IN ('suspended', 'removed') AND (m.state_until IS NULL OR m.state_until > ?)
       AND e.at >= coalesce(m.state_at, 0)`,
    );
  }

  /** @returns what was issued, or why nothing was */
  publishSuspension(wanted: PublishedSuspension): Promise<IssuedLabel[] | PublicationRefusal> {
    return this.#inTurn(async () => {
      const why = this.#objection(wanted);
      if (why) return why;
      const { did, domain, reason, until, by } = wanted;
      const detail = { act: 'suspension_published', code: reason, until, by: 'person', actor: by };
      this.#o.record({ type: 'staff_act', did, domain, detail });
      return this.#o.issued.append(this.#decisionOf(wanted));
    });
  }

  /** All of a member's. @returns what was negated; empty where nothing stood */
  withdrawSuspension({ did, by }: { did: string; by: string }): Promise<IssuedLabel[]> {
    return this.#inTurn(async () => {
      const negate = this.#standing(did);
      if (negate.length === 0) return [];
      const detail = { act: 'suspension_withdrawn', by: by === 'clock' ? 'automatic' : 'person', actor: by };
      this.#o.record({ type: 'staff_act', did, detail });
      return this.#o.issued.append({ issue: [], negate });
    });
  }

  /** After the commit of these events: what is over is public no more. */
  readonly examine = (events: readonly Event[]): void => {
    for (const { type, did, detail } of events) {
      if (type !== 'staff_act' || detail.act !== 'standing' || isStopped(detail.state)) continue;
      this.#withdrawSoon(did);
    }
  };

  /** What ended while nobody looked. */
  async start(): Promise<void> {
    const vals = JSON.stringify(suspensionReasons.map((reason) => prefix + reason));
    const uris = (this.#published.all(vals) as { uri: string }[]).map(({ uri }) => uri);
    for (const did of new Set(uris.map(didOf))) {
      if (!this.#isSuspended(this.#find.get('', did) as Row | undefined)) this.#withdrawSoon(did);
    }
    for (const act of this.#lastActs.all(this.#o.now()) as ActRow[])
      this.#soon(act.did, () => this.#carryOut(act));
    await this.#working;
  }

  async stop(): Promise<void> {
    await this.#working;
  }

  #withdrawSoon(did: string): void {
    this.#soon(did, () => this.withdrawSuspension({ did, by: 'clock' }));
  }

  #soon(did: string, work: () => Promise<unknown>): void {
    work().catch((error) => {
      if (isCorruption(error)) throw error;
      this.#o.log.error(
        { did, err: error },
        'a published suspension is not as it was decided; the next start tries again',
      );
    });
  }

  /** What of an act is no label yet. */
  #carryOut({ did, domain, detail }: ActRow): Promise<IssuedLabel[]> {
    return this.#inTurn(() => {
      const { act, code: reason, until } = JSON.parse(detail) as ActDetail;
      const standing = this.#standing(did);
      if (act === 'suspension_withdrawn') return this.#o.issued.append({ issue: [], negate: standing });
      if (domain === null || until <= this.#o.now()) return Promise.resolve([]);
      const { issue, negate } = this.#decisionOf({ did, domain, reason, until });
      const isThere = ({ uri, val }: Label) => standing.some((one) => one.uri === uri && one.val === val);
      return this.#o.issued.append({ issue: issue.filter((label) => !isThere(label)), negate });
    });
  }

  #decisionOf({ did, domain, reason, until }: Omit<PublishedSuspension, 'by'>): Decision {
    const exp = new Date(until).toISOString();
    const issue = [attestationUri(did, domain), did].map((uri) => ({ uri, val: prefix + reason, exp }));
    // Of one subject one reason stands.
    const negate = this.#standing(did).filter(
      ({ uri, val }) => val !== prefix + reason && issue.some((one) => one.uri === uri),
    );
    return { issue, negate };
  }

  #objection({ did, domain, until }: PublishedSuspension): PublicationRefusal | undefined {
    const row = this.#find.get(domain, did) as Row | undefined;
    if (!row || row.domain === null) return 'not-enrolled';
    if (!this.#isSuspended(row)) return 'not-suspended';
    const now = this.#o.now();
    return until <= now || until > now + longestTermMs ? 'term' : undefined;
  }

  #isSuspended(row: Row | undefined): boolean {
    return row !== undefined && isStopped(row.state) && (row.until === null || row.until > this.#o.now());
  }

  #standing(did: string): Label[] {
    return this.#o.issued.inForce(did).filter(({ val }) => val.startsWith(prefix));
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#working.then(work);
    this.#working = turn.catch(() => undefined);
    return turn;
  }
}

type ActRow = { did: string; domain: string | null; detail: string };
type ActDetail = { act: string; code: SuspensionReason; until: number };
type Row = { state: string; until: number | null; domain: string | null };

function isStopped(state: unknown): boolean {
  return state === 'suspended' || state === 'removed';
}
