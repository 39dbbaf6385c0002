/** The five checks over a DNS world in a table: verdicts, silence, handles, evidence. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { IdentityNotFound, IdentityUnavailable } from '../../appview/identity/did.ts';
import { FetchFailed, FetchRefused, type GuardedFetch } from '../../appview/identity/fetch.ts';
import { type CheckName, type CheckResult, domainChecks } from '../../node/labeler/checks.ts';
import type { ControlSources } from '../../node/labeler/domain-control.ts';
import { overall, type Verdict } from '../../node/labeler/finding.ts';
import { type DnsTable, dkimRecord, goodDns, tableResolver } from './labeler-fixtures.ts';

const did = 'did:plc:reef';
const subject = { did, domain: 'reef.test', selectors: ['s1'] };
const noHandle: ControlSources = { identities: { resolve: async () => ({ did }) } };

function run(
  change: DnsTable,
  options: { selectors?: string[]; control?: ControlSources } = {},
): Promise<CheckResult[]> {
  const resolver = tableResolver({ ...goodDns('reef.test', did), ...change });
  const check = domainChecks({
    resolver,
    control: options.control ?? noHandle,
    now: () => 1_700_000_000_000,
  });
  return check({ ...subject, selectors: options.selectors ?? subject.selectors });
}

function verdictOf(results: CheckResult[], name: CheckName): Verdict {
  return results.find(({ check }) => check === name)!.verdict;
}

test('a domain whose five records are right passes', async () => {
  const results = await run({});
  assert.deepEqual(
    results.map(({ check, verdict }) => [check, verdict]),
    ['control', 'mx', 'spf', 'dkim', 'dmarc'].map((check) => [check, 'passed']),
  );
  assert.equal(overall(results), 'passed');
});

const broken: [name: CheckName, change: DnsTable][] = [
  ['control', { 'TXT _atproto.reef.test': ['did=did:plc:other'] }],
  ['mx', { 'MX reef.test': ['0 .'] }],
  ['mx', { 'MX reef.test': [] }],
  ['spf', { 'TXT reef.test': ['v=spf1 +all'] }],
  ['dkim', { 'TXT s1._domainkey.reef.test': ['v=DKIM1; p='] }],
  ['dmarc', { 'TXT _dmarc.reef.test': ['v=DMARC1; p=none'] }],
];
for (const [name, change] of broken) {
  test(`${JSON.stringify(change)} fails ${name}, and only that`, async () => {
    const results = await run(change);
    const failed = results.filter(({ verdict }) => verdict === 'failed').map(({ check }) => check);
    assert.deepEqual(failed, [name]);
    assert.equal(overall(results), 'failed');
  });
}

for (const key of Object.keys(goodDns('reef.test', did))) {
  test(`a server that does not answer "${key}" decides nothing`, async () => {
    const results = await run({ [key]: 'fail' });
    assert.equal(overall(results), 'undecided');
    assert.equal(results.filter(({ verdict }) => verdict === 'failed').length, 0);
  });
}

test('a failure that is certain outweighs a silence elsewhere', async () => {
  const results = await run({ 'TXT _dmarc.reef.test': 'fail', 'MX reef.test': [] });
  assert.equal(overall(results), 'failed');
});

test('every declared selector counts: one revoked key among good ones fails, and is named', async () => {
  const change: DnsTable = {
    'TXT s2._domainkey.reef.test': ['v=DKIM1; p='],
    'TXT s3._domainkey.reef.test': [dkimRecord],
  };
  const dkim = (await run(change, { selectors: ['s1', 's2', 's3'] })).find(({ check }) => check === 'dkim')!;
  assert.equal(dkim.verdict, 'failed');
  assert.match(dkim.reason, /s2.*revoked/);
  assert.equal(dkim.observations.length, 3);
});

test('the evidence says what was asked, of whom, what came back and when', async () => {
  const mx = (await run({})).find(({ check }) => check === 'mx')!;
  assert.deepEqual(mx.observations, [
    {
      asked: 'MX reef.test',
      server: '127.0.0.1:53',
      answer: 'found',
      records: ['10 mx.reef.test'],
      at: 1_700_000_000_000,
    },
  ]);
});

test("a stranger's zone does not fill the evidence", async () => {
  const flood = Array.from({ length: 500 }, () => 'x'.repeat(5_000));
  const spf = (await run({ 'TXT reef.test': flood })).find(({ check }) => check === 'spf')!;
  assert.equal(spf.observations[0]!.records.length, 8);
  assert.ok(JSON.stringify(spf).length < 10_000);
});

type WellKnown = { status: number; body: string } | Error;
type HandleCase = {
  claim: string;
  handle?: string | Error;
  wellKnown?: WellKnown | 'not provided';
  txt?: string[] | 'fail';
  address?: string[] | 'fail';
  expect: Verdict;
};

const handleCases: HandleCase[] = [
  { claim: 'proved from both sides is control', expect: 'passed' },
  { claim: 'in capitals is the same handle', handle: 'Reef.Test', expect: 'passed' },
  { claim: 'proved by https outweighs a silent DNS', txt: 'fail', expect: 'passed' },
  {
    claim: 'is not asked where the TXT record names another DID',
    txt: ['did=did:plc:other'],
    expect: 'failed',
  },
  {
    claim: 'is not asked where the TXT records name two DIDs',
    txt: ['did=did:plc:reef', 'did=did:plc:other'],
    expect: 'failed',
  },
  { claim: 'is asked where the TXT record says something else', txt: ['hello'], expect: 'passed' },
  { claim: 'that the DID document does not claim is no control', handle: 'orchard.test', expect: 'failed' },
  {
    claim: 'that only the document claims is no control',
    wellKnown: { status: 404, body: '' },
    expect: 'failed',
  },
  {
    claim: 'whose domain names another DID is no control',
    wellKnown: { status: 200, body: 'did:plc:other' },
    expect: 'failed',
  },
  { claim: 'cannot be proved where nothing may be fetched', wellKnown: 'not provided', expect: 'failed' },
  {
    claim: 'of a domain without an address has no web server to prove it',
    wellKnown: new FetchFailed('ENOTFOUND'),
    address: [],
    expect: 'failed',
  },
  {
    claim: 'of a domain whose address is not told is asked all the same',
    address: 'fail',
    expect: 'passed',
  },
  {
    claim: 'at an address we never fetch is no control',
    wellKnown: new FetchRefused('10.0.0.1'),
    expect: 'failed',
  },
  {
    claim: 'whose server is down is undecided',
    wellKnown: new FetchFailed('ECONNREFUSED'),
    expect: 'undecided',
  },
  { claim: 'whose server errs is undecided', wellKnown: { status: 503, body: '' }, expect: 'undecided' },
  {
    claim: 'of a DID that cannot be resolved now is undecided',
    handle: new IdentityUnavailable('plc'),
    expect: 'undecided',
  },
  {
    claim: 'of a DID that does not exist is no control',
    handle: new IdentityNotFound('tombstone'),
    expect: 'failed',
  },
];

for (const {
  claim,
  handle = 'reef.test',
  wellKnown = { status: 200, body: `${did}\n` },
  txt = [],
  address = ['192.0.2.1'],
  expect,
} of handleCases) {
  test(`a handle ${claim}`, async () => {
    const fetch: GuardedFetch = async (url) => {
      assert.equal(url, 'https://reef.test/.well-known/atproto-did');
      if (wellKnown instanceof Error) throw wellKnown;
      assert.ok(wellKnown !== 'not provided');
      return { status: wellKnown.status, headers: {}, body: Buffer.from(wellKnown.body) };
    };
    const resolve = async () => {
      if (handle instanceof Error) throw handle;
      return { did, handle };
    };
    const control: ControlSources = {
      identities: { resolve },
      ...(wellKnown !== 'not provided' && { fetch }),
    };
    const results = await run({ 'TXT _atproto.reef.test': txt, 'A reef.test': address }, { control });
    assert.equal(verdictOf(results, 'control'), expect);
  });
}

test('a bug in what we are given is not taken for silence', async () => {
  const control: ControlSources = {
    identities: { resolve: () => Promise.reject(new TypeError('a bug')) },
    fetch: () => Promise.reject(new Error('never asked')),
  };
  await assert.rejects(run({ 'TXT _atproto.reef.test': [] }, { control }), TypeError);
});

test('the evidence of a handle holds both directions', async () => {
  const control: ControlSources = {
    identities: { resolve: async () => ({ did, handle: 'reef.test' }) },
    fetch: async () => ({ status: 200, headers: {}, body: Buffer.from(did) }),
  };
  const change: DnsTable = { 'TXT _atproto.reef.test': [], 'A reef.test': ['192.0.2.1'] };
  const { observations } = (await run(change, { control })).find(({ check }) => check === 'control')!;
  assert.deepEqual(
    observations.map(({ asked, server, records }) => [asked, server, ...records]),
    [
      ['TXT _atproto.reef.test', '127.0.0.1:53'],
      [`handle of ${did}`, 'its DID document', 'reef.test'],
      ['A reef.test', '127.0.0.1:53', '192.0.2.1'],
      ['AAAA reef.test', '127.0.0.1:53'],
      ['https://reef.test/.well-known/atproto-did', 'reef.test', did],
    ],
  );
});

test("strangers' zones of every kind together leave a bounded amount of evidence", async () => {
  const flood = Array.from({ length: 500 }, () => 'x'.repeat(5_000));
  const selectors = Array.from({ length: 10 }, (_, i) => `s${i}`);
  const change = Object.fromEntries(selectors.map((s) => [`TXT ${s}._domainkey.reef.test`, flood]));
  const results = await run({ ...change, 'TXT reef.test': flood, 'MX reef.test': flood }, { selectors });
  assert.ok(JSON.stringify(results).length < 60_000, `${JSON.stringify(results).length}`);
});
