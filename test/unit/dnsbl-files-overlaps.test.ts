/** Lines of zone files that say something of the same name or address. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { readZone } from '../../dnsbl/files/read-zone.ts';
import { parseSource } from '../../dnsbl/files/source.ts';
import { apex, emptyZone, said } from './dnsbl-fixtures.ts';

const folder = mkdtempSync(join(tmpdir(), 'dnsbl-overlaps-'));
after(() => rmSync(folder, { recursive: true }));

function loaded(spec: string, ...lines: string[]) {
  const file = join(folder, 'zone.txt');
  writeFileSync(file, `${lines.join('\n')}\n`);
  const read = readZone({ apex, sources: [parseSource(spec.replace('FILE', file))] });
  const zone = emptyZone();
  zone.adopt(read.table);
  const whys = read.notTaken.map(({ line, why }) => `${line}: ${why}`);
  return { ...read, whys, of: (name: string) => said(zone, name) };
}

const inBothOrders = (lines: string[]) => [lines, lines.toReversed()];
const v6 = (last: string) => `${[...`20010db8${last.padStart(24, '0')}`].reverse().join('.')}.ip`;

test('the whole /24 inside a range that is not aligned is excluded by an exclusion of that /24', () => {
  for (const lines of inBothOrders(['10.0.0.128-10.0.2.127 :5:range512', '!10.0.1.0/24'])) {
    const { of, entries, whys } = loaded('ip=ip4set:FILE', ...lines);
    assert.deepEqual(whys, []);
    assert.deepEqual(
      ['128.0.0.10', '5.1.0.10', '127.2.0.10'].map((address) => of(`${address}.ip`)),
      ['127.0.0.5', 'NXDOMAIN', '127.0.0.5'],
    );
    assert.equal(entries, 256);
  }
});

test('of two ranges the narrower wins, whichever line comes first', () => {
  for (const lines of inBothOrders(['192.0.2.0/28 :2:wide28', '192.0.2.0/30 :10:narrow30'])) {
    const { of, repeated } = loaded('ip=ip4set:FILE', ...lines);
    assert.deepEqual([of('3.2.0.192.ip'), of('4.2.0.192.ip')], ['127.0.0.10', '127.0.0.2']);
    assert.equal(repeated, 0);
  }
  for (const lines of inBothOrders(['2001:db8::/124 :2:wide', '2001:db8::/126 :10:narrow'])) {
    const { of } = loaded('ip=ip6trie:FILE', ...lines);
    assert.deepEqual([of(v6('3')), of(v6('4'))], ['127.0.0.10', '127.0.0.2']);
  }
});

test('of a range that is listed twice the later line counts, and the earlier one is told as repeated', () => {
  for (const range of ['192.0.2.0/28', '192.0.2.0/24', '192.0.2.0/32', '192.0.2.7-192.0.3.7']) {
    const { of, repeated } = loaded('ip=ip4set:FILE', `${range} :3:first`, `${range} :7:last`);
    assert.equal(of(range.includes('-') ? '7.2.0.192.ip' : '0.2.0.192.ip'), '127.0.0.7', range);
    assert.equal(repeated, 1, range);
  }
  const { of, repeated } = loaded('ip=ip6trie:FILE', '2001:db8::/124 :3:first', '2001:db8::/124 :7:last');
  assert.deepEqual([of(v6('1')), repeated], ['127.0.0.7', 1]);
  const single = loaded('ip=ip4set:FILE', '192.0.2.1 :3:first', '192.0.2.1/32 :7:last');
  assert.deepEqual([single.of('1.2.0.192.ip'), single.repeated], ['127.0.0.7', 1]);
});

test('a name beside its own wildcard does not cost its subdomains their listing', () => {
  for (const text of ['w', `did=did:plc:${'a'.repeat(24)} url=https://harbor.test/$`]) {
    for (const lines of inBothOrders([`.a.test :127.0.3.1:${text}`, `a.test :127.0.3.1:${text}`])) {
      const { of, whys, entries } = loaded('dom=FILE', ...lines);
      assert.deepEqual(whys, []);
      assert.deepEqual([of('a.test.dom'), of('x.a.test.dom'), entries], ['127.0.3.1', '127.0.3.1', 1]);
    }
  }
});

test('a name beside its own wildcard, with another value, is told by its line', () => {
  // The third goes the quick way, which puts a few dozen lines at once.
  const lines = ['.a.test :3:w', '.b.test :3:w', 'c.test :5:x', '# between', 'a.test :5:x', 'd.test :5:x'];
  const { of, whys, repeated } = loaded('dom=FILE', ...lines);
  assert.deepEqual(whys, ['5: the name stands above with its subdomains, and with another value']);
  assert.deepEqual(
    [of('a.test.dom'), of('x.a.test.dom'), of('d.test.dom')],
    ['127.0.0.3', '127.0.0.3', '127.0.0.5'],
  );
  assert.equal(repeated, 0);
  const widened = loaded('dom=FILE', 'a.test :5:x', '.a.test :3:w');
  assert.deepEqual([widened.of('a.test.dom'), widened.of('x.a.test.dom')], ['127.0.0.3', '127.0.0.3']);
});
