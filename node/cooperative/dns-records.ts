/** What the cooperative itself publishes in DNS. */
import type { PoolDkimKey } from './pool-keys.ts';

/** An absolute name without the final dot; the value is the joined text, to be split by who serves it. */
export function poolDkimRecord(
  poolDomain: string,
  { selector, dnsRecord }: Pick<PoolDkimKey, 'selector' | 'dnsRecord'>,
): { type: 'TXT'; name: string; value: string } {
  return { type: 'TXT', name: `${selector}._domainkey.${poolDomain}`, value: dnsRecord };
}
