/**
 * Who may ask one zone: subscribers by their keys, everyone else by the zone's rule and their own quota.
 *
 * A subscriber's queries count against its key alone, so the resolver it shares with others does not
 * matter, and neither does who forges its address.
 */
import type { Client, ZoneKeys } from '../seams.ts';
import { ACCESS, type AccessCounters } from './access-counters.ts';
import type { ClientQuotas } from './client-quota.ts';
import type { Clock } from './clock.ts';
import { isInPrefix, type Prefix, parsePrefix } from './prefix.ts';
import type { Quota } from './settings.ts';
import type { SubscriberShare, ZoneAccessShare } from './share.ts';
import { KeyFinder } from './subscriber-keys.ts';
import { type Allowance, allowanceOf, USAGE_WORDS, use } from './usage.ts';

type Admission = 'ok' | 'refuse';

type Subscription = { allowance: Allowance | undefined; prefixes: readonly Prefix[]; usageAt: number };

export type ZoneGateOptions = {
  /** undefined: open, without keys. */
  zone: ZoneAccessShare | undefined;
  /** Of who asks without a key, where the zone has none of its own. */
  quota: Quota;
  clients: ClientQuotas;
  /** A zone's own quota is counted apart from the general one. */
  index: number;
  keyUsage: Int32Array;
  clock: Clock;
  counters: AccessCounters;
};

export class ZoneGate implements ZoneKeys {
  readonly #options: ZoneGateOptions;
  readonly #isClosed: boolean;
  readonly #unkeyed: Allowance | undefined;
  /** 0: the general one. */
  readonly #countedAs: number;
  readonly #finder: KeyFinder;
  readonly #subscriptions: readonly Subscription[];

  constructor(options: ZoneGateOptions) {
    const { zone, quota, index } = options;
    this.#options = options;
    this.#isClosed = zone?.unkeyed === 'closed';
    this.#unkeyed = allowanceOf(zone?.quota ?? quota);
    this.#countedAs = zone?.quota === undefined ? 0 : index + 1;
    const subscribers = zone?.subscribers ?? [];
    this.#finder = new KeyFinder(subscribers.map(({ keyHash }) => keyHash));
    this.#subscriptions = subscribers.map(subscriptionOf);
  }

  find(octets: Uint8Array, at: number, length: number): number {
    return this.#finder.find(octets, at, length);
  }

  admit(key: number, client: Client): Admission {
    return key < 0 ? this.#admitUnkeyed(client) : this.#admitKey(this.#subscriptions[key]!, client);
  }

  #admitUnkeyed(client: Client): Admission {
    if (this.#isClosed) return this.#refuse(ACCESS.unkeyedClosed);
    const allowance = this.#unkeyed;
    if (allowance === undefined) return 'ok';
    const mayAsk = this.#options.clients.use(client, this.#countedAs, allowance);
    return mayAsk ? 'ok' : this.#refuse(ACCESS.clientQuota);
  }

  #admitKey({ allowance, prefixes, usageAt }: Subscription, client: Client): Admission {
    const { keyUsage, clock } = this.#options;
    if (prefixes.length > 0 && !isInAny(prefixes, client)) return this.#refuse(ACCESS.keyPrefix);
    return use(keyUsage, usageAt, allowance, clock) ? 'ok' : this.#refuse(ACCESS.keyQuota);
  }

  #refuse(why: number): 'refuse' {
    this.#options.counters.access(why);
    return 'refuse';
  }
}

function subscriptionOf({ quota, prefixes, slot }: SubscriberShare): Subscription {
  return {
    allowance: allowanceOf(quota),
    prefixes: prefixes.map((text) => parsePrefix(text)).filter((prefix) => prefix !== undefined),
    usageAt: slot * USAGE_WORDS,
  };
}

function isInAny(prefixes: readonly Prefix[], client: Client): boolean {
  for (let index = 0; index < prefixes.length; index++) if (isInPrefix(prefixes[index]!, client)) return true;
  return false;
}
