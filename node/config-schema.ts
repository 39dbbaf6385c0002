/**
 * Every key of the configuration: its shape, its default, and what would be right.
 *
 * A key that is not here is an error. What depends on several keys at once is config.ts's business.
 */
import { z } from 'zod';
import { address, baseUrl, did, domain, duration, hinted, hostPort } from './config-values.ts';
import { dnsListen, nodeDnsSchema } from './dns/schema.ts';

export const roles = ['labeler', 'relay', 'inbound', 'appview', 'dns', 'web'] as const;
export type Role = (typeof roles)[number];

const port = () => z.int().min(1).max(65535);
const cap = () => z.int().min(1).max(1e9);
const caps = () => z.strictObject({ perHour: cap(), perDay: cap(), burst: cap().optional() });
const quota = (messages: number, bytes: number) =>
  z
    .strictObject({
      messages: hinted(cap(), 'messages that wait', String(messages)).default(messages),
      bytes: hinted(z.int().min(1024), 'octets of them', String(bytes)).default(bytes),
    })
    .prefault({});
const mib = 1024 * 1024;
const link = (example: string) =>
  z
    .string()
    .max(512)
    .refine((text) => URL.canParse(text) && /^https?:\/\//i.test(text), `is not a link such as ${example}`);
const contact = () =>
  z
    .string()
    .max(512)
    .refine(
      (text) => /^mailto:[^\s@]+@[^\s@]+$/i.test(text) || /^https:\/\/./i.test(text),
      'is not a mailto: or https: address',
    );

/** The file as written; config.ts adds what follows from several keys together. */
export const schema = z.strictObject({
  name: hinted(z.string().min(1).max(64), 'the name that members and peers read', '"Harbor"'),
  domain: hinted(domain(), 'the pool domain: the second DKIM d= on all mail', '"harbor.example"'),
  publicUrl: hinted(baseUrl(['https:', 'http:']), 'where people reach the pages', '"https://harbor.example"'),
  hostname: hinted(
    domain(),
    'what this machine calls itself in SMTP, and the target of MX records',
    '"mail.harbor.example"',
  ).optional(),
  did: hinted(did(), "the cooperative's DID", '"did:web:harbor.example"').optional(),
  labelerUrl: hinted(
    baseUrl(['https:', 'http:']),
    'where peers read the labels',
    '"https://harbor.example"',
  ).optional(),
  stateDir: hinted(z.string().min(1), 'the folder of databases, spool and keys', '"./state"').default(
    './state',
  ),
  roles: hinted(
    z.array(z.enum(roles)).min(1),
    'the parts that this machine runs',
    JSON.stringify(roles).replaceAll(',', ', '),
  ).default([...roles]),
  listen: z
    .strictObject({
      web: hinted(hostPort(), 'pages, XRPC and the send API', '"127.0.0.1:8080"').prefault('127.0.0.1:8080'),
      submission: hinted(hostPort(), 'SMTP with STARTTLS', '"0.0.0.0:587"').prefault('0.0.0.0:587'),
      submissions: hinted(hostPort(), 'SMTP with implicit TLS', '"0.0.0.0:465"').prefault('0.0.0.0:465'),
      inbound: hinted(hostPort(), 'SMTP from other servers', '"0.0.0.0:25"').prefault('0.0.0.0:25'),
      dns: dnsListen().prefault('0.0.0.0:53'),
      metrics: hinted(hostPort(), 'Prometheus; off when left out', '"127.0.0.1:9464"').optional(),
      operator: hinted(
        hostPort(),
        "the operator's pages, not for the public; off when left out",
        '"127.0.0.1:8090"',
      ).optional(),
    })
    .prefault({}),
  http: z
    .strictObject({
      proxies: hinted(
        z.array(address()).max(64),
        'reverse proxies beside this machine whose X-Forwarded-For is believed',
        '["10.0.0.2"]',
      ).default([]),
    })
    .prefault({}),
  tls: z
    .strictObject({
      certFile: hinted(z.string().min(1), 'a PEM certificate chain', '"/etc/atmos/tls/fullchain.pem"'),
      keyFile: hinted(z.string().min(1), 'its PEM private key', '"/etc/atmos/tls/privkey.pem"'),
    })
    .optional(),
  network: z
    .strictObject({
      loopbackOnly: hinted(z.boolean(), 'true in the sandbox: nothing leaves this machine', 'false').default(
        false,
      ),
      plcUrl: hinted(baseUrl(['https:', 'http:']), 'the PLC directory', '"https://plc.directory"').default(
        'https://plc.directory',
      ),
      resolvers: hinted(
        z.array(hostPort()).min(1).max(8),
        'recursive DNS servers that validate DNSSEC, best on this machine',
        '["127.0.0.1:53"]',
      ).prefault(['127.0.0.1:53']),
      resolversValidate: hinted(
        z.boolean(),
        'false where they do not check DNSSEC, or the way to them is not safe: DANE is then not used',
        'true',
      ).default(true),
    })
    .prefault({}),
  firehose: hinted(
    z.array(baseUrl(['wss:', 'ws:'])).max(8),
    'relays or PDSes that serve com.atproto.sync.subscribeRepos',
    '["wss://relay1.us-east.bsky.network"]',
  ).default(['wss://relay1.us-east.bsky.network']),
  peers: z
    .array(
      z.strictObject({
        did: hinted(did(), "the peer cooperative's DID", '"did:web:meadow.example"'),
        stance: hinted(
          z.enum(['guarantee', 'endorse', 'hesitate', 'censure']),
          'what you say of it; only a guarantee carries its votes',
          '"guarantee"',
        ),
        reason: hinted(z.string().min(1).max(300), 'why; the public reads it', '"We know them"').optional(),
        evidence: hinted(
          z.array(link('https://harbor.example/why')).max(16),
          'links to what it rests on',
          '["https://harbor.example/why"]',
        ).optional(),
      }),
    )
    .max(1024)
    .default([]),
  declaration: z
    .strictObject({
      description: hinted(
        z.string().min(1).max(300),
        'a sentence on who you are',
        '"Mail for the servers of the bay"',
      ).optional(),
      policy: hinted(
        link('https://harbor.example/policy'),
        'the page with your rules',
        '"https://harbor.example/policy"',
      ).optional(),
      contact: hinted(
        contact(),
        'where a person answers other cooperatives',
        '"mailto:postmaster@harbor.example"',
      ).optional(),
      sendingAddresses: hinted(
        z.array(address()).max(64),
        'the addresses that your mail comes from, as the world sees them; left out: those of `delivery.sources`',
        '["192.0.2.1"]',
      ).optional(),
    })
    .prefault({}),
  dns: nodeDnsSchema.optional(),
  delivery: z
    .strictObject({
      port: hinted(port(), 'the port of other mail servers', '25').default(25),
      tls: hinted(
        z.enum(['required', 'opportunistic']),
        'must the destination offer TLS?',
        '"required"',
      ).default('required'),
      tlsExceptions: hinted(
        z.record(domain(), z.enum(['required', 'opportunistic'])),
        'another TLS policy for single recipient domains',
        '{ "old.example": "opportunistic" }',
      ).default({}),
      sources: hinted(
        z.array(z.strictObject({ address: address(), warm: z.boolean().default(false) })).max(64),
        'the addresses that this machine sends from; a new one starts slowly unless it is called warm',
        '[{ "address": "192.0.2.1", "warm": true }]',
      ).default([]),
      sourceWarming: hinted(
        z.array(cap()).min(1).max(90),
        'messages a day to each provider on the first days of a new source address',
        '[50, 100, 200, 400, 800]',
      ).default([50, 100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 102_400]),
      connections: hinted(z.int().min(1).max(10_000), 'connections to other servers at once', '200').default(
        200,
      ),
      connectionsPerSite: hinted(z.int().min(1).max(1000), 'of them to one MX site', '20').default(20),
      messagesPerConnection: hinted(
        z.int().min(1).max(10_000),
        'messages over one connection',
        '100',
      ).default(100),
      retryMinutes: hinted(
        z.array(z.int().min(1).max(10_080)).min(1).max(100),
        'minutes from one try to the next',
        '[1, 5, 15, 30, 60]',
      ).default([1, 5, 15, 30, 60]),
      longTail: hinted(
        duration(),
        'after those tries, go on this often until the lifetime is over; left out: give up',
        '"2h"',
      ).optional(),
      lifetime: hinted(duration(), 'when a message that was never delivered bounces', '"4d"').prefault('4d'),
      delayNotice: hinted(
        duration(),
        'tell the member once that a message waits, after this long',
        '"4h"',
      ).optional(),
    })
    .prefault({}),
  labeler: z
    .strictObject({
      reverifyInterval: hinted(duration(), 'how often a verified domain is checked again', '"24h"').prefault(
        '24h',
      ),
      retryUnverified: hinted(
        duration(),
        'when an unverified one is at first; then ever more rarely',
        '"5m"',
      ).prefault('5m'),
      transientGrace: hinted(
        duration(),
        'how long labels stand while DNS does not answer for a domain',
        '"72h"',
      ).prefault('72h'),
      labelLifetime: hinted(
        duration(),
        'when a label expires that is not renewed; at least three times reverifyInterval',
        '"14d"',
      ).prefault('14d'),
      history: hinted(
        duration().refine((ms) => ms >= 86_400_000, 'is less than a day'),
        'how long labels that stand no more are kept for those who read the stream late',
        '"90d"',
      ).prefault('90d'),
    })
    .prefault({}),
  caps: z
    .strictObject({
      domainsPerMember: hinted(z.int().min(1).max(1000), 'domains of one member', '2').default(2),
      warmingDays: hinted(z.int().min(0).max(365), 'days in which a new domain starts slowly', '14').default(
        14,
      ),
      warming: hinted(
        z.array(caps().extend({ untilDay: z.int().min(1).max(365) })).max(16),
        'the caps of those days; `burst` is what unused time may save up for one moment',
        '[{ "untilDay": 7, "perHour": 5, "perDay": 50, "burst": 10 }]',
      ).default([
        { untilDay: 7, perHour: 5, perDay: 50, burst: 10 },
        { untilDay: 14, perHour: 20, perDay: 200, burst: 40 },
      ]),
      tiers: hinted(
        z.record(z.string(), caps()),
        'caps after the warming days, by tier; `standard` must be there',
        '{ "standard": { "perHour": 200, "perDay": 2000 } }',
      ).default({ standard: { perHour: 200, perDay: 2000 }, trusted: { perHour: 1000, perDay: 10_000 } }),
      warmingAfterCleanSender: hinted(
        z.int().min(0).max(365),
        'the day of warming on which a domain starts that a guaranteed peer labels clean-sender',
        '7',
      ).default(7),
      exemptPerRecipient: hinted(
        z.int().min(0).max(1000),
        'login links and the like that one who unsubscribed still gets in any 23 hours',
        '5',
      ).default(5),
    })
    .prefault({}),
  submission: z
    .strictObject({
      maxMessageBytes: hinted(
        z
          .int()
          .min(64 * 1024)
          .max(150 * mib),
        'octets of one message',
        '26214400',
      ).default(25 * mib),
      maxConnections: hinted(z.int().min(1).max(100_000), 'sessions of one port at once', '500').default(500),
      perAddress: hinted(z.int().min(1).max(100_000), 'sessions of one client address at once', '50').default(
        50,
      ),
      perMember: hinted(z.int().min(1).max(100_000), 'sessions of one member at once', '50').default(50),
      proxies: hinted(
        z.array(address()).max(64),
        'load balancers that speak the PROXY protocol to us, and nobody else may',
        '["10.0.0.2"]',
      ).default([]),
    })
    .prefault({}),
  queue: z
    .strictObject({
      all: quota(200_000, 10 * 1024 * mib),
      perMember: quota(20_000, 1024 * mib),
    })
    .prefault({}),
  signing: z
    .strictObject({
      expire: hinted(
        duration().refine((ms) => ms >= 3_600_000 && ms <= 7 * 86_400_000, 'is not between 1h and 7d'),
        'how long a signature is good (x=)',
        '"4d"',
      ).prefault('4d'),
      rest: hinted(duration(), 'how long a signing thread waits for more before it ends', '"1m"').prefault(
        '1m',
      ),
    })
    .prefault({}),
  operator: z
    .strictObject({
      email: hinted(
        z.email(),
        'who is told when something stops by itself',
        '"postmaster@harbor.example"',
      ).optional(),
    })
    .prefault({}),
  guard: z
    .strictObject({
      enabled: hinted(
        z.boolean(),
        'hold and suspend on unmistakable signs, without waiting for a person',
        'true',
      ).default(true),
      velocityFactor: hinted(z.number().min(1), 'times the hourly cap, attempted in 5 minutes', '3').default(
        3,
      ),
      unknownUsers: hinted(z.int().min(1), 'recipients that do not exist within 10 minutes', '5').default(5),
      unknownUsersShare: hinted(
        z.number().min(0).max(1),
        'and their share of what was sent then',
        '0.2',
      ).default(0.2),
      invalidSends: hinted(
        z.int().min(1),
        'sends in an hour from which on the next figure counts',
        '50',
      ).default(50),
      invalidShare: hinted(
        z.number().min(0).max(1),
        'share of invalid recipients that suspends',
        '0.1',
      ).default(0.1),
      throttleFactor: hinted(
        z.number().min(0.01).max(1),
        'what is left of the caps of a throttled member',
        '0.25',
      ).default(0.25),
      throttleFor: hinted(duration(), 'how long', '"24h"').prefault('24h'),
    })
    .prefault({}),
  peerLimits: z
    .strictObject({
      labelsPerSecond: hinted(
        z.int().min(1).max(100_000),
        'how many labels of one peer are verified in a second; a faster stream waits',
        '2000',
      ).default(2_000),
      labelsPerDay: hinted(
        z.int().min(1).max(1_000_000_000),
        'more labels and frames of one peer within 24 h put its stream in quarantine',
        '5000000',
      ).default(5_000_000),
      maxLag: hinted(
        duration(),
        'a stream that is behind without a pause for longer is put in quarantine',
        '"6h"',
      ).prefault('6h'),
      maxLabels: hinted(
        z.int().min(1).max(100_000_000),
        'how many labels of one peer are stored; more are refused',
        '1000000',
      ).default(1_000_000),
      keyWait: hinted(
        duration(),
        "how long the labels of a did:web peer's new key wait before they count",
        '"24h"',
      ).prefault('24h'),
    })
    .prefault({}),
  listing: z
    .strictObject({
      newcomerDays: hinted(z.int().min(0).max(365), 'days at trust 0', '14').default(14),
    })
    .prefault({}),
  log: z
    .strictObject({
      level: hinted(z.enum(['debug', 'info', 'warn', 'error']), 'the least that is logged', '"info"').default(
        'info',
      ),
    })
    .prefault({}),
});
