/**
 * From a recipient's domain to the addresses to try, in order (RFC 5321 §5.1, RFC 7505).
 *
 * What DNS says for certain is permanent; what it could not say is a failure of ours and does not count.
 * Every address has passed `allowed` before it is handed out: nobody reaches into our own network by
 * pointing an MX there, and a sandbox never leaves the machine.
 */
import { isIPv4, isIPv6 } from 'node:net';
import { domainToASCII } from 'node:url';
import type { MxRecord, Resolver } from '../resolver.ts';

export type Host = { name: string; addresses: string[] };

export type Route =
  | { kind: 'hosts'; hosts: Host[] }
  | { kind: 'unreachable'; status: string; summary: string }
  /** DNS could not be asked, or did not answer. */
  | { kind: 'unknown'; summary: string };

export type RouteOptions = {
  resolver: Resolver;
  allowed: (address: string) => boolean;
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
      return hostsRoute(name, [name], options);
    case 'found':
      return exchangersRoute(name, answer.records, options);
  }
}

function exchangersRoute(domain: string, records: MxRecord[], options: RouteOptions): Route | Promise<Route> {
  const real = records.filter((record) => record.exchange !== '' && record.exchange !== '.');
  // RFC 7505 §3: the null MX. Beside others it is a mistake and says nothing.
  if (real.length === 0) return unreachable('5.1.10', `the domain ${domain} takes no mail (null MX)`);
  const random = options.random ?? Math.random;
  const order = real
    .map(({ exchange, preference }) => ({ exchange, preference, tie: random() }))
    .sort((a, b) => a.preference - b.preference || a.tie - b.tie)
    .map(({ exchange }) => exchange);
  return hostsRoute(domain, [...new Set(order)].slice(0, maxHosts), options);
}

async function hostsRoute(domain: string, names: string[], options: RouteOptions): Promise<Route> {
  const found = await Promise.all(names.map((name) => addressesOf(name, options)));
  const hosts = names
    .map((name, index) => ({ name, addresses: found[index]!.addresses.filter(options.allowed) }))
    .filter((host) => host.addresses.length > 0)
    .map(({ name, addresses }) => ({ name, addresses: addresses.slice(0, maxAddressesPerHost) }));
  if (hosts.length > 0) return { kind: 'hosts', hosts };
  const failure = found.find(({ failed }) => failed !== undefined)?.failed;
  if (failure) return { kind: 'unknown', summary: failure };
  const refused = found.flatMap(({ addresses }) => addresses);
  if (refused.length > 0) return forbidden(domain, refused);
  return unreachable('5.4.4', `no mail exchanger of ${domain} has an address`);
}

type Addresses = { addresses: string[]; failed?: string };

/** IPv4 first: it is what the reputation and the reverse names of most small senders stand on. */
async function addressesOf(name: string, { resolver }: RouteOptions): Promise<Addresses> {
  const answers = await Promise.all([resolver.a(name), resolver.aaaa(name)]);
  const addresses = answers.flatMap((answer) => (answer.kind === 'found' ? answer.records : []));
  const failed = answers.find((answer) => answer.kind === 'failed');
  return failed ? { addresses, failed: `addresses of ${name}: ${failed.reason}` } : { addresses };
}

/** RFC 5321 §4.1.3: `[192.0.2.1]`, `[IPv6:2001:db8::1]`. */
function literalRoute(literal: string, { allowed }: RouteOptions): Route {
  const inner = literal.slice(1, -1);
  const address = inner.replace(/^IPv6:/i, '');
  const valid = literal.endsWith(']') && (address === inner ? isIPv4(address) : isIPv6(address));
  if (!valid) return unreachable('5.1.3', `${literal} is not an address literal`);
  if (!allowed(address)) return forbidden(literal, [address]);
  return { kind: 'hosts', hosts: [{ name: address, addresses: [address] }] };
}

function forbidden(domain: string, addresses: string[]): Route {
  return unreachable('5.4.4', `this node does not deliver to the addresses of ${domain} (${addresses[0]})`);
}

function unreachable(status: string, summary: string): Route {
  return { kind: 'unreachable', status, summary };
}
