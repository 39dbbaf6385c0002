/**
 * Who is enrolled here, with which domains, keys and forward-to addresses.
 *
 * Promise: a domain belongs to at most one member, in its normal form (domain-name.ts), and has its DKIM
 * keys from the same commit on; private keys rest sealed, API keys hashed.
 * Whether DNS says the same is the labeler's question, what a member may send is enforcement's.
 */
import { type Database, transaction } from '../../appview/database.ts';
import { type ApiKeyRow, ApiKeys, type KeyCredential } from './api-keys.ts';
import type { Category } from './category.ts';
import { makeDkimKeys, type NewDkimKey } from './dkim-keys.ts';
import { type DkimKey, DomainKeys } from './domain-keys.ts';
import { normalizeDomain } from './domain-name.ts';
import { Domains, type MemberDomain } from './domains.ts';
import type { Seal } from './seal.ts';

export type { DkimKey } from './domain-keys.ts';
export type { MemberDomain } from './domains.ts';

export type Member = {
  did: string;
  /** Lower case, a name for login; proves nothing. */
  handle: string | null;
  /** False: enrolled for attestation alone, sends by other ways. */
  relay: boolean;
  /** Unix ms. */
  enrolledAt: number;
  domains: MemberDomain[];
};

export type DnsRecord = { type: 'MX' | 'TXT'; name: string; value: string };

/** What an enrolment looks at beside its own request; a sandbox and tests may do without. */
export type Newcomers<Reason = unknown> = {
  /** Why this enrolment waits until a person has looked; empty: it does not. @param domains those that are new */
  reasons(did: string, domains: readonly string[]): Reason[];
  /** Enrols and holds, in one commit. @param enrol inserts the rows; what it throws undoes everything */
  hold(did: string, reasons: Reason[], enrol: () => void): void;
  /** Days of warming that this domain is spared. */
  warmedDays(did: string, domain: string): number;
};

/** Why an enrolment was not made; nothing was stored. */
export type EnrolmentRefusal =
  | { kind: 'invalid-did'; did: string }
  | { kind: 'invalid-domain'; domain: string }
  | { kind: 'invalid-handle'; handle: string }
  | { kind: 'domain-taken'; domain: string }
  /** Of this member already, with other keys than those that it brings. */
  | { kind: 'domain-enrolled'; domain: string }
  /** The pool domain signs for everyone and is nobody's. */
  | { kind: 'pool-domain'; domain: string }
  | { kind: 'too-many-domains'; limit: number };

export type MembersOptions = {
  /** node.db. */
  db: Database.Database;
  seal: Seal;
  /** Second signer of all mail, and the envelope sender's domain. */
  poolDomain: string;
  /** Target of the MX record that brings replies. */
  mailHost: string;
  now: () => number;
  newcomers?: Newcomers;
  /** Selectors are `<base>r` and `<base>e`. Default `atmos`. */
  selectorBase?: string;
  /** Default 2. */
  domainsPerMember?: number;
  /** Default 10. */
  bcryptCost?: number;
};

/** Of the DIDs that may enrol and log in. */
export const didSyntax = /^did:[a-z]+:[A-Za-z0-9._:%-]{1,240}$/;

type Statement = Database.Statement<unknown[]>;

export class Members {
  readonly #db: Database.Database;
  readonly #options: Required<Omit<MembersOptions, 'db' | 'seal' | 'newcomers'>>;
  readonly #newcomers: Newcomers | undefined;
  readonly #apiKeys: ApiKeys;
  readonly #domains: Domains;
  readonly #dkim: DomainKeys;
  readonly #byDid: Statement;
  readonly #all: Statement;
  readonly #upsert: Statement;

  constructor({ db, seal, newcomers, ...options }: MembersOptions) {
    this.#db = db;
    this.#newcomers = newcomers;
    this.#options = { selectorBase: 'atmos', domainsPerMember: 2, bcryptCost: 10, ...options };
    this.#apiKeys = new ApiKeys({ db, now: this.#options.now, bcryptCost: this.#options.bcryptCost });
    this.#domains = new Domains(db);
    this.#dkim = new DomainKeys({ db, seal, now: this.#options.now });
    const select = 'SELECT did, handle, relay, enrolled_at AS enrolledAt FROM member';
    this.#byDid = db.prepare(`${select} WHERE did = ?`);
    this.#all = db.prepare(`${select} ORDER BY enrolled_at, did`);
    this.#upsert = db.prepare(
      `INSERT INTO member (did, handle, relay, enrolled_at) VALUES (?, ?, ?, ?)
       ON CONFLICT (did) DO UPDATE SET handle = coalesce(excluded.handle, handle), relay = excluded.relay`,
    );
  }

  /**
   * Enrols a member, or brings a known one up to date; domains it already has stay as they are.
   *
   * @param request.keys by domain in its normal form, of a member that brings its own (portable.ts)
   * @returns the member, or why nothing was changed
   */
  async enrol(request: {
    did: string;
    handle?: string;
    domains: string[];
    relay: boolean;
    keys?: ReadonlyMap<string, NewDkimKey[]>;
  }): Promise<Member | EnrolmentRefusal> {
    const { did, relay } = request;
    if (!didSyntax.test(did)) return { kind: 'invalid-did', did };
    const handle = request.handle ? normalizeHandle(request.handle) : null;
    // https://atproto.com/specs/handle: a domain name.
    if (handle !== null && normalizeDomain(handle) !== handle) return { kind: 'invalid-handle', handle };
    const upsert = (): unknown => this.#upsert.run(did, handle, relay ? 1 : 0, this.#options.now());
    return (
      (await this.#addDomains({ did, domains: request.domains, keys: request.keys }, upsert)) ??
      this.get(did)!
    );
  }

  get(did: string): Member | undefined {
    const row = this.#byDid.get(did) as MemberRow | undefined;
    return row && this.#toMember(row);
  }

  /** In the order of enrolment. */
  list(): Member[] {
    return (this.#all.all() as MemberRow[]).map((row) => this.#toMember(row));
  }

  domainsOf(did: string): MemberDomain[] {
    return this.#domains.of(did);
  }

  /** @param domain in any spelling */
  domain(domain: string): MemberDomain | undefined {
    return this.#domains.get(domain);
  }

  /** @returns the DID whose domain this is; a subdomain is a domain of its own */
  ownerOf(domain: string): string | undefined {
    return this.domain(domain)?.did;
  }

  /** Of mail whose header and key say nothing. @returns false when the domain is not enrolled */
  setCategory(domain: string, category: Category): boolean {
    return this.#domains.setCategory(domain, category);
  }

  /** @param tier one of the configuration: the caller's to check. @returns false when the DID is not enrolled */
  setTier(did: string, tier: string): boolean {
    return this.#db.prepare('UPDATE member SET tier = ? WHERE did = ?').run(tier, did).changes === 1;
  }

  /**
   * @returns the key, shown once
   * @throws RangeError when the DID is not enrolled
   */
  async issueApiKey(
    did: string,
    name: string,
    options: { category?: Category } = {},
  ): Promise<{ id: string; key: string }> {
    if (!this.get(did)) throw new RangeError(`${did} is not enrolled`);
    return this.#apiKeys.issue(did, name, options.category);
  }

  /** @returns false when the member has no such live key */
  revokeApiKey(did: string, id: string): boolean {
    return this.#apiKeys.revoke(did, id);
  }

  apiKeys(did: string): ApiKeyRow[] {
    return this.#apiKeys.of(did);
  }

  /** For authenticate.ts. */
  credential(keyId: string): KeyCredential | undefined {
    return this.#apiKeys.credential(keyId);
  }

  /** For authenticate.ts. */
  markKeyUsed(keyId: string): void {
    this.#apiKeys.markUsed(keyId);
  }

  /**
   * The keys that sign for a domain now.
   *
   * @throws CorruptState when a sealed key does not open
   */
  dkimKeys(domain: string): DkimKey[] {
    return this.#dkim.active(domain);
  }

  /** Changes whenever dkimKeys() does, and is cheap to ask. */
  dkimVersion(domain: string): string {
    return this.#dkim.version(domain);
  }

  /** Is the key of a selector still to be found in DNS, though another may sign by now? */
  isDkimPublished(domain: string, selector: string): boolean {
    return this.#dkim.isPublished(domain, selector);
  }

  /**
   * What the member publishes, as absolute names without the final dot.
   *
   * @throws RangeError when the domain is not enrolled
   */
  dnsRecords(domain: string): DnsRecord[] {
    const row = this.domain(domain);
    if (!row) throw new RangeError(`${domain} is not enrolled`);
    const { name, did } = row;
    const { poolDomain, mailHost } = this.#options;
    const claim: DnsRecord = { type: 'TXT', name: `_atproto.${name}`, value: `did=${did}` };
    // Who sends by other ways has the records of those.
    if (!this.get(did)!.relay) return [claim];
    return [
      { type: 'MX', name, value: `10 ${mailHost}` },
      { type: 'TXT', name, value: `v=spf1 include:${poolDomain} ~all` },
      { type: 'TXT', name: `_dmarc.${name}`, value: 'v=DMARC1; p=quarantine' },
      ...this.#dkim.records(name).map((record): DnsRecord => ({ type: 'TXT', ...record })),
      claim,
    ];
  }

  /** Keys are made before the transaction: RSA takes tenths of a second. */
  async #addDomains(
    {
      did,
      domains,
      keys: brought,
    }: { did: string; domains: string[]; keys: ReadonlyMap<string, NewDkimKey[]> | undefined },
    first: () => unknown,
  ): Promise<EnrolmentRefusal | undefined> {
    const wanted = new Set<string>();
    for (const domain of domains) {
      const name = normalizeDomain(domain);
      if (name === undefined) return { kind: 'invalid-domain', domain };
      const isOwn = this.ownerOf(name) === did;
      if (isOwn && brought?.has(name)) return { kind: 'domain-enrolled', domain: name };
      if (!isOwn) wanted.add(name);
    }
    const early = this.#refusal(did, wanted);
    if (early) return early;
    const made: NewDomain[] = [];
    for (const name of wanted) {
      const keys = brought?.get(name) ?? (await makeDkimKeys(this.#options.selectorBase));
      made.push({ name, keys, warmedDays: this.#newcomers?.warmedDays(did, name) ?? 0 });
    }
    return this.#reviewed(did, [...wanted], () => {
      // Asked again: another enrolment may have come between.
      const refusal = this.#refusal(did, wanted);
      if (refusal) return refusal;
      first();
      for (const domain of made) this.#insertDomain(did, domain);
      return undefined;
    });
  }

  /** One commit, with the hold where there is reason for one. */
  #reviewed(
    did: string,
    domains: readonly string[],
    enrol: () => EnrolmentRefusal | undefined,
  ): EnrolmentRefusal | undefined {
    const isNew = domains.length > 0 || !this.get(did);
    const reasons = isNew ? (this.#newcomers?.reasons(did, domains) ?? []) : [];
    if (reasons.length === 0) return transaction(this.#db, enrol);
    let refusal: EnrolmentRefusal | undefined;
    const orNothing = () => {
      refusal = enrol();
      if (refusal) throw notEnrolled;
    };
    try {
      this.#newcomers!.hold(did, reasons, orNothing);
    } catch (error) {
      if (error !== notEnrolled) throw error;
    }
    return refusal;
  }

  #refusal(did: string, names: ReadonlySet<string>): EnrolmentRefusal | undefined {
    const { poolDomain } = this.#options;
    if (names.has(poolDomain)) return { kind: 'pool-domain', domain: poolDomain };
    const taken = [...names].find((name) => this.ownerOf(name) !== undefined);
    if (taken !== undefined) return { kind: 'domain-taken', domain: taken };
    const limit = this.#options.domainsPerMember;
    if (this.domainsOf(did).length + names.size > limit) return { kind: 'too-many-domains', limit };
    return undefined;
  }

  #insertDomain(did: string, { name, keys, warmedDays }: NewDomain): void {
    const at = this.#options.now();
    this.#domains.add(name, did, at, warmedDays);
    for (const key of keys) this.#dkim.add(name, key, at);
  }

  #toMember(row: MemberRow): Member {
    return { ...row, relay: row.relay === 1, domains: this.domainsOf(row.did) };
  }
}

const notEnrolled = new Error('not enrolled');

type NewDomain = { name: string; keys: NewDkimKey[]; warmedDays: number };

type MemberRow = { did: string; handle: string | null; relay: number; enrolledAt: number };

/** `@Reef.Test` and `reef.test` are one handle. */
export function normalizeHandle(text: string): string {
  return text.trim().replace(/^@/, '').toLowerCase();
}
