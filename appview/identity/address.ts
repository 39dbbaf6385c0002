/**
 * Which IP addresses we connect to on behalf of names that strangers choose.
 *
 * Promise: only global unicast, so that no DID document can point us into our own network (SSRF);
 * loopback only where the operator runs everything on one machine. What is not known to be public is refused.
 */
import { BlockList, isIP } from 'node:net';

/** The addresses of a host name; none where it has none. Rejects when nobody could say. */
export type AddressLookup = (hostname: string) => Promise<string[]>;

export type AddressRules = {
  /** 127.0.0.0/8 and ::1 are allowed beside the public addresses: local development, the sandbox. */
  allowLoopback: boolean;
  /** Nothing else is allowed: no packet leaves the machine. Implies allowLoopback. */
  loopbackOnly: boolean;
  /**
   * Asked in place of the system's resolver, so that a name is looked up where the operator configured it.
   * Without it, loopbackOnly looks up nothing at all: a question to DNS would leave the machine.
   */
  lookup?: AddressLookup;
};

// IANA IPv4 Special-Purpose Address Registry: everything that is not globally reachable, and multicast.
const specialIpv4 = [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.0.2.0/24',
  '192.88.99.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '198.51.100.0/24',
  '203.0.113.0/24',
  '224.0.0.0/4',
  '240.0.0.0/4',
];

// Within global unicast: protocol assignments (Teredo, ORCHID), documentation, and 6to4, which carries an
// IPv4 address of the sender's choice.
const specialIpv6 = ['2001::/23', '2001:db8::/32', '2002::/16', '3fff::/20'];

const special = blockList([...specialIpv4, ...specialIpv6]);
const globalUnicast6 = blockList(['2000::/3']);
const loopback = blockList(['127.0.0.0/8', '::1/128']);

/** @param address IPv4 in dotted form or IPv6; anything else is not allowed */
export function addressAllowed(address: string, rules: AddressRules): boolean {
  if (isLoopback(address)) return rules.allowLoopback || rules.loopbackOnly;
  return !rules.loopbackOnly && isPublic(address);
}

export function isLoopback(address: string): boolean {
  return contains(loopback, address);
}

function isPublic(address: string): boolean {
  const version = isIP(address);
  if (version === 0 || contains(special, address)) return false;
  return version === 4 || contains(globalUnicast6, address);
}

function contains(list: BlockList, address: string): boolean {
  const version = isIP(address);
  // A BlockList looks into IPv4-mapped IPv6 addresses by itself: ::ffff:10.0.0.1 is private, as it should be.
  return version !== 0 && list.check(address, version === 4 ? 'ipv4' : 'ipv6');
}

function blockList(prefixes: string[]): BlockList {
  const list = new BlockList();
  for (const prefix of prefixes) {
    const [network, length] = prefix.split('/') as [string, string];
    list.addSubnet(network, Number(length), network.includes(':') ? 'ipv6' : 'ipv4');
  }
  return list;
}
