import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bytesToMultibase, P256Keypair, Secp256k1Keypair } from '@atproto/crypto';
import { parseDidDocument } from '../../appview/identity/document.ts';

const did = 'did:plc:ewvi7nxzyoun6zhxrhs64oiz';
const k256 = await Secp256k1Keypair.create();
const p256 = await P256Keypair.create();

function method(fragment: string, type: string, publicKeyMultibase: unknown) {
  return { id: `${did}${fragment}`, type, controller: did, publicKeyMultibase };
}

function multikey(key: { did(): string }): string {
  return key.did().slice('did:key:'.length);
}

test('a whole document', () => {
  const document = {
    '@context': ['https://www.w3.org/ns/did/v1'],
    id: did,
    alsoKnownAs: ['https://elsewhere.test', 'at://Reef.test', 'at://second.test'],
    verificationMethod: [
      method('#atproto', 'Multikey', multikey(k256)),
      method('#atproto_label', 'Multikey', multikey(p256)),
      method('#atproto', 'Multikey', multikey(p256)),
    ],
    service: [
      { id: '#atproto_pds', type: 'AtprotoPersonalDataServer', serviceEndpoint: 'https://pds.test/' },
      { id: `${did}#atproto_labeler`, type: 'AtprotoLabeler', serviceEndpoint: 'https://mod.test:8443/path' },
    ],
  };
  assert.deepEqual(parseDidDocument(document, did), {
    did,
    handle: 'reef.test',
    signingKey: k256.did(),
    labelKey: p256.did(),
    pds: 'https://pds.test',
    labeler: 'https://mod.test:8443',
  });
});

test('older documents name the curve by the type of the method', () => {
  const verificationMethod = [
    method(
      '#atproto',
      'EcdsaSecp256k1VerificationKey2019',
      bytesToMultibase(k256.publicKeyBytes(), 'base58btc'),
    ),
    method(
      '#atproto_label',
      'EcdsaSecp256r1VerificationKey2019',
      bytesToMultibase(p256.publicKeyBytes(), 'base58btc'),
    ),
  ];
  const identity = parseDidDocument({ id: did, verificationMethod }, did);
  assert.equal(identity?.signingKey, k256.did());
  assert.equal(identity?.labelKey, p256.did());
});

const garbage: [string, Record<string, unknown>][] = [
  ['nothing at all', {}],
  [
    'a key of an unknown type',
    { verificationMethod: [method('#atproto', 'Ed25519VerificationKey2020', multikey(k256))] },
  ],
  ['a key that is no point', { verificationMethod: [method('#atproto', 'Multikey', 'zQ3shgarbage')] }],
  [
    'a key of a curve we do not know',
    {
      verificationMethod: [
        method('#atproto', 'Multikey', 'z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK'),
      ],
    },
  ],
  ['a key that is a number', { verificationMethod: [method('#atproto', 'Multikey', 7)] }],
  ['a key without end', { verificationMethod: [method('#atproto', 'Multikey', `z${'a'.repeat(60_000)}`)] }],
  [
    "another DID's key",
    { verificationMethod: [{ ...method('#atproto', 'Multikey', multikey(k256)), id: 'did:plc:x#atproto' }] },
  ],
  ['methods that are no list', { verificationMethod: { '#atproto': 1 } }],
  ['holes in the lists', { verificationMethod: [null, 1, 'x', []], service: [null], alsoKnownAs: [null, 7] }],
  [
    'a service of another type',
    { service: [{ id: '#atproto_pds', type: 'Other', serviceEndpoint: 'https://pds.test' }] },
  ],
  [
    'an endpoint that is no web address',
    {
      service: [
        { id: '#atproto_pds', type: 'AtprotoPersonalDataServer', serviceEndpoint: 'javascript:alert(1)' },
      ],
    },
  ],
  [
    'a list of endpoints',
    {
      service: [
        { id: '#atproto_pds', type: 'AtprotoPersonalDataServer', serviceEndpoint: ['https://pds.test'] },
      ],
    },
  ],
  ['a handle that is none', { alsoKnownAs: ['at://reef', 'at://reef.test'] }],
];

for (const [name, fields] of garbage) {
  test(`${name} is as if it were absent`, () => {
    assert.deepEqual(parseDidDocument({ ...fields, id: did }, did), { did });
  });
}

for (const json of [undefined, null, 7, 'x', [], {}, { id: 'did:plc:other' }, { id: [did] }]) {
  test(`${JSON.stringify(json)} is not the document of this DID`, () => {
    assert.equal(parseDidDocument(json, did), undefined);
  });
}
