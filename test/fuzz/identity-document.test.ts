/** DID documents from anyone: an identity or none, never a throw, and no key that does not parse. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Secp256k1Keypair } from '@atproto/crypto';
import { Identities, IdentityNotFound } from '../../appview/identity/did.ts';
import { parseDidDocument } from '../../appview/identity/document.ts';
import { pointOf, verifySignature } from '../../appview/identity/signature.ts';
import { Fuzz } from './random.ts';

const fuzz = new Fuzz('identity-document');
const did = 'did:plc:ewvi7nxzyoun6zhxrhs64oiz';
const publicKeyMultibase = (await Secp256k1Keypair.create()).did().slice('did:key:'.length);
const method = (id: string, type: string) => ({ id, type, controller: did, publicKeyMultibase });
const document = {
  id: did,
  alsoKnownAs: ['at://harbor.test'],
  verificationMethod: [
    method('#atproto', 'Multikey'),
    method(`${did}#atproto_label`, 'EcdsaSecp256k1VerificationKey2019'),
    method('#other', 'EcdsaSecp256r1VerificationKey2019'),
  ],
  service: [
    { id: '#atproto_pds', type: 'AtprotoPersonalDataServer', serviceEndpoint: 'https://pds.test' },
    { id: '#atproto_labeler', type: 'AtprotoLabeler', serviceEndpoint: 'https://labels.harbor.test' },
  ],
};
const bytes = Buffer.from(JSON.stringify(document));

test('mutated bytes of a document are an identity of this DID, or none', async () => {
  let body: Uint8Array = bytes;
  let now = 0;
  const fetch = async () => ({ status: 200, headers: {}, body });
  const identities = new Identities({ plcUrl: 'https://plc.test', fetch, now: () => now });
  let found = 0;
  const rounds = fuzz.rounds(3_000);
  for (let i = rounds; i > 0; i--) {
    body = fuzz.mutate(bytes);
    now += 10_000_000;
    try {
      check(await identities.resolve(did));
      found += 1;
    } catch (error) {
      assert.ok(error instanceof IdentityNotFound, String(error));
    }
  }
  // Otherwise the mutations only ever met the parser of JSON.
  assert.ok(found > rounds / 50, `only ${found} documents were read`);
});

test('any value in any place is as if it were absent, or what it should be', () => {
  const values = [
    ...[undefined, null, 0, 7, true, '', 'x', [], {}, [null], '#atproto_label', did, 'did:key:z', 'Multikey'],
    ...['https://labels.test:99999', 'http://[::1', 'at://', `z${'1'.repeat(300)}`, publicKeyMultibase],
    ...['__proto__', 'EcdsaSecp256r1VerificationKey2019', 'f00', 'm AAAA', '\u0000', '\ud800'],
  ];
  for (let i = fuzz.rounds(3_000); i > 0; i--) {
    const changed = structuredClone(document) as unknown as Record<string, unknown>;
    for (let n = 1 + fuzz.below(4); n > 0; n--) put(changed, fuzz.pick(values));
    const identity = parseDidDocument(changed, did);
    if (identity) check(identity);
  }
});

/** Somewhere in it, at any depth. */
function put(target: Record<string, unknown>, value: unknown): void {
  const key = fuzz.pick(Object.keys(target).filter((name) => name !== 'id' || fuzz.below(4) === 0));
  const inner = target[key];
  const isDeep = typeof inner === 'object' && inner !== null && Object.keys(inner).length > 0;
  if (isDeep && fuzz.below(4) > 0) put(inner as Record<string, unknown>, value);
  else if (key !== undefined) target[key] = value;
}

function check(identity: object): void {
  const { labelKey, signingKey, labeler, pds, handle } = identity as Record<string, string | undefined>;
  for (const key of [labelKey, signingKey]) {
    if (key === undefined) continue;
    assert.ok(pointOf(key), key);
    assert.equal(verifySignature(key, Buffer.from('x'), new Uint8Array(64).fill(1)), false);
  }
  for (const url of [labeler, pds]) if (url !== undefined) assert.equal(new URL(url).origin, url);
  if (handle !== undefined) assert.match(handle, /^[a-z0-9.-]+$/);
}
