/** @atproto/crypto is the oracle: whatever we say of a signature, it says too. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import {
  type Keypair,
  verifySignature as oracle,
  P256Keypair,
  parseDidKey,
  Secp256k1Keypair,
} from '@atproto/crypto';
import { nodeVerifier } from '../../appview/identity/curves.ts';
import { verifySignature } from '../../appview/identity/signature.ts';

const order = {
  k256: 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n,
  p256: 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n,
};

type Verify = (message: Uint8Array, signature: Uint8Array) => boolean;
type Subject = { name: string; curve: 'k256' | 'p256'; key: Keypair; verify: Verify };

const k256 = await Secp256k1Keypair.create();
const p256 = await P256Keypair.create();

const subjects: Subject[] = [
  { name: 'k256 by the engine of this machine', curve: 'k256', key: k256, verify: verifierOf(k256) },
  { name: 'P-256', curve: 'p256', key: p256, verify: verifierOf(p256) },
  {
    name: 'k256 by node:crypto, where the native module does not load',
    curve: 'k256',
    key: k256,
    verify: nodeVerifier('k256', parseDidKey(k256.did()).keyBytes),
  },
];

function verifierOf(key: Keypair): Verify {
  return (message, signature) => verifySignature(key.did(), message, signature);
}

for (const { name, curve, key, verify } of subjects) {
  describe(name, () => {
    test('takes what the key signed and the oracle takes', async () => {
      for (const length of [0, 1, 55, 64, 1000]) {
        const message = randomBytes(length);
        const signature = await key.sign(message);
        assert.equal(await oracle(key.did(), message, signature), true);
        assert.equal(verify(message, signature), true);
      }
    });

    test('refuses a signature in which any byte is another', async () => {
      const message = randomBytes(100);
      const signature = await key.sign(message);
      for (let at = 0; at < 64; at++) {
        const changed = Buffer.from(signature);
        changed[at]! ^= 1 << (at % 8);
        assert.equal(verify(message, changed), false, `byte ${at}`);
      }
      assert.equal(verify(randomBytes(100), signature), false);
    });

    test('refuses the same signature with a high S, as the oracle does', async () => {
      const message = randomBytes(100);
      const high = highS(await key.sign(message), order[curve]);
      assert.equal(await oracle(key.did(), message, high), false);
      assert.equal(verify(message, high), false);
      assert.equal(verify(message, await key.sign(message)), true, 'the low one is good');
    });

    test('refuses numbers outside of the group and other lengths, and throws at none', async () => {
      const message = randomBytes(100);
      const good = Buffer.from(await key.sign(message));
      const zero = Buffer.alloc(32);
      const full = Buffer.alloc(32, 0xff);
      const wrong = [
        Buffer.concat([zero, good.subarray(32)]),
        Buffer.concat([full, good.subarray(32)]),
        Buffer.concat([good.subarray(0, 32), zero]),
        Buffer.concat([good.subarray(0, 32), full]),
        Buffer.alloc(64),
      ];
      for (const signature of wrong) assert.equal(verify(message, signature), false);
      for (const length of [0, 63, 65, 72]) {
        assert.equal(verifySignature(key.did(), message, Buffer.alloc(length, 1)), false);
      }
    });
  });
}

test('what is no did:key of a curve that atproto uses verifies nothing', async () => {
  const message = randomBytes(10);
  const signature = await k256.sign(message);
  const keys = [
    '',
    'did:key:',
    'did:key:z',
    'did:plc:ewvi7nxzyoun6zhxrhs64oiz',
    'did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK',
    `${k256.did()}x`,
    p256.did(),
  ];
  for (const key of keys) assert.equal(verifySignature(key, message, signature), false, key);
});

function highS(signature: Uint8Array, n: bigint): Buffer {
  const s = BigInt(`0x${Buffer.from(signature.subarray(32)).toString('hex')}`);
  const high = (n - s).toString(16).padStart(64, '0');
  return Buffer.concat([signature.subarray(0, 32), Buffer.from(high, 'hex')]);
}
