/**
 * Journey 2, last step: an enrolled member's attestation → five DNS checks → labels.
 *
 * Promise: a label stands only for a member enrolled here, on the very `cid` whose domain passed; what no
 * longer holds is negated. Nobody's silence takes a label away: a check that could not be decided leaves
 * the last verdict and the labels as they are.
 * When to look is schedule.ts's business, which labels follow decision.ts's.
 */
import type { Logger } from 'pino';
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

/** Satisfied by appview's Attestations. */
export interface AttestationIndex {
  /** Of an active account; the record key is the domain. */
  of(did: string): readonly Pick<AttestationRow, 'rkey' | 'uri' | 'cid' | 'record'>[];
  /** False while the index has not read the account (yet): then that it holds no record says nothing. */
  knows(did: string): boolean;
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
  now: () => number;
  log: Logger;
  count: (what: string, reason?: string) => void;
};

/** Where nobody could say, the next try comes at least this soon. */
const retryUndecidedMs = 60_000;

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
      if (!attestations.knows(did)) return 'unattested';
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
    if (member && !attestations.knows(did)) return;
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
    const enrolled = new Set(domains.map(({ name }) => name));
    return this.#o.attestations
      .of(did)
      .filter(({ rkey }) => enrolled.has(rkey))
      .map(({ rkey, uri, cid, record }) => {
        const known = this.#o.verifications.get({ did, domain: rkey });
        const isDecided = known?.cid === cid && known.verdict !== 'undecided';
        const verdict = isDecided ? (known.verdict as 'passed' | 'failed') : 'pending';
        return { uri, cid, relayMember: record.relayMember === true, verdict };
      });
  }

  /** Milliseconds. Spread, so that domains enrolled together do not stay together. */
  #wait(verdict: Verdict | 'unattested'): number {
    const { reverifyIntervalMs, retryUnverifiedMs } = this.#o;
    if (verdict === 'failed') return retryUnverifiedMs;
    if (verdict === 'undecided') return Math.min(retryUnverifiedMs, retryUndecidedMs);
    return Math.round(reverifyIntervalMs * (0.9 + 0.2 * Math.random()));
  }
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
