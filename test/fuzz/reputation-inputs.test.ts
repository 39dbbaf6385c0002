/** What strangers and peers send to the private channel: tokens, frames, signals. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Secp256k1Keypair } from '@atproto/crypto';
import { createServiceJwt } from '@atproto/xrpc-server';
import {
  decodeSignal,
  decodeSignalFrame,
  encodeSignal,
  signSignal,
  verifySignal,
} from '../../appview/labels/signal.ts';
import { Callers } from '../../node/reputation/service-token.ts';
import { Fuzz } from './random.ts';

const fuzz = new Fuzz('reputation-inputs');
const key = await Secp256k1Keypair.create();
const other = await Secp256k1Keypair.create();
const [us, peer] = ['did:web:harbor.test', 'did:web:meadow.test'];
const method = 'email.atmos.reputation.query';
const iat = Math.floor(Date.now() / 1000);
const usual = {
  iss: `${peer}#atproto_labeler`,
  aud: us,
  lxm: method,
  iat,
  exp: iat + 45,
  jti: 'a'.repeat(32),
};

function callersOf(): Callers {
  return new Callers({
    ...{ did: us, now: Date.now, count: () => undefined, refreshKey: () => undefined, startedAt: 0 },
    serves: (did) => did === peer,
    keyOf: () => key.did(),
  });
}

const base64 = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');

async function signed(header: unknown, claims: unknown, by = key): Promise<string> {
  const text = `${base64(header)}.${base64(claims)}`;
  return `${text}.${Buffer.from(await by.sign(Buffer.from(text))).toString('base64url')}`;
}

test('a token that was changed anywhere is nobody’s', async () => {
  const token = await createServiceJwt({ ...usual, keypair: key });
  // The last character of a signature has bits that say nothing.
  const sameBytes = (a: string, b: string) =>
    a.split('.').length === b.split('.').length &&
    a
      .split('.')
      .every((part, n) => Buffer.from(part, 'base64url').equals(Buffer.from(b.split('.')[n]!, 'base64url')));
  for (let left = fuzz.rounds(600, 20); left > 0; left--) {
    const changed = Buffer.from(fuzz.mutate(Buffer.from(token))).toString('latin1');
    const caller = await callersOf().callerOf(`Bearer ${changed}`, method);
    if (!sameBytes(changed, token)) assert.equal(caller, undefined, changed);
  }
  assert.equal(await callersOf().callerOf(`Bearer ${token}`, method), peer);
});

const odd = [
  ...[null, true, 0, -1, 1e300, '', ' ', [], {}, 'none', us, peer, method, `${peer}#atproto_labeler`],
  ...[`${us}#atproto_labeler`, iat, iat + 61, iat - 1, 'a'.repeat(1_000), '\u0000', '__proto__'],
];
const fields = ['iss', 'aud', 'lxm', 'iat', 'exp', 'jti'] as const;

test('a peer that signs nonsense is nobody, unless the claims are right; a stranger always is', async () => {
  for (let left = fuzz.rounds(600, 20); left > 0; left--) {
    const claims: Record<string, unknown> = { ...usual };
    const header = { typ: 'JWT', alg: 'ES256K' };
    for (let n = fuzz.below(3); n > 0; n--) {
      const field = fields[fuzz.below(fields.length)]!;
      if (fuzz.below(4) === 0) delete claims[field];
      else claims[field] = odd[fuzz.below(odd.length)];
    }
    const isRight =
      claims.iss === usual.iss &&
      claims.aud === us &&
      claims.lxm === method &&
      Number.isSafeInteger(claims.exp) &&
      (claims.exp as number) > Date.now() / 1000 &&
      (claims.exp as number) <= Date.now() / 1000 + 60 &&
      Number.isSafeInteger(claims.iat) &&
      // Neither of the first seconds of the process nor far ahead.
      (claims.iat as number) > 5 &&
      (claims.iat as number) <= Date.now() / 1000 + 5 &&
      (claims.iat as number) <= (claims.exp as number) &&
      typeof claims.jti === 'string' &&
      claims.jti.length >= 8 &&
      claims.jti.length <= 128;
    const bearer = `Bearer ${await signed(header, claims)}`;
    assert.equal(
      await callersOf().callerOf(bearer, method),
      isRight ? peer : undefined,
      JSON.stringify(claims),
    );
    assert.equal(
      await callersOf().callerOf(`Bearer ${await signed(header, claims, other)}`, method),
      undefined,
    );
  }
});

const signal = await signSignal(
  { ver: 1, src: peer, uri: 'did:plc:reef', val: 'suspended', cts: '2026-06-01T12:00:00.000Z' },
  { reason: 'spam', evidence: 'figures', figures: [{ window: '7d', sends: 9, bounces: 1, complaints: 0 }] },
  key,
);

test('changed bytes are no signal, or one that does not hold, or the one that was signed', () => {
  const bytes = encodeSignal(signal);
  for (let left = fuzz.rounds(3_000, 2); left > 0; left--) {
    const changed = fuzz.mutate(bytes);
    const read = decodeSignal(changed);
    if (read && verifySignal(read, key.did())) assert.deepEqual(read, signal);
    decodeSignalFrame(changed);
  }
});
