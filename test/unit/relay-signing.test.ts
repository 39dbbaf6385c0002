import assert from 'node:assert/strict';
import { test } from 'node:test';
import { makeDkimKeys } from '../../node/members/dkim-keys.ts';
import { Signer, type SigningKey } from '../../node/relay/signing.ts';

const made = await makeDkimKeys('s');
const keys: SigningKey[] = made.map((key) => ({ ...key, domain: 'reef.test' }));
const poolKey: SigningKey = { ...keys.find(({ algorithm }) => algorithm === 'rsa')!, domain: 'harbor.test' };
const message = Buffer.from('From: a@reef.test\r\nSubject: x\r\n\r\nbody\r\n');

function signer(memberKeys: SigningKey[], pool = poolKey): Signer {
  return new Signer({ memberKeys: () => memberKeys, poolKey: pool, now: () => 1_700_000_000_000 });
}

test('three signatures: the domain with RSA and Ed25519, the pool with RSA', async () => {
  const signed = await signer(keys).sign(message, 'reef.test');
  assert.ok(signed.kind === 'signed');
  const header = signed.header.toString().replaceAll('\r\n ', ' ');
  assert.deepEqual(
    [...header.matchAll(/a=([a-z0-9-]+);.*? d=([a-z.]+);/g)].map(([, a, d]) => `${d} ${a}`).sort(),
    ['harbor.test rsa-sha256', 'reef.test ed25519-sha256', 'reef.test rsa-sha256'],
  );
  assert.match(header, /\bt=1700000000\b/);
  assert.ok(signed.header.subarray(-2).equals(Buffer.from('\r\n')));
});

const [ed25519, rsa] = ['ed25519', 'rsa'].map((name) => keys.filter(({ algorithm }) => algorithm === name));
const broken: [name: string, keys: SigningKey[], pool?: SigningKey][] = [
  ['no key', []],
  ['no RSA key', ed25519!],
  ['no Ed25519 key', rsa!],
  ['a key that is none', [...rsa!, { ...ed25519![0]!, privateKey: 'nonsense' }]],
  ['a key of the other kind', [...rsa!, { ...rsa![0]!, algorithm: 'ed25519' }]],
  ['a pool key that is none', keys, { ...poolKey, privateKey: '' }],
  ['a selector that would break out', keys, { ...poolKey, selector: 'a; d=evil.test' }],
];
for (const [name, memberKeys, pool] of broken) {
  test(`with ${name} nothing is signed`, async () => {
    assert.equal((await signer(memberKeys, pool).sign(message, 'reef.test')).kind, 'failed');
  });
}

test('a message without From is not signed', async () => {
  assert.equal((await signer(keys).sign(Buffer.from('Subject: x\r\n\r\n'), 'reef.test')).kind, 'failed');
});

test('our own mail is signed by the pool alone, or not sent', async () => {
  const header = (await signer([]).signForPool(message)).toString();
  assert.equal(header.match(/^DKIM-Signature:/gm)?.length, 1);
  assert.match(header, /d=harbor\.test/);
  await assert.rejects(
    signer([], { ...poolKey, privateKey: '' }).signForPool(message),
    /could not be signed/,
  );
});
