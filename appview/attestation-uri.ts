/** How an attestation is named: its collection, its path in a repository, its `at://` URI. Written nowhere else. */
import { email } from '../lexicons/index.ts';

export const attestationCollection = email.atmos.attestation.$nsid;

const pathPrefix = `${attestationCollection}/`;
const uriPattern = new RegExp(`^at://(did:[^/]+)/${attestationCollection.replaceAll('.', '\\.')}/([^/?#]+)$`);

/** Where a repository holds it: `email.atmos.attestation/<domain>`. @param domain A-labels, lower case */
export function attestationPath(domain: string): string {
  return `${pathPrefix}${domain}`;
}

/** The record key when the path is in our collection. */
export function recordKeyOf(path: string): string | undefined {
  return path.startsWith(pathPrefix) ? path.slice(pathPrefix.length) : undefined;
}

/** `at://<did>/email.atmos.attestation/<domain>`: what a vote stands on. */
export function attestationUri(did: string, domain: string): string {
  return `at://${did}/${attestationPath(domain)}`;
}

/** The domain that an attestation's URI names, as it stands there; undefined for any other subject. */
export function attestedDomain(uri: string): string | undefined {
  return uriPattern.exec(uri)?.[2];
}
