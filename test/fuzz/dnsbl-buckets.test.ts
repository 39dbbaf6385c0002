/** Properties of the rate limit's buckets, over times, rates and clients by chance. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Buckets, newBucketMemory, rateOf } from '../../dnsbl/access/buckets.ts';
import { KeyedHash, newHashKey } from '../../dnsbl/access/keyed-hash.ts';
import { isInPrefix, parsePrefix, prefixText } from '../../dnsbl/access/prefix.ts';
import { buildPrefixTable, PrefixTable } from '../../dnsbl/access/prefix-table.ts';
import type { Client } from '../../dnsbl/seams.ts';
import { Fuzz } from './random.ts';

const fuzz = new Fuzz('dnsbl-buckets');

test('a bucket never gives more than its burst and what has filled since, and never less', () => {
  for (let left = fuzz.rounds(300, 100); left > 0; left--) {
    const perSecond = 1 + fuzz.below(5000);
    const burst = 1 + fuzz.below(200);
    const rate = rateOf(perSecond, burst);
    const buckets = new Buckets(newBucketMemory(1024));
    // Anywhere in the 32 bits, so that the time goes round in some runs.
    const startUs = fuzz.below(2 ** 32) | 0;
    let passedUs = 0;
    let given = 0;
    let model = burst;
    let modelAtUs = 0;
    for (let asked = 0; asked < 300; asked++) {
      passedUs += fuzz.below(4) === 0 ? fuzz.below(50_000) : 0;
      model = Math.min(burst, model + (passedUs - modelAtUs) / rate.cost);
      modelAtUs = passedUs;
      const isGiven = buckets.take(3, 99, rate, (startUs + passedUs) | 0);
      if (isGiven) given += 1;
      if (Math.abs(model - 1) > 1e-6) assert.equal(isGiven, model >= 1, `asked ${asked}, model ${model}`);
      if (isGiven) model = Math.max(0, model - 1);
      assert.ok(given <= burst + passedUs / rate.cost + 1e-6);
    }
  }
});

test('whoever was asked seldom is never limited by others, while a set has room', () => {
  for (let left = fuzz.rounds(200, 100); left > 0; left--) {
    const hash = new KeyedHash(newHashKey());
    const buckets = new Buckets(newBucketMemory(65_536));
    const rate = rateOf(50);
    for (let n = 0; n < 3000; n++) {
      hash.read(0x11, fuzz.below(2 ** 32), 0, fuzz.below(2 ** 32));
      assert.equal(buckets.take(hash.spot, hash.tag, rate, n * 10), true);
    }
  }
});

test('places of clients are spread evenly, under every key differently', () => {
  const [one, other] = [new KeyedHash(newHashKey()), new KeyedHash(newHashKey())];
  const sets = new Int32Array(256);
  const clients = 65_536;
  let same = 0;
  for (let client = 0; client < clients; client++) {
    one.read(0x11, client << 8, 0, 1);
    other.read(0x11, client << 8, 0, 1);
    sets[one.spot & 255]! += 1;
    if ((one.spot & 255) === (other.spot & 255)) same += 1;
    assert.notEqual(one.tag, one.clientTag);
  }
  assert.ok(
    Math.max(...sets) < 400 && Math.min(...sets) > 140,
    `${Math.min(...sets)} to ${Math.max(...sets)}`,
  );
  assert.ok(same < clients / 128, `${same} in the same place under both`);
});

test('a table of prefixes says what a look at each of them says', () => {
  for (let left = fuzz.rounds(100, 100); left > 0; left--) {
    const family = fuzz.pick([4, 6] as const);
    const entries = new Map<string, number>();
    for (let n = 1 + fuzz.below(60); n > 0; n--) entries.set(anyPrefix(family), 1 + fuzz.below(5));
    const table = new PrefixTable(buildPrefixTable(entries));
    const prefixes = [...entries].map(([text, value]) => ({ prefix: parsePrefix(text)!, value }));
    for (let n = 0; n < 100; n++) {
      const client = anyClient(family);
      const around = prefixes.filter(({ prefix }) => isInPrefix(prefix, client));
      const longest = around.toSorted((a, b) => b.prefix.bits - a.prefix.bits)[0];
      const text = prefixText(family, client.address, 0, 128);
      assert.equal(table.find(client), longest?.value ?? 0, `${text} among ${[...entries.keys()]}`);
    }
  }
});

/** Few different octets, so that prefixes and addresses meet. */
function anyClient(family: 4 | 6): Client {
  const address = Uint8Array.from({ length: family === 4 ? 4 : 16 }, () =>
    fuzz.pick([0, 0, 1, 127, 128, 255]),
  );
  return { family, address, port: 53 };
}

function anyPrefix(family: 4 | 6): string {
  const { address } = anyClient(family);
  const bits = fuzz.below(address.length * 8 + 1);
  const text = prefixText(family, address, 0, bits);
  return text.includes('/') ? text : `${text}/${address.length * 8}`;
}
