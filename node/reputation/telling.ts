/**
 * A peer's signal about one of our members: an event on the member's timeline, and a notice to the operator.
 *
 * Promise: each signal is told once, also after a crash between its receipt and its telling; what could not be told
 * is tried again, with the next one or after a while. Nothing follows from
 * it by itself: the member goes on, a person decides. What it does to the listing is the listing policy's business
 * (appview/listing/signals.ts, `of`); at enrolment it holds, see review.ts.
 */
import type { Logger } from 'pino';
import { attestedDomain } from '../../appview/attestation-uri.ts';
import type { Database } from '../../appview/database.ts';
import type { Signals, StoredSignal } from '../../appview/listing/signals.ts';
import type { RecordEvents } from '../enforcement/event-log.ts';
import type { OwnEvent } from '../enforcement/event-store.ts';
import { type Retried, untilDone } from '../until-done.ts';
import { type Finding, findingOf, membersNamed } from './findings.ts';

export type TellingOptions = {
  /** node.db. */
  db: Database.Database;
  signals: Pick<Signals, 'untold' | 'markTold'>;
  isHeard: (src: string) => boolean;
  /** Domains that this account attests, as far as the AppView knows. */
  attestationsOf: (did: string) => readonly string[];
  record: RecordEvents;
  log: Logger;
  count: (what: string, reason?: string) => void;
  /** Default 10 s. */
  retryMs?: number;
};

const atOnce = 100;

/** @returns tells what has come since; cheap when nothing has */
export function telling(o: TellingOptions): Retried {
  const named = membersNamed(o.db, o.attestationsOf);
  const isTold = o.db.prepare(
    `SELECT 1 FROM event WHERE did = ? AND type = 'peer_signal' AND detail->>'src' = ? AND detail->>'uri' = ?
     AND detail->>'val' = ? AND detail->>'cts' = ?`,
  );
  const tell = (stored: StoredSignal) => {
    const { uri } = stored.signal.label;
    for (const [did, by] of named(uri, attestedDomain(uri))) {
      for (const finding of findingOf(stored, by, o.isHeard)) {
        const { src, val, cts } = finding;
        // The crash may have come between the event and the mark.
        if (isTold.get(did, src, uri, val, cts)) continue;
        o.record(peerSignal(did, finding));
        o.count('peer_signals', val);
      }
    }
    o.signals.markTold(stored.signal);
  };
  return untilDone({
    work: () => {
      for (let rest = o.signals.untold(atOnce); rest.length > 0; rest = o.signals.untold(atOnce))
        rest.forEach(tell);
    },
    onFailure: (error) => o.log.error({ err: error }, "peers' signals are not told yet; trying again"),
    ...(o.retryMs !== undefined && { retryMs: o.retryMs }),
  });
}

/** @param held the member waits for review because of it */
export function peerSignal(did: string, finding: Finding, held = false): OwnEvent {
  const { receivedAt: _, ...detail } = finding;
  const domain = attestedDomain(finding.uri);
  return { type: 'peer_signal', did, ...(domain !== undefined && { domain }), detail: { ...detail, held } };
}
