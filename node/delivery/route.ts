/**
 * From a recipient's domain to the addresses to try, in order (RFC 5321 §5.1, RFC 7505).
 *
 * What DNS says for certain is permanent; what it could not say is a failure of ours and does not count.
 * Every address has passed `allowed` before it is handed out: nobody reaches into our own network by
 * pointing an MX there, and a sandbox never leaves the machine. Where we are an exchanger of the domain
 * ourselves, we and those no better than we are left out: mail that reached us does not go in circles.
 * Aliases are followed by the recursive server, for the domain as for an exchanger (which RFC 5321 §5.1
 * does not allow, and which delivers).
 */
import { isIPv4, isIPv6 } from 'node:net';
import { domainToASCII } from 'node:url';
import type { MxRecord, Resolver } from '../resolver.ts';
import { siteOfExchanger } from './route-site.ts';

export type Host = {
  name: string;
  addresses: string[];
  /** DNSSEC vouches for the addresses. */
  secure?: true;
  /** Where an alias led to. */
  canonical?: string;
};

export type Route =
  /** `secure`: DNSSEC vouches for the names of the hosts. `site`: see siteOf. */
  | { kind: 'hosts'; hosts: Host[]; secure?: true; site?: string }
  | { kind: 'unreachable'; status: string; summary: string }
  /** DNS could not be asked, or did not answer. */
  | { kind: 'unknown'; summary: string };

export type RouteOptions = {
  resolver: Resolver;
  allowed: (address: string) => boolean;
  /** Whether a host is this node itself. Default: none is. */
  isSelf?: (name: string, address: string) => boolean;
  /** Orders exchangers of one preference; 0 ≤ x < 1. */
  random?: () => number;
};

/** A domain with more is not better reachable by them; each costs queries and connections. */
const maxHosts = 10;
const maxAddressesPerHost = 4;

export async function routeOf(address: string, options: RouteOptions): Promise<Route> {
  const domain = address.slice(address.lastIndexOf('@') + 1);
  if (domain.startsWith('[')) return literalRoute(domain, options);
  const name = domainToASCII(domain);
  if (!name) return unreachable('5.1.2', `${domain} is not a domain name`);
  const answer = await options.resolver.mx(name);
  switch (answer.kind) {
    case 'failed':
      return { kind: 'unknown', summary: `MX of ${name}: ${answer.reason}` };
    case 'nxdomain':
      return unreachable('5.1.2', `the domain ${name} does not exist`);
    case 'none':
      // RFC 5321 §5.1: without MX records the domain itself is the exchanger.
      return exchangersRoute(
        name,
        { records: [{ exchange: name, preference: 0 }], secure: answer.secure },
        options,
      );
    case 'found':
      return exchangersRoute(name, answer, options);
  }
}

/**
 * The name of the MX site: domains at one provider have the same, whatever machine is drawn first and
 * whichever has an address today, so that they share one budget. The rule is in route-site.ts.
 */
export function siteOf({ site, hosts }: Extract<Route, { kind: 'hosts' }>): string {
  return site ?? siteOfExchanger(hosts[0]!.name);
}

/** `secure` as the answer that named the exchangers. */
type Named = { domain: string; exchangers: MxRecord[]; secure?: true; site: string };

function exchangersRoute(
  domain: string,
  { records, secure }: { records: MxRecord[]; secure?: true },
  options: RouteOptions,
): Route | Promise<Route> {
  const real = records.filter((record) => record.exchange !== '' && record.exchange !== '.');
  // RFC 7505 §3: the null MX. Beside others it is a mistake and says nothing.
  if (real.length === 0) return unreachable('5.1.10', `the domain ${domain} takes no mail (null MX)`);
  const random = options.random ?? Math.random;
  const order = real
    .map((record) => ({ record, tie: random() }))
    .sort((a, b) => a.record.preference - b.record.preference || a.tie - b.tie)
    .map(({ record }) => record);
  const seen = new Set<string>();
  const once = order.filter(({ exchange }) => !seen.has(exchange) && seen.add(exchange));
  return hostsRoute({ domain, exchangers: once.slice(0, maxHosts), secure, site: siteOfAll(once) }, options);
}

/** By the most preferred ones alone, and not by the draw between them. */
function siteOfAll(exchangers: MxRecord[]): string {
  const best = exchangers.filter(({ preference }) => preference === exchangers[0]!.preference);
  return siteOfExchanger(best.map(({ exchange }) => exchange).sort()[0]!);
}

type Reached = Addresses & { name: string; preference: number };

async function hostsRoute(
  { domain, exchangers, secure, site }: Named,
  options: RouteOptions,
): Promise<Route> {
  const all = await Promise.all(
    exchangers.map(async ({ exchange, preference }): Promise<Reached> => {
      return { name: exchange, preference, ...(await addressesOf(exchange, options)) };
    }),
  );
  const found = withoutUs(all, options);
  if (found.length === 0) return looped(domain);
  const hosts = found.flatMap((host) => hostOf(host, options));
  if (hosts.length > 0) return { kind: 'hosts', hosts, site, ...(secure && { secure }) };
  const failure = found.find(({ failed }) => failed !== undefined)?.failed;
  if (failure) return { kind: 'unknown', summary: failure };
  const refused = found.flatMap(({ addresses }) => addresses);
  if (refused.length > 0) return forbidden(domain, refused);
  return unreachable('5.4.4', `no mail exchanger of ${domain} has an address`);
}

/** RFC 5321 §5.1: where we are on the list, we and all that are not preferred to us are dropped. */
function withoutUs(found: Reached[], { isSelf }: RouteOptions): Reached[] {
  if (!isSelf) return found;
  const ours = found.filter(({ name, addresses }) =>
    addresses.length === 0 ? isSelf(name, '') : addresses.some((address) => isSelf(name, address)),
  );
  const limit = Math.min(...ours.map(({ preference }) => preference));
  return found.filter(({ preference }) => preference < limit);
}

function hostOf({ name, addresses, secure, canonical }: Reached, { allowed }: RouteOptions): Host[] {
  const usable = someOf(addresses.filter(allowed));
  if (usable.length === 0) return [];
  return [{ name, addresses: usable, ...(secure && { secure }), ...(canonical && { canonical }) }];
}

/** Of both families where there are both: our own addresses may speak only one. */
function someOf(addresses: string[]): string[] {
  const ofSix = addresses.filter((address) => isIPv6(address));
  const ofFour = addresses.filter((address) => !isIPv6(address));
  const four = ofFour.slice(0, maxAddressesPerHost - Math.min(ofSix.length, maxAddressesPerHost / 2));
  return [...four, ...ofSix.slice(0, maxAddressesPerHost - four.length)];
}

type Addresses = { addresses: string[]; secure?: true; canonical?: string; failed?: string };

/** IPv4 first: it is what the reputation and the reverse names of most small senders stand on. */
async function addressesOf(name: string, { resolver }: RouteOptions): Promise<Addresses> {
  const answers = await Promise.all([resolver.a(name), resolver.aaaa(name)]);
  const found = answers.filter((answer) => answer.kind === 'found');
  const addresses = found.flatMap(({ records }) => records);
  const failed = answers.find((answer) => answer.kind === 'failed');
  if (failed) return { addresses, failed: `addresses of ${name}: ${failed.reason}` };
  const secure = found.length > 0 && found.every((answer) => answer.secure);
  const { canonical } = found[0] ?? {};
  return { addresses, ...(secure && { secure }), ...(canonical && { canonical }) };
}

/** RFC 5321 §4.1.3: `[192.0.2.1]`, `[IPv6:2001:db8::1]`. */
function literalRoute(literal: string, { allowed, isSelf }: RouteOptions): Route {
  const inner = literal.slice(1, -1);
  const address = inner.replace(/^IPv6:/i, '');
  const valid = literal.endsWith(']') && (address === inner ? isIPv4(address) : isIPv6(address));
  if (!valid) return unreachable('5.1.3', `${literal} is not an address literal`);
  if (isSelf?.(address, address)) return looped(literal);
  if (!allowed(address)) return forbidden(literal, [address]);
  return { kind: 'hosts', hosts: [{ name: address, addresses: [address] }], site: address };
}

function forbidden(domain: string, addresses: string[]): Route {
  return unreachable('5.4.4', `this node does not deliver to the addresses of ${domain} (${addresses[0]})`);
}

function looped(domain: string): Route {
  return unreachable('5.4.6', `mail for ${domain} would come back to this node`);
}

function unreachable(status: string, summary: string): Route {
  return { kind: 'unreachable', status, summary };
}
