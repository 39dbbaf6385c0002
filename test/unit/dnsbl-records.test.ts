import assert from 'node:assert/strict';
import { test } from 'node:test';
import { entriesOf } from '../../dnsbl/entries.ts';
import { MAX_KEY_LENGTH } from '../../dnsbl/name.ts';
import { aRecord, type RecordSet, sameRecords, TYPE, txtRecord } from '../../dnsbl/records.ts';
import { vouched } from './dnsbl-fixtures.ts';

const strings: [octets: number, lengths: number[]][] = [
  [0, [0]],
  [1, [1]],
  [255, [255]],
  [256, [255, 1]],
  [700, [255, 255, 190]],
];
for (const [octets, lengths] of strings) {
  test(`a text of ${octets} octets becomes strings of ${lengths.join(', ')}`, () => {
    const expected = lengths.map((length) =>
      Buffer.concat([Buffer.from([length]), Buffer.alloc(length, 'x')]),
    );
    assert.deepEqual(txtRecord('x'.repeat(octets), 300).rdatas, [Buffer.concat(expected)]);
  });
}

test('a text outside ASCII is measured in octets', () => {
  const [rdata] = txtRecord('é'.repeat(128), 300).rdatas;
  assert.deepEqual([rdata?.length, rdata?.[0], rdata?.[256]], [258, 255, 1]);
});

const a = aRecord('127.0.4.1', 300);
const two: RecordSet = { ...a, rdatas: [...a.rdatas, ...a.rdatas] };
const others: [what: string, records: RecordSet[]][] = [
  ['no records', []],
  ['another address', [aRecord('127.0.4.2', 300)]],
  ['another TTL', [aRecord('127.0.4.1', 60)]],
  ['another type', [{ ...a, type: TYPE.NS }]],
  ['one more record', [two]],
  ['one more set', [a, a]],
];
for (const [what, records] of others) {
  test(`${what} is a change, in both directions`, () => {
    assert.equal(sameRecords([a], [aRecord('127.0.4.1', 300)]), true);
    assert.equal(sameRecords([a], records), false);
    assert.equal(sameRecords(records, [a]), false);
  });
}

test('no entry has an owner that is too long to be asked', () => {
  const listing = vouched({ name: `${'a.'.repeat(50)}test` }, { coverSubdomains: true });
  const base = 2 * 50 + 5;
  const owners = (room: number) => entriesOf(listing, MAX_KEY_LENGTH - base - room, 300).length;
  const subtree = { dom: 4, vouch: 7, wildcard: 2 };
  assert.equal(owners(subtree.dom - 1), 0, 'unlistable');
  assert.equal(owners(subtree.dom), 1);
  assert.equal(owners(subtree.wildcard + subtree.dom), 2);
  assert.equal(owners(subtree.vouch), 3);
  assert.equal(owners(subtree.wildcard + subtree.vouch), 4);
});
