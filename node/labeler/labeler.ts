/**
 * Journey 2, last step: an enrolled member's attestation → five DNS checks → labels.
 *
 * Promise: a label stands only for a member enrolled here, on the very `cid` whose domain passed; what no
 * longer holds is negated. Nobody's silence takes a label away: a check that could not be decided leaves
 * the last verdict and the labels as they are. An account that is not active is a word that nobody signed:
 * its labels go only when it stays so, for a day by default; it is unlisted meanwhile.
 * When to look is schedule.ts's business, which labels follow decision.ts's.
 */
import type { Logger } from 'pino';
import { attestationUri } from '../../appview/attestation-uri.ts';
import type { AttestationRow } from '../../appview/firehose/attestations.ts';
import type { CheckDomain } from './checks.ts';
import { type AttestedDomain, decide } from './decision.ts';
import { overall, type Verdict } from './finding.ts';
import type { IssuedLabels } from './issued-labels.ts';
import type { Claim, Verifications } from './verifications.ts';

/** Satisfied by node/members. */
export interface EnrolledMembers {
  /** @returns undefined for who is not enrolled here; `relay`: may send through our relay */
  get(did: string): { relay: boolean; domains: readonly { name: string }[] } | undefined;
}

type IndexedRecord = Pick<AttestationRow, 'rkey' | 'uri' | 'cid' | 'record'>;

/** Satisfied by appview's Attestations. */
export interface AttestationIndex {
  /** Of an active account; the record key is the domain. */
  of(did: string): readonly IndexedRecord[];
  /** False while the index has not read the account (yet): then that it holds no record says nothing. */
  hasRead(did: string): boolean;
  /** The record is being asked for at its PDS: that the index does not hold it says nothing either. */
  isPending(did: string, domain: string): boolean;
  /** Of an account that is not active: since when (Unix ms), and what comes back with it; else undefined. */
  hidden(did: string): { since: number; rows: readonly IndexedRecord[] } | undefined;
  /** `cid` undefined: gone. Called after the commit. @returns what ends it */
  onChange(callback: (change: { did: string; rkey: string; cid?: string }) => void): () => void;
}

export type LabelerOptions = {
  issued: IssuedLabels;
  verifications: Verifications;
  members: EnrolledMembers;
  attestations: AttestationIndex;
  check: CheckDomain;
  /** A domain that passed is looked at again after this time ± 10 %. */
  reverifyIntervalMs: number;
  /** One that failed, after this. */
  retryUnverifiedMs: number;
  /** For so long an account that is not active keeps its labels. Default 24 h. */
  inactiveGraceMs?: number;
  now: () => number;
  log: Logger;
  count: (what: string, reason?: string) => void;
};

/** Where nobody could say, the next try comes at least this soon. */
const retryUndecidedMs = 60_000;
const defaultInactiveGraceMs = 86_400_000;

export class Labeler {
  readonly #o: LabelerOptions;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: LabelerOptions) {
    this.#o = options;
  }

  /**
   * Looks at one domain, brings its member's labels in line, and says when to look again.
   *
   * On `signal` it ends early and writes nothing more; the claim then runs out by itself.
   */
  async verify(claim: Claim, signal: AbortSignal): Promise<void> {
    const { members, verifications } = this.#o;
    const isEnrolled = members.get(claim.did)?.domains.some(({ name }) => name === claim.domain);
    if (!isEnrolled) {
      await this.reconcile(claim.did);
      verifications.drop(claim);
      return;
    }
    const dropsAt = this.#dropsAt(claim);
    if (dropsAt !== undefined) {
      await this.reconcile(claim.did);
      return verifications.reschedule(claim, dropsAt);
    }
    const verdict = await this.#look(claim, signal);
    if (!verdict) return;
    // The verdict is stored before the labels and the date after them: a crash between repeats the rest.
    await this.reconcile(claim.did);
    verifications.reschedule(claim, this.#o.now() + this.#wait(verdict));
  }

  /** Issues what is missing, negates what no longer holds. One at a time: each rests on the one before. */
  reconcile(did: string): Promise<void> {
    const turn = this.#turn.then(() => this.#reconcile(did));
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  /**
   * @returns what the run found, `unattested` when there is nothing to check; undefined on `signal`, or
   *   when something changed that voids the claim
   */
  async #look(claim: Claim, signal: AbortSignal): Promise<Verdict | 'unattested' | undefined> {
    const { verifications, attestations, check, now, count } = this.#o;
    const { did, domain } = claim;
    const attestation = attestations.of(did).find(({ rkey }) => rkey === domain);
    if (!attestation) {
      if (!attestations.hasRead(did)) return 'unattested';
      // Looked at again within a minute: it may be proved absent by then, of which nobody is told.
      if (attestations.isPending(did, domain)) return 'undecided';
      const found = { verdict: 'undecided' as const, cid: null, evidence: [], checkedAt: now() };
      return verifications.record(claim, found) ? 'unattested' : undefined;
    }
    const { cid, record } = attestation;
    const evidence = await untilAbort(check({ did, domain, selectors: record.dkimSelectors }), signal);
    if (!evidence) return undefined;
    const verdict = overall(evidence);
    count('verifications', verdict);
    const before = verifications.get(claim);
    const decided = verdict === 'undecided' && before?.cid === cid ? before.verdict : verdict;
    const isRecorded = verifications.record(claim, { verdict: decided, cid, evidence, checkedAt: now() });
    return isRecorded ? verdict : undefined;
  }

  async #reconcile(did: string): Promise<void> {
    const { issued, members, attestations, log, count } = this.#o;
    const member = members.get(did);
    // An index that is being rebuilt must not break the age of every label.
    if (member && !attestations.hasRead(did)) return;
    const decision = decide(
      did,
      member,
      this.#attestedDomains(did, member?.domains ?? []),
      issued.inForce(did),
    );
    const appended = await issued.append(decision);
    for (const { seq, label } of appended) {
      count(label.neg ? 'labels_negated' : 'labels_issued', label.val);
      log.info({ seq, uri: label.uri, val: label.val, neg: label.neg ?? false }, 'label');
    }
  }

  #attestedDomains(did: string, domains: readonly { name: string }[]): AttestedDomain[] {
    const { attestations } = this.#o;
    const isKept = this.#graceEnds(did) !== undefined;
    const isOverdue = !isKept && attestations.hidden(did) !== undefined;
    const rows = isKept ? attestations.hidden(did)!.rows : attestations.of(did);
    return domains.flatMap(({ name }) => {
      const row = rows.find(({ rkey }) => rkey === name);
      if (row) return isKept ? unjudged(row) : this.#judged(did, row);
      // Not here, and not proved absent: its labels stay, unless the account was given its time.
      if (isOverdue || !attestations.isPending(did, name)) return [];
      return unjudged({ uri: attestationUri(did, name), cid: '' });
    });
  }

  #judged(did: string, { rkey, uri, cid, record }: IndexedRecord): AttestedDomain {
    const known = this.#o.verifications.get({ did, domain: rkey });
    const isDecided = known?.cid === cid && known.verdict !== 'undecided';
    const verdict = isDecided ? (known.verdict as 'passed' | 'failed') : 'pending';
    return { uri, cid, relayMember: record.relayMember === true, verdict };
  }

  /** When the labels of this attestation go, because its account is not active; undefined when not for that. */
  #dropsAt({ did, domain }: Claim): number | undefined {
    const ends = this.#graceEnds(did);
    const isHidden = this.#o.attestations.hidden(did)?.rows.some(({ rkey }) => rkey === domain);
    return isHidden ? ends : undefined;
  }

  /** Unix ms, always ahead; undefined for an active account, and for one that was given its time. */
  #graceEnds(did: string): number | undefined {
    const { attestations, inactiveGraceMs = defaultInactiveGraceMs, now } = this.#o;
    const hidden = attestations.hidden(did);
    const ends = hidden && hidden.since + inactiveGraceMs;
    return ends !== undefined && ends > now() ? ends : undefined;
  }

  /** Milliseconds. Spread, so that domains enrolled together do not stay together. */
  #wait(verdict: Verdict | 'unattested'): number {
    const { reverifyIntervalMs, retryUnverifiedMs } = this.#o;
    if (verdict === 'failed') return retryUnverifiedMs;
    if (verdict === 'undecided') return Math.min(retryUnverifiedMs, retryUndecidedMs);
    return Math.round(reverifyIntervalMs * (0.9 + 0.2 * Math.random()));
  }
}

/** Whatever labels it has stay as they are. */
function unjudged({ uri, cid }: { uri: string; cid: string }): AttestedDomain {
  return { uri, cid, relayMember: false, verdict: 'pending' };
}

/** The result, or undefined as soon as `signal` fires; the work itself may then end unheard. */
function untilAbort<T>(work: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    const giveUp = () => resolve(undefined);
    signal.addEventListener('abort', giveUp);
    if (signal.aborted) giveUp();
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', giveUp));
  });
}
