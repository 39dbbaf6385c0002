/**
 * The composition of a message's way: submission and HTTP in, spool, delivery, and who may send.
 *
 * Belongs to node.ts, which says when it starts; the same rules hold: one function builds one part from what
 * it needs, and what starts says how it stops.
 */
import type { FastifyInstance } from 'fastify';
import type { AddressRules } from '../appview/identity/address.ts';
import { guardedFetch } from '../appview/identity/fetch.ts';
import type { Composing } from './composing.ts';
import type { CertificateWatch } from './cooperative/certificate-watch.ts';
import { LivePoolKeys } from './cooperative/pool-keys.ts';
import { type DsnOptions, refusalNotice } from './delivery/bounce.ts';
import { Deliverer } from './delivery/deliverer.ts';
import { isOurselves } from './delivery/ourselves.ts';
import { RememberedAnswers } from './delivery/route-answers.ts';
import { TlsPolicies } from './delivery/tls-policy.ts';
import { Attempts } from './enforcement/attempts.ts';
import { EventLog } from './enforcement/event-log.ts';
import type { Projection } from './enforcement/event-store.ts';
import { outboxes } from './enforcement/events.ts';
import { tellingFailures } from './enforcement/failure-notices.ts';
import { Guard } from './enforcement/guard.ts';
import { Measures } from './enforcement/measures.ts';
import { NoticeSender } from './enforcement/notice-sender.ts';
import { type Notice, OperatorNotices } from './enforcement/operator-notices.ts';
import { Rates } from './enforcement/rates.ts';
import { SentRecipients } from './enforcement/sent-recipients.ts';
import { checkTiers, type StandingOf, standings } from './enforcement/standing.ts';
import { suppressionProjection } from './enforcement/suppression-projection.ts';
import type { Door } from './http/authenticated.ts';
import { named } from './listening.ts';
import { Authenticator } from './members/authenticate.ts';
import { Contacts } from './members/contacts.ts';
import { Suppressions } from './members/suppressions.ts';
import { type MemberAddresses, memberAddresses } from './operator/member-addresses.ts';
import { Admission } from './relay/admission.ts';
import { AdmissionMemory, commitsOf, rememberAll } from './relay/admission-memory.ts';
import { registerMemberApi } from './relay/api/member-api.ts';
import { ByteBudget } from './relay/byte-budget.ts';
import { ConnectionCaps } from './relay/connection-caps.ts';
import { Intake } from './relay/intake.ts';
import { OwnMail } from './relay/own-mail.ts';
import { ReturnPaths } from './relay/return-path.ts';
import { Signer } from './relay/signing.ts';
import { SubmissionServer } from './relay/submission.ts';
import { UnsubscribeLinks, unsubscribeRoutes } from './relay/unsubscribe.ts';
import type { DnsResolver } from './resolver.ts';
import { type Claim, Spool } from './spool/spool.ts';
import { databaseFile, keysDir, type Membership } from './state.ts';
import { webhooksApi } from './webhooks/api.ts';
import { Deliveries } from './webhooks/deliveries.ts';
import { Endpoints } from './webhooks/endpoints.ts';
import { webhookOperations } from './webhooks/operations.ts';
import { WebhookSender } from './webhooks/sender.ts';

/** Octets of unfinished messages over all sessions, or four times the largest message. */
const maxBytesInFlight = 128 * 1024 * 1024;

export type MailOptions = Composing & {
  state: Membership;
  resolver: DnsResolver;
  /** For addresses that strangers choose: webhooks, MTA-STS. */
  rules: AddressRules;
  http: FastifyInstance;
  certificate: CertificateWatch;
  /** What else is derived in the commit of an event. */
  projections?: readonly Projection[];
};

/** What the rest of the node does with mail that is under way. */
export type Mail = {
  spool: Spool;
  deliverer: Deliverer;
  measures: Measures;
  record: EventLog['record'];
  onEvents: EventLog['onStored'];
  /** Something fails that the operator is to be told of. */
  raise: OperatorNotices['raise'];
  addresses: MemberAddresses;
};

/** @throws when the spool is damaged or taken, or a port is; what had started is stopped by `stops` */
export async function startMail(o: MailOptions): Promise<Mail> {
  const { config, state, stops, log, now } = o;
  checkTiers(state.db, config.caps.tiers);
  const spool = await openSpool(o);
  const memory = memoryOf(o);
  const signer = signerOf(o, memory);
  const ownMail = ownMailOf(o, spool, signer);
  const contacts = new Contacts({ db: state.db, now });
  const dsn = dsnOf(o, contacts, signer);
  const suppressions = new Suppressions({ db: state.db, now });
  const webhooks = webhooksOf(o);
  const rates = new Rates({ db: state.db, now });
  const recipients = new SentRecipients({ db: state.db, key: state.keys.seal, now });
  const notices = new OperatorNotices({ db: state.db, now, log });
  const standingOf = standings({
    ...{ db: state.db, policy: config.caps, throttleFactor: config.guard.throttleFactor, now },
  });

  const events = new EventLog({
    ...{ db: state.db, source: spool, outbox: outboxes.spool, now, log, count: o.count },
    projections: [
      rates,
      recipients,
      suppressionProjection(suppressions),
      webhooks.deliveries,
      notices,
      ...(o.projections ?? []),
    ],
  });
  const measures = measuresOf(o, spool, events);
  guard(o, { rates, standingOf, measures, events });
  const noticeSender = noticeSenderOf(o, notices, ownMail);
  events.onStored(noticeSender.examine);
  const attempts = new Attempts({ record: events.record, now, log, count: o.count });
  const sender = new WebhookSender({ ...webhooks, record: events.record, now, log, count: o.count });
  const deliverer = delivererOf(o, { spool, signer, dsn });

  spool.onCommitted(() => events.wake());
  stops.work('event log', () => events.stop());
  stops.work('guard', async () => {
    attempts.stop();
    await measures.stop();
    await noticeSender.stop();
  });
  stops.work('webhooks', () => sender.stop());
  stops.work('deliverer', () => deliverer.stop());
  events.start();
  measures.start();
  noticeSender.start();
  sender.start();
  deliverer.start();

  const links = new UnsubscribeLinks({ key: state.keys.verp, publicUrl: config.publicUrl });
  const asked = rememberAll(memory, { members: state.members, standingOf, suppressions });
  const admission = new Admission({
    ...{ ...asked, poolDomain: config.domain, exemptPerRecipient: config.caps.exemptPerRecipient },
    maxMessageBytes: config.submission.maxMessageBytes,
  });
  const intake = intakeOf(
    { ...o, count: tellingFailures(o.count, notices) },
    { admission, signer, spool, links, dsn, attempts },
  );
  const authenticator = new Authenticator({
    ...{ credentials: asked.credentials, authFailed: attempts.authFailed, count: o.count, now },
  });
  const budget = budgetOf(o);
  await submission(o, { authenticator, intake, budget });
  const door: Door = { authenticator, admission, log };
  const receivesFor = receivingFor(o);
  await registerMemberApi(o.http, {
    ...{ door, intake, budget, spool, contacts, suppressions, rates, standingOf, ownMail, now },
    members: state.members,
    cooperative: config.name,
    publicUrl: config.publicUrl,
    poolDomain: config.domain,
    receivesFor,
    warmingDays: config.caps.warmingDays,
    alsoDocumented: webhookOperations,
  });
  await o.http.register(webhooksApi({ ...webhooks, door, sender, now }));
  await o.http.register(
    unsubscribeRoutes({
      ...{ links, suppressions, record: events.record, now, count: o.count },
      domainOf: async (messageId) => (await spool.message(messageId))?.domain,
      domainsOf: (did) => state.members.domainsOf(did).map(({ name }) => name),
      cooperative: config.name,
      simulatorDomain: `simulator.${config.domain}`,
    }),
  );
  return {
    ...{ spool, deliverer, measures, record: events.record },
    onEvents: (listener) => events.onStored(listener),
    raise: (notice) => notices.raise(notice),
    addresses: memberAddresses({
      ...{ contacts, ownMail, receivesFor, suppressions, record: events.record },
      members: state.members,
      publicUrl: config.publicUrl,
      poolDomain: config.domain,
    }),
  };
}

/** A message is in memory twice while it is put together; one member has a quarter, and room for its largest. */
function budgetOf({ config }: MailOptions): ByteBudget {
  const { maxMessageBytes } = config.submission;
  const limit = Math.max(maxBytesInFlight, 4 * maxMessageBytes);
  return new ByteBudget(limit, Math.max(limit / 4, 2 * maxMessageBytes));
}

/** A member may let its MX record point here. A domain that nobody can look up now is taken for one elsewhere. */
function receivingFor({ config, state, resolver }: MailOptions) {
  return async (domain: string): Promise<boolean> => {
    if (!state.members.domain(domain)) return false;
    const mx = await resolver.mx(domain);
    return mx.kind === 'found' && mx.records.some(({ exchange }) => exchange === config.hostname);
  };
}

/** What is asked for every message is asked of node.db once, until somebody commits to it. */
function memoryOf({ config, stops }: MailOptions): AdmissionMemory {
  const commits = commitsOf(databaseFile(config));
  stops.store('node.db, its commits', commits.close);
  return new AdmissionMemory({ version: commits.version });
}

async function openSpool({ config, stops, log }: MailOptions): Promise<Spool> {
  const spool = await Spool.open({ dir: config.stateDir, log, quotas: config.queue });
  stops.store('spool', () => spool.close());
  return spool;
}

function signerOf({ config, state, stops, log, now }: MailOptions, memory: AdmissionMemory): Signer {
  const { members } = state;
  const { domain } = config;
  const pool = new LivePoolKeys(keysDir(config), now);
  const signer = Signer.start({
    memberKeys: (name) => members.dkimKeys(name),
    memberKeysVersion: memory.remember((name: string) => members.dkimVersion(name)),
    poolKey: () => ({ domain, algorithm: 'rsa', ...pool.signing() }),
    isPublished: memory.remember((name: string, selector: string) =>
      name === domain ? pool.isPublished(selector) : members.isDkimPublished(name, selector),
    ),
    ...{ expireMs: config.signing.expire, restMs: config.signing.rest, now, log },
  });
  stops.store('signer', () => signer.close());
  return signer;
}

function ownMailOf({ config, log, now }: MailOptions, spool: Spool, signer: Signer): OwnMail {
  const { name, domain, delivery } = config;
  return new OwnMail({
    queue: spool,
    signForPool: (message) => signer.signForPool(message),
    ...{ name, poolDomain: domain, lifetimeMs: delivery.lifetime, now, log },
  });
}

/** A DSN goes to the domain's forward-to, else to the member's contact; both confirmed by their owners. */
function dsnOf({ config }: MailOptions, contacts: Contacts, signer: Signer): DsnOptions {
  return {
    from: `postmaster@${config.domain}`,
    recipientFor: (domain, did) => contacts.forBounces(domain, did),
    seal: (message) => signer.signForPool(message),
  };
}

function webhooksOf({ state, rules, now, count }: MailOptions) {
  const { db, seal } = state;
  const endpoints = new Endpoints({ db, seal, rules, now });
  const deliveries = new Deliveries({ db, endpoints, now, count });
  return { endpoints, deliveries, fetch: guardedFetch(rules) };
}

function measuresOf({ state, log, now, count }: MailOptions, spool: Spool, events: EventLog): Measures {
  const by = 'standing';
  return new Measures({
    ...{ db: state.db, record: events.record, log, now, count },
    queue: {
      // Our own letters and the bounces of its mail still reach the member.
      hold: (did, reason) => spool.hold({ did, kind: 'mail' }, { by, reason }),
      release: (did, reason) => spool.unhold({ did, heldBy: by }, { by, reason }),
    },
  });
}

function guard(
  { config, state, log, now }: MailOptions,
  o: { rates: Rates; standingOf: StandingOf; measures: Measures; events: EventLog },
): void {
  const { throttleFor, ...figures } = config.guard;
  const watching = new Guard({
    ...{ db: state.db, rates: o.rates, standingOf: o.standingOf, measures: o.measures, now, log },
    figures: { ...figures, throttleForMs: throttleFor },
  });
  o.events.onStored((events) => watching.examine(events));
  watching.start();
}

function noticeSenderOf(
  { config, log, now }: MailOptions,
  notices: OperatorNotices,
  ownMail: OwnMail,
): NoticeSender {
  const { email } = config.operator;
  const letter = { did: config.did, domain: config.domain, to: email ?? '' };
  const send = (notice: Notice) => ownMail.send({ ...letter, ...notice });
  return new NoticeSender({ notices, send: email === undefined ? undefined : send, now, log });
}

function delivererOf(
  { config, resolver, rules, log, now, count }: MailOptions,
  { spool, signer, dsn }: { spool: Spool; signer: Signer; dsn: DsnOptions },
): Deliverer {
  const { delivery, network, hostname, roles } = config;
  const answers = new RememberedAnswers({ resolver, now });
  const policies = new TlsPolicies({
    ...{ resolver: answers, fetch: guardedFetch(rules), now, count, port: delivery.port },
    default: delivery.tls,
    exceptions: delivery.tlsExceptions,
  });
  return new Deliverer({
    ...{ spool, resolver: answers, hostname, dsn, log, count, now },
    port: delivery.port,
    loopbackOnly: network.loopbackOnly,
    route: { isSelf: isOurselves({ hostname, takesMail: roles.includes('inbound') }) },
    tls: policies,
    signatures: {
      isCurrent: (claim) => signer.isCurrent(claim),
      renew: (claim, body) => renewed(signer, claim, body),
    },
    sources: delivery.sources,
    sourceWarming: delivery.sourceWarming,
    retryMinutes: delivery.retryMinutes,
    ...(delivery.longTail !== undefined && { longTailMs: delivery.longTail }),
    lifetimeMs: delivery.lifetime,
    ...(delivery.delayNotice !== undefined && { delayNoticeMs: delivery.delayNotice }),
    concurrency: { total: delivery.connections, perSite: delivery.connectionsPerSite },
    messagesPerConnection: delivery.messagesPerConnection,
    // Within what stopping.ts leaves for work in flight.
    graceMs: 4_000,
  });
}

/** @throws Error when it could not be signed now */
async function renewed(signer: Signer, { kind, prefix, domain }: Claim, body: Buffer): Promise<Buffer> {
  if (kind !== 'mail') return signer.signForPool(Buffer.concat([prefix, body]));
  const signed = await signer.sign({ prefixes: [prefix], body, domain });
  if (signed.kind === 'failed') throw new Error(signed.reason);
  return signed.signatures[0]!;
}

function intakeOf(
  { config, state, log, now, count }: MailOptions,
  o: {
    admission: Admission;
    signer: Signer;
    spool: Spool;
    links: UnsubscribeLinks;
    dsn: DsnOptions;
    attempts: Attempts;
  },
): Intake {
  const { hostname, domain, dns, delivery } = config;
  const notice = { hostname, lifetimeMs: delivery.lifetime, now };
  return new Intake({
    ...{ admission: o.admission, signer: o.signer, queue: o.spool, hostname, log, now, count },
    returnPaths: new ReturnPaths({ key: state.keys.verp, poolDomain: domain }),
    poolDomain: domain,
    apex: dns?.apex,
    lifetimeMs: delivery.lifetime,
    unsubscribeLink: (who) => o.links.of(who),
    bounceNotice: (refused) => refusalNotice(refused, o.dsn, notice),
    attempted: o.attempts.attempted,
  });
}

async function submission(
  { config, certificate, stops, log, count }: MailOptions,
  o: { authenticator: Authenticator; intake: Intake; budget: ByteBudget },
): Promise<void> {
  const { hostname, listen, submission: limits } = config;
  const caps = new ConnectionCaps({ perAddress: limits.perAddress, perMember: limits.perMember });
  const { maxMessageBytes, maxConnections, proxies } = limits;
  for (const [key, implicitTls] of [
    ['submission', false],
    ['submissions', true],
  ] as const) {
    const server = new SubmissionServer({
      ...{
        listen: listen[key],
        implicitTls,
        certificate: certificate.current,
        hostname,
        caps,
        proxies,
        log,
        count,
        ...o,
      },
      limits: { maxMessageBytes, maxConnections },
    });
    await named(`listen.${key}`, listen[key], server.start());
    stops.listener(key, () => server.stop());
    certificate.onChange((renewed) => server.updateCertificate(renewed));
  }
}
