/** The five checks over real DNS: Unbound resolves from a root of our own, NSD serves what strangers publish. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type CheckName, domainChecks } from '../../node/labeler/checks.ts';
import { DnsMemory } from '../../node/labeler/dns-memory.ts';
import { dkimRecord } from '../unit/labeler-fixtures.ts';
import { type DnsTree, skipDnsTree, startDnsTree } from './dns-tree.ts';

const did = 'did:plc:reef';
const [ed, key] = [dkimRecord.slice(0, 30), dkimRecord.slice(30)];

/** A member whose records lie in three zones, a lame one, and a provider. */
const zones = {
  'reef.test': `
_atproto IN TXT "did=${did}"
@ IN MX 10 mx
mx IN A 192.0.2.7
@ IN TXT "some-site-verification=x"
@ IN TXT "v=spf1 include:_spf." "provider.test -all"
_dmarc IN TXT "v=DMARC1; p=none; " "sp=reject"
s1._domainkey IN TXT "${ed}" "${key}"
s2._domainkey IN CNAME reef.keys.provider.test.
s3._domainkey IN CNAME nowhere.provider.test.
_domainkey.news IN NS ns.zones.
news IN MX 10 mx
news IN TXT "v=spf1 redirect=_spf.provider.test"
_atproto.news IN TXT "did=${did}"
open IN TXT "v=spf1 include:_spf.open.test -all"
dead IN TXT "v=spf1 include:dead.test ~all"
refused IN TXT "v=spf1 include:refused.test ~all"
`,
  '_domainkey.news.reef.test': `s1 IN CNAME s1._domainkey.reef.test.\n`,
  'provider.test': `
_spf IN TXT "v=spf1 ip4:198.51.100.0/24 include:_spf2.provider.test ~all"
_spf2 IN CNAME spf.elsewhere.test.
reef.keys IN TXT "${ed}" "${key}"
`,
  'elsewhere.test': `spf IN TXT "v=spf1 ip4:203.0.113.0/24 -all"\n`,
  'open.test': `_spf IN TXT "v=spf1 a" "ll"\n`,
};
/** One server is not there, the other serves something else. */
const lame = `
dead.test. IN NS ns.dead.
ns.dead. IN A 127.83.255.254
refused.test. IN NS ns.zones.`;

let tree: DnsTree;
before(async () => {
  if (!skipDnsTree) tree = await startDnsTree(zones, lame);
});
after(() => tree?.stop());

async function check(domain: string, selectors = ['s1']) {
  const control = { identities: { resolve: async () => ({ did }) } };
  const memory = new DnsMemory(tree.resolver, Date.now);
  const results = await domainChecks({ resolver: tree.resolver, memory, control, now: Date.now })({
    ...{ did, domain, selectors },
  });
  const one = (name: CheckName) => results.find(({ check }) => check === name)!;
  return { verdicts: results.map((result) => `${result.check} ${result.verdict}`), one };
}

test('a key in two strings, an alias into another zone, a delegation: all are followed', {
  skip: skipDnsTree,
}, async () => {
  const { verdicts, one } = await check('reef.test', ['s1', 's2']);
  assert.deepEqual(verdicts, [
    ...['control passed', 'mx passed', 'spf passed', 'dkim passed', 'dmarc failed'],
  ]);
  const aliased = one('dkim').observations.find(({ asked }) => asked.startsWith('TXT s2.'))!;
  assert.equal(aliased.alias, 'reef.keys.provider.test');
  assert.deepEqual(aliased.records, [dkimRecord]);
  assert.deepEqual(
    one('spf').observations.map(({ asked, alias }) => alias ?? asked),
    ['TXT reef.test', 'TXT _spf.provider.test', 'spf.elsewhere.test'],
  );
});

test('a subdomain with a delegated _domainkey and the policy of its organisation passes', {
  skip: skipDnsTree,
}, async () => {
  const { verdicts, one } = await check('news.reef.test');
  assert.deepEqual(verdicts, ['control passed', 'mx passed', 'spf passed', 'dkim passed', 'dmarc passed']);
  assert.equal(one('dmarc').reason, 'DMARC sp=reject at reef.test');
  assert.equal(one('dkim').observations[0]!.alias, 's1._domainkey.reef.test');
});

test('a bare "all" in two strings behind an include is +all', { skip: skipDnsTree }, async () => {
  const { one } = await check('open.reef.test');
  assert.equal(one('spf').verdict, 'failed');
  assert.match(one('spf').reason, /has "all" at _spf\.open\.test .*, which lets everyone send/);
});

test('an alias that leads nowhere is no key, which is an answer', { skip: skipDnsTree }, async () => {
  const { one } = await check('reef.test', ['s3']);
  assert.equal(one('dkim').verdict, 'failed');
  assert.equal(one('dkim').observations[0]!.answer, 'nxdomain');
});

for (const name of ['dead', 'refused']) {
  test(`a zone that is delegated to a server that is ${name} is a silence`, {
    skip: skipDnsTree,
  }, async () => {
    const { one } = await check(`${name}.reef.test`);
    assert.equal(one('spf').verdict, 'undecided', one('spf').reason);
    assert.match(one('spf').reason, new RegExp(`^DNS did not answer for ${name}\\.test: `));
  });
}
