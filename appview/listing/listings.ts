/**
 * Keeps the listings true: decides again whenever something that a decision rests on has changed.
 *
 * Promise: an attestation, a frame of labels or a moment (an expiry, a birthday) touches exactly the
 * domains that it names, in one pass and one commit, before the event that brought it returns; those
 * who follow hear of a change right after the commit. What a pass could not write is tried again. A root that
 * comes or goes touches the domains that it labelled, some hundred at a time.
 *
 * policy.ts decides; rows.ts remembers; this file knows when.
 */
import { setImmediate as breathe } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Listing } from '../../dnsbl/listing.ts';
import { attestedDomain } from '../attestation-uri.ts';
import { type Database, isCorruption, transaction } from '../database.ts';
import type { AttestationChange, AttestationRow } from '../firehose/attestations.ts';
import type { LabelStore, Selection, StoredLabel } from '../labels/store.ts';
import type { Ledger } from './ledger.ts';
import { decide, type Policy, type SightedLabel, type Verdict, type Vote } from './policy.ts';
import { type ListingBody, ListingRows } from './rows.ts';

/** What this file needs of the attestations: those of active accounts. */
export type IndexedAttestations = {
  get(uri: string): AttestationRow | undefined;
  onChange(callback: (change: AttestationChange) => void): () => void;
};

export type ListingsOptions = {
  /** appview.db */
  db: Database.Database;
  attestations: IndexedAttestations;
  labels: LabelStore;
  ledger: Ledger;
  /** `roots` are those of the start. */
  policy: Policy;
  /** Base URL without a path; a listing's page is `<publicUrl>/listing/<domain>`. */
  publicUrl: string;
  log: Logger;
  count: (what: string, reason?: string) => void;
  now: () => number;
};

/** A listing with everything that made it: the signed commit's record and the signed labels. */
export type Explanation = { listing: Listing; attestation: AttestationRow; votes: Vote[] };

/** What a decision may rest on, and whether the ledger has yet to hear of it. */
type Looked = { attestation: AttestationRow; labels: (SightedLabel & { isNew: boolean })[] };

/** Accounts whose claim on one domain the roots vouch for at once; with two nothing is listed already. */
const maxCandidates = 16;
/** Where there are more, they are not weighed, and when that ends is not known. */
const overLimitAgainMs = 3_600_000;
/** A clock that jumps, or a machine that slept, is noticed within this time. */
const longestSleepMs = 60_000;
const retryMs = 1_000;
/** Labels whose domains one pass decides again when a root came or went; others get their turn in between. */
const labelsPerSlice = 200;

export class Listings {
  readonly #options: ListingsOptions;
  readonly #rows: ListingRows;
  readonly #listeners = new Set<(listing: Listing) => void>();
  /** When time alone may change a domain's decision, Unix ms. */
  readonly #boundaries = new Map<string, number>();
  /** Touched, and not yet decided and written. */
  readonly #touched = new Set<string>();
  #policy: Policy;
  #isRunning = false;
  #unfollow: (() => void)[] = [];
  #timer: NodeJS.Timeout | undefined;
  #wakesAt = Infinity;

  constructor(options: ListingsOptions) {
    this.#options = options;
    this.#policy = options.policy;
    this.#rows = new ListingRows(options.db, options.now);
  }

  /** Decides every domain once, for the policy or the time may have changed since, and then follows. */
  start(): void {
    const { attestations, labels } = this.#options;
    this.#isRunning = true;
    this.#unfollow = [
      attestations.onChange(({ rkey }) => this.recompute([rkey])),
      labels.onChange((applied) => this.recompute(this.#domainsOf(applied))),
    ];
    this.recompute([...labels.domainsLabelled(this.#policy.roots), ...this.#listedDomains()]);
  }

  stop(): void {
    this.#isRunning = false;
    for (const unfollow of this.#unfollow) unfollow();
    this.#unfollow = [];
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#wakesAt = Infinity;
  }

  /**
   * Other roots: their votes count, and those of who left do not, for every decision from now on. Resolves when
   * exactly the domains that those labelled who came or left are decided again.
   */
  async setRoots(roots: readonly string[]): Promise<void> {
    const before = new Set(this.#policy.roots);
    const now = new Set(roots);
    this.#policy = { ...this.#policy, roots: [...now] };
    for (const src of before.symmetricDifference(now)) await this.#decideLabelledBy(src);
  }

  async #decideLabelledBy(src: string): Promise<void> {
    let after: string | undefined = '';
    while (this.#isRunning && after !== undefined) {
      const { domains, last } = this.#options.labels.domainsOf(src, after, labelsPerSlice);
      this.recompute(domains);
      after = last;
      if (after !== undefined) await breathe();
    }
  }

  /** One pass over these domains and what earlier passes could not write. */
  recompute(domains: Iterable<string>): void {
    for (const domain of domains) this.#touched.add(domain);
    const changed = this.#pass();
    for (const listing of changed) for (const listener of this.#listeners) listener(listing);
  }

  /** Decides again where time alone may have changed the answer. The timer calls it. */
  recomputeDue(): void {
    const now = this.#options.now();
    const due = [...this.#boundaries].filter(([, at]) => at <= now).map(([domain]) => domain);
    this.#wakesAt = Infinity;
    this.recompute(due);
    for (const at of this.#boundaries.values()) this.#wakeAt(at);
  }

  /** Called after the commit, in order of seq; a removed listing comes with `removed`. Returns what ends it. */
  onChange(callback: (listing: Listing) => void): () => void {
    this.#listeners.add(callback);
    return () => this.#listeners.delete(callback);
  }

  /** @returns at most `limit` listings changed after `seq`, ascending; a name appears with its newest state alone */
  since(seq: number, limit: number): Listing[] {
    return this.#rows.since(seq, limit);
  }

  /** How many names were ever listed: no less than are listed now. */
  get rows(): number {
    return this.#rows.size;
  }

  /** The seq of the newest change. */
  get last(): number {
    return this.#rows.last;
  }

  /** A cursor between 0 and this belongs to an AppView that was thrown away since. */
  get epoch(): number {
    return this.#rows.epoch;
  }

  /** @returns undefined when the domain is not vouched for now */
  get(domain: string): Explanation | undefined {
    const listing = this.#rows.get(domain);
    if (!listing || listing.removed) return undefined;
    const at = this.#options.now();
    const { verdict } = decide(domain, this.#candidates(domain, at) ?? [], this.#policy, at);
    return verdict && { listing, attestation: verdict.attestation, votes: verdict.votes };
  }

  #pass(): Listing[] {
    if (this.#touched.size === 0) return [];
    try {
      const { ledger } = this.#options;
      const policy = this.#policy;
      const now = this.#options.now();
      const looked = [...this.#touched].map((domain) => ({
        domain,
        candidates: this.#candidates(domain, now),
      }));
      // Before the listings: a first sight may be early by one crash, but never missing.
      ledger.begin(looked.flatMap(({ candidates }) => (candidates ?? []).flatMap(unsighted)));
      const decided = looked.map(({ domain, candidates }) => ({
        domain,
        ...(candidates ? decide(domain, candidates, policy, now) : { changesAt: now + overLimitAgainMs }),
      }));
      const changed = transaction(this.#options.db, () =>
        decided.flatMap(({ domain, verdict }) => this.#write(domain, verdict) ?? []),
      );
      for (const { domain, changesAt } of decided) this.#remind(domain, changesAt);
      this.#touched.clear();
      return changed;
    } catch (error) {
      if (isCorruption(error)) throw error;
      this.#options.count('listing_pass_failed');
      this.#options.log.error(
        { err: error, domains: this.#touched.size },
        'listings not written, trying again',
      );
      this.#wakeAt(this.#options.now() + retryMs);
      return [];
    }
  }

  // By the roots' labels, never by scanning who attests the domain: anyone may attest any domain any number
  // of times, and a peer without weight may label as many; only a root's word can change the answer.
  #candidates(domain: string, now: number): Looked[] | undefined {
    const { attestations, labels } = this.#options;
    const votes = this.#selection('voteValues');
    const uris = labels.attestationsLabelled(domain, votes, now, maxCandidates + 1);
    if (uris.length <= maxCandidates) {
      return uris.flatMap((uri) => attestations.get(uri) ?? []).map((row) => this.#candidate(row, now));
    }
    this.#options.count('listing_candidates_over_limit');
    return undefined;
  }

  #candidate(attestation: AttestationRow, now: number): Looked {
    const { labels, ledger } = this.#options;
    const found = labels.currentOf(attestation.uri, this.#selection('voteValues', 'carrierValues'), now);
    const sighted = found.map((stored) => {
      const firstSeen = ledger.firstSight(stored.label);
      return { ...stored, firstSeen: firstSeen ?? now, isNew: firstSeen === undefined };
    });
    return { attestation, labels: sighted };
  }

  #selection(...kinds: ('voteValues' | 'carrierValues')[]): Selection {
    const policy = this.#policy;
    return { srcs: policy.roots, vals: kinds.flatMap((kind) => policy[kind]) };
  }

  #domainsOf(applied: readonly StoredLabel[]): string[] {
    const { roots } = this.#policy;
    const rooted = applied.filter(({ label }) => roots.includes(label.src));
    return rooted.flatMap(({ label }) => attestedDomain(label.uri) ?? []);
  }

  #write(domain: string, verdict: Verdict | undefined): Listing | undefined {
    if (!verdict) return this.#rows.remove(domain);
    const body: ListingBody = { ...verdict.listing, url: `${this.#options.publicUrl}/listing/${domain}` };
    return this.#rows.put(domain, body);
  }

  #remind(domain: string, at: number | undefined): void {
    if (at === undefined) return void this.#boundaries.delete(domain);
    this.#boundaries.set(domain, at);
    this.#wakeAt(at);
  }

  #wakeAt(at: number): void {
    if (at >= this.#wakesAt) return;
    clearTimeout(this.#timer);
    this.#wakesAt = at;
    const inMs = Math.min(Math.max(at - this.#options.now(), 0), longestSleepMs);
    this.#timer = setTimeout(() => this.recomputeDue(), inMs);
    this.#timer.unref();
  }

  #listedDomains(): string[] {
    return [...this.#rows.all()].flatMap(({ name }) => name ?? []);
  }
}

function unsighted({ labels }: Looked): StoredLabel[] {
  return labels.filter(({ isNew }) => isNew);
}
