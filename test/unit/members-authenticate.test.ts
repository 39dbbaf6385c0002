import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { openDatabase } from '../../appview/database.ts';
import {
  Authenticator,
  type AuthenticatorOptions,
  type FailedLogin,
} from '../../node/members/authenticate.ts';
import { Members } from '../../node/members/members.ts';
import { Seal } from '../../node/members/seal.ts';
import { nodeMigrations } from '../../node/migrations.ts';

const reef = 'did:plc:reef';

type Options = Partial<
  Pick<
    AuthenticatorOptions,
    'concurrency' | 'maxWaiting' | 'bcryptCost' | 'verify' | 'throttle' | 'maxDelayed' | 'wait'
  >
>;

async function setUp(o: Options = {}) {
  const bcryptCost = o.bcryptCost ?? 4;
  let clock = 1_000_000;
  const counted: string[] = [];
  const waited: number[] = [];
  const reported: FailedLogin[] = [];
  const db = openDatabase(':memory:', nodeMigrations, { synchronous: 'NORMAL' });
  const members = new Members({
    db,
    seal: new Seal(randomBytes(32)),
    poolDomain: 'harbor.test',
    mailHost: 'harbor.test',
    now: () => clock,
    bcryptCost,
  });
  await members.enrol({ did: reef, handle: 'reef.test', domains: [], relay: true });
  const { id, key } = await members.issueApiKey(reef, 'test', { category: 'transactional' });
  const authenticator = new Authenticator({
    credentials: members,
    now: () => clock,
    count: (what, reason) => counted.push(`${what} ${reason}`),
    bcryptCost,
    wait: async (ms) => void waited.push(ms),
    authFailed: (failed) => reported.push(failed),
    ...o,
  });
  const advance = (ms: number): void => {
    clock += ms;
  };
  return { members, authenticator, id, key, counted, waited, reported, advance };
}

test('DID and handle are the same user, in any case and with @', async () => {
  const { authenticator, id, key } = await setUp();
  for (const user of [reef, 'reef.test', '@reef.test', 'REEF.TEST']) {
    assert.deepEqual(await authenticator.authenticate(user, key), {
      kind: 'authenticated',
      principal: { did: reef, keyId: id, defaultCategory: 'transactional' },
    });
  }
});

test('a wrong key fails, whatever is wrong with it', async () => {
  const { authenticator, key, counted } = await setUp();
  const wrong = [
    '',
    'x',
    `${key}x`,
    key.slice(0, -1),
    key.toUpperCase(),
    `atmos_${'0'.repeat(16)}_${'a'.repeat(43)}`,
    `${key.slice(0, 23)}${'a'.repeat(43)}`,
    'x'.repeat(100_000),
    '\0',
  ];
  for (const password of wrong)
    assert.deepEqual(await authenticator.authenticate(reef, password), { kind: 'failed' });
  assert.equal(counted.length, wrong.length);
});

test('a good key under another name is a mismatch, known name or not', async () => {
  const { members, authenticator, key } = await setUp();
  await members.enrol({ did: 'did:plc:orchard', handle: 'orchard.test', domains: [], relay: true });
  for (const user of ['did:plc:orchard', 'orchard.test', 'did:plc:nobody', ''])
    assert.deepEqual(await authenticator.authenticate(user, key), { kind: 'mismatch' });
});

test('a revoked key fails at once, although it was remembered', async () => {
  const { members, authenticator, id, key } = await setUp();
  assert.equal((await authenticator.authenticate(reef, key)).kind, 'authenticated');
  assert.equal(members.revokeApiKey(reef, id), true);
  assert.equal((await authenticator.authenticate(reef, key)).kind, 'failed');
  assert.equal(members.revokeApiKey(reef, id), false);
});

test('use of a key is noted each five minutes, not at every session', async () => {
  const { members, authenticator, key, advance } = await setUp();
  const lastUsed = (): number | null => members.apiKeys(reef)[0]!.lastUsedAt;
  await authenticator.authenticate(reef, key);
  const first = lastUsed();
  advance(60_000);
  await authenticator.authenticate(reef, key);
  assert.equal(lastUsed(), first);
  advance(300_000);
  await authenticator.authenticate(reef, key);
  assert.equal(lastUsed(), first! + 360_000);
});

test('a key that is used daily is let in also from a network that is refused; an unused one is forgotten', async () => {
  const { authenticator, key, advance } = await setUp({ throttle: { blockAfter: 3, forgetMs: 10 ** 9 } });
  const login = async (secret: string) => (await authenticator.authenticate(reef, secret, '192.0.2.1')).kind;
  assert.equal(await login(key), 'authenticated');
  for (let n = 0; n < 4; n++) await login('wrong');
  for (let day = 0; day < 3; day++) {
    advance(23 * 3_600_000);
    assert.deepEqual([await login('wrong'), await login(key)], ['throttled', 'authenticated']);
  }
  advance(24 * 3_600_000);
  assert.equal(await login(key), 'throttled');
});

test('beyond the checks at once and those waiting the answer is busy, and afterwards it works again', async () => {
  const { authenticator, key } = await setUp({ concurrency: 1, maxWaiting: 2 });
  const guesses = Array.from({ length: 6 }, (_, n) => authenticator.authenticate(reef, `guess ${n}`));
  const kinds = (await Promise.all(guesses)).map(({ kind }) => kind);
  assert.deepEqual(kinds, ['failed', 'failed', 'failed', 'busy', 'busy', 'busy']);
  assert.equal((await authenticator.authenticate(reef, key)).kind, 'authenticated');
});

test('many sessions that log in with one key at once pay for one check', async () => {
  const { authenticator, key } = await setUp({ concurrency: 1, maxWaiting: 0 });
  const sessions = Array.from({ length: 50 }, () => authenticator.authenticate(reef, key));
  for (const answer of await Promise.all(sessions)) assert.equal(answer.kind, 'authenticated');
});

test('a wrong key costs one check at full cost, for no account as for a known one', async () => {
  const checked: string[] = [];
  const verify = async (_password: string, hash: string) => {
    checked.push(hash);
    return false;
  };
  const { authenticator, key } = await setUp({ bcryptCost: 5, verify });
  const attempts: [user: string, password: string][] = [
    [reef, `${key.slice(0, 23)}${'a'.repeat(43)}`],
    ['did:plc:nobody', `atmos_${'0'.repeat(16)}_${'a'.repeat(43)}`],
    ['did:plc:nobody', 'password'],
  ];
  for (const [user, password] of attempts) {
    checked.length = 0;
    assert.deepEqual(await authenticator.authenticate(user, password), { kind: 'failed' });
    assert.equal(checked.length, 1);
    assert.match(checked[0]!, /^\$2[aby]\$05\$.{53}$/);
  }
});

test('whoever only guesses does not shut a member out', async () => {
  const { authenticator, key } = await setUp({ concurrency: 1, maxWaiting: 2 });
  const guesses = Array.from({ length: 20 }, (_, n) => authenticator.authenticate(reef, `guess ${n}`));
  assert.equal((await authenticator.authenticate(reef, key)).kind, 'authenticated');
  await Promise.all(guesses);
});

test('a principal is live until its key is revoked', async () => {
  const { authenticator, members, id, key } = await setUp();
  const answer = await authenticator.authenticate(reef, key);
  assert.ok(answer.kind === 'authenticated');
  assert.equal(authenticator.isLive(answer.principal), true);
  members.revokeApiKey(reef, id);
  assert.equal(authenticator.isLive(answer.principal), false);
});

test('whoever knows the id of a key cannot fill the lane of the others with wrong secrets', async () => {
  const { authenticator, members, key } = await setUp({ concurrency: 1, maxWaiting: 8 });
  const { key: other } = await members.issueApiKey(reef, 'other');
  const wrong = (n: number) => key.slice(0, -4) + String(1000 + n);
  const guesses = Array.from({ length: 30 }, (_, n) => authenticator.authenticate(reef, wrong(n)));
  assert.equal((await authenticator.authenticate(reef, other)).kind, 'authenticated');
  const kinds = (await Promise.all(guesses)).map(({ kind }) => kind);
  assert.ok(kinds.includes('busy') && kinds.includes('failed') && !kinds.includes('authenticated'));
});

const home = '192.0.2.1';

test('each further wrong login is answered later, of the address or of the account; typing errors are not', async () => {
  const { authenticator, waited, key } = await setUp();
  const wrong = `${key.slice(0, -4)}aaaa`;
  for (let n = 0; n < 5; n++) await authenticator.authenticate(reef, wrong, home);
  assert.deepEqual(waited, [250, 500, 1000]);
  // Another address, the same account.
  await authenticator.authenticate(reef, wrong, '198.51.100.7');
  assert.deepEqual(waited.splice(0), [250, 500, 1000, 2000]);
  // The same address, another account.
  await authenticator.authenticate('orchard.test', 'nonsense', home);
  assert.deepEqual(waited.splice(0), [2000]);
  // Neither.
  await authenticator.authenticate('kelp.test', 'nonsense', '203.0.113.9');
  assert.deepEqual(waited, []);
});

test('a right key is never kept waiting, whoever guesses at its account, and from the same address', async () => {
  const { authenticator, waited, key } = await setUp({ throttle: { blockAfter: 5 } });
  assert.equal((await authenticator.authenticate(reef, key, home)).kind, 'authenticated');
  for (let n = 0; n < 40; n++) await authenticator.authenticate(reef, `${key.slice(0, -4)}aaaa`, home);
  waited.length = 0;
  assert.equal((await authenticator.authenticate(reef, key, home)).kind, 'authenticated');
  assert.equal((await authenticator.authenticate(reef, key, '198.51.100.7')).kind, 'authenticated');
  assert.deepEqual(waited, []);
});

test('an address that goes on guessing is refused unseen, until half of it is forgotten; an account never', async () => {
  let checks = 0;
  const verify = async () => {
    checks += 1;
    return false;
  };
  const { authenticator, key, advance } = await setUp({
    verify,
    throttle: { blockAfter: 10, forgetMs: 60_000 },
  });
  const guess = (address: string) => authenticator.authenticate(reef, `${key.slice(0, -4)}aaaa`, address);
  for (let n = 0; n < 10; n++) assert.equal((await guess('2001:db8:1:2::5')).kind, 'failed');
  assert.equal(checks, 10);
  assert.equal((await guess('2001:db8:1:2:ffff::9')).kind, 'throttled', 'the same /64');
  assert.equal(checks, 10);
  assert.equal((await guess('2001:db8:1:3::5')).kind, 'failed', 'another one');
  advance(4 * 60_000);
  assert.equal((await guess('2001:db8:1:2::5')).kind, 'throttled');
  advance(60_000);
  assert.equal((await guess('2001:db8:1:2::5')).kind, 'failed');
});

test('answers that are kept back are bounded', async () => {
  const { authenticator } = await setUp({
    ...{ throttle: { delayMs: 1 }, maxDelayed: 2, wait: () => new Promise(() => undefined) },
    verify: async () => false,
  });
  for (let n = 0; n < 2; n++) await authenticator.authenticate(reef, 'nonsense', home);
  for (let n = 0; n < 2; n++) void authenticator.authenticate(reef, 'nonsense', home);
  await new Promise(setImmediate);
  assert.equal((await authenticator.authenticate(reef, 'nonsense', home)).kind, 'busy');
});

test('a wrong login is reported with its address and name, and never with what may be a secret', async () => {
  const { authenticator, reported, key } = await setUp();
  await authenticator.authenticate('@Reef.test', `${key.slice(0, -4)}aaaa`, home);
  await authenticator.authenticate(key, 'x', home);
  await authenticator.authenticate('did:plc:nobody', key);
  assert.deepEqual(reported, [
    { address: home, user: '@Reef.test', did: reef },
    { address: home, user: '', did: undefined },
    { address: undefined, user: 'did:plc:nobody', did: reef },
  ]);
});
