/**
 * What counts as an attestation: it keeps the lexicon, its key is its domain, and the domain can be one.
 * Anything else counts as absent (DESIGN.md, Votes), so an invalid update unlists.
 */
import { email } from '../../lexicons/index.ts';
import { attestationCollection } from '../attestation-uri.ts';

export type Validity =
  | { kind: 'valid'; record: email.atmos.attestation.Main }
  | { kind: 'invalid'; reason: 'lexicon' | 'key_is_not_domain' | 'not_a_domain' };

/** @param value the decoded record; undefined when it could not be decoded */
export function judge(rkey: string, value: unknown): Validity {
  const parsed = email.atmos.attestation.main.safeParse(value);
  if (!parsed.success) return { kind: 'invalid', reason: 'lexicon' };
  const { domain, dkimSelectors, relayMember, createdAt } = parsed.value;
  if (domain !== rkey) return { kind: 'invalid', reason: 'key_is_not_domain' };
  if (!isDomain(domain)) return { kind: 'invalid', reason: 'not_a_domain' };
  // Members that the lexicon does not name are not kept: they may be of any size and kind.
  const record: email.atmos.attestation.Main = {
    $type: attestationCollection,
    domain,
    dkimSelectors,
    createdAt,
  };
  if (relayMember !== undefined) record.relayMember = relayMember;
  return { kind: 'valid', record };
}

/**
 * At least two labels of letters, digits and inner hyphens, lower case: what DNS needs. An `xn--` label
 * is not decoded, since one that stands for nothing lists nothing. The last begins with a letter, so that
 * no IPv4 address passes (RFC 1123 §2.1).
 */
function isDomain(name: string): boolean {
  return (
    name.length <= 253 &&
    /^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$/.test(name)
  );
}
