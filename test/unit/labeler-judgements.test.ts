/** What each record must say, as tables. */
import assert from 'node:assert/strict';
import { createHash, generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import { judgeDkim } from '../../node/labeler/dkim-record.ts';
import { judgeControlRecord, judgeMx } from '../../node/labeler/judgements.ts';
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

table('dkim', (records) => judgeDkim(records, 's1'), [
  [[`v=DKIM1; k=rsa; p=${rsa2048}`], 'passed'],
  [[`v=DKIM1; p=${rsa2048}`], 'passed'],
  [[`v=DKIM1;p=${rsa2048};`], 'passed'],
  [[`v = DKIM1 ; k = rsa ; p = ${rsa2048.slice(0, 100)} ${rsa2048.slice(100)}`], 'passed'],
  [[`v=DKIM1; p=${rsa(2048, 'pkcs1')}`], 'passed'],
  [[`v=DKIM1; p=${rsa(1024)}`], 'passed'],
  [[`v=DKIM1; k=ed25519; p=${ed25519}`], 'passed'],
  [[`v=DKIM1; k=ED25519; p=${ed25519}`], 'passed'],
  [[`v=DKIM1; k=Rsa; h=SHA256; s=EMAIL; p=${rsa2048}`], 'passed'],
  [[`v=DKIM1; s=email; h=sha1:sha256; t=s; p=${rsa2048}`], 'passed'],
  // As providers publish them, in shape.
  [[`v=DKIM1; h=sha256; k=rsa; s=*; n=Core; p=${rsa2048};`], 'passed'],
  [[`v=DKIM1;t=s;p=${rsa2048}`], 'passed'],
  [[`v=DKIM1; g=*; k=rsa; p=${rsa2048}`], 'passed'],
  [
    [`k=rsa; t=s; p=${rsa2048}`],
    'failed',
    'the TXT record there does not say v=DKIM1, which is required here',
  ],
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

const noteCases: [record: string, notes: RegExp[]][] = [
  [`v=DKIM1; p=${rsa2048}`, []],
  [`v=DKIM1; p=${rsa(1024)}`, [/s1: RSA of 1024 bits; 2048 are better/]],
  [`v=DKIM1; t=y:s; p=${rsa2048}`, [/for testing/]],
  [`v=DKIM1; t=s; k=ed25519; p=${ed25519}`, []],
  [`k=rsa; v=DKIM1; p=${rsa2048}`, [/stand first/]],
];
for (const [record, expected] of noteCases) {
  test(`${record.slice(0, 30)}… passes with ${expected.length} notes`, () => {
    const { verdict, notes = [] } = judgeDkim([record], 's1');
    assert.equal(verdict, 'passed');
    assert.equal(notes.length, expected.length, notes.join());
    for (const [i, note] of expected.entries()) assert.match(notes[i]!, note);
  });
}

test('a key is known by its SHA-256, however its record is written; a revoked or absent one is told apart', () => {
  const plain = judgeDkim([`v=DKIM1; p=${ed25519}; k=ed25519`], 's1').seen!.s1!;
  assert.equal(plain, `sha256:${createHash('sha256').update(Buffer.from(ed25519, 'base64')).digest('hex')}`);
  const spaced = `v = DKIM1; k=ed25519; n=moved; p = ${ed25519.slice(0, 9)} ${ed25519.slice(9)} ;`;
  assert.equal(judgeDkim([spaced], 's1').seen!.s1, plain);
  assert.equal(judgeDkim(['v=DKIM1; p='], 's1').seen!.s1, 'revoked');
  assert.equal(judgeDkim([], 's1').seen!.s1, '');
  assert.equal(judgeDkim([spaced, 'v=DKIM1; p='], 's1').seen, undefined);
});
