/** MTA-STS as its attacker sees it: silence, lies and other people's addresses change nothing. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FetchFailed, type GuardedFetch, guardedFetch } from '../../appview/identity/fetch.ts';
import { MtaSts, permits } from '../../node/delivery/mta-sts.ts';
import type { Answer } from '../../node/resolver.ts';

const day = 86_400_000;
const record = (id: string): Answer<string> => ({
  server: '',
  kind: 'found',
  records: [`v=STSv1; id=${id};`],
});
const none: Answer<string> = { server: '', kind: 'none' };
const down: Answer<string> = { server: '', kind: 'failed', reason: 'SERVFAIL' };
const policy = (mode: string, maxAge = 604_800, mx = 'mx: *.dest.test\r\n') =>
  `version: STSv1\r\nmode: ${mode}\r\n${mx}max_age: ${maxAge}\r\n`;

/** A domain whose record and policy the test changes. `body` undefined: the web server does not answer. */
function world() {
  const here = {
    txt: record('1') as Answer<string>,
    status: 200,
    type: 'text/plain; charset=utf-8',
    body: policy('enforce') as string | undefined,
    now: 1_700_000_000_000,
    fetched: [] as string[],
    asked: [] as string[],
    counts: [] as string[],
  };
  const fetch: GuardedFetch = (url) => {
    here.fetched.push(url);
    const { body, status, type } = here;
    if (body === undefined) return Promise.reject(new FetchFailed('down'));
    return Promise.resolve({ status, headers: { 'content-type': type }, body: Buffer.from(body) });
  };
  const txt = (name: string) => {
    here.asked.push(name);
    return Promise.resolve(here.txt);
  };
  const mtaSts = new MtaSts({
    resolver: { txt },
    fetch,
    now: () => here.now,
    count: (what, reason) => here.counts.push(`${what} ${reason}`),
  });
  const mode = async () => {
    const found = await mtaSts.policyOf('dest.test');
    return found.kind === 'policy' ? found.policy.mode : found.kind;
  };
  return { here, mtaSts, mode };
}

test('a policy is found where the RFC says, and remembered', async () => {
  const { here, mtaSts, mode } = world();
  assert.equal(await mode(), 'enforce');
  assert.equal(await mode(), 'enforce');
  assert.deepEqual(await mtaSts.policyOf('dest.test'), {
    kind: 'policy',
    policy: { mode: 'enforce', mx: ['*.dest.test'] },
  });
  assert.deepEqual(here.fetched, ['https://mta-sts.dest.test/.well-known/mta-sts.txt']);
  assert.equal(here.asked[0], '_mta-sts.dest.test');
  assert.deepEqual(here.counts, ['mta_sts_fetches enforce']);
});

test('ten messages at once ask once', async () => {
  const { here, mode } = world();
  await Promise.all(Array.from({ length: 10 }, mode));
  assert.deepEqual([here.fetched.length, here.asked.length], [1, 1]);
});

const texts = (...records: string[]): Answer<string> => ({ server: '', kind: 'found', records });
const silences: [claim: string, silence: Partial<ReturnType<typeof world>['here']>][] = [
  ['the TXT record is gone', { txt: none }],
  ['DNS does not answer', { txt: down }],
  ['the record is garbage', { txt: texts('v=STSv1 nonsense') }],
  ['there are two records', { txt: texts('v=STSv1; id=1;', 'v=STSv1; id=2;') }],
  ['a new id comes without a web server', { txt: record('2'), body: undefined }],
  ['a new id comes with a 404', { txt: record('2'), status: 404 }],
  ['a new id comes with a redirect', { txt: record('2'), status: 302 }],
  ['a new id comes with garbage', { txt: record('2'), body: 'hello' }],
  ['a new id comes as HTML', { txt: record('2'), type: 'text/html' }],
];
for (const [claim, silence] of silences) {
  test(`a policy stays in force until its end although ${claim}`, async () => {
    const { here, mode } = world();
    await mode();
    Object.assign(here, silence);
    for (const at of [1_000, day, 3 * day, 6.9 * day]) {
      here.now = 1_700_000_000_000 + at;
      assert.equal(await mode(), 'enforce');
    }
    here.now += day;
    assert.notEqual(await mode(), 'enforce');
  });
}

test('a new id is a new policy at once', async () => {
  const { here, mode } = world();
  await mode();
  here.body = policy('none', 86_400, '');
  assert.equal(await mode(), 'enforce', 'the same id is not fetched again');
  here.txt = record('2');
  assert.equal(await mode(), 'none');
});

test('a policy in use is fetched again each day, so that it does not end', async () => {
  const { here, mode } = world();
  for (let n = 0; n < 30; n++) {
    assert.equal(await mode(), 'enforce');
    here.now += day;
  }
  assert.equal(here.fetched.length, 30);
});

test('a fetch that fails is not repeated for five minutes, and the domain counts as unknown', async () => {
  const { here, mode } = world();
  here.body = undefined;
  assert.equal(await mode(), 'unknown');
  here.now += 299_000;
  assert.equal(await mode(), 'unknown');
  assert.equal(here.fetched.length, 1);
  here.now += 1_000;
  here.body = policy('testing');
  assert.equal(await mode(), 'testing');
});

test('no record is no policy, and DNS that fails is no knowledge', async () => {
  for (const [txt, kind] of [
    [none, 'none'],
    [down, 'unknown'],
  ] as const) {
    const { here, mode } = world();
    here.txt = txt;
    assert.equal(await mode(), kind);
    assert.deepEqual(here.fetched, []);
  }
});

const malformed: [string, string][] = [
  ['no version', 'mode: enforce\r\nmx: a.test\r\nmax_age: 60\r\n'],
  ['enforce without mx', policy('enforce', 60, '')],
  ['an unknown mode', policy('please')],
  ['a max_age beyond a year', policy('enforce', 99_999_999)],
  ['a mx that is a URL', policy('enforce', 60, 'mx: https://dest.test\r\n')],
];
for (const [claim, body] of malformed) {
  test(`a policy with ${claim} is none`, async () => {
    const { here, mode } = world();
    here.body = body;
    assert.equal(await mode(), 'unknown');
  });
}

test('the memory is bounded', async () => {
  const fetched: string[] = [];
  const mtaSts = new MtaSts({
    resolver: { txt: () => Promise.resolve(record('1')) },
    fetch: (url) => {
      fetched.push(url);
      const headers = { 'content-type': 'text/plain' };
      return Promise.resolve({ status: 200, headers, body: Buffer.from(policy('enforce')) });
    },
    now: () => 0,
    count: () => undefined,
    maxEntries: 3,
  });
  // The first one is used again and again, so it is never the one that is forgotten.
  for (let n = 0; n < 20; n++) {
    await mtaSts.policyOf('first.test');
    await mtaSts.policyOf(`d${n}.test`);
  }
  assert.equal(fetched.filter((url) => url.includes('first')).length, 1);
  await mtaSts.policyOf('d0.test');
  assert.equal(fetched.filter((url) => url.includes('d0.')).length, 2);
});

test('a policy host inside our network is never connected to', async () => {
  const lookup = () => Promise.resolve(['10.0.0.1', '127.0.0.1', '169.254.169.254', '::1']);
  const mtaSts = new MtaSts({
    resolver: { txt: () => Promise.resolve(record('1')) },
    fetch: guardedFetch({ allowLoopback: false, loopbackOnly: false, lookup }),
    now: () => 0,
    count: () => undefined,
  });
  assert.equal((await mtaSts.policyOf('dest.test')).kind, 'unknown');
});

const patterns: [mx: string, host: string, permitted: boolean][] = [
  ['mx.dest.test', 'mx.dest.test', true],
  ['mx.dest.test', 'MX.Dest.Test.', true],
  ['mx.dest.test', 'mx2.dest.test', false],
  ['*.dest.test', 'mx.dest.test', true],
  ['*.dest.test', 'a.mx.dest.test', false],
  ['*.dest.test', 'dest.test', false],
  ['*.dest.test', 'mx.evil-dest.test', false],
];
for (const [mx, host, permitted] of patterns) {
  test(`${mx} ${permitted ? 'permits' : 'does not permit'} ${host}`, () => {
    assert.equal(permits({ mode: 'enforce', mx: [mx] }, host), permitted);
  });
}
