/** How a command reaches the network: by the configured resolvers, and nowhere that a node would not go. */
import { Identities } from '../../appview/identity/did.ts';
import { type GuardedFetch, guardedFetch } from '../../appview/identity/fetch.ts';
import type { Config } from '../config.ts';
import { addressesOf, DnsResolver } from '../resolver.ts';

export type Network = { resolver: DnsResolver; fetch: GuardedFetch; identities: Identities };

/** Without our own document: it is asked for like that of anybody else. */
export function networkOf({ network }: Pick<Config, 'network'>): Network {
  const { loopbackOnly, plcUrl, resolvers: servers, resolversValidate: validates } = network;
  const resolver = new DnsResolver({ servers, validates });
  const lookup = (name: string) => addressesOf(name, resolver);
  const fetch = guardedFetch({ allowLoopback: loopbackOnly, loopbackOnly, lookup });
  return { resolver, fetch, identities: new Identities({ plcUrl, fetch, now: Date.now }) };
}
