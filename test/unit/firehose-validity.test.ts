import assert from 'node:assert/strict';
import { test } from 'node:test';
import { judge } from '../../appview/firehose/validity.ts';
import { attestation } from './firehose-fixtures.ts';
import { cids } from './labels-fixtures.ts';

function verdict(rkey: string, value: unknown): string {
  const judged = judge(rkey, value);
  return judged.kind === 'valid' ? 'valid' : judged.reason;
}

const domains: [string, string][] = [
  ['reef.test', 'valid'],
  ['a.b.c.reef.test', 'valid'],
  ['xn--mnchen-3ya.de', 'valid'],
  ['1and1.example', 'valid'],
  [`${'a'.repeat(63)}.test`, 'valid'],
  ['test', 'not_a_domain'],
  ['Reef.test', 'not_a_domain'],
  ['reef.test.', 'not_a_domain'],
  ['.reef.test', 'not_a_domain'],
  ['reef..test', 'not_a_domain'],
  ['-reef.test', 'not_a_domain'],
  ['reef-.test', 'not_a_domain'],
  ['_dmarc.reef.test', 'not_a_domain'],
  ['*.reef.test', 'not_a_domain'],
  ['münchen.de', 'not_a_domain'],
  ['192.0.2.1', 'not_a_domain'],
  ['reef test.example', 'not_a_domain'],
  [`${'a'.repeat(64)}.test`, 'not_a_domain'],
  [`${'a.'.repeat(125)}test`, 'lexicon'],
  ['', 'lexicon'],
];
for (const [domain, expected] of domains) {
  test(`the domain '${domain.slice(0, 40)}' is ${expected}`, () => {
    assert.equal(verdict(domain, attestation(domain)), expected);
  });
}

const records: [string, unknown, string][] = [
  ['whole', attestation('reef.test', { relayMember: false }), 'valid'],
  ['with fields of the future', attestation('reef.test', { more: ['x'] }), 'valid'],
  ['of another domain than its key', attestation('other.test'), 'key_is_not_domain'],
  ['of another type', attestation('reef.test', { $type: 'email.atmos.peer' }), 'lexicon'],
  ['without a type', { ...attestation('reef.test'), $type: undefined }, 'lexicon'],
  ['without selectors', attestation('reef.test', { dkimSelectors: [] }), 'lexicon'],
  ['with eleven selectors', attestation('reef.test', { dkimSelectors: Array(11).fill('a') }), 'lexicon'],
  ['with an empty selector', attestation('reef.test', { dkimSelectors: [''] }), 'lexicon'],
  ['with a date that is none', attestation('reef.test', { createdAt: 'yesterday' }), 'lexicon'],
  ['with a relayMember that is text', attestation('reef.test', { relayMember: 'yes' }), 'lexicon'],
  ['that could not be decoded', undefined, 'lexicon'],
  ['that is a list', [], 'lexicon'],
  ['that is text', 'reef.test', 'lexicon'],
];
for (const [name, value, expected] of records) {
  test(`a record ${name} is ${expected}`, () => {
    assert.equal(verdict('reef.test', value), expected);
  });
}

test('what the lexicon does not name is not kept', () => {
  const judged = judge('reef.test', attestation('reef.test', { more: 'x'.repeat(9_999), cid: cids[0] }));
  assert.deepEqual(judged, { kind: 'valid', record: attestation('reef.test') });
});
