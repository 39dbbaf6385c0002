/**
 * The one form in which this cooperative compares and stores mail domains: A-labels, lower case.
 *
 * Nothing here asks the DNS. Address literals, names of one label and names that a URL parser would
 * take for an IPv4 address (`0x7f.1`) are no mail domains.
 */
import { isIP } from 'node:net';
import { domainToASCII } from 'node:url';

const label = /^(?!-)[a-z0-9-]{1,63}(?<!-)$/;

/** @returns A-labels in lower case, or undefined when it is not a mail domain (RFC 5321 §2.3.5, RFC 5890) */
export function normalizeDomain(text: string): string | undefined {
  // domainToASCII decodes %XX and cuts at `:`, `/` and `?`, so only letters, digits and hyphens may reach it.
  if (text.length > 253 || /[^a-z0-9.\u0080-\u{10ffff}-]/iu.test(text)) return undefined;
  const ascii = domainToASCII(text).toLowerCase();
  const labels = ascii.split('.');
  if (ascii.length > 253 || labels.length < 2 || isIP(ascii) !== 0) return undefined;
  return labels.every((part) => label.test(part)) ? ascii : undefined;
}
