/** The DID document, and the signed declaration that others must be able to trust or refuse. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Secp256k1Keypair, verifySignature } from '@atproto/crypto';
import { decode, encode } from '@atproto/lex-cbor';
import {
  type DeclarationRefusal,
  declarationType,
  maxDeclarationBytes,
  type PeerRecord,
  signDeclaration,
  verifyDeclaration,
} from '../../node/cooperative/declaration.ts';
import { didDocument, didWeb } from '../../node/cooperative/did-document.ts';
import { cooperative } from './labeler-fixtures.ts';

const iss = 'did:web:harbor.test';
const issuedAt = Date.parse('2026-11-20T09:00:00Z');
const hour = 3_600_000;
const key = await Secp256k1Keypair.create();
const expected = { did: iss, labelKey: key.did() };

const peer: PeerRecord = {
  $type: 'email.atmos.peer',
  subject: 'did:web:meadow.test',
  stance: 'guarantee',
  createdAt: '2026-01-01T00:00:00.000Z',
};
const statement = { iss, issuedAt, lifetimeMs: 24 * hour, cooperative, peers: [peer] };

test('the DID of an origin keeps its port, escaped', () => {
  assert.equal(didWeb('https://harbor.example'), 'did:web:harbor.example');
  assert.equal(didWeb('http://localhost:8080'), 'did:web:localhost%3A8080');
});

test('the DID document carries the label key and the labeler, as consumers look for them', () => {
  const document = didDocument({ did: iss, labelKey: key.did(), labelerUrl: 'https://labels.harbor.test' });
  const method = document.verificationMethod![0]!;
  assert.equal(document.id, iss);
  assert.deepEqual([method.id, method.type, method.controller], [`${iss}#atproto_label`, 'Multikey', iss]);
  assert.equal(`did:key:${method.publicKeyMultibase}`, key.did());
  assert.deepEqual(document.service, [
    { id: '#atproto_labeler', type: 'AtprotoLabeler', serviceEndpoint: 'https://labels.harbor.test' },
  ]);
});

test('a declaration is read back as it was made, by us and by @atproto/crypto', async () => {
  const bytes = await signDeclaration(statement, key);
  const result = verifyDeclaration(bytes, expected, issuedAt + hour);
  assert.ok(result.kind === 'valid');
  assert.deepEqual(result.declaration.cooperative, cooperative);
  assert.deepEqual(result.declaration.peers, [peer]);
  const { sig, ...fields } = decode(bytes) as { sig: Uint8Array } & Record<string, string>;
  assert.equal(fields.$type, declarationType);
  assert.equal(await verifySignature(key.did(), encode(fields), sig), true);
});

test('a record that breaks its lexicon is never signed', async () => {
  const broken = { ...cooperative, name: '' };
  await assert.rejects(signDeclaration({ ...statement, cooperative: broken }, key));
});

/** The declaration with some fields changed and signed anew: only what is tested is wrong with it. */
async function resigned(change: Record<string, unknown>): Promise<Uint8Array> {
  const { sig: _, ...fields } = decode(await signDeclaration(statement, key)) as Record<string, unknown>;
  const changed = Object.fromEntries(
    Object.entries({ ...fields, ...change }).filter(([, value]) => value !== undefined),
  ) as Record<string, string>;
  return encode({ ...changed, sig: await key.sign(encode(changed)) });
}

async function altered(change: Record<string, string>): Promise<Uint8Array> {
  return encode({ ...(decode(await signDeclaration(statement, key)) as object), ...change });
}

/** Moves the first entry of the map, whose key and value are short texts, to the end. */
function reordered(bytes: Uint8Array): Uint8Array {
  const entryEnd = (at: number): number => {
    const long = (bytes[at]! & 0x1f) === 24;
    return at + (long ? 2 + bytes[at + 1]! : 1 + (bytes[at]! & 0x1f));
  };
  const end = entryEnd(entryEnd(1));
  return Buffer.concat([bytes.subarray(0, 1), bytes.subarray(end), bytes.subarray(1, end)]);
}

const refusals: [why: DeclarationRefusal, claim: string, make: () => Promise<Uint8Array>, at?: number][] = [
  ['too-large', 'a flood', async () => new Uint8Array(maxDeclarationBytes + 1)],
  ['not-dag-cbor', 'other bytes', async () => Buffer.from('{"$type":"x"}')],
  ['not-dag-cbor', 'two items', async () => Buffer.concat([await resigned({}), encode({})])],
  ['not-dag-cbor', 'the same map with its keys in another order', async () => reordered(await resigned({}))],
  ['wrong-type', 'a list', async () => encode([1, 2])],
  ['wrong-type', 'null', async () => encode(null)],
  ['wrong-type', 'a signed map without $type', () => resigned({ $type: undefined })],
  ['wrong-type', 'a signed map of another type', () => resigned({ $type: 'com.atproto.label.defs#label' })],
  ['invalid', 'a declaration without its cooperative', () => resigned({ cooperative: undefined })],
  ['invalid', 'peers that are none', () => resigned({ peers: ['did:web:meadow.test'] })],
  ['wrong-issuer', 'a declaration of another', () => resigned({ iss: 'did:web:meadow.test' })],
  ['not-yet-valid', 'one from the future', () => resigned({}), issuedAt - 6 * 60_000],
  ['expired', 'one that has ended', () => resigned({}), issuedAt + 24 * hour],
  ['bad-signature', 'one that was altered', () => altered({ exp: '2030-01-01T00:00:00.000Z' })],
  ['bad-signature', 'one with a field added', () => altered({ note: 'trust me' })],
];
for (const [why, claim, make, at = issuedAt + hour] of refusals) {
  test(`${claim} is refused: ${why}`, async () => {
    assert.deepEqual(verifyDeclaration(await make(), expected, at), { kind: 'refused', why });
  });
}

test('a signature by another key is refused', async () => {
  const stranger = await Secp256k1Keypair.create();
  const bytes = await signDeclaration(statement, stranger);
  assert.deepEqual(verifyDeclaration(bytes, expected, issuedAt), { kind: 'refused', why: 'bad-signature' });
});
