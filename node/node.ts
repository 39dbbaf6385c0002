/**
 * The composition root: the only place where everything meets.
 *
 * One method builds one part from what it needs, by name; only what builds a role is handed the surroundings of
 * all. What starts says how it stops: first all listeners close, then the work in flight ends, then the databases
 * close (stopping.ts). Which parts there are is the configuration's `roles`, and what builds a role is loaded where
 * it is wanted: mail.ts, operator/operator.ts, labels.ts, private-channel.ts, repo.ts, attestations.ts,
 * listings.ts; peers.ts
 * is in every node. A relay alone is 18 MB smaller for it.
 */
import type { Keypair } from '@atproto/crypto';
import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import type { AppView } from '../appview/appview.ts';
import type { AddressRules } from '../appview/identity/address.ts';
import { Identities } from '../appview/identity/did.ts';
import { guardedFetch } from '../appview/identity/fetch.ts';
import type { Exported } from '../dnsbl/files/export.ts';
import type { Zone } from '../dnsbl/zone.ts';
import type { Attested, openFeed } from './attestations.ts';
import { type Config, type Role, readConfig } from './config.ts';
import { CertificateWatch, configuredFiles, selfSigned } from './cooperative/certificate-watch.ts';
import { didDocument } from './cooperative/did-document.ts';
import { takeUpLabelKey } from './cooperative/label-key.ts';
import type { PeerBook } from './cooperative/peer-book.ts';
import type { ListServer } from './dns/list-server.ts';
import type { Notice } from './enforcement/operator-notices.ts';
import type { IssuedLabels } from './labeler/issued-labels.ts';
import { named } from './listening.ts';
import type { openAppView } from './listings.ts';
import type { Mail } from './mail.ts';
import { Metrics } from './metrics.ts';
import { ControlSocket } from './operator/control.ts';
import { openPeers, peerBook } from './peers.ts';
import type { openReputation, Reputation } from './private-channel.ts';
import type { startRepo } from './repo.ts';
import { addressesOf, DnsResolver, type Resolver } from './resolver.ts';
import { keysDir, type Membership, openMembership } from './state.ts';
import { Stops } from './stopping.ts';
import { closeHttp, createHttp } from './web/http.ts';
import { registerStyle } from './web/style.ts';
import { Xrpc } from './web/xrpc.ts';

const maxSubscribers = 1_000;

export class Node {
  readonly #config: Config;
  readonly #log: Logger;
  readonly #now = Date.now;
  readonly #metrics = new Metrics();
  readonly #stops: Stops;
  #starting: Promise<void> | undefined;
  #dns: ListServer | undefined;

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

  /**
   * Reads the configuration again, and takes over what may change in a running node: the list's access, limits,
   * quotas, keys and query log.
   *
   * @throws ConfigError, AccessSettingsError, Error for another apex; everything is as before then
   */
  async reload(): Promise<void> {
    const { dns } = readConfig(this.#config.file);
    if (!this.#dns || !dns) return;
    const { zoneOf } = await import('./listings.ts');
    this.#dns.replace(dns, [zoneOf(dns)]);
    this.#log.info('DNS access settings read again; what else was changed needs a restart');
  }

  /** Writes the zone into files. @throws Error where there is no list, or nowhere to */
  async exportZone(): Promise<Exported[]> {
    if (!this.#dns) throw new Error('this node serves no list: it has not the role "dns"');
    return this.#dns.export();
  }

  async #start(): Promise<void> {
    const state = await openMembership(this.#config, this.#now);
    this.#stops.store('node.db', () => state.db.close());
    const resolver = new DnsResolver({
      servers: this.#config.network.resolvers,
      validates: this.#config.network.resolversValidate,
    });
    const rules = this.#rules(resolver);
    const book = peerBook(this.#config, state, this.#now);
    const control = new ControlSocket({ stateDir: this.#config.stateDir, log: this.#log });
    const xrpc = this.#xrpc(state, book);
    const identities = this.#identities(state, rules);
    const issued = this.#has('labeler') ? await this.#issuedLabels(state, xrpc) : undefined;
    let mail: Mail | undefined;
    // Mailed where mail is relayed; elsewhere the log is all there is.
    const tell = (notice: Notice) =>
      mail ? mail.raise(notice) : this.#log.error(notice, 'for the operator');
    const appview = this.#has('appview')
      ? await this.#appview({ identities, rules, xrpc, issued, book, tell })
      : undefined;
    const attested = appview ?? (issued && (await this.#feed({ identities, rules })));
    const http = await this.#http(state, xrpc, book, appview);

    if (this.#has('relay') || this.#has('inbound')) {
      const certificate = await this.#certificate();
      if (this.#has('relay')) mail = await this.#mail(state, { resolver, rules, http, certificate, control });
      if (this.#has('inbound')) await this.#inbound(certificate);
    }
    const reputation =
      issued && attested
        ? await this.#reputation({
            state,
            book,
            identities,
            rules,
            xrpc,
            issued,
            appview,
            mail,
            tell,
            attestations: attested.attestations,
          })
        : undefined;
    // The document under our DID must be readable before peers and relays hear of us.
    await this.#listen(http, xrpc);
    if (appview && this.#has('dns')) await this.#list(appview, control);
    if (attested) await this.#read(attested, state);
    if (attested && issued) {
      await this.#labeler(state, issued, attested, { identities, resolver, record: mail?.record });
    }
    await reputation?.start();
    if (this.#config.did.startsWith('did:plc:')) await this.#repo({ state, book, fetch: identities.fetch });
    const peers = openPeers(this.#config, {
      ...{ book, identities, resolver, now: this.#now, appview, record: mail?.record },
      ...(reputation && { privateChannels: reputation.channels }),
    });
    if (reputation) await this.#publishing(control, reputation);
    await this.#controls(control, peers, state, issued);
    await this.#serveMetrics();
  }

  #has(role: Role): boolean {
    return this.#config.roles.includes(role);
  }

  /** What every part that starts is given. */
  #surroundings() {
    const [config, stops, log, now] = [this.#config, this.#stops, this.#log, this.#now];
    return { config, stops, log, now, count: this.#metrics.count };
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

  /** With the one method of every node. */
  #xrpc({ keys }: Membership, book: PeerBook): Xrpc {
    return new Xrpc({
      addMethods: async (server) => {
        const { registerDeclaration } = await import('./cooperative/xrpc.ts');
        const { declarer } = await import('./cooperative/declarer.ts');
        const declaring = { config: this.#config, book, key: () => keys.label, now: this.#now };
        registerDeclaration(server, declarer(declaring));
      },
      log: this.#log,
    });
  }

  async #issuedLabels(state: Membership, xrpc: Xrpc): Promise<IssuedLabels> {
    const { issuedLabels } = await import('./labels.ts');
    return issuedLabels({ ...this.#surroundings(), state }, xrpc);
  }

  async #appview(o: Parameters<typeof openAppView>[1]): Promise<AppView> {
    const { openAppView } = await import('./listings.ts');
    return openAppView(this.#surroundings(), o);
  }

  async #http(
    { keys }: Membership,
    xrpc: Xrpc,
    book: PeerBook,
    appview: AppView | undefined,
  ): Promise<FastifyInstance> {
    const { did, labelerUrl, name, domain, dns } = this.#config;
    const { proxies } = this.#config.http;
    const http = createHttp({ xrpc, maxSubscribers, proxies, log: this.#log, count: this.#metrics.count });
    // Also without the role `web`: pages behind mailed links stand here.
    registerStyle(http);
    // A did:plc's document is at the directory.
    if (did.startsWith('did:web:'))
      http.get('/.well-known/did.json', () => didDocument({ did, labelKey: keys.label.did(), labelerUrl }));
    if (this.#has('web')) {
      const { registerPages } = await import('./web/pages.ts');
      registerPages(http, {
        cooperative: { name, did, poolDomain: domain, ...(dns && { apex: dns.apex }) },
        peers: () => book.all(),
        explain: (wanted) => appview?.listings.get(wanted),
      });
    }
    return http;
  }

  async #listen(http: FastifyInstance, xrpc: Xrpc): Promise<void> {
    const { host, port } = this.#config.listen.web;
    await named('listen.web', this.#config.listen.web, http.listen({ host, port }));
    this.#stops.listener('web', () => closeHttp(http, xrpc));
  }

  async #list(appview: AppView, control: ControlSocket): Promise<void> {
    const { startDns } = await import('./listings.ts');
    const { server, zone } = await startDns(this.#surroundings(), appview);
    this.#dns = server;
    await this.#controlDns(control, zone);
  }

  async #feed(o: Parameters<typeof openFeed>[1]): Promise<Attested> {
    const { openFeed } = await import('./attestations.ts');
    return openFeed(this.#surroundings(), o);
  }

  async #read(attested: Attested, state: Membership): Promise<void> {
    const { startReading } = await import('./attestations.ts');
    startReading(this.#surroundings(), this.#has('appview') ? 'appview' : 'attestations', attested, state);
  }

  async #repo(o: Parameters<typeof startRepo>[1]): Promise<void> {
    const { startRepo } = await import('./repo.ts');
    startRepo(this.#surroundings(), o);
  }

  async #controlDns(control: ControlSocket, zone: Zone): Promise<void> {
    const { dnsControl } = await import('./dns/control.ts');
    const status = () => [
      { apex: zone.apex, entries: zone.size, serial: zone.serial, ageSeconds: undefined },
    ];
    await control.app.register(
      dnsControl({ status, export: () => this.exportZone(), reload: () => this.reload() }),
    );
  }

  async #labeler(
    state: Membership,
    issued: IssuedLabels,
    attested: Attested,
    o: { identities: Identities; resolver: Resolver; record: Mail['record'] | undefined },
  ): Promise<void> {
    const { startLabeler } = await import('./labels.ts');
    startLabeler({ ...this.#surroundings(), state }, issued, attested, o);
  }

  async #mail(
    state: Membership,
    o: {
      resolver: DnsResolver;
      rules: AddressRules;
      http: FastifyInstance;
      certificate: CertificateWatch;
      control: ControlSocket;
    },
  ): Promise<Mail> {
    const { startMail } = await import('./mail.ts');
    const { startOperator } = await import('./operator/operator.ts');
    const around = { ...this.#surroundings(), state };
    const { signalOutbox } = await import('./reputation/outbox.ts');
    // What peers are told is signed where the labeler is.
    const projections = this.#has('labeler') ? [signalOutbox(state.db)] : [];
    const mail = await startMail({ ...around, ...o, projections });
    await startOperator({ ...around, control: o.control }, mail);
    return mail;
  }

  async #reputation(o: Parameters<typeof openReputation>[1]): Promise<Reputation> {
    const { openReputation } = await import('./private-channel.ts');
    return openReputation(this.#surroundings(), o);
  }

  async #publishing(control: ControlSocket, { published }: Reputation): Promise<void> {
    const { reputationApi } = await import('./reputation/api.ts');
    await control.app.register(reputationApi(published));
  }

  /** Last of all: a command finds everything running. */
  async #controls(
    control: ControlSocket,
    peers: ReturnType<typeof openPeers>,
    state: Membership,
    issued: IssuedLabels | undefined,
  ): Promise<void> {
    const { peersApi } = await import('./cooperative/peers-api.ts');
    await control.app.register(peersApi(peers));
    const key = { dir: keysDir(this.#config), keys: state.keys, log: this.#log };
    const useKey = (label: Keypair) => issued?.useKey(label);
    control.app.post('/label-key/read', () => takeUpLabelKey({ ...key, useKey }));
    await control.start();
    this.#stops.listener('control', () => control.stop());
  }

  async #inbound(certificate: CertificateWatch): Promise<void> {
    const { RefuseAllListener } = await import('./inbound/refuse-all.ts');
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

  async #serveMetrics(): Promise<void> {
    const { metrics } = this.#config.listen;
    if (!metrics) return;
    const { metricsText } = await import('../dnsbl/metrics.ts');
    const more = () => metricsText(this.#dns?.metrics() ?? []);
    const server = await named('listen.metrics', metrics, this.#metrics.listen(metrics, more));
    this.#stops.listener('metrics', () => server.close());
  }
}
