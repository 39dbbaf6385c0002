/** What the cooperative itself publishes in DNS. */
import type { PoolDkimKey } from './keys.ts';

/** Under `_domainkey.<pool domain>`: names the key of every second signature. */
export const poolSelector = 'pool';

/** An absolute name without the final dot; the value is the joined text, to be split by who serves it. */
export function poolDkimRecord(
  poolDomain: string,
  pool: PoolDkimKey,
): { type: 'TXT'; name: string; value: string } {
  return { type: 'TXT', name: `${poolSelector}._domainkey.${poolDomain}`, value: pool.dnsRecord };
}
