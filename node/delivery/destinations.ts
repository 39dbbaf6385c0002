/**
 * Where a domain's mail goes, and what each host must offer before it gets any: route and TLS demands
 * together, remembered for a minute, so that a thousand messages ask DNS once.
 *
 * What could not be found out is not remembered. Questions for one domain that are asked at once are one.
 * An operator's word (`reroute`) replaces the route, never the rule which addresses are spoken to.
 */
import { isIP, isIPv6 } from 'node:net';
import { domainToASCII } from 'node:url';
import type { Resolver } from '../resolver.ts';
import type { AttemptRecord, Claim } from '../spool/spool.ts';
import type { TlsDemand } from './client.ts';
import { type Route, type RouteOptions, routeOf, siteOf } from './route.ts';
import { type Family, familyOf } from './sources.ts';
import type { Demands } from './tls-policy.ts';

export type Place = {
  name: string;
  address: string;
  port: number;
  demand: TlsDemand;
  /** Equal for sessions that may serve the same messages, but for the source address. */
  key: string;
};

export type Site = {
  kind: 'site';
  site: string;
  /** In the order in which they are tried. */
  places: readonly Place[];
  families: readonly Family[];
};

export type Destination =
  | Site
  | {
      kind: 'none';
      verdict: Pick<AttemptRecord, 'outcome' | 'counted' | 'status' | 'summary' | 'recipientInvalid'>;
    };

export type DestinationsOptions = {
  route: RouteOptions;
  demandsFor(
    domain: string,
    route: Extract<Route, { kind: 'hosts' }>,
    message: { requireTls: boolean },
  ): Promise<Demands>;
  /** Of the mail exchangers. */
  port: number;
  now: () => number;
};

const rememberMs = 60_000;
const maxRemembered = 10_000;
/** Bounds the time of one try to a domain of many dead hosts. */
const maxPlaces = 8;

type Asked = Pick<Claim, 'recipientDomain' | 'requireTls' | 'reroute'>;

export class Destinations {
  readonly #options: DestinationsOptions;
  readonly #known = new Map<string, { site: Site; until: number }>();
  readonly #asking = new Map<string, Promise<Destination>>();

  constructor(options: DestinationsOptions) {
    this.#options = options;
  }

  /** At once where it is remembered. */
  of(claim: Asked): Site | Promise<Destination> {
    const known = this.known(claim);
    if (known) return known;
    const key = keyOf(claim);
    return this.#asking.get(key) ?? this.#ask(key, claim);
  }

  known(claim: Asked): Site | undefined {
    const known = this.#known.get(keyOf(claim));
    if (!known) return undefined;
    const leftMs = known.until - this.#options.now();
    // More is left than there ever was where the clock was set back.
    return leftMs > 0 && leftMs <= rememberMs ? known.site : undefined;
  }

  /** The next message to each asks again. */
  forget(site: string): void {
    for (const [key, known] of this.#known) if (known.site.site === site) this.#known.delete(key);
  }

  #ask(key: string, asked: Asked): Promise<Destination> {
    const asking = this.#find(asked)
      .then((found) => {
        if (found.kind === 'site') this.#remember(key, found);
        return found;
      })
      .finally(() => this.#asking.delete(key));
    this.#asking.set(key, asking);
    return asking;
  }

  #remember(key: string, site: Site): void {
    this.#known.delete(key);
    if (this.#known.size >= maxRemembered) this.#known.delete(this.#known.keys().next().value!);
    this.#known.set(key, { site, until: this.#options.now() + rememberMs });
  }

  async #find({ recipientDomain: domain, requireTls, reroute }: Asked): Promise<Destination> {
    const to = reroute === undefined ? undefined : hostAndPort(reroute, this.#options.port);
    if (reroute !== undefined && !to) return none('failed', '5.4.4', `${reroute} is not a host`);
    const route = await (to
      ? hostRoute(to.host, this.#options.route)
      : routeOf(`@${domain}`, this.#options.route));
    if (route.kind === 'unknown') return none('deferred', '4.4.3', route.summary, false);
    if (route.kind === 'unreachable') {
      const { status, summary } = route;
      return none('failed', status, summary, true, !to && status.startsWith('5.1.'));
    }
    const asked = to ? to.host : domain.startsWith('[') ? domain : domainToASCII(domain);
    const demands = await this.#options.demandsFor(asked, route, { requireTls });
    if (demands.kind === 'none') {
      const outcome = demands.status.startsWith('5') ? 'failed' : 'deferred';
      // 4.4.3: DNS could not say what the domain demands.
      return none(outcome, demands.status, demands.summary, demands.status !== '4.4.3');
    }
    return siteFor(to ? to.host : siteOf(route), demands, to?.port ?? this.#options.port);
  }
}

function keyOf({ recipientDomain, requireTls, reroute }: Asked): string {
  const plain = requireTls ? `${recipientDomain} tls` : recipientDomain;
  return reroute === undefined ? plain : `${plain} by ${reroute}`;
}

function siteFor(site: string, { hosts }: Extract<Demands, { kind: 'hosts' }>, port: number): Site {
  const places = hosts
    .flatMap(({ host, demand }) => {
      const demanded = demandKey(demand);
      return host.addresses.map((address) => ({
        ...{ name: host.name, address, port, demand },
        key: `${address} ${port} ${demanded}`,
      }));
    })
    .slice(0, maxPlaces);
  return {
    kind: 'site',
    site,
    places,
    families: [...new Set(places.map(({ address }) => familyOf(address)))],
  };
}

function demandKey(demand: TlsDemand): string {
  if (demand.kind === 'dane') {
    const records = demand.records.map(
      (r) => `${r.usage}.${r.selector}.${r.matching}.${r.data.toString('hex')}`,
    );
    return `dane ${demand.names.join(',')} ${records.join(',')}`;
  }
  return demand.kind === 'verified' ? `verified ${demand.why} ${demand.names.join(',')}` : demand.kind;
}

/** No mail exchangers are looked up: the operator named the host. */
function hostRoute(host: string, options: RouteOptions): Promise<Route> {
  if (isIP(host)) return routeOf(isIPv6(host) ? `@[IPv6:${host}]` : `@[${host}]`, options);
  const { resolver } = options;
  const withoutMx: Resolver = {
    txt: (name) => resolver.txt(name),
    mx: () => Promise.resolve({ server: '', kind: 'none' }),
    a: (name) => resolver.a(name),
    aaaa: (name) => resolver.aaaa(name),
  };
  return routeOf(`@${host}`, { ...options, resolver: withoutMx });
}

/** `host`, `host:port`, `[address]:port`. */
function hostAndPort(text: string, port: number): { host: string; port: number } | undefined {
  const [, bracketed, plain, number] = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  const chosen = number === undefined ? port : Number(number);
  if (!host || chosen < 1 || chosen > 65_535) return undefined;
  return { host: host.toLowerCase(), port: chosen };
}

function none(
  outcome: 'failed' | 'deferred',
  status: string,
  summary: string,
  counted = true,
  recipientInvalid = false,
): Destination {
  return { kind: 'none', verdict: { outcome, status, summary, counted, recipientInvalid } };
}
