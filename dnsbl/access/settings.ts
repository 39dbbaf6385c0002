/**
 * Who may ask how much: the shape of the settings, their defaults, and what is wrong with them.
 *
 * Times are seconds, rates are queries or answers a second, prefixes are `192.0.2.0/24` or single
 * addresses. What is checked here is trusted everywhere else in this folder.
 */
import { type ClientBits, type Prefix, parsePrefix } from './prefix.ts';

/** See rate-limit.ts for what is counted together. */
export type LimitSettings = {
  /** `log`: count and tell what would be limited, and send it all the same. */
  mode: 'on' | 'log' | 'off';
  client: ClientBits;
  /** Answers a second to one client about one name. */
  perName: number;
  /** Answers a second to one client that are errors: REFUSED, FORMERR, NOTIMP, BADVERS. */
  perClientErrors: number;
  /** Answers a second to one client, whatever they say. */
  perClient: number;
  /** One of so many limited answers goes out empty with TC, so that a real client comes over TCP; 0: none. */
  slip: number;
  /**
   * A client that speaks cookies gets BADCOOKIE and a cookie instead of TC: it then needs no TCP. Off,
   * because some resolvers take BADCOOKIE for a fault of ours.
   */
  badCookie: boolean;
  /** Clients that are never limited. */
  exempt: readonly string[];
  /** Buckets in memory, 8 octets each; a power of two. */
  buckets: number;
};

export type AccessRules = {
  /** What those get who stand in no list. */
  others: RuleAction;
  /** The longest prefix that an address is in decides. */
  allow: readonly string[];
  refuse: readonly string[];
  drop: readonly string[];
};
export type RuleAction = 'allow' | 'refuse' | 'drop';

/** Over a quota the answer is REFUSED. What is left out is not limited. */
export type Quota = { perSecond?: number; perDay?: number };

export type ClientQuota = Quota & {
  client: ClientBits;
  /** Clients without a quota. */
  unlimited: readonly string[];
};

export type Subscriber = {
  /** For logs and metrics; the key itself is known to the subscriber alone. */
  name: string;
  /** `sha256:` and 64 hex digits, as hashOfKey() writes it. */
  keyHash: string;
  quota?: Quota;
  /** Where its queries may come from; anywhere when left out. */
  prefixes?: readonly string[];
};

export type ZoneAccess = {
  apex: string;
  /** Whether names without a key are answered. */
  unkeyed: 'open' | 'closed';
  /** Instead of AccessSettings.quota, for who asks without a key. */
  quota?: Quota;
  subscribers: readonly Subscriber[];
};

export type AccessSettings = {
  limit: LimitSettings;
  rules: AccessRules;
  /** Per client, for who asks without a key. */
  quota: ClientQuota;
  /** What stands in none is open and has no keys. */
  zones: readonly ZoneAccess[];
};

export const defaultAccess: AccessSettings = {
  limit: {
    mode: 'on',
    client: { ipv4: 24, ipv6: 56 },
    perName: 50,
    perClientErrors: 100,
    perClient: 10_000,
    slip: 2,
    badCookie: false,
    exempt: [],
    buckets: 16_384,
  },
  rules: { others: 'allow', allow: [], refuse: [], drop: [] },
  quota: { client: { ipv4: 24, ipv6: 56 }, unlimited: [] },
  zones: [],
};

/** Caps of what may be configured; each bounds memory or the time of one query. */
export const MAX_PREFIXES = 65_536;
export const MAX_SUBSCRIBERS = 4096;
export const MAX_SUBSCRIBER_PREFIXES = 64;
const MAX_BUCKETS = 1 << 24;
/** One answer in a microsecond is the finest that the buckets tell apart. */
const MAX_RATE = 1_000_000;
const MAX_PER_DAY = 2 ** 31 - 1;

export const KEY_HASH = /^sha256:([0-9a-f]{64})$/;

/** One line for each fault; none: the settings can be used. */
export function accessFaults(settings: AccessSettings): string[] {
  const { limit, rules, quota, zones } = settings;
  const rulePrefixes = [...rules.allow, ...rules.refuse, ...rules.drop];
  return [
    ...limitFaults(limit),
    ...bitsFaults('quota.client', quota.client),
    ...quotaFaults('quota', quota),
    ...prefixFaults('limit.exempt', limit.exempt),
    ...prefixFaults('quota.unlimited', quota.unlimited),
    ...prefixFaults('access', rulePrefixes),
    ...repeated('access', rulePrefixes.map(canonical)),
    ...zones.flatMap(zoneFaults),
    ...subscriberFaults(zones),
  ];
}

function limitFaults(limit: LimitSettings): string[] {
  const { buckets, slip } = limit;
  const faults = bitsFaults('limit.client', limit.client);
  for (const key of ['perName', 'perClientErrors', 'perClient'] as const) {
    if (!isWithin(limit[key], 1, MAX_RATE)) faults.push(`limit.${key}: must be 1 to ${MAX_RATE}`);
  }
  if (!isWithin(slip, 0, 100)) faults.push('limit.slip: must be 0 to 100');
  const isPower = isWithin(buckets, 1024, MAX_BUCKETS) && (buckets & (buckets - 1)) === 0;
  if (!isPower) faults.push(`limit.buckets: must be a power of two, 1024 to ${MAX_BUCKETS}`);
  return faults;
}

function bitsFaults(where: string, { ipv4, ipv6 }: ClientBits): string[] {
  const faults: string[] = [];
  if (!isWithin(ipv4, 8, 32)) faults.push(`${where}.ipv4: must be 8 to 32 bits`);
  if (!isWithin(ipv6, 16, 64)) faults.push(`${where}.ipv6: must be 16 to 64 bits`);
  return faults;
}

function quotaFaults(where: string, { perSecond, perDay }: Quota): string[] {
  const faults: string[] = [];
  if (perSecond !== undefined && !isWithin(perSecond, 1, MAX_RATE))
    faults.push(`${where}.perSecond: must be 1 to ${MAX_RATE}`);
  if (perDay !== undefined && !isWithin(perDay, 1, MAX_PER_DAY))
    faults.push(`${where}.perDay: must be 1 to ${MAX_PER_DAY}`);
  return faults;
}

function prefixFaults(where: string, prefixes: readonly string[], most = MAX_PREFIXES): string[] {
  const faults = prefixes
    .filter((text) => parsePrefix(text) === undefined)
    .map((text) => `${where}: ${JSON.stringify(text)} is no address and no prefix like 192.0.2.0/24`);
  if (prefixes.length > most) faults.push(`${where}: more than ${most} prefixes`);
  return faults;
}

function zoneFaults({ apex, quota = {}, subscribers }: ZoneAccess): string[] {
  const where = `keys of ${apex}`;
  return [
    ...quotaFaults(where, quota),
    ...repeated(
      where,
      subscribers.map(({ name }) => name),
    ),
    ...repeated(
      where,
      subscribers.map(({ keyHash }) => keyHash),
    ),
    ...subscribers.flatMap(({ name, keyHash, quota: own = {}, prefixes = [] }) => [
      ...(KEY_HASH.test(keyHash) ? [] : [`${where}, ${name}: the hash is not sha256: and 64 hex digits`]),
      ...quotaFaults(`${where}, ${name}`, own),
      ...prefixFaults(`${where}, ${name}`, prefixes, MAX_SUBSCRIBER_PREFIXES),
    ]),
  ];
}

function subscriberFaults(zones: readonly ZoneAccess[]): string[] {
  const count = zones.reduce((sum, { subscribers }) => sum + subscribers.length, 0);
  const faults = repeated(
    'keys',
    zones.map(({ apex }) => apex),
  );
  if (count > MAX_SUBSCRIBERS) faults.push(`keys: more than ${MAX_SUBSCRIBERS} subscribers`);
  return faults;
}

function repeated(where: string, texts: readonly string[]): string[] {
  const seen = new Set<string>();
  const again = new Set(texts.filter((text) => seen.has(text) || !seen.add(text)));
  return [...again].map((text) => `${where}: ${text} stands there twice`);
}

/** `192.0.2.1` and `192.0.2.1/32` are the same. */
function canonical(text: string): string {
  const prefix: Prefix | undefined = parsePrefix(text);
  return prefix === undefined ? text : `${prefix.octets.join('.')}/${prefix.bits}`;
}

function isWithin(value: number, least: number, most: number): boolean {
  return Number.isInteger(value) && value >= least && value <= most;
}
