/**
 * Does a TLSA record vouch for the certificate that a peer showed? (RFC 6698, RFC 7671, as RFC 7672 uses them)
 *
 * Usage 3 (DANE-EE) matches the certificate itself: neither names nor dates count. Usage 2 (DANE-TA) matches
 * an authority above it: each step of the chain must be signed, be in date, and the certificate must
 * be for one of the names. Usages 0 and 1 are not for SMTP and match nothing. A path length constraint of
 * an authority is not looked at: Node does not show it.
 */
import { createHash, X509Certificate } from 'node:crypto';
import type { DetailedPeerCertificate } from 'node:tls';
import type { TlsaRecord } from '../resolver.ts';

const digestBytes = [undefined, 32, 64];
const digests = ['', 'sha256', 'sha512'];
const maxChain = 10;

/** Whether a record can vouch for anything here; a site that has only others still must encrypt (RFC 7672 §2.1). */
export function isUsable({ usage, selector, matching, data }: TlsaRecord): boolean {
  if (usage !== 2 && usage !== 3) return false;
  if (selector !== 0 && selector !== 1) return false;
  if (matching < 0 || matching > 2) return false;
  return matching === 0 ? data.length > 0 : data.length === digestBytes[matching];
}

/**
 * @param chain the peer's certificate first, then those above it
 * @param names one of which the certificate must be for, under usage 2
 * @param now Unix ms
 */
export function vouches(
  records: readonly TlsaRecord[],
  chain: readonly X509Certificate[],
  names: readonly string[],
  now: number,
): boolean {
  const [leaf] = chain;
  if (!leaf) return false;
  const usable = records.filter(isUsable);
  if (usable.some((record) => record.usage === 3 && matches(record, leaf))) return true;
  const anchors = usable.filter(({ usage }) => usage === 2);
  return anchors.length > 0 && isFor(leaf, names) && isAnchored(anchors, chain, now);
}

/** RFC 6125 and RFC 8461 §4.1: by the names of its extension alone, a wildcard only as the whole first label. */
export function isFor(certificate: X509Certificate, names: readonly string[]): boolean {
  const strict = { subject: 'never', partialWildcards: false } as const;
  return names.some((name) => certificate.checkHost(name, strict) !== undefined);
}

/** What Node knows of the peer's chain, in order; empty where the peer showed none. */
export function chainOf(peer: DetailedPeerCertificate): X509Certificate[] {
  const chain: X509Certificate[] = [];
  let next: DetailedPeerCertificate | undefined = peer;
  while (next?.raw && chain.length < maxChain) {
    chain.push(new X509Certificate(next.raw));
    const above: DetailedPeerCertificate | undefined = next.issuerCertificate;
    next = above === next ? undefined : above;
  }
  return chain;
}

function isAnchored(anchors: TlsaRecord[], chain: readonly X509Certificate[], now: number): boolean {
  for (const [depth, certificate] of chain.entries()) {
    if (!isInDate(certificate, now)) return false;
    const issuer = chain[depth + 1] ?? givenIssuer(anchors, certificate);
    if (!issuer?.ca || !certificate.checkIssued(issuer) || !certificate.verify(issuer.publicKey))
      return false;
    if (anchors.some((record) => matches(record, issuer))) return isInDate(issuer, now);
  }
  return false;
}

/** A record that is the whole authority stands in for it where the peer left it out. */
function givenIssuer(anchors: TlsaRecord[], certificate: X509Certificate): X509Certificate | undefined {
  const whole = anchors.filter(({ selector, matching }) => selector === 0 && matching === 0);
  return whole.map(({ data }) => certificateOf(data)).find((one) => one && certificate.checkIssued(one));
}

function certificateOf(data: Buffer): X509Certificate | undefined {
  try {
    return new X509Certificate(data);
  } catch {
    return undefined;
  }
}

function isInDate({ validFromDate, validToDate }: X509Certificate, now: number): boolean {
  return validFromDate.getTime() <= now && now <= validToDate.getTime();
}

function matches({ selector, matching, data }: TlsaRecord, certificate: X509Certificate): boolean {
  const selected =
    selector === 0 ? certificate.raw : certificate.publicKey.export({ type: 'spki', format: 'der' });
  const shown = matching === 0 ? selected : createHash(digests[matching]!).update(selected).digest();
  return shown.equals(data);
}
