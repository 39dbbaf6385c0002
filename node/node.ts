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
import type { AppView } from '../appview/appview.ts';
import { openDatabase } from '../appview/database.ts';
import type { AddressRules } from '../appview/identity/address.ts';
import { Identities } from '../appview/identity/did.ts';
import { guardedFetch } from '../appview/identity/fetch.ts';
import type { LabelSource } from '../appview/labels/source.ts';
import { appviewMigrations, ledgerMigrations } from '../appview/migrations.ts';
import type { Listing } from '../dnsbl/listing.ts';
import { DnsServer } from '../dnsbl/server.ts';
import { Zone } from '../dnsbl/zone.ts';
import type { Config, Role } from './config.ts';
import { CertificateWatch, configuredFiles, selfSigned } from './cooperative/certificate-watch.ts';
import { declarer } from './cooperative/declarer.ts';
import { didDocument } from './cooperative/did-document.ts';
import { registerDeclaration } from './cooperative/xrpc.ts';
import { RefuseAllListener } from './inbound/refuse-all.ts';
import { IssuedLabels } from './labeler/issued-labels.ts';
import { Labeler } from './labeler/labeler.ts';
import { ownLabelSource } from './labeler/own-source.ts';
import { LabelerSchedule } from './labeler/schedule.ts';
import { Verifications } from './labeler/verifications.ts';
import { registerLabeler } from './labeler/xrpc.ts';
import { named } from './listening.ts';
import { type Mail, startMail } from './mail.ts';
import { Metrics } from './metrics.ts';
import { ControlSocket } from './operator/control.ts';
import { operatorLinks } from './operator/links-api.ts';
import { membersApi } from './operator/members-api.ts';
import { operatorPages } from './operator/pages.ts';
import { queueApi } from './operator/queue-api.ts';
import { QueueTools } from './operator/queue-tools.ts';
import { OperatorSessions } from './operator/sessions.ts';
import { addressesOf, DnsResolver, type Resolver } from './resolver.ts';
import { keysDir, type Membership, openMembership } from './state.ts';
import { Stops } from './stopping.ts';
import { closeHttp, createHttp } from './web/http.ts';
import { registerPages } from './web/pages.ts';
import { registerStyle } from './web/style.ts';

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
    const resolver = new DnsResolver({
      servers: this.#config.network.resolvers,
      validates: this.#config.network.resolversValidate,
    });
    const rules = this.#rules(resolver);
    const identities = this.#identities(state, rules);
    const xrpc = createServer();
    const issued = this.#has('labeler') ? this.#issuedLabels(state, xrpc) : undefined;
    const appview = this.#has('appview') ? await this.#appview(identities, rules, xrpc, issued) : undefined;
    const http = this.#http(state, xrpc, appview);

    if (this.#has('relay') || this.#has('inbound')) {
      const certificate = await this.#certificate();
      if (this.#has('relay')) await this.#mail(state, resolver, rules, http, certificate);
      if (this.#has('inbound')) await this.#inbound(certificate);
    }
    // The document under our DID must be readable before peers and relays hear of us.
    await this.#listen(http, xrpc);
    if (appview && this.#has('dns')) await this.#dns(appview);
    if (appview) this.#follow(appview, state);
    if (appview && issued) await this.#labeler(state, issued, appview, identities, resolver);
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

  /** Loaded where it is wanted: what reads the network is a third of the program. */
  async #appview(
    identities: Identities,
    rules: AddressRules,
    xrpc: XrpcServer,
    issued: IssuedLabels | undefined,
  ): Promise<AppView> {
    const { AppView } = await import('../appview/appview.ts');
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
    const { proxies } = this.#config.http;
    const http = createHttp({ xrpc, maxSubscribers, proxies, log: this.#log, count: this.#metrics.count });
    // Also without the role `web`: pages behind mailed links stand here.
    registerStyle(http);
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

  async #labeler(
    { db, members }: Membership,
    issued: IssuedLabels,
    { attestations }: AppView,
    identities: Identities,
    resolver: Resolver,
  ): Promise<void> {
    const { domainChecks } = await import('./labeler/checks.ts');
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

  async #mail(
    state: Membership,
    resolver: DnsResolver,
    rules: AddressRules,
    http: FastifyInstance,
    certificate: CertificateWatch,
  ): Promise<void> {
    const mail = await startMail({
      ...{ config: this.#config, state, resolver, rules, http, certificate, stops: this.#stops },
      ...{ log: this.#log, count: this.#metrics.count, now: this.#now },
    });
    await this.#operator(mail, state);
  }

  async #operator(mail: Mail, { members }: Membership): Promise<void> {
    const { stateDir, did, name, listen, caps } = this.#config;
    const { spool, deliverer, record, measures } = mail;
    const [log, now] = [this.#log, this.#now];
    const stoppedMembers = () => measures.stoppedMembers();
    const tools = new QueueTools({ queue: spool, traffic: deliverer, did, record, stoppedMembers, now });
    const sessions = new OperatorSessions(now);
    const control = new ControlSocket({ stateDir, log });
    await control.app.register(queueApi(tools));
    await control.app.register(operatorLinks(sessions));
    const setStanding: Parameters<typeof membersApi>[0]['setStanding'] = (state, measure) =>
      measures.setStanding(state, measure);
    const tiers = Object.keys(caps.tiers);
    await control.app.register(membersApi({ ...mail, setStanding, members, tiers }));
    await control.start();
    this.#stops.listener('control', () => control.stop());
    if (!listen.operator) return;
    const pages = operatorPages({ tools, sessions, name, log, now });
    await named('listen.operator', listen.operator, pages.listen(listen.operator));
    this.#stops.listener('operator', () => pages.close());
  }

  async #inbound(certificate: CertificateWatch): Promise<void> {
    const { listen, hostname } = this.#config;
    const listener = new RefuseAllListener({
      listen: listen.inbound,
      hostname,
      tls: certificate.current,
      log: this.#log,
      count: this.#metrics.count,
    });
    certificate.onChange((renewed) => listener.updateCertificate(renewed));
    await named('listen.inbound', listen.inbound, listener.start());
    this.#stops.listener('inbound', () => listener.stop());
  }

  async #certificate(): Promise<CertificateWatch> {
    const { tls, hostname } = this.#config;
    const own = { dir: keysDir(this.#config), names: [hostname, 'localhost'] as [string, string] };
    const source = tls ? configuredFiles(tls) : selfSigned({ ...own, now: this.#now });
    const watch = await CertificateWatch.open({ ...source, log: this.#log, count: this.#metrics.count });
    this.#stops.work('certificate', () => watch.stop());
    return watch;
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
