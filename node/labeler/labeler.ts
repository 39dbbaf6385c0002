/**
 * Journey 2, last step: an enrolled member's attestation → five DNS checks → labels.
 *
 * Promise: a label stands only for a member enrolled here, on the very `cid` whose domain passed; what no
 * longer holds is negated. A silence takes no label away at once: a check that could not be decided leaves the
 * last verdict and the labels as they are, for a grace of three days by default (outcome.ts). An account that is
 * not active is a word that nobody signed: its labels go only when it stays so, for a day by default; it is
 * unlisted meanwhile. Records that changed are told of in the commit that keeps the look.
 * When to look is schedule.ts's business, which labels follow decision.ts's.
 */
import type { Logger } from 'pino';
import { attestationUri } from '../../appview/attestation-uri.ts';
import type { AttestationRow } from '../../appview/firehose/attestations.ts';
import type { RecordEvents } from '../enforcement/event-log.ts';
import type { OwnEvent } from '../enforcement/event-store.ts';
import { heldForReview } from '../reputation/review.ts';
import type { CheckDomain } from './checks.ts';
import { type AttestedDomain, type Decision, decide, type StandingNow } from './decision.ts';
import type { DnsChange } from './dns-changes.ts';
import type { Verdict } from './finding.ts';
import type { IssuedLabels } from './issued-labels.ts';
import { isoTime } from './label-tables.ts';
import { nextRound, nextTry } from './next-look.ts';
import { type Outcome, outcomeOf } from './outcome.ts';
import { isRenewalDue } from './renewal.ts';
import { type Claim, nothingFound, type Verifications } from './verifications.ts';

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

/** Satisfied by node/enforcement's Standing: `active` where nothing is in force. */
export type StandingOfMember = (did: string) => MemberStanding;

type MemberStanding = { state: string; until: number | null; by?: string; reason?: string | null };

export type LabelerOptions = {
  issued: IssuedLabels;
  verifications: Verifications;
  members: EnrolledMembers;
  attestations: AttestationIndex;
  check: CheckDomain;
  /** Labels follow it. Left out: everyone stands well. */
  standingOf?: StandingOfMember;
  /** Whether this relay's figures earn `clean-sender` (clean-sender.ts). Left out: never. */
  isCleanSender?: (did: string, domain: string) => boolean;
  /** From issue to `exp`. Default 14 days. */
  labelLifetimeMs?: number;
  /** A domain that passed is looked at again after this time ± 10 %. */
  reverifyIntervalMs: number;
  /** One that failed, after this, then ever more rarely. */
  retryUnverifiedMs: number;
  /** For so long a silence of DNS keeps the last verdict. Default 72 h. */
  transientGraceMs?: number;
  /** Tells of changed records (`dns_changed`); left out: nobody is told. */
  record?: RecordEvents;
  /** For so long an account that is not active keeps its labels. Default 24 h. */
  inactiveGraceMs?: number;
  now: () => number;
  log: Logger;
  count: (what: string, reason?: string) => void;
};

/** Where nobody could say, the next try comes at least this soon. */
const retryUndecidedMs = 60_000;
const defaultInactiveGraceMs = 86_400_000;
const fourteenDaysMs = 14 * 86_400_000;
const defaultTransientGraceMs = 72 * 3_600_000;

export class Labeler {
  readonly #o: LabelerOptions;
  readonly #turns = new Map<string, Promise<unknown>>();

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
    // A measure acts now, whatever DNS says and when.
    const { standing, until } = this.#standing(claim.did);
    if (standing !== 'good') await this.reconcile(claim.did);
    if (standing === 'stopped') return verifications.reschedule(claim, this.#whenOver(claim, until));
    const verdict = await this.#look(claim, signal);
    if (!verdict) return;
    // The verdict is stored before the labels and the date after them: a crash between repeats the rest.
    await this.reconcile(claim.did);
    const next = this.#nextLook(claim, verdict);
    verifications.reschedule(claim, Math.min(next, this.#whenOver(claim, until)));
  }

  /** Issues what is missing, negates what no longer holds. A member's take turns: each rests on the one before. */
  reconcile(did: string): Promise<void> {
    const turn = (this.#turns.get(did) ?? Promise.resolve()).then(() => this.#reconcile(did));
    const settled = turn.catch(() => undefined);
    this.#turns.set(did, settled);
    void settled.then(() => this.#turns.get(did) === settled && this.#turns.delete(did));
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
      return verifications.record(claim, nothingFound(now())) ? 'unattested' : undefined;
    }
    const { cid, record } = attestation;
    const evidence = await untilAbort(check({ did, domain, selectors: record.dkimSelectors }), signal);
    if (!evidence) return undefined;
    const outcome = outcomeOf(verifications.get(claim), { cid, evidence, at: now() }, this.#transientGraceMs);
    count('verifications', outcome.verdict);
    return this.#keep(claim, outcome) ? outcome.verdict : undefined;
  }

  /** The row and the event that tells of what changed are one commit. @returns false when the claim is void */
  #keep(claim: Claim, { row, change }: Outcome): boolean {
    const { verifications, record } = this.#o;
    if (!change || !record) return verifications.record(claim, row);
    try {
      record(this.#dnsChanged(claim, change), () => {
        if (!verifications.record(claim, row)) throw voidClaim;
      });
      return true;
    } catch (error) {
      if (error === voidClaim) return false;
      throw error;
    }
  }

  #dnsChanged({ did, domain }: Claim, change: DnsChange): OwnEvent {
    const isKey = change.keys.length > 0;
    this.#o.count('dns_changes', isKey ? 'key' : 'record');
    if (isKey) this.#o.log.warn({ did, domain, keys: change.keys }, 'a DKIM key changed, undeclared');
    return { type: 'dns_changed', did, domain, detail: { ...change } };
  }

  async #reconcile(did: string): Promise<void> {
    const { issued, log, count } = this.#o;
    const decision = this.#decide(did);
    if (!decision) return;
    const appended = await issued.append(decision);
    for (const { seq, label } of appended) {
      count(label.neg ? 'labels_negated' : 'labels_issued', label.val);
      log.info({ seq, uri: label.uri, val: label.val, neg: label.neg ?? false }, 'label');
    }
  }

  /** @returns undefined where nothing can be said yet */
  #decide(did: string): Decision | undefined {
    const { issued, members, attestations, labelLifetimeMs = fourteenDaysMs, now } = this.#o;
    const member = members.get(did);
    const standing = member ? this.#standing(did).standing : 'good';
    const hasRead = attestations.hasRead(did);
    // An index that is being rebuilt must not break the age of every label.
    if (member && !hasRead && standing === 'good') return undefined;
    const domains = member?.domains ?? [];
    const attested = hasRead
      ? this.#attestedDomains(did, domains)
      : domains.map(({ name }) => unjudged({ uri: attestationUri(did, name), cid: '' }));
    const { issue, negate } = decide(
      did,
      member && { relay: member.relay, standing },
      attested,
      issued.inForce(did),
      (label) => isRenewalDue(label, labelLifetimeMs, now()),
    );
    const exp = isoTime(now() + labelLifetimeMs);
    return { issue: issue.map((label) => ({ ...label, exp })), negate };
  }

  /** `until`: Unix ms, null where it has no end. */
  #standing(did: string): { standing: StandingNow; until: number | null } {
    const member = this.#o.standingOf?.(did) ?? { state: 'active', until: null };
    return { standing: standingNow(member), until: member.state === 'active' ? null : member.until };
  }

  /** Unix ms: of the look after the measure in force, at the latest that of the next round. */
  #whenOver(claim: Claim, until: number | null): number {
    const round = nextRound(this.#o.now(), claim, this.#o.reverifyIntervalMs);
    return until === null ? round : Math.min(until, round);
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
    const cleanSender = verdict === 'passed' && this.#o.isCleanSender?.(did, rkey) === true;
    return { uri, cid, relayMember: record.relayMember === true, cleanSender, verdict };
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

  /** Unix ms. */
  #nextLook(claim: Claim, verdict: Verdict | 'unattested'): number {
    const { reverifyIntervalMs: interval, retryUnverifiedMs, verifications } = this.#o;
    const now = this.#o.now();
    if (verdict === 'passed' || verdict === 'unattested') return nextRound(now, claim, interval);
    const { tries, undecidedSince } = verifications.get(claim) ?? { tries: 1, undecidedSince: null };
    if (verdict === 'failed') return nextTry(now, tries, retryUnverifiedMs, interval);
    const at = nextTry(now, tries, Math.min(retryUnverifiedMs, retryUndecidedMs), interval);
    // The labels go when the grace ends, not at the first look after it.
    const graceEnds = (undecidedSince ?? now) + this.#transientGraceMs;
    return graceEnds > now ? Math.min(at, graceEnds) : at;
  }

  get #transientGraceMs(): number {
    return this.#o.transientGraceMs ?? defaultTransientGraceMs;
  }
}

const voidClaim = new Error('the claim is void');

function standingNow({ state, by, reason }: MemberStanding): StandingNow {
  if (state === 'active') return 'good';
  if (state === 'suspended' || state === 'removed') return 'stopped';
  return state === 'held' && by === 'automatic' && reason === heldForReview ? 'in-review' : 'warned';
}

/** Whatever labels it has stay as they are. */
function unjudged({ uri, cid }: { uri: string; cid: string }): AttestedDomain {
  return { uri, cid, relayMember: false, cleanSender: false, verdict: 'pending' };
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
