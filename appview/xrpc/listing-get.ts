/**
 * `email.atmos.listing.get`: is this domain vouched for here, and by whom?
 *
 * The answer carries the proof: the record as its signed commit had it, and each vote's label with its
 * issuer's signature. What is not listed says only that, whatever the reason (promise 7).
 */
import { domainToASCII } from 'node:url';
import { InvalidRequestError, type Server } from '@atproto/xrpc-server';
import { email } from '../../lexicons/index.ts';
import type { Explanation } from '../listing/listings.ts';
import type { Vote } from '../listing/policy.ts';

type Output = email.atmos.listing.get.$OutputBody;

export function registerListingGet(
  server: Server,
  listings: { get(domain: string): Explanation | undefined },
): void {
  server.add(email.atmos.listing.get.main, ({ params }) => {
    const domain = domainName(params.domain);
    if (domain === undefined) throw new InvalidRequestError('Not a domain name.', 'InvalidDomain');
    const found = listings.get(domain);
    if (!found) throw new InvalidRequestError(`${domain} is not vouched for now.`, 'NotListed');
    return { encoding: 'application/json' as const, body: explain(found) };
  });
}

/** As in the zone: A-labels, lower case, without the final dot. Undefined when it is no domain name. */
function domainName(given: string): string | undefined {
  // domainToASCII reads the host of a URL: it would take `reef.test/x` for `reef.test`.
  if (/[/\\?#@:%]/.test(given)) return undefined;
  const name = domainToASCII(given.replace(/\.$/, ''));
  const isName = /^(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*$/.test(name);
  return isName ? name : undefined;
}

// The types of the lexicon are narrower strings (`did:…`); what is here passed those checks on its way in,
// and xrpc-server validates the whole answer once more.
function explain({ listing, attestation, votes }: Explanation): Output {
  const { uri, cid, rev, record } = attestation;
  return { listing, attestation: { uri, cid, rev, record }, votes: votes.map(voteOut) } as Output;
}

function voteOut({ label, issuer, root, firstSeen }: Vote) {
  return { label, issuer, root, firstSeen: new Date(firstSeen).toISOString() };
}
