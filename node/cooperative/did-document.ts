/**
 * The cooperative's `did:web`: its name and the document that it serves at `/.well-known/did.json`.
 *
 * https://w3c-ccg.github.io/did-method-web/, https://atproto.com/specs/label
 */
import type { DidDocument } from '../../appview/identity/did.ts';

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
    service: [{ id: '#atproto_labeler', type: 'AtprotoLabeler', serviceEndpoint: o.labelerUrl }],
  };
}
