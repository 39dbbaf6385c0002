/**
 * The cooperative's `did:web`: its name and the document that it serves at `/.well-known/did.json`.
 *
 * https://w3c-ccg.github.io/did-method-web/, https://atproto.com/specs/label
 */
import type { DidDocument, Identity } from '../../appview/identity/did.ts';

/**
 * @param origin where the document is served; only its host and port matter
 * @returns `did:web:harbor.example`, `did:web:localhost%3A8080`
 */
export function didWeb(origin: string): string {
  return `did:web:${encodeURIComponent(new URL(origin).host)}`;
}

/**
 * @param labelKey did:key of the label key
 * @param labelerUrl base URL without a path
 */
export function didDocument(o: { did: string; labelKey: string; labelerUrl: string }): DidDocument {
  return {
    '@context': ['https://www.w3.org/ns/did/v1', 'https://w3id.org/security/multikey/v1'],
    id: o.did,
    verificationMethod: [
      {
        id: `${o.did}#atproto_label`,
        type: 'Multikey',
        controller: o.did,
        publicKeyMultibase: o.labelKey.slice('did:key:'.length),
      },
    ],
    service: [labelerService(o.labelerUrl)],
  };
}

/** https://atproto.com/specs/label: the service under which a labeler is found. */
export function labelerService(labelerUrl: string) {
  return { id: '#atproto_labeler', type: 'AtprotoLabeler', serviceEndpoint: new URL(labelerUrl).origin };
}

/** What the DID document of a labeler must say. */
export type LabelerParts = { labelKey: string; labelerUrl: string };

/** What is not as it must be, each in words; none where a labeler can be found and its labels verified. */
export function documentFaults(
  { labelKey, labeler }: Pick<Identity, 'labelKey' | 'labeler'>,
  wanted: LabelerParts,
): string[] {
  const faults: string[] = [];
  if (!labelKey) faults.push('it has no key #atproto_label');
  else if (labelKey !== wanted.labelKey) faults.push(`its key #atproto_label is another: ${labelKey}`);
  if (!labeler) faults.push('it has no service #atproto_labeler of type AtprotoLabeler');
  else if (labeler !== new URL(wanted.labelerUrl).origin)
    faults.push(`its service #atproto_labeler is elsewhere: ${labeler}`);
  return faults;
}
