/**
 * The list server's keys in a configuration: what a server does, and what a zone is.
 *
 * A node has one zone, and both in its section `dns`; `atmos dns` alone has any number of zones. Which values
 * fit together is settings.ts's business, and the defaults of access are those of dnsbl/access/settings.ts.
 */
import { z } from 'zod';
import { parsePrefix } from '../../dnsbl/access/prefix.ts';
import {
  defaultAccess,
  KEY_HASH,
  MAX_PREFIXES,
  MAX_SUBSCRIBER_PREFIXES,
  MAX_SUBSCRIBERS,
} from '../../dnsbl/access/settings.ts';
import { hostKey } from '../../dnsbl/name.ts';
import { address, domain, duration, hinted, hostPorts, secret } from '../config-values.ts';

const { limit, rules, quota } = defaultAccess;

const prefix = () =>
  z.string().refine((text) => parsePrefix(text) !== undefined, 'is no address and no prefix');
const prefixes = (means: string, most = MAX_PREFIXES) =>
  hinted(z.array(prefix()).max(most), means, '["192.0.2.0/24", "2001:db8::/32"]').default([]);
const rate = () => z.int().min(1).max(1_000_000);
const ttl = () =>
  z
    .int()
    .min(0)
    .max(2 ** 31 - 1);

/** RFC 5001 leaves it open what an NSID is; text is what people read. */
const text = (means: string, example: string) =>
  hinted(
    z.string().regex(/^[\x20-\x7e]{1,255}$/, 'is not 1 to 255 characters of ASCII'),
    means,
    example,
  ).optional();

const clientBits = (bits: { ipv4: number; ipv6: number }) =>
  z
    .strictObject({
      ipv4: hinted(z.int().min(8).max(32), 'the bits of an IPv4 address that are one client', '24').default(
        bits.ipv4,
      ),
      ipv6: hinted(z.int().min(16).max(64), 'the bits of an IPv6 address that are one client', '56').default(
        bits.ipv6,
      ),
    })
    .prefault({});

const quotaShape = {
  perSecond: hinted(rate(), 'queries a second; REFUSED beyond', '100').optional(),
  perDay: hinted(
    z
      .int()
      .min(1)
      .max(2 ** 31 - 1),
    'queries a day, UTC; REFUSED beyond',
    '1000000',
  ).optional(),
};

const limitSchema = z
  .strictObject({
    mode: hinted(
      z.enum(['on', 'log', 'off']),
      'the response rate limit; "log": count what would be limited and send it all the same',
      '"on"',
    ).default(limit.mode),
    client: clientBits(limit.client),
    perName: hinted(rate(), 'answers a second to one client about one name', '50').default(limit.perName),
    perClientErrors: hinted(rate(), 'answers a second to one client that are errors', '100').default(
      limit.perClientErrors,
    ),
    perClient: hinted(rate(), 'answers a second to one client, whatever they say', '10000').default(
      limit.perClient,
    ),
    slip: hinted(
      z.int().min(0).max(100),
      'one of so many limited answers is empty with TC, so that a real client comes over TCP; 0: none',
      '2',
    ).default(limit.slip),
    badCookie: hinted(
      z.boolean(),
      'limited clients with cookies get BADCOOKIE in place of TC',
      'false',
    ).default(limit.badCookie),
    exempt: prefixes('clients that are never limited'),
    buckets: hinted(
      z
        .int()
        .min(1024)
        .max(2 ** 24)
        .refine((count) => (count & (count - 1)) === 0, 'is no power of two'),
      'places in which answers are counted, 8 octets each',
      '16384',
    ).default(limit.buckets),
  })
  .prefault({});

const transferRule = z
  .strictObject({
    prefix: hinted(prefix(), 'where the secondary asks from', '"192.0.2.7"').optional(),
    key: hinted(z.string(), 'the TSIG key that it signs with', '"harbor-secondary"').optional(),
  })
  .refine((rule) => rule.prefix !== undefined || rule.key !== undefined, 'names neither a prefix nor a key');

const secondary = z.strictObject({
  host: hinted(address(), 'the address of a secondary', '"192.0.2.7"'),
  port: hinted(z.int().min(1).max(65_535), 'where it takes notifications', '53').optional(),
  key: hinted(z.string(), 'the TSIG key of both', '"harbor-secondary"').optional(),
});

const secondariesShape = {
  allow: hinted(
    z.array(transferRule).max(256),
    'who may have the whole zone: by prefix, by key, or both at once',
    '[{ "prefix": "192.0.2.7", "key": "harbor-secondary" }]',
  ).default([]),
  notify: hinted(
    z.array(secondary).max(64),
    'which secondaries are told of changes',
    '[{ "host": "192.0.2.7", "key": "harbor-secondary" }]',
  ).default([]),
};

const subscriber = z.strictObject({
  name: hinted(z.string().min(1).max(64), 'the subscriber, for logs and metrics', '"reef"'),
  // What stands here may be the key itself, by mistake.
  keyHash: secret(
    z.string().regex(KEY_HASH, 'is not the hash of a key'),
    'what `atmos dns key` prints beside a new key',
    '"sha256:" and 64 hex digits',
  ),
  quota: z.strictObject(quotaShape).optional(),
  prefixes: hinted(
    z.array(prefix()).max(MAX_SUBSCRIBER_PREFIXES),
    'where its queries may come from; anywhere when left out',
    '["192.0.2.0/24"]',
  ).optional(),
});

export const dnsListen = () =>
  hinted(
    hostPorts(64),
    'where DNS listens, over UDP and TCP: one address, or a list',
    '["192.0.2.1:53", "[2001:db8::1]:53"]',
  );

/** What one server does, for all its zones. */
export const serverShape = {
  workers: hinted(
    z.int().min(0).max(64),
    'threads that answer UDP and do nothing else; 0: the main one does',
    '2',
  ).default(1),
  sockets: hinted(
    z.enum(['best', 'native', 'dgram']),
    'whose sockets the workers use; "best": the native ones where they were built',
    '"best"',
  ).default('best'),
  nsid: text('what tells this server from its siblings (RFC 5001)', '"ns1.harbor.example"'),
  version: text('the answer to version.bind; without it there is none', '"atmos"'),
  limit: limitSchema,
  access: z
    .strictObject({
      others: hinted(
        z.enum(['allow', 'refuse', 'drop']),
        'what those get who stand in no list below',
        '"allow"',
      ).default(rules.others),
      allow: prefixes('clients that are answered; the longest prefix decides'),
      refuse: prefixes('clients that get REFUSED'),
      drop: prefixes('clients that get no answer at all'),
    })
    .prefault({}),
  quota: z
    .strictObject({
      ...quotaShape,
      client: clientBits(quota.client),
      unlimited: prefixes('clients without a quota'),
    })
    .prefault({}),
  cookies: z
    .strictObject({
      enabled: hinted(z.boolean(), 'speak DNS cookies (RFC 7873)', 'true').default(true),
      secrets: hinted(
        z.string().min(1),
        'a file with 32 hex digits a line, which all servers of one address share',
        '"/etc/atmos/cookies"',
      ).optional(),
    })
    .prefault({}),
  queryLog: z
    .strictObject({
      every: hinted(z.int().min(0).max(1e9), 'log one query of so many, by chance; 0: none', '1000').default(
        0,
      ),
      client: z
        .strictObject({
          ipv4: hinted(z.int().min(0).max(32), 'the bits of an IPv4 address that are logged', '24').default(
            24,
          ),
          ipv6: hinted(z.int().min(0).max(128), 'the bits of an IPv6 address that are logged', '56').default(
            56,
          ),
        })
        .prefault({}),
    })
    .prefault({}),
  transfer: z
    .strictObject({
      keys: hinted(
        z.string().min(1),
        'a file of TSIG keys, one a line: hmac-sha256:name:secret in base64',
        '"/etc/atmos/tsig.keys"',
      ).optional(),
      ...secondariesShape,
    })
    .optional(),
  export: z
    .strictObject({
      dir: hinted(z.string().min(1), 'the folder where the zone is written as files', '"./zones"'),
      formats: hinted(
        z.array(z.enum(['rbldnsd', 'bind'])).min(1),
        'in which forms',
        '["rbldnsd", "bind"]',
      ).default(['rbldnsd', 'bind']),
      everyMinutes: hinted(
        z.int().min(1).max(10_080),
        'how often by itself; left out: on SIGUSR2 and by `atmos dns export` alone',
        '15',
      ).optional(),
    })
    .optional(),
};

/**
 * RFC 1035 §8: a dot stands for the @, so one before it would need an escape.
 *
 * @returns undefined for what the zone would refuse
 */
export function mailboxName(mailbox: string): string | undefined {
  const [local = '', domainName, ...rest] = mailbox.toLowerCase().split('@');
  if (domainName === undefined || rest.length > 0 || local.includes('.')) return undefined;
  const name = `${local}.${domainName}`;
  return hostKey(name) === undefined ? undefined : name;
}

const nameservers = () =>
  hinted(z.array(domain()).min(1).max(13), 'the NS records of the apex', '["ns1.harbor.example"]');
const hostmaster = () =>
  hinted(
    z
      .string()
      .refine(
        (mailbox) => mailboxName(mailbox) !== undefined,
        'is not a mail address that an SOA record can hold: letters, digits and hyphens before the @',
      )
      .transform((mailbox) => mailboxName(mailbox)!),
    'the mail address of who answers for the zone, as the SOA record has it',
    '"hostmaster@harbor.example"',
  );

/** What is said of one zone, whoever fills it. */
const zoneShape = {
  apex: hinted(domain(), 'the zone of the list', '"list.harbor.example"'),
  ttlSeconds: hinted(ttl(), 'how long an entry may be remembered', '300').optional(),
  negativeTtlSeconds: hinted(ttl(), 'how long a miss may be remembered', '60').optional(),
  unkeyed: hinted(
    z.enum(['open', 'closed']),
    'whether names without a key of a subscriber are answered',
    '"open"',
  ).default('open'),
  unkeyedQuota: z.strictObject(quotaShape).optional(),
  keys: hinted(
    z.array(subscriber).max(MAX_SUBSCRIBERS),
    'subscribers, who ask <name>.<subtree>.<key>.<apex>',
    '[{ "name": "reef", "keyHash": "sha256:…" }]',
  ).default([]),
};

/** The section `dns` of a node. */
export const nodeDnsSchema = z.strictObject({
  ...zoneShape,
  nameservers: nameservers(),
  hostmaster: hostmaster(),
  ...serverShape,
});

const file = () =>
  hinted(
    z.string().min(1),
    'dom=, ip=, block= or _vouch= and an rbldnsd file',
    '"dom=/var/lib/list/dom.dnset"',
  );

/** A zone of `atmos dns` alone: from files, or from an AppView's feed. */
export const aloneZoneSchema = z.strictObject({
  ...zoneShape,
  nameservers: nameservers().optional(),
  hostmaster: hostmaster().optional(),
  files: z.array(file()).min(1).max(256).optional(),
  poll: hinted(duration(), 'how often files are looked at', '"10s"').prefault('10s'),
  from: hinted(
    z.string().min(1),
    'the AppView whose listings to follow, in place of "files"',
    '"https://harbor.example"',
  ).optional(),
  insecure: hinted(z.boolean(), 'true lets "from" be http on another machine', 'false').default(false),
  transfer: z.strictObject(secondariesShape).optional(),
});
