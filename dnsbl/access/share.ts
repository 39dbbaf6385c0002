/** What the owner hands to every answering thread: settings ready to use, and the memory they count in. */
import type { HashKey } from './keyed-hash.ts';
import type { ClientBits } from './prefix.ts';
import type { PrefixTableShare } from './prefix-table.ts';
import type { LimitSettings, Quota, RuleAction } from './settings.ts';

/** Structured-cloneable. Settings are replaced as a whole; the memory stays, and with it all counts. */
export type AccessShare = {
  hashKey: HashKey;
  limit: LimitSettings;
  exempt: PrefixTableShare;
  buckets: SharedArrayBuffer;
  others: RuleAction;
  /** Values are indices into `ruleActions` plus one. */
  rules: PrefixTableShare;
  client: ClientBits;
  quota: Quota;
  unlimited: PrefixTableShare;
  clients: SharedArrayBuffer;
  zones: ZoneAccessShare[];
  keyUsage: SharedArrayBuffer;
  /** Empty: cookies are not spoken. */
  cookieSecrets: Uint8Array[];
};

export type ZoneAccessShare = {
  apex: string;
  unkeyed: 'open' | 'closed';
  quota: Quota | undefined;
  subscribers: SubscriberShare[];
};

export type SubscriberShare = {
  keyHash: string;
  quota: Quota;
  prefixes: string[];
  /** Where in `keyUsage` it is counted; the same as long as the key is configured. */
  slot: number;
};

export const ruleActions: readonly RuleAction[] = ['allow', 'refuse', 'drop'];
