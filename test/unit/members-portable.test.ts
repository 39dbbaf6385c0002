import assert from 'node:assert/strict';
import { test } from 'node:test';
import { makeDkimKeys } from '../../node/members/dkim-keys.ts';
import { openMember, type PortableMember, sealMember } from '../../node/members/portable.ts';

const passphrase = 'correct horse battery';
const member: PortableMember = {
  ...{ did: 'did:plc:reef', handle: 'reef.test', from: 'did:web:harbor.test', exportedAt: 1_780_000_000_000 },
  domains: [{ name: 'reef.test', keys: await makeDkimKeys('atmos') }],
};
const sealed = await sealMember(member, passphrase);

type Parts = { data?: string; version?: number; kdf?: object; cipher?: object; note?: string };

/** The file with these parts in place of its own. */
function changed({ kdf, cipher, ...parts }: Parts): string {
  const file = JSON.parse(sealed);
  return JSON.stringify({
    ...file,
    kdf: { ...file.kdf, ...kdf },
    cipher: { ...file.cipher, ...cipher },
    ...parts,
  });
}

const { data } = JSON.parse(sealed) as { data: string };
const zeros = (octets: number) => Buffer.alloc(octets).toString('base64');

test('a member comes back whole, by its passphrase alone', async () => {
  assert.deepEqual(await openMember(sealed, passphrase), member);
  assert.equal(await openMember(sealed, `${passphrase}!`), 'wrong-passphrase');
});

test('nothing of the keys can be read in the file', () => {
  assert.doesNotMatch(sealed, /PRIVATE|reef/);
  assert.match(sealed, /"format": "email\.atmos\.member"/);
});

test('two exports of one member have nothing in common', async () => {
  assert.notEqual(JSON.parse(await sealMember(member, passphrase)).data, JSON.parse(sealed).data);
});

test('a passphrase is the same however it was typed', async () => {
  const file = await sealMember(member, 'caf\u00e9 caf\u00e9 caf\u00e9');
  assert.deepEqual(await openMember(file, 'cafe\u0301 cafe\u0301 cafe\u0301'), member);
});

test('a short passphrase seals nothing', async () => {
  await assert.rejects(sealMember(member, 'elevenchars'), /at least 12 characters/);
});

const damaged: [string, string][] = [
  ['a bit of the text', changed({ data: `${data.startsWith('A') ? 'B' : 'A'}${data.slice(1)}` })],
  ['the end cut off', changed({ data: data.slice(0, -8) })],
  ['all of it cut off', changed({ data: 'AAAA' })],
  ['another nonce', changed({ cipher: { nonce: zeros(12) } })],
  ['another salt', changed({ kdf: { salt: zeros(16) } })],
  ['a cheaper key', changed({ kdf: { N: 16_384 } })],
];
for (const [what, file] of damaged) {
  test(`damaged: ${what}`, async () => {
    assert.equal(await openMember(file, passphrase), 'wrong-passphrase');
  });
}

const foreign: [string, string][] = [
  ['no JSON', 'x'],
  ['another object', '{}'],
  ['a version that comes later', changed({ version: 2 })],
  ['a key that would cost a gigabyte', changed({ kdf: { N: 2 ** 20 } })],
  ['a field that nothing binds', changed({ note: 'x' })],
  ['a megabyte', 'x'.repeat(1_100_000)],
];
for (const [what, file] of foreign) {
  test(`not an export: ${what}`, async () => {
    assert.equal(await openMember(file, passphrase), 'not-an-export');
  });
}

const [rsa, ed25519] = member.domains[0]!.keys as [never, never];
const other = await makeDkimKeys('atmos');
const unusable: [string, object][] = [
  ['a public key that is not of the private one', [{ ...(rsa as object), publicKey: other[0]!.publicKey }]],
  ['one selector twice', [rsa, { ...(ed25519 as object), selector: 'atmosr' }]],
  ['a selector that is none', [{ ...(rsa as object), selector: 'a._domainkey.evil' }]],
  ['an algorithm that is another', [{ ...(rsa as object), algorithm: 'ed25519' }]],
  ['no key at all', []],
];
for (const [what, keys] of unusable) {
  test(`opens, and cannot be used: ${what}`, async () => {
    const domains = [{ name: 'reef.test', keys }] as PortableMember['domains'];
    assert.equal(
      await openMember(await sealMember({ ...member, domains }, passphrase), passphrase),
      'bad-content',
    );
  });
}

test('a domain that is not in its normal form cannot be used', async () => {
  const domains = [{ name: 'Reef.test', keys: member.domains[0]!.keys }];
  assert.equal(
    await openMember(await sealMember({ ...member, domains }, passphrase), passphrase),
    'bad-content',
  );
});
