/** What each record must say, as tables. */
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import {
  judgeControlRecord,
  judgeDkim,
  judgeDmarc,
  judgeMx,
  judgeSpf,
} from '../../node/labeler/judgements.ts';
import { parseTagList } from '../../node/labeler/tag-list.ts';

const did = 'did:plc:ewvi7nxzyoun6zhxrhs64oiz';

function rsa(bits: number, type: 'spki' | 'pkcs1' = 'spki'): string {
  const { publicKey } = generateKeyPairSync('rsa', { modulusLength: bits });
  return publicKey.export({ type, format: 'der' }).toString('base64');
}
const { publicKey: edKey } = generateKeyPairSync('ed25519');
const ed25519 = edKey.export({ type: 'spki', format: 'der' }).subarray(-32).toString('base64');
const { publicKey: ecKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const ec = ecKey.export({ type: 'spki', format: 'der' }).toString('base64');
const rsa2048 = rsa(2048);

type Case = [records: string[], verdict: 'passed' | 'failed', because?: string];

function table(
  name: string,
  judge: (records: string[]) => { verdict: string; reason: string },
  cases: Case[],
) {
  for (const [records, verdict, because] of cases) {
    const shown = records.map((text) => (text.length > 60 ? `${text.slice(0, 57)}…` : text));
    test(`${name} ${verdict}: ${JSON.stringify(shown)}`, () => {
      const judgement = judge(records);
      assert.equal(judgement.verdict, verdict, judgement.reason);
      if (because) assert.match(judgement.reason, new RegExp(because));
    });
  }
}

table('control', (records) => judgeControlRecord(records, did), [
  [[`did=${did}`], 'passed'],
  [[`did=${did} `], 'passed'],
  [['google-site-verification=x', `did=${did}`], 'passed'],
  [[`did=${did}`, `did=${did}`], 'passed'],
  [[], 'failed', 'no TXT record'],
  [[did], 'failed', 'no TXT record'],
  [['did=did:plc:someoneelse'], 'failed', 'another DID'],
  [[`did=${did}`, 'did=did:plc:someoneelse'], 'failed', 'several DIDs'],
  [[`did=${did}x`], 'failed'],
]);

table('mx', (records) => judgeMx(records.map((exchange, preference) => ({ exchange, preference }))), [
  [['mx.reef.test'], 'passed'],
  [['mx1.reef.test', 'mx2.reef.test'], 'passed'],
  [[], 'failed', 'no MX'],
  [[''], 'failed', 'null MX'],
]);

table('spf', judgeSpf, [
  [['v=spf1 include:harbor.test ~all'], 'passed'],
  [['v=spf1 -all'], 'passed'],
  [['v=spf1 ?all'], 'passed'],
  [['v=spf1'], 'passed'],
  [['V=SPF1 mx -ALL'], 'passed'],
  [['some text', 'v=spf1 mx -all', 'v=spf10 +all'], 'passed'],
  [['v=spf1 include:all.harbor.test -all'], 'passed'],
  [[], 'failed', 'no SPF'],
  [['v=spf10 -all'], 'failed', 'no SPF'],
  [['spf2.0/pra -all'], 'failed', 'no SPF'],
  [['v=spf1 -all', 'v=spf1 mx -all'], 'failed', '2 SPF records'],
  [['v=spf1 mx +all'], 'failed', 'everyone'],
  [['v=spf1 all'], 'failed', 'everyone'],
  [['v=spf1 mx ALL'], 'failed', 'everyone'],
  [['v=spf1  +all'], 'failed', 'everyone'],
]);

table('dkim', (records) => judgeDkim(records, 's1'), [
  [[`v=DKIM1; k=rsa; p=${rsa2048}`], 'passed'],
  [[`v=DKIM1; p=${rsa2048}`], 'passed'],
  [[`v=DKIM1;p=${rsa2048};`], 'passed'],
  [[`v = DKIM1 ; k = rsa ; p = ${rsa2048.slice(0, 100)} ${rsa2048.slice(100)}`], 'passed'],
  [[`v=DKIM1; p=${rsa(2048, 'pkcs1')}`], 'passed'],
  [[`v=DKIM1; p=${rsa(1024)}`], 'passed'],
  [[`v=DKIM1; k=ed25519; p=${ed25519}`], 'passed'],
  [[`v=DKIM1; s=email; h=sha1:sha256; t=s; p=${rsa2048}`], 'passed'],
  [['unrelated text', `v=DKIM1; p=${rsa2048}`], 'passed'],
  [[], 'failed', 'no DKIM key'],
  [[`p=${rsa2048}`], 'failed', 'no DKIM key'],
  [[`v=DKIM2; p=${rsa2048}`], 'failed', 'no DKIM key'],
  [[`v=DKIM1; v=DKIM1; p=${rsa2048}`], 'failed', 'no DKIM key'],
  [['v=DKIM1; k=rsa; p='], 'failed', 'revoked'],
  [['v=DKIM1; k=rsa'], 'failed', 'no p='],
  [['v=DKIM1; p=***'], 'failed', 'base64'],
  [['v=DKIM1; p=AAAA'], 'failed', 'not an RSA'],
  [[`v=DKIM1; p=${ec}`], 'failed', 'not an RSA'],
  [[`v=DKIM1; p=${rsa(768)}`], 'failed', '768 bits'],
  [[`v=DKIM1; k=ed25519; p=${rsa2048}`], 'failed', '32 bytes'],
  [[`v=DKIM1; k=dilithium; p=${rsa2048}`], 'failed', 'unknown kind'],
  [[`v=DKIM1; s=tlsrpt; p=${rsa2048}`], 'failed', 'not for mail'],
  [[`v=DKIM1; h=sha1; p=${rsa2048}`], 'failed', 'sha256'],
  [[`v=DKIM1; p=${rsa2048}`, `v=DKIM1; p=${rsa(2048)}`], 'failed', '2 DKIM keys'],
]);

table('dmarc', judgeDmarc, [
  [['v=DMARC1; p=quarantine'], 'passed'],
  [['v=DMARC1; p=reject; rua=mailto:d@reef.test'], 'passed'],
  [['v=DMARC1;p=REJECT;'], 'passed'],
  [['v = DMARC1 ; p = reject'], 'passed'],
  [['something', 'v=DMARC1; p=reject'], 'passed'],
  [[], 'failed', 'no DMARC'],
  [['v=dmarc1; p=reject'], 'failed', 'no DMARC'],
  [['p=reject; v=DMARC1'], 'failed', 'no DMARC'],
  [['v=DMARC1; p=none'], 'failed', 'p=none'],
  [['v=DMARC1'], 'failed', '\\(none\\)'],
  [['v=DMARC1; p=rejected'], 'failed'],
  [['v=DMARC1; p=reject', 'v=DMARC1; p=none'], 'failed', '2 DMARC records'],
]);

test('a tag list keeps its values and refuses what RFC 6376 calls invalid', () => {
  assert.deepEqual(
    [...parseTagList(' a=1; b = x=y ;c=')!],
    [
      ['a', '1'],
      ['b', 'x=y'],
      ['c', ''],
    ],
  );
  for (const broken of ['', ';', 'a', 'a=1;;b=2', '=1', 'a=1;a=2', '1a=x', 'a b=c']) {
    assert.equal(parseTagList(broken), undefined, broken);
  }
});
