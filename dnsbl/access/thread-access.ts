/**
 * Access and limits in one answering thread: what the Answerer asks, over memory that all threads share.
 *
 * Promise: new settings are taken as a whole, between two packets. Nothing here allocates for a query,
 * except for the first one with a key. Whoever reads the packets ticks the clock, before each or before a
 * batch of them: the time of all that is counted here stands still otherwise.
 */
import type { AnswerClass, Client, Cookies, Gate, ZoneKeys } from '../seams.ts';
import { ACCESS, type AccessCounters } from './access-counters.ts';
import { Buckets } from './buckets.ts';
import { ClientQuotas } from './client-quota.ts';
import type { Clock } from './clock.ts';
import { ServerCookies } from './cookies.ts';
import { KeyedHash } from './keyed-hash.ts';
import { PrefixTable } from './prefix-table.ts';
import { RateLimit } from './rate-limit.ts';
import type { RuleAction } from './settings.ts';
import { type AccessShare, ruleActions } from './share.ts';
import { ZoneGate } from './zone-gate.ts';

type Admission = 'ok' | 'refuse' | 'drop';

export type ThreadAccessOptions = {
  share: AccessShare;
  /** Of all zones that this thread answers, in any order. */
  apexes: readonly string[];
  counters: AccessCounters;
  /** See RateLimitOptions. */
  onLimited?: (client: Client, answerClass: AnswerClass) => void;
  clock: Clock;
};

export class ThreadAccess {
  readonly gate: Gate;
  /** undefined: cookies are not spoken, and no later settings change that. */
  readonly cookies: Cookies | undefined;
  readonly keys: ReadonlyMap<string, ZoneKeys>;
  readonly #options: ThreadAccessOptions;
  readonly #serverCookies: ServerCookies | undefined;
  #current: Settings;

  constructor(options: ThreadAccessOptions) {
    const { share, apexes, counters, clock } = options;
    this.#options = options;
    this.#current = this.#settingsOf(share);
    this.gate = {
      admit: (client) => this.#admit(client),
      respond: (client, answerClass, nameHash) => this.#current.limit.respond(client, answerClass, nameHash),
    };
    if (share.cookieSecrets.length > 0) {
      this.#serverCookies = new ServerCookies(share.cookieSecrets, clock, counters);
      this.#setCookies(share);
    }
    this.cookies = this.#serverCookies;
    this.keys = new Map(apexes.map((apex) => [apex, this.#zoneKeys(apex)]));
  }

  replace(share: AccessShare): void {
    this.#current = this.#settingsOf(share);
    this.#setCookies(share);
  }

  #setCookies({ cookieSecrets, limit }: AccessShare): void {
    if (cookieSecrets.length > 0) this.#serverCookies?.replace(cookieSecrets, limit.badCookie);
  }

  #zoneKeys(apex: string): ZoneKeys {
    return {
      find: (octets, at, length) => this.#current.zones.get(apex)!.find(octets, at, length),
      admit: (key, client) => this.#current.zones.get(apex)!.admit(key, client),
    };
  }

  /** Whether the rules allow it; counts nothing. */
  admits(client: Client): boolean {
    return this.#actionFor(client) === 'allow';
  }

  #actionFor(client: Client): RuleAction {
    const { rules, others } = this.#current;
    const rule = rules.find(client);
    return rule === 0 ? others : ruleActions[rule - 1]!;
  }

  #admit(client: Client): Admission {
    const action = this.#actionFor(client);
    if (action === 'allow') return 'ok';
    this.#options.counters.access(action === 'drop' ? ACCESS.ruleDrop : ACCESS.ruleRefuse);
    return action;
  }

  #settingsOf(share: AccessShare): Settings {
    const { apexes, counters, clock, onLimited = () => undefined } = this.#options;
    const hash = new KeyedHash(share.hashKey);
    const clients = new ClientQuotas({
      ...{ memory: share.clients, client: share.client, unlimited: share.unlimited },
      ...{ hash, clock },
    });
    const keyUsage = new Int32Array(share.keyUsage);
    const gateOf = (apex: string): ZoneGate => {
      const index = share.zones.findIndex((zone) => zone.apex === apex);
      const zone = share.zones[index];
      return new ZoneGate({ zone, quota: share.quota, clients, index, keyUsage, clock, counters });
    };
    return {
      rules: new PrefixTable(share.rules),
      others: share.others,
      limit: new RateLimit({
        ...{ settings: share.limit, exempt: share.exempt, buckets: new Buckets(share.buckets) },
        ...{ hash, clock, counters, onLimited },
      }),
      zones: new Map(apexes.map((apex) => [apex, gateOf(apex)])),
    };
  }
}

type Settings = {
  rules: PrefixTable;
  others: RuleAction;
  limit: RateLimit;
  zones: ReadonlyMap<string, ZoneGate>;
};
