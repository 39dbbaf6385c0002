/**
 * The AppView: reads the network and decides what is listed.
 *
 * Assembled here from its parts, each of which can be read alone: the firehose feeds the attestations,
 * one consumer for each followed issuer feeds the labels, and both feed the listings, which the DNS zone
 * and the XRPC methods follow.
 *
 * appview.db can be thrown away: labels are read again from their issuers, attestations as far back as the
 * sources keep commits. What is older comes back by recheck(), or when its account writes it again.
 */
import type { Server } from '@atproto/xrpc-server';
import type { Logger } from 'pino';
import type { Database } from './database.ts';
import type { Attestations } from './firehose/attestations.ts';
import { AttestationFeed } from './firehose/feed.ts';
import { type Followed, Following } from './following.ts';
import type { AddressRules } from './identity/address.ts';
import type { Identities } from './identity/did.ts';
import { LabelConsumer, type LabelConsumerOptions } from './labels/consumer.ts';
import { defaultLimits, type LabelLimits } from './labels/limits.ts';
import type { LabelSource } from './labels/source.ts';
import type { ConsumerStatus } from './labels/status.ts';
import { LabelStore } from './labels/store.ts';
import { VerifyThreads } from './labels/verify-threads.ts';
import { vouchedBy } from './labels/vouching.ts';
import { WsLabelSource } from './labels/websocket.ts';
import { Ledger } from './listing/ledger.ts';
import { Listings } from './listing/listings.ts';
import { defaultPolicy, type Policy } from './listing/policy.ts';
import { ZoneSerial } from './listing/zone-serial.ts';
import { registerListingGet } from './xrpc/listing-get.ts';
import { registerListingSubscribe } from './xrpc/listing-subscribe.ts';

/** What is known of a followed issuer's stream. */
export type PeerStatus = ConsumerStatus;

/** What the operator is to be told of a followed issuer. */
export type LabelAlerts = Pick<LabelConsumerOptions, 'onQuarantine' | 'onKeyChange' | 'onVanished'>;

export type AppViewOptions = {
  /** Opened with appviewMigrations. */
  appviewDb: Database.Database;
  /** Opened with ledgerMigrations, synchronous FULL. */
  ledgerDb: Database.Database;
  /** This cooperative; always a root. */
  did: string;
  /** Base URL without a path, under which listings explain themselves. */
  publicUrl: string;
  identities: Identities;
  /** Base URLs of relays or PDSes. */
  firehose: string[];
  /** Those of the start; follow() and unfollow() change them. */
  follow: Followed[];
  /** The peers that this cooperative guarantees; setRoots() changes them. Reading their labels takes an entry in `follow` too. */
  roots: string[];
  policy?: Partial<Omit<Policy, 'roots'>>;
  /** Of each followed issuer but ourselves; what is left out has its default. */
  labelLimits?: Partial<LabelLimits>;
  /** How long the labels of a did:web's new key wait; default 24 h. */
  keyWaitMs?: number;
  labelAlerts?: LabelAlerts;
  rules: AddressRules;
  log: Logger;
  count: (what: string, reason?: string) => void;
  now: () => number;
};

export class AppView {
  readonly attestations: Attestations;
  readonly labels: LabelStore;
  readonly listings: Listings;
  /** For the DNS zone that follows the listings. */
  readonly zoneSerial: ZoneSerial;
  /** For how many domains this issuer vouches now. */
  readonly vouchedBy: (src: string) => number;
  readonly #did: string;
  readonly #following: Following;
  readonly #feed: AttestationFeed;
  readonly #verifier = new VerifyThreads();

  constructor(options: AppViewOptions) {
    const { appviewDb: db, log, count, now } = options;
    this.#did = options.did;
    this.vouchedBy = vouchedBy(db, now);
    const ledger = new Ledger({ db: options.ledgerDb, now });
    const { maxStored = defaultLimits.maxStored } = options.labelLimits ?? {};
    this.zoneSerial = new ZoneSerial({ db: options.ledgerDb, log, count });
    this.#feed = new AttestationFeed({
      ...{ db, sources: options.firehose, identities: options.identities },
      ...{ log, count, now, ...options.rules },
    });
    this.attestations = this.#feed.attestations;
    // The ledger commits first: a first sight may be early by one crash, but never missing.
    this.labels = new LabelStore({
      ...{ db, now, count, witness: (applied) => ledger.observe(applied) },
      maxPerIssuer: (src) => (src === options.did ? Number.POSITIVE_INFINITY : maxStored),
    });
    this.listings = new Listings({
      ...{ db, ledger, log, count, now, publicUrl: options.publicUrl },
      attestations: this.attestations,
      labels: this.labels,
      policy: { ...defaultPolicy, ...options.policy, roots: [options.did, ...options.roots] },
    });
    this.#following = new Following({
      consumer: (followed) => this.#consumer(followed, options),
      ...{ labels: this.labels, ledger, log },
    });
    for (const { did, ...more } of options.follow) this.follow(did, more);
  }

  get consumers(): readonly LabelConsumer[] {
    return this.#following.consumers;
  }

  /** Reads the labels of an issuer from now on, from the oldest. One that is followed already stays as it is. */
  follow(did: string, more: Omit<Followed, 'did'> = {}): void {
    this.#following.follow({ did, ...more });
  }

  /** Resolves when its labels are read no more; those that are stored go in the background. */
  unfollow(did: string): Promise<void> {
    return this.#following.unfollow(did);
  }

  /**
   * The peers whose votes count, at once. Resolves when what those labelled who came or left is decided again.
   *
   * @param dids without this cooperative, which always is one
   */
  setRoots(dids: readonly string[]): Promise<void> {
    return this.listings.setRoots([this.#did, ...dids]);
  }

  /** Undefined for one that is not followed. */
  peerStatus(did: string): PeerStatus | undefined {
    return this.#following.consumer(did)?.status();
  }

  /** A person's act: the issuer's stream is read again. @returns false where nothing is quarantined */
  releasePeer(did: string): boolean {
    return this.#following.consumer(did)?.release() ?? false;
  }

  /**
   * A person's word for an issuer's new label key.
   *
   * @returns how many labels had waited for it; undefined where no key waits
   */
  async trustPeerKey(did: string): Promise<number | undefined> {
    return this.labels.states.keyChange(did) && this.labels.trustKey(did);
  }

  /** The listings first, so that nothing that the network brings is missed. */
  start(): void {
    this.listings.start();
    this.#following.start();
    this.#feed.start();
  }

  /** As AttestationFeed does. */
  recheck(did: string, domain: string): boolean {
    return this.#feed.recheck(did, domain);
  }

  /** Resolves when nothing here reads or writes any more; the databases are the caller's to close. */
  async stop(): Promise<void> {
    await Promise.all([this.#feed.stop(), this.#following.stop()]);
    await this.#verifier.close();
    this.listings.stop();
  }

  /** Adds `email.atmos.listing.*`. */
  register(server: Server): void {
    registerListingGet(server, this.listings);
    registerListingSubscribe(server, this.listings);
  }

  #consumer({ did, source, labelKey }: Followed, options: AppViewOptions): LabelConsumer {
    const { identities, log, count, now, labelAlerts, labelLimits, keyWaitMs } = options;
    const isOurs = did === options.did;
    return new LabelConsumer({
      ...{ src: did, isOurs, store: this.labels, identities, log, count, now, verifier: this.#verifier },
      // Of our own log the operator need not be told.
      ...(isOurs ? {} : labelAlerts),
      ...(labelKey !== undefined && { firstKey: labelKey }),
      source: source ?? labelerOf(did, options),
      limits: isOurs ? unlimited : { ...defaultLimits, ...labelLimits },
      // Whoever changes our own key is us.
      ...(isOurs ? { keyWaitMs: 0 } : keyWaitMs !== undefined && { keyWaitMs }),
    });
  }
}

/** Our own labels: nobody is slower for them. */
const unlimited: LabelLimits = {
  ...defaultLimits,
  labelsPerSecond: Number.MAX_SAFE_INTEGER,
  labelsPerDay: Infinity,
  maxLagMs: Infinity,
};

function labelerOf(did: string, { identities, rules, count }: AppViewOptions): LabelSource {
  const endpoint = async () => {
    // Asked anew: whoever cannot be reached may have moved. An older document serves while there is no other.
    const fresh = identities.resolve(did, { refresh: true });
    const { labeler } = await fresh.catch(() => identities.resolve(did));
    if (!labeler) throw new Error(`${did} has no service #atproto_labeler`);
    return labeler;
  };
  return new WsLabelSource({ endpoint, rules, fetch: identities.fetch, count });
}
