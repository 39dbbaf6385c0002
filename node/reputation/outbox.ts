/**
 * Which change of a standing is a signal to peers: its row stands in the commit of the change.
 *
 * A hold that rests on a peer's signal is nobody's news: told on, it would come back as an echo of itself.
 * Signing and serving is issued-signals.ts's business.
 */
import type { Database } from '../../appview/database.ts';
import {
  type EvidenceClass,
  type SignalValue,
  type SuspensionReason,
  suspensionReasons,
} from '../../appview/labels/signal.ts';
import type { Projection } from '../enforcement/event-store.ts';
import type { Event } from '../enforcement/events.ts';
import { peerSignalActor } from '../enforcement/peer-signal.ts';

/** By the state of a standing. A hold is a warning until somebody has looked. */
const signalFor: Readonly<Record<string, SignalValue>> = {
  throttled: 'warned',
  held: 'warned',
  probation: 'probation',
  suspended: 'suspended',
  removed: 'removed',
};

export type Due = {
  did: string;
  val: SignalValue | null;
  until: number | null;
  reason: SuspensionReason;
  evidence: EvidenceClass;
};

/** @param db node.db */
export function signalOutbox(db: Database.Database): Projection {
  const add = db.prepare(
    'INSERT INTO reputation_due (did, val, until, reason, evidence) VALUES (?, ?, ?, ?, ?)',
  );
  return {
    project(events) {
      for (const event of events) {
        const due = dueOf(event);
        if (due) add.run(due.did, due.val, due.until, due.reason, due.evidence);
      }
    },
  };
}

/** @returns undefined for what peers are not told */
export function dueOf({ type, did, detail }: Event): Due | undefined {
  if (type !== 'staff_act' || detail.act !== 'standing' || detail.actor === peerSignalActor) return undefined;
  return {
    did,
    val: signalFor[String(detail.state)] ?? null,
    until: typeof detail.until === 'number' ? detail.until : null,
    reason: reasonOf(detail),
    evidence: detail.by === 'person' ? 'review' : 'figures',
  };
}

/** What a person named; else what the guard's breakers mean. Free words stay here. */
function reasonOf({ code, breaker }: Event['detail']): SuspensionReason {
  const named = suspensionReasons.find((known) => known === code);
  return named ?? (breaker === 'unknown-users' || breaker === 'door' ? 'list-quality' : 'other');
}
