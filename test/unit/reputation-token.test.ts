import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createServiceJwt } from '@atproto/xrpc-server';
import { Callers, serviceToken } from '../../node/reputation/service-token.ts';
import { cooperative, harbor, meadow } from './reputation-fixtures.ts';

const peer = await cooperative(meadow);
const stranger = await cooperative('did:web:stranger.test');
const method = 'email.atmos.reputation.query';
const second = 1_000;

/** Harbor, who serves Meadow. */
function harborsCallers(
  o: { serves?: (did: string) => boolean; keys?: Map<string, string>; startedAt?: number } = {},
) {
  const clock = { now: Math.ceil(Date.now() / second) * second };
  const keys = o.keys ?? new Map([[meadow, peer.key.did()]]);
  const asked: string[] = [];
  const refreshed: string[] = [];
  const callers = new Callers({
    did: harbor,
    serves: o.serves ?? ((did) => did === meadow),
    keyOf: (did) => {
      asked.push(did);
      return keys.get(did);
    },
    refreshKey: (did) => refreshed.push(did),
    now: () => clock.now,
    count: () => undefined,
    startedAt: o.startedAt ?? clock.now - 100 * second,
  });
  const call = (token: string, asMethod = method) => callers.callerOf(`Bearer ${token}`, asMethod);
  const claims = (more: object = {}) => {
    const iat = clock.now / second;
    const usual = { iss: `${meadow}#atproto_labeler`, aud: harbor, lxm: method, iat, exp: iat + 30 };
    return createServiceJwt({ ...usual, keypair: peer.key, ...more });
  };
  const good = () => serviceToken({ did: meadow, key: peer.key, to: harbor, method, now: clock.now });
  return { clock, callers, call, claims, good, asked, refreshed, keys };
}

test('a peer is known by its token', async () => {
  const { call, good } = harborsCallers();
  assert.equal(await call(await good()), meadow);
});

test('a token is good once', async () => {
  const { call, good } = harborsCallers();
  const token = await good();
  assert.equal(await call(token), meadow);
  assert.equal(await call(token), undefined);
});

test('two calls at the same moment with one token are one call', async () => {
  const { call, good } = harborsCallers();
  const token = await good();
  const answers = await Promise.all([call(token), call(token), call(token)]);
  assert.deepEqual(answers.filter(Boolean), [meadow]);
});

const iatOf = (clock: { now: number }) => clock.now / second;
const refused: [string, (clock: { now: number }) => object][] = [
  ['for another audience', () => ({ aud: meadow })],
  ['for the audience with a fragment', () => ({ aud: `${harbor}#atproto_labeler` })],
  ['for another method', () => ({ lxm: 'email.atmos.reputation.subscribe' })],
  ['for no method', () => ({ lxm: null })],
  ['whose issuer is a bare DID', () => ({ iss: meadow })],
  ['whose issuer is another service of the peer', () => ({ iss: `${meadow}#atproto` })],
  ['of a stranger', () => ({ iss: `${stranger.did}#atproto_labeler`, keypair: stranger.key })],
  ['with a key of somebody else', () => ({ keypair: stranger.key })],
  ['that lives longer than a minute', (clock) => ({ exp: iatOf(clock) + 61 })],
  ['that is over', (clock) => ({ iat: iatOf(clock) - 60, exp: iatOf(clock) })],
  ['from before this process began', (clock) => ({ iat: iatOf(clock) - 101, exp: iatOf(clock) + 5 })],
  ['of the first seconds of this process', (clock) => ({ iat: iatOf(clock) - 96, exp: iatOf(clock) + 5 })],
  ['of a clock that is far ahead', (clock) => ({ iat: iatOf(clock) + 6, exp: iatOf(clock) + 36 })],
];
for (const [which, more] of refused) {
  test(`a token ${which} is refused`, async () => {
    const { call, claims, clock } = harborsCallers();
    assert.equal(await call(await claims(more(clock))), undefined);
    // The same token without the fault is good, so the fault it was.
    assert.equal(await call(await claims()), meadow);
  });
}

test('no token, half a token and a long one are refused', async () => {
  const { callers, call, good } = harborsCallers();
  const token = await good();
  for (const header of [undefined, '', 'Bearer ', `Basic ${token}`, `Bearer ${token} `, `Bearer ${token}.x`])
    assert.equal(await callers.callerOf(header, method), undefined);
  assert.equal(await call(`${'a'.repeat(3_000)}.b.c`), undefined);
  assert.equal(await call(token.slice(0, -4)), undefined);
});

test('of a stranger nothing is asked of the network', async () => {
  const { call, claims, asked, refreshed } = harborsCallers();
  await call(await claims({ iss: `${stranger.did}#atproto_labeler`, keypair: stranger.key }));
  assert.deepEqual([asked, refreshed], [[], []]);
});

test('a key that the network cannot give is a refusal', async () => {
  const { call, good, keys } = harborsCallers();
  keys.clear();
  assert.equal(await call(await good()), undefined);
});

test('a changed key is asked for in the background, and counts with the next token', async () => {
  const { call, good, keys, refreshed } = harborsCallers();
  keys.set(meadow, stranger.key.did());
  assert.equal(await call(await good()), undefined);
  assert.deepEqual(refreshed, [meadow]);
  keys.set(meadow, peer.key.did());
  assert.equal(await call(await good()), meadow);
});

test('a peer has sixty calls a minute, and a stranger’s calls cost it none', async () => {
  const { call, good, claims, clock } = harborsCallers();
  for (let n = 0; n < 100; n++) await call(await claims({ keypair: stranger.key }));
  const answers: (string | undefined)[] = [];
  for (let n = 0; n < 61; n++) answers.push(await call(await good()));
  assert.deepEqual(answers.filter((answer) => answer === undefined).length, 1);
  clock.now += second;
  assert.equal(await call(await good()), meadow);
});

test('a token that was used before a restart is refused after it, also when the peer’s clock is ahead', async () => {
  const { callers, clock } = harborsCallers();
  for (let ahead = 0; ahead <= 30; ahead++) {
    const token = await serviceToken({
      ...{ did: meadow, key: peer.key, to: harbor, method },
      now: clock.now + ahead * second,
    });
    if (!(await callers.callerOf(`Bearer ${token}`, method))) continue;
    const restarted = harborsCallers({ startedAt: clock.now + 1 });
    restarted.clock.now = clock.now + second;
    assert.equal(await restarted.call(token), undefined, `${ahead} s ahead`);
  }
});

test('a peer whose clock is some seconds ahead is known', async () => {
  const { call, clock } = harborsCallers();
  const now = clock.now + 5 * second;
  assert.equal(
    await call(await serviceToken({ did: meadow, key: peer.key, to: harbor, method, now })),
    meadow,
  );
});
