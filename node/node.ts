/**
 * The composition root: the only place where everything meets.
 *
 * One method builds one part from what it needs, by name; nothing is handed a bag. What starts says how it
 * stops: first all listeners close, then the work in flight ends, then the databases close (stopping.ts).
 * Which parts there are is the configuration's `roles`.
 */
import { join } from 'node:path';
import { createServer, type Server as XrpcServer } from '@atproto/xrpc-server';
import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import { AppView } from '../appview/appview.ts';
import { openDatabase } from '../appview/database.ts';
import type { AddressRules } from '../appview/identity/address.ts';
import { Identities } from '../appview/identity/did.ts';
import { guardedFetch } from '../appview/identity/fetch.ts';
import type { LabelSource } from '../appview/labels/source.ts';
import { appviewMigrations, ledgerMigrations } from '../appview/migrations.ts';
import type { Listing } from '../dnsbl/listing.ts';
import { DnsServer } from '../dnsbl/server.ts';
import { Zone } from '../dnsbl/zone.ts';
import type { Config, HostPort, Role } from './config.ts';
import { type Certificate, configuredCertificate, selfSignedCertificate } from './cooperative/certificate.ts';
import { declarer } from './cooperative/declarer.ts';
import { didDocument } from './cooperative/did-document.ts';
import { poolSelector } from './cooperative/dns-records.ts';
import { registerDeclaration } from './cooperative/xrpc.ts';
import { Deliverer } from './delivery/deliverer.ts';
import { EventLog } from './enforcement/event-log.ts';
import { outboxes } from './enforcement/events.ts';
import { type StandingOf, standings } from './enforcement/standing.ts';
import { RefuseAllListener } from './inbound/refuse-all.ts';
import { domainChecks } from './labeler/checks.ts';
import { IssuedLabels } from './labeler/issued-labels.ts';
import { Labeler } from './labeler/labeler.ts';
import { ownLabelSource } from './labeler/own-source.ts';
import { LabelerSchedule } from './labeler/schedule.ts';
import { Verifications } from './labeler/verifications.ts';
import { registerLabeler } from './labeler/xrpc.ts';
import { Authenticator } from './members/authenticate.ts';
import { Metrics } from './metrics.ts';
import { Admission } from './relay/admission.ts';
import { ByteBudget } from './relay/byte-budget.ts';
import { Intake } from './relay/intake.ts';
import { ReturnPaths } from './relay/return-path.ts';
import { sendApi } from './relay/send-api.ts';
import { Signer } from './relay/signing.ts';
import { SubmissionServer } from './relay/submission.ts';
import { addressesOf, DnsResolver, type Resolver } from './resolver.ts';
import { Spool } from './spool/spool.ts';
import { keysDir, type Membership, openMembership } from './state.ts';
import { Stops } from './stopping.ts';
import { closeHttp, createHttp } from './web/http.ts';
import { registerPages } from './web/pages.ts';

/** Octets of unfinished messages over all sessions. */
const maxBytesInFlight = 256 * 1024 * 1024;
const maxSubscribers = 1_000;

export class Node {
  readonly #config: Config;
  readonly #log: Logger;
  readonly #now = Date.now;
  readonly #metrics = new Metrics();
  readonly #stops: Stops;
  #starting: Promise<void> | undefined;

  constructor(config: Config, log: Logger) {
    this.#config = config;
    this.#log = log;
    this.#stops = new Stops(log);
  }

  /** @throws when state is corrupt or a port is taken; everything that had started is stopped again */
  async start(): Promise<void> {
    this.#starting = this.#start();
    try {
      await this.#starting;
    } catch (error) {
      await this.#stops.run();
      throw error;
    }
  }

  /** Also in the middle of a start, whose end it awaits. Never throws: what fails to stop is logged. */
  async stop(): Promise<void> {
    await this.#starting?.catch(() => undefined);
    await this.#stops.run();
  }

  async #start(): Promise<void> {
    const state = await openMembership(this.#config, this.#now);
    this.#stops.store('node.db', () => state.db.close());
    const resolver = new DnsResolver({ servers: this.#config.network.resolvers });
    const rules = this.#rules(resolver);
    const identities = this.#identities(state, rules);
    const xrpc = createServer();
    const issued = this.#has('labeler') ? this.#issuedLabels(state, xrpc) : undefined;
    const appview = this.#has('appview') ? this.#appview(identities, rules, xrpc, issued) : undefined;
    const http = this.#http(state, xrpc, appview);

    if (this.#has('relay')) await this.#relay(state, resolver, http);
    if (this.#has('inbound')) await this.#inbound();
    // The document under our DID must be readable before peers and relays hear of us.
    await this.#listen(http, xrpc);
    if (appview && this.#has('dns')) await this.#dns(appview);
    if (appview) this.#follow(appview, state);
    if (appview && issued) this.#labeler(state, issued, appview, identities, resolver);
    await this.#serveMetrics();
  }

  #has(role: Role): boolean {
    return this.#config.roles.includes(role);
  }

  /** Names that strangers choose are resolved by the configured servers only, then checked. */
  #rules(resolver: Resolver): AddressRules {
    const { loopbackOnly } = this.#config.network;
    return { allowLoopback: loopbackOnly, loopbackOnly, lookup: (name) => addressesOf(name, resolver) };
  }

  #identities({ keys }: Membership, rules: AddressRules): Identities {
    const { did, labelerUrl, network } = this.#config;
    return new Identities({
      plcUrl: network.plcUrl,
      fetch: guardedFetch(rules),
      now: this.#now,
      // A did:plc's document is the directory's to give, also to us.
      ...(did.startsWith('did:web:') && {
        own: () => didDocument({ did, labelKey: keys.label.did(), labelerUrl }),
      }),
    });
  }

  #issuedLabels({ db, keys }: Membership, xrpc: XrpcServer): IssuedLabels {
    const issued = new IssuedLabels({ db, did: this.#config.did, key: keys.label, now: this.#now });
    registerLabeler(xrpc, { db, issued, now: this.#now, count: this.#metrics.count });
    return issued;
  }

  #appview(
    identities: Identities,
    rules: AddressRules,
    xrpc: XrpcServer,
    issued: IssuedLabels | undefined,
  ): AppView {
    const { did, domain, publicUrl, stateDir, firehose, peers, listing } = this.#config;
    const appviewDb = openDatabase(join(stateDir, 'appview.db'), appviewMigrations, {
      synchronous: 'NORMAL',
    });
    this.#stops.store('appview.db', () => appviewDb.close());
    const ledgerDb = openDatabase(join(stateDir, 'ledger.db'), ledgerMigrations, { synchronous: 'FULL' });
    this.#stops.store('ledger.db', () => ledgerDb.close());
    const own: { did: string; source: LabelSource }[] = issued
      ? [{ did, source: ownLabelSource(issued) }]
      : [];
    const appview = new AppView({
      ...{ appviewDb, ledgerDb, did, publicUrl, identities, firehose },
      // Whom we censure we do not even read; what others say is stored, and counted by its stance.
      follow: [
        ...own,
        ...peers.filter(({ stance }) => stance !== 'censure').map((peer) => ({ did: peer.did })),
      ],
      roots: peers.filter(({ stance }) => stance === 'guarantee').map((peer) => peer.did),
      // The pool domain signs for everyone: as an entry of its own it would vouch for all at once.
      policy: { newcomerDays: listing.newcomerDays, neverListed: [domain] },
      rules,
      ...{ log: this.#log, count: this.#metrics.count, now: this.#now },
    });
    appview.register(xrpc);
    return appview;
  }

  #http({ keys }: Membership, xrpc: XrpcServer, appview: AppView | undefined): FastifyInstance {
    const { did, labelerUrl, name, domain, peers, dns } = this.#config;
    const http = createHttp({ xrpc, maxSubscribers, log: this.#log, count: this.#metrics.count });
    const document = didDocument({ did, labelKey: keys.label.did(), labelerUrl });
    http.get('/.well-known/did.json', () => document);
    registerDeclaration(xrpc, declarer({ config: this.#config, key: keys.label, now: this.#now }));
    if (this.#has('web')) {
      registerPages(http, {
        cooperative: { name, did, poolDomain: domain, ...(dns && { apex: dns.apex }) },
        peers: () => peers,
        explain: (wanted) => appview?.listings.get(wanted),
      });
    }
    return http;
  }

  async #listen(http: FastifyInstance, xrpc: XrpcServer): Promise<void> {
    const { host, port } = this.#config.listen.web;
    await named('listen.web', this.#config.listen.web, http.listen({ host, port }));
    this.#stops.listener('web', () => closeHttp(http, xrpc));
  }

  #follow(appview: AppView, { members }: Membership): void {
    // Our own members' records are asked for by name: a new index has only what the firehose still holds.
    for (const { did, domains } of members.list()) {
      if (appview.attestations.hidden(did)) continue;
      const indexed = new Set(appview.attestations.of(did).map(({ rkey }) => rkey));
      for (const { name } of domains) if (!indexed.has(name)) appview.recheck(did, name);
    }
    appview.start();
    this.#stops.work('appview', () => appview.stop());
  }

  #labeler(
    { db, members }: Membership,
    issued: IssuedLabels,
    { attestations }: AppView,
    identities: Identities,
    resolver: Resolver,
  ): void {
    const { reverifyInterval, retryUnverified } = this.#config.labeler;
    const verifications = new Verifications(db);
    const control = { identities, fetch: identities.fetch };
    const labeler = new Labeler({
      ...{ issued, verifications, members, attestations },
      check: domainChecks({ resolver, control, now: this.#now }),
      reverifyIntervalMs: reverifyInterval,
      retryUnverifiedMs: retryUnverified,
      ...{ log: this.#log, count: this.#metrics.count, now: this.#now },
    });
    const schedule = new LabelerSchedule({
      labeler,
      verifications,
      attestations,
      now: this.#now,
      log: this.#log,
    });
    schedule.start();
    this.#stops.work('labeler', () => schedule.stop());
  }

  async #relay(state: Membership, resolver: Resolver, http: FastifyInstance): Promise<void> {
    const { stateDir, caps, domain, hostname } = this.#config;
    const shared = { log: this.#log, count: this.#metrics.count, now: this.#now };
    const spool = await Spool.open({ dir: stateDir, log: this.#log });
    this.#stops.store('spool', () => spool.close());
    this.#copyEvents(state, spool);

    const signer = this.#signer(state);
    this.#deliver(state, spool, resolver, signer);
    const standingOf: StandingOf = standings({ db: state.db, policy: caps, now: this.#now });
    const admission = new Admission({ directory: state.members, standingOf });
    const returnPaths = new ReturnPaths({ key: state.keys.verp, poolDomain: domain });
    const intake = new Intake({
      ...{ admission, signer, queue: spool, returnPaths },
      hostname,
      poolDomain: domain,
      ...shared,
    });
    const authenticator = new Authenticator({
      credentials: state.members,
      count: this.#metrics.count,
      now: this.#now,
    });
    const budget = new ByteBudget(maxBytesInFlight);
    await this.#submission(authenticator, intake, budget);
    await http.register(sendApi({ authenticator, intake, budget, now: this.#now, log: this.#log }));
  }

  #signer({ members, keys }: Membership): Signer {
    const { domain } = this.#config;
    const pool = {
      domain,
      selector: poolSelector,
      algorithm: 'rsa' as const,
      privateKey: keys.pool.privateKey,
    };
    return new Signer({ memberKeys: (name) => members.dkimKeys(name), poolKey: pool, now: this.#now });
  }

  #copyEvents({ db }: Membership, spool: Spool): void {
    const shared = { log: this.#log, count: this.#metrics.count };
    const events = new EventLog({ db, source: spool, outbox: outboxes.spool, ...shared });
    events.start();
    this.#stops.work('event log', () => events.stop());
  }

  #deliver({ members }: Membership, spool: Spool, resolver: Resolver, signer: Signer): void {
    const { delivery, network, hostname, domain } = this.#config;
    const deliverer = new Deliverer({
      ...{
        spool,
        resolver,
        hostname,
        port: delivery.port,
        tls: delivery.tls,
        loopbackOnly: network.loopbackOnly,
      },
      dsn: {
        from: `postmaster@${domain}`,
        recipientFor: (name) => members.confirmedForwardTo(name),
        seal: (message) => signer.signForPool(message),
      },
      // Within what stopping.ts leaves for work in flight.
      graceMs: 4_000,
      ...{ log: this.#log, count: this.#metrics.count, now: this.#now },
    });
    deliverer.start();
    this.#stops.work('deliverer', () => deliverer.stop());
  }

  async #submission(authenticator: Authenticator, intake: Intake, budget: ByteBudget): Promise<void> {
    const certificate = await this.#certificate();
    for (const [key, implicitTls] of [
      ['submission', false],
      ['submissions', true],
    ] as const) {
      const listen = this.#config.listen[key];
      const server = new SubmissionServer({
        ...{
          listen,
          implicitTls,
          certificate,
          authenticator,
          intake,
          budget,
          hostname: this.#config.hostname,
        },
        ...{ log: this.#log, count: this.#metrics.count },
      });
      await named(`listen.${key}`, listen, server.start());
      this.#stops.listener(key, () => server.stop());
    }
  }

  async #inbound(): Promise<void> {
    const { listen, hostname } = this.#config;
    const tls = await this.#certificate();
    const listener = new RefuseAllListener({
      listen: listen.inbound,
      hostname,
      tls,
      log: this.#log,
      count: this.#metrics.count,
    });
    await named('listen.inbound', listen.inbound, listener.start());
    this.#stops.listener('inbound', () => listener.stop());
  }

  async #certificate(): Promise<Certificate> {
    const { tls, hostname } = this.#config;
    if (tls) return configuredCertificate(tls);
    return selfSignedCertificate({
      dir: keysDir(this.#config),
      names: [hostname, 'localhost'],
      now: this.#now,
    });
  }

  async #dns({ listings, zoneSerial }: AppView): Promise<void> {
    const { dns, listen } = this.#config;
    const zone = new Zone({
      ...dns!,
      now: this.#now,
      serial: zoneSerial.last,
      onSerial: (serial) => zoneSerial.keep(serial),
    });
    const apply = (listing: Listing) => {
      if (zone.apply(listing) === 'unlistable') this.#metrics.count('listings_unlistable');
    };
    // In one turn of the event loop, so nothing changes between the two.
    const unfollow = listings.onChange(apply);
    zone.replace(listings.all());
    const server = new DnsServer({
      zones: [zone],
      listen: listen.dns,
      log: this.#log,
      count: this.#metrics.count,
    });
    await named('listen.dns', listen.dns, server.start());
    this.#stops.listener('dns', () => server.stop());
    this.#stops.work('zone', unfollow);
  }

  async #serveMetrics(): Promise<void> {
    const { metrics } = this.#config.listen;
    if (!metrics) return;
    const server = await named('listen.metrics', metrics, this.#metrics.listen(metrics));
    this.#stops.listener('metrics', () => server.close());
  }
}

/** Says which listener a taken or forbidden port was for. */
async function named<T>(key: string, { host, port }: HostPort, listening: Promise<T>): Promise<T> {
  try {
    return await listening;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const why: Record<string, string> = {
      EADDRINUSE: 'another program has it. Stop that one, or change the port',
      EACCES: 'this user may not listen on ports below 1024',
      EADDRNOTAVAIL: 'this machine does not have that address',
    };
    throw new Error(`"${key}" ${host}:${port}: ${why[code ?? ''] ?? message}.`, { cause: error });
  }
}
