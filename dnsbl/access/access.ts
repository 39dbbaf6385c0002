/**
 * Access and limits of a DNS server, as its owner keeps them.
 *
 * Promise: settings that are not right are refused as a whole, with every fault named, and what was stays.
 * New settings reach the threads through whoever follows; what was counted stays counted, except that another
 * number of buckets begins with empty ones. A key that stays configured keeps its count.
 */
import { newBucketMemory } from './buckets.ts';
import { newClientMemory } from './client-quota.ts';
import type { CookieSecrets } from './cookie-secrets.ts';
import { type HashKey, newHashKey } from './keyed-hash.ts';
import { buildPrefixTable } from './prefix-table.ts';
import { type AccessSettings, accessFaults, MAX_SUBSCRIBERS, type Subscriber } from './settings.ts';
import { type AccessShare, ruleActions, type ZoneAccessShare } from './share.ts';
import { countOn, USAGE_WORDS } from './usage.ts';

export type AccessOptions = {
  settings: AccessSettings;
  /** Left out: cookies are not spoken. */
  cookieSecrets?: CookieSecrets;
  now?: () => number;
};

export class AccessSettingsError extends Error {
  readonly faults: readonly string[];

  constructor(faults: readonly string[]) {
    super(`access settings: ${faults.join('; ')}`);
    this.faults = faults;
  }
}

export class Access {
  readonly #options: AccessOptions;
  readonly #hashKey: HashKey = newHashKey();
  readonly #clients = newClientMemory();
  readonly #keyUsage = new SharedArrayBuffer(MAX_SUBSCRIBERS * USAGE_WORDS * Int32Array.BYTES_PER_ELEMENT);
  /** By apex and hash of the key. */
  #slots = new Map<string, number>();
  #buckets: SharedArrayBuffer;
  #settings: AccessSettings;
  #share: AccessShare;
  readonly #followers = new Set<(share: AccessShare) => void>();

  /** @throws AccessSettingsError */
  constructor(options: AccessOptions) {
    this.#options = options;
    this.#settings = checked(options.settings);
    this.#buckets = newBucketMemory(options.settings.limit.buckets);
    this.#share = this.#compile();
  }

  /** What a new thread begins with. */
  share(): AccessShare {
    return this.#share;
  }

  /** @param onChange gets what all threads have to take. @returns how to stop following */
  follow(onChange: (share: AccessShare) => void): () => void {
    this.#followers.add(onChange);
    return () => this.#followers.delete(onChange);
  }

  /** @throws AccessSettingsError; nothing has changed then */
  replace(settings: AccessSettings): void {
    this.#settings = checked(settings);
    const { buckets } = settings.limit;
    if (buckets !== this.#share.limit.buckets) this.#buckets = newBucketMemory(buckets);
    this.#publish();
  }

  /** About once a minute: cookie secrets grow old. @throws what CookieSecrets.refresh throws */
  refresh(): void {
    if (this.#options.cookieSecrets?.refresh()) this.#publish();
  }

  /** Queries of each subscriber since midnight, UTC. */
  subscribers(): { apex: string; name: string; queriesToday: number }[] {
    const words = new Int32Array(this.#keyUsage);
    const day = Math.floor((this.#options.now ?? Date.now)() / 86_400_000);
    return this.#settings.zones.flatMap(({ apex, subscribers }) =>
      subscribers.map(({ name, keyHash }) => {
        const at = this.#slots.get(slotName(apex, keyHash))! * USAGE_WORDS;
        return { apex, name, queriesToday: countOn(words, at, day) };
      }),
    );
  }

  #publish(): void {
    this.#share = this.#compile();
    for (const onChange of this.#followers) onChange(this.#share);
  }

  #compile(): AccessShare {
    const { limit, rules, quota, zones } = this.#settings;
    const { client, unlimited, perSecond, perDay } = quota;
    this.#assignSlots();
    const ruled = ruleActions.flatMap((action, index) =>
      rules[action].map((prefix) => [prefix, index + 1] as const),
    );
    return {
      hashKey: this.#hashKey,
      limit: { ...limit, exempt: [] },
      exempt: setOf(limit.exempt),
      buckets: this.#buckets,
      others: rules.others,
      rules: buildPrefixTable(ruled),
      client,
      quota: { perSecond, perDay },
      unlimited: setOf(unlimited),
      clients: this.#clients,
      zones: zones.map(
        (zone): ZoneAccessShare => ({
          apex: zone.apex,
          unkeyed: zone.unkeyed,
          quota: zone.quota,
          subscribers: zone.subscribers.map((subscriber) => this.#subscriber(zone.apex, subscriber)),
        }),
      ),
      keyUsage: this.#keyUsage,
      cookieSecrets: (this.#options.cookieSecrets?.current ?? []).map((secret) => Uint8Array.from(secret)),
    };
  }

  #subscriber(apex: string, { keyHash, quota = {}, prefixes = [] }: Subscriber) {
    return { keyHash, quota, prefixes: [...prefixes], slot: this.#slots.get(slotName(apex, keyHash))! };
  }

  /** Keys that are there already keep their slots; those of keys that are gone are emptied for others. */
  #assignSlots(): void {
    const wanted = this.#settings.zones.flatMap(({ apex, subscribers }) =>
      subscribers.map(({ keyHash }) => slotName(apex, keyHash)),
    );
    const kept = new Map(
      wanted.filter((name) => this.#slots.has(name)).map((name) => [name, this.#slots.get(name)!]),
    );
    const taken = new Set(kept.values());
    const words = new Int32Array(this.#keyUsage);
    let next = 0;
    for (const name of wanted) {
      if (kept.has(name)) continue;
      while (taken.has(next)) next += 1;
      words.fill(0, next * USAGE_WORDS, (next + 1) * USAGE_WORDS);
      kept.set(name, next);
      taken.add(next);
    }
    this.#slots = kept;
  }
}

function checked(settings: AccessSettings): AccessSettings {
  const faults = accessFaults(settings);
  if (faults.length > 0) throw new AccessSettingsError(faults);
  return settings;
}

function slotName(apex: string, keyHash: string): string {
  return `${apex} ${keyHash}`;
}

function setOf(prefixes: readonly string[]) {
  return buildPrefixTable(prefixes.map((prefix) => [prefix, 1] as const));
}
