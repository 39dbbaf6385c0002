/**
 * Reads DID documents: what we use of one, and nothing else.
 *
 * Promise: garbage inside a document (a key of an unknown kind, a malformed endpoint) is as if it were
 * absent; a document of another DID is refused as a whole.
 */
import {
  formatDidKey,
  multibaseToBytes,
  P256_JWT_ALG,
  parseDidKey,
  SECP256K1_JWT_ALG,
} from '@atproto/crypto';

/** What we use of a DID document. */
export type Identity = {
  did: string;
  /** The first `at://` of alsoKnownAs, lower case: a claim, not proved. */
  handle?: string;
  /** did:key of `#atproto`: signs commits. */
  signingKey?: string;
  /** did:key of `#atproto_label`: signs labels and declarations. */
  labelKey?: string;
  /** Origin of `#atproto_pds`, without a path. */
  pds?: string;
  /** Origin of `#atproto_labeler`, without a path. */
  labeler?: string;
};

/** The members of a DID document that atproto uses (https://atproto.com/specs/did). */
export type DidDocument = {
  '@context'?: string[];
  id: string;
  alsoKnownAs?: string[];
  verificationMethod?: { id: string; type: string; controller: string; publicKeyMultibase: string }[];
  service?: { id: string; type: string; serviceEndpoint: string }[];
};

/** @returns undefined when this is not the document of `did` */
export function parseDidDocument(json: unknown, did: string): Identity | undefined {
  if (!isObject(json) || json.id !== did) return undefined;
  const identity: Identity = { did };
  const parts = {
    handle: handleOf(json.alsoKnownAs),
    signingKey: keyOf(json.verificationMethod, did, '#atproto'),
    labelKey: keyOf(json.verificationMethod, did, '#atproto_label'),
    pds: endpointOf(json.service, did, '#atproto_pds', 'AtprotoPersonalDataServer'),
    labeler: endpointOf(json.service, did, '#atproto_labeler', 'AtprotoLabeler'),
  };
  for (const [name, value] of Object.entries(parts)) {
    if (value !== undefined) identity[name as keyof Identity] = value;
  }
  return identity;
}

function handleOf(names: unknown): string | undefined {
  if (!Array.isArray(names)) return undefined;
  const first = names.find((name): name is string => typeof name === 'string' && name.startsWith('at://'));
  const handle = first?.slice('at://'.length).toLowerCase();
  return handle && handle.length <= 253 && /^([a-z0-9-]{1,63}\.)+[a-z0-9-]{1,63}$/.test(handle)
    ? handle
    : undefined;
}

function keyOf(methods: unknown, did: string, fragment: string): string | undefined {
  const method = entryOf(methods, did, fragment);
  const multibase = method?.publicKeyMultibase;
  // Base58 costs the square of its length to decode; no key we know comes near 256 characters.
  if (typeof multibase !== 'string' || multibase.length > 256) return undefined;
  try {
    const didKey = didKeyOf(String(method?.type), multibase);
    if (didKey) parseDidKey(didKey);
    return didKey;
  } catch {
    return undefined;
  }
}

// Older PLC documents name the curve by the type and carry the bare point (facts/atproto.md).
function didKeyOf(type: string, multibase: string): string | undefined {
  switch (type) {
    case 'Multikey':
      return `did:key:${multibase}`;
    case 'EcdsaSecp256k1VerificationKey2019':
      return formatDidKey(SECP256K1_JWT_ALG, multibaseToBytes(multibase));
    case 'EcdsaSecp256r1VerificationKey2019':
      return formatDidKey(P256_JWT_ALG, multibaseToBytes(multibase));
    default:
      return undefined;
  }
}

function endpointOf(services: unknown, did: string, fragment: string, type: string): string | undefined {
  const service = entryOf(services, did, fragment);
  const endpoint = service?.serviceEndpoint;
  if (service?.type !== type || typeof endpoint !== 'string') return undefined;
  if (endpoint.length > 512 || !URL.canParse(endpoint)) return undefined;
  const url = new URL(endpoint);
  return url.protocol === 'https:' || url.protocol === 'http:' ? url.origin : undefined;
}

/** The first entry counts; its id may be relative or carry the DID. */
function entryOf(entries: unknown, did: string, fragment: string): Record<string, unknown> | undefined {
  if (!Array.isArray(entries)) return undefined;
  return entries.filter(isObject).find(({ id }) => id === fragment || id === `${did}${fragment}`);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
