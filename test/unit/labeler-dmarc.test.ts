/** DMARC at the domain and at its organisation: records as tables. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkDmarc, organisationalDomain } from '../../node/labeler/dmarc.ts';
import type { Verdict } from '../../node/labeler/finding.ts';
import { Witness } from '../../node/labeler/witness.ts';
import { type DnsTable, tableResolver } from './labeler-fixtures.ts';

async function check(domain: string, dns: DnsTable) {
  const witness = new Witness(tableResolver(dns), () => 0);
  const finding = await checkDmarc(domain, witness);
  return { ...finding, asked: witness.observations.map(({ asked }) => asked) };
}

type Case = [records: string[], verdict: Verdict, because?: RegExp, notes?: RegExp[]];

const own: Case[] = [
  [['v=DMARC1; p=quarantine'], 'passed', /^DMARC p=quarantine$/],
  [['v=DMARC1; p=reject; rua=mailto:d@reef.test'], 'passed'],
  [['v=DMARC1;p=REJECT;'], 'passed'],
  [['V = DMARC1 ; P = reject'], 'passed'],
  // As their owners publish them, in shape.
  [['v=DMARC1; p=reject; rua=mailto:mailauth-reports@google.com'], 'passed'],
  [['v=DMARC1; p=quarantine; pct=100; rua=mailto:d@example.com!10m,mailto:x@rua.agari.com; fo=1'], 'passed'],
  [['v=DMARC1;p=reject;sp=reject;adkim=s;aspf=s;rua=mailto:x@dmarc-reports.cloudflare.net;'], 'passed'],
  [
    ['v=DMARC1; p=none; rua=mailto:dmarc@mailinblue.com!10m; ruf=mailto:r@mailinblue.com!10m; rf=afrf'],
    'failed',
  ],
  [['v=DMARC1; p=reject; rua=mailto:d@example.com; ruf=mailto:d@example.com; fo=0:1:d:s; ri=3600'], 'passed'],
  [['v=DMARC1; p=none'], 'failed', /p=none; quarantine or reject is expected/],
  [['something', 'v=DMARC1; p=reject'], 'passed'],
  [['v=DMARC1; p=reject; sp=none; aspf=s; adkim=s; fo=1; ri=86400'], 'passed'],
  [['v=DMARC1; broken; =x; p=reject; p=none; unknown=1'], 'passed'],
  [['v=DMARC1; p=reject; pct=50'], 'passed', /reject/, [/pct=50: only a part/]],
  [['v=DMARC1; p=reject; pct=0'], 'passed', /reject/, [/pct=0/]],
  [['v=DMARC1; p=reject; pct=lots'], 'passed', /reject/, []],
  [['v=DMARC1; p=quarantine; t=y'], 'passed', /quarantine/, [/test/]],
  [['v=DMARC1; p=quarantine; pct=0'], 'failed', /applies to no message/],
  [[], 'failed', /no DMARC/],
  [['v=dmarc1; p=reject'], 'failed', /no DMARC/],
  [['v=DMARC10; p=reject'], 'failed', /no DMARC/],
  [['p=reject; v=DMARC1'], 'failed', /no DMARC/],
  [['v=DMARC1'], 'failed', /p=\(none\) is no policy/],
  [['v=DMARC1; sp=reject'], 'failed', /p=\(none\) is no policy/],
  [['v=DMARC1; p=rejected'], 'failed', /p=rejected is no policy/],
  [['v=DMARC1; p=rejected; rua=mailto:d@reef.test'], 'failed', /p=rejected counts as p=none/],
  [['v=DMARC1; p=reject; sp=all; rua=mailto:d@reef.test'], 'failed', /sp=all counts as p=none/],
  [['v=DMARC1; p=reject', 'v=DMARC1; p=none'], 'failed', /2 DMARC records; leave one/],
];
for (const [records, verdict, because = /./, notes] of own) {
  test(`${JSON.stringify(records)} at the domain is ${verdict}`, async () => {
    const finding = await check('reef.test', { 'TXT _dmarc.reef.test': records });
    assert.equal(finding.verdict, verdict, finding.reason);
    assert.match(finding.reason, because);
    if (notes) assert.equal(finding.notes?.length ?? 0, notes.length);
    for (const [i, note] of (notes ?? []).entries()) assert.match(finding.notes![i]!, note);
  });
}

const inherited: Record<string, [sub: string[] | 'fail', organisation: string[] | 'fail', Verdict, RegExp?]> =
  {
    'its own record outweighs that of the organisation': [
      ['v=DMARC1; p=none'],
      ['v=DMARC1; p=reject'],
      'failed',
    ],
    'and its own sp= is not its own policy': [['v=DMARC1; p=reject; sp=none'], [], 'passed'],
    'the organisation speaks where it has none': [
      [],
      ['v=DMARC1; p=reject'],
      'passed',
      /p=reject at reef\.test/,
    ],
    'with sp= before p=': [[], ['v=DMARC1; p=reject; sp=none'], 'failed', /sp=none at reef\.test/],
    'also to its good': [[], ['v=DMARC1; p=none; sp=quarantine'], 'passed', /sp=quarantine at reef\.test/],
    'nobody speaks': [[], [], 'failed', /no DMARC/],
    'a record of something else is none': [['v=spf1 -all'], ['v=DMARC1; p=reject'], 'passed'],
    'two of its own are not replaced by one': [
      ['v=DMARC1; p=reject', 'v=DMARC1; p=reject; pct=1'],
      ['v=DMARC1; p=reject'],
      'failed',
    ],
    'silence at the domain is undecided': ['fail', ['v=DMARC1; p=reject'], 'undecided'],
    'silence at the organisation is undecided': [[], 'fail', 'undecided'],
  };
for (const [claim, [sub, organisation, verdict, because = /./]] of Object.entries(inherited)) {
  test(`for a subdomain: ${claim}`, async () => {
    const finding = await check('mail.news.reef.test', {
      'TXT _dmarc.mail.news.reef.test': sub,
      'TXT _dmarc.reef.test': organisation,
    });
    assert.equal(finding.verdict, verdict, finding.reason);
    assert.match(finding.reason, because);
    assert.ok(!finding.asked.includes('TXT _dmarc.news.reef.test'), 'what lies between is not asked');
  });
}

const organisations: [domain: string, organisation: string][] = [
  ['reef.test', 'reef.test'],
  ['a.b.reef.test', 'reef.test'],
  ['mail.example.co.uk', 'example.co.uk'],
  ['example.co.uk', 'example.co.uk'],
  ['co.uk', 'co.uk'],
  ['shop.example.com.br', 'example.com.br'],
  ['a.b.c.kobe.jp', 'b.c.kobe.jp'],
  ['www.city.kobe.jp', 'city.kobe.jp'],
  ['news.reef.github.io', 'reef.github.io'],
  ['reef.github.io', 'reef.github.io'],
  ['mail.xn--85x722f.xn--55qx5d.cn', 'xn--85x722f.xn--55qx5d.cn'],
  ['post.xn--fiqs8s', 'post.xn--fiqs8s'],
  ['mail.post.xn--fiqs8s', 'post.xn--fiqs8s'],
];
for (const [domain, organisation] of organisations) {
  test(`the organisation of ${domain} is ${organisation}`, () => {
    assert.equal(organisationalDomain(domain), organisation);
  });
}
