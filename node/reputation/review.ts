/**
 * Held for review: who is suspended at a peer's and enrols here waits until a person has looked.
 *
 * Promise: the enrolment, the hold, the events that name the signals and the notice to the operator are one commit,
 * whichever process enrols. The member reads that it is held for review, and not whose signal that is. A signal on
 * the member itself that was told of it before a person last decided about it does not hold it again; one on a
 * domain that is new here holds whoever enrols it.
 */
import type { Database } from '../../appview/database.ts';
import type { Projection } from '../enforcement/event-store.ts';
import { EventStore } from '../enforcement/event-store.ts';
import { outboxes } from '../enforcement/events.ts';
import { peerSignalActor } from '../enforcement/peer-signal.ts';
import { type Finding, type FindingsOf, isSuspension } from './findings.ts';
import { peerSignal } from './telling.ts';

export const heldForReview = 'Held for review.';

/** Milder than a hold. */
const milder = new Set(['active', 'throttled', 'probation']);

export type EnrolmentReviewOptions = {
  /** node.db. */
  db: Database.Database;
  findingsOf: FindingsOf;
  /** In the commit: the operator's notices. */
  projections: readonly Projection[];
  now: () => number;
};

export class EnrolmentReview {
  readonly #o: EnrolmentReviewOptions;
  readonly #store: EventStore;
  readonly #standing: Database.Statement;
  readonly #hold: Database.Statement;
  readonly #told: Database.Statement;

  constructor(options: EnrolmentReviewOptions) {
    const { db, projections, now } = options;
    this.#o = options;
    this.#store = new EventStore({ db, projections, now });
    this.#standing = db.prepare(
      'SELECT state, state_until AS until, person_at AS personAt FROM member WHERE did = ?',
    );
    this.#hold = db.prepare(
      `UPDATE member SET state = 'held', state_reason = ?, state_until = NULL, state_by = 'automatic', state_at = ?
       WHERE did = ?`,
    );
    this.#told = db.prepare(
      `SELECT 1 FROM event WHERE did = ? AND at <= ? AND type = 'peer_signal' AND detail->>'src' = ?
       AND detail->>'uri' = ? AND detail->>'val' = ?`,
    );
  }

  /** Why this enrolment waits; empty: it does not. @param domains those that are new */
  reasons(did: string, domains: readonly string[]): Finding[] {
    const { personAt } = (this.#standing.get(did) ?? { personAt: null }) as { personAt: number | null };
    return this.#o
      .findingsOf(did, domains)
      .filter((one) => isSuspension(one) && !(personAt !== null && this.#isDecided(did, one, personAt)));
  }

  /** A renewal keeps the time of its first receipt; what ended and was said anew has a new one. */
  #isDecided(did: string, { by, src, uri, val, receivedAt }: Finding, personAt: number): boolean {
    return (
      by === 'did' && receivedAt <= personAt && this.#told.get(did, personAt, src, uri, val) !== undefined
    );
  }

  /**
   * Enrols and holds, in one commit.
   *
   * @param enrol inserts the rows; what it throws undoes everything
   */
  hold(did: string, reasons: readonly Finding[], enrol: () => void): void {
    const at = this.#o.now();
    const from = this.#from(did);
    const detail = { act: 'standing', state: 'held', from, reason: heldForReview, until: null };
    const held = {
      type: 'staff_act',
      did,
      detail: { ...detail, by: 'automatic', actor: peerSignalActor },
    } as const;
    const told = reasons.map((finding) => peerSignal(did, finding, true));
    this.#store.record(outboxes.node, milder.has(from) ? [...told, held] : told, () => {
      enrol();
      if (milder.has(from)) this.#hold.run(heldForReview, at, did);
    });
  }

  #from(did: string): string {
    const row = this.#standing.get(did) as { state: string; until: number | null } | undefined;
    return !row || (row.until !== null && row.until <= this.#o.now()) ? 'active' : row.state;
  }
}
