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
import { Attestations } from './firehose/attestations.ts';
import { FirehoseIndexer } from './firehose/indexer.ts';
import type { AddressRules } from './identity/address.ts';
import type { Identities } from './identity/did.ts';
import { LabelConsumer } from './labels/consumer.ts';
import type { LabelSource } from './labels/source.ts';
import { LabelStore } from './labels/store.ts';
import { WsLabelSource } from './labels/websocket.ts';
import { Ledger } from './listing/ledger.ts';
import { Listings } from './listing/listings.ts';
import { defaultPolicy, type Policy } from './listing/policy.ts';
import { ZoneSerial } from './listing/zone-serial.ts';
import { registerListingGet } from './xrpc/listing-get.ts';
import { registerListingSubscribe } from './xrpc/listing-subscribe.ts';

/** An issuer whose labels we read. Without `source`: its `#atproto_labeler`, over a WebSocket. */
export type Followed = { did: string; source?: LabelSource };

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
  follow: Followed[];
  /** The peers that this cooperative guarantees. Reading their labels takes an entry in `follow` too. */
  roots: string[];
  policy?: Partial<Omit<Policy, 'roots'>>;
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
  readonly consumers: readonly LabelConsumer[];
  readonly #indexer: FirehoseIndexer;

  constructor(options: AppViewOptions) {
    const { appviewDb: db, log, count, now } = options;
    const ledger = new Ledger({ db: options.ledgerDb, now });
    this.zoneSerial = new ZoneSerial({ db: options.ledgerDb, log, count });
    this.attestations = new Attestations({ db, log, count, now });
    // The ledger commits first: a first sight may be early by one crash, but never missing.
    this.labels = new LabelStore({ db, now, count, witness: (applied) => ledger.observe(applied) });
    this.listings = new Listings({
      ...{ db, ledger, log, count, now, publicUrl: options.publicUrl },
      attestations: this.attestations,
      labels: this.labels,
      policy: { ...defaultPolicy, ...options.policy, roots: [options.did, ...options.roots] },
    });
    this.consumers = options.follow.map((followed) => this.#consumer(followed, options));
    this.#indexer = new FirehoseIndexer({
      ...{ sources: options.firehose, attestations: this.attestations, identities: options.identities },
      ...{ log, count, now, ...options.rules },
    });
  }

  /** The listings first, so that nothing that the network brings is missed. */
  start(): void {
    this.listings.start();
    for (const consumer of this.consumers) consumer.start();
    this.#indexer.start();
  }

  /**
   * Has one record proved at its account's PDS, and indexed if it is there; at once, and again for a day
   * or so while the PDS does not answer. For what no source keeps any more, such as the records of our own
   * members after appview.db was lost.
   *
   * @param domain A-labels, lower case
   * @returns false when too much waits already: ask again later
   */
  recheck(did: string, domain: string): boolean {
    const isListed = this.attestations.recheck(did, domain);
    this.#indexer.wake();
    return isListed;
  }

  /** Resolves when nothing here reads or writes any more; the databases are the caller's to close. */
  async stop(): Promise<void> {
    await Promise.all([this.#indexer.stop(), ...this.consumers.map((consumer) => consumer.stop())]);
    this.listings.stop();
  }

  /** Adds `email.atmos.listing.*`. */
  register(server: Server): void {
    registerListingGet(server, this.listings);
    registerListingSubscribe(server, this.listings);
  }

  #consumer({ did, source }: Followed, options: AppViewOptions): LabelConsumer {
    const { identities, log, count, now } = options;
    return new LabelConsumer({
      ...{ src: did, store: this.labels, identities, log, count, now },
      source: source ?? labelerOf(did, options),
    });
  }
}

function labelerOf(did: string, { identities, rules, count }: AppViewOptions): LabelSource {
  const endpoint = async () => {
    const { labeler } = await identities.resolve(did);
    if (!labeler) throw new Error(`${did} has no service #atproto_labeler`);
    return labeler;
  };
  return new WsLabelSource({ endpoint, rules, count });
}
