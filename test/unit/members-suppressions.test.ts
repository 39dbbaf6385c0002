import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { openDatabase } from '../../appview/database.ts';
import { ownReasons, Suppressions } from '../../node/members/suppressions.ts';
import { nodeMigrations } from '../../node/migrations.ts';

const day = 86_400_000;
const did = 'did:plc:reef';
let now: number;
let list: Suppressions;
let rows: () => number;

beforeEach(() => {
  now = 1_800_000_000_000;
  const db = openDatabase(':memory:', nodeMigrations, { synchronous: 'FULL' });
  list = new Suppressions({ db, now: () => now });
  rows = () => (db.prepare('SELECT count(*) AS n FROM suppression').get() as { n: number }).n;
});

function add(address: string, reason: 'unsubscribe' | 'bounce' | 'manual' | 'complaint', more = {}): void {
  list.add({ did, address, reason, evidence: `by ${reason}`, ...more });
}

test('an address is found in any case and any spelling of its domain, for its member alone', () => {
  add('Some.One@Bücher.example', 'unsubscribe', { messageId: 'q1' });
  assert.deepEqual(list.find(did, 'some.ONE@XN--BCHER-KVA.example'), {
    did,
    address: 'some.one@xn--bcher-kva.example',
    reason: 'unsubscribe',
    evidence: 'by unsubscribe',
    messageId: 'q1',
    createdAt: now,
    expiresAt: null,
  });
  assert.equal(list.find('did:plc:other', 'some.one@bücher.example'), undefined);
  assert.equal(list.find(did, 'one@bücher.example'), undefined);
});

test('a bounce ends after 30 days, the others do not', () => {
  add('b@x.example', 'bounce');
  for (const reason of ['unsubscribe', 'manual', 'complaint'] as const) add(`${reason}@x.example`, reason);
  now += 30 * day - 1;
  assert.equal(list.find(did, 'b@x.example')?.reason, 'bounce');
  now += 1;
  assert.equal(list.find(did, 'b@x.example'), undefined);
  for (const reason of ['unsubscribe', 'manual', 'complaint'])
    assert.equal(list.find(did, `${reason}@x.example`)?.reason, reason);
});

test('no reason weakens a stronger one, and none takes another with it when it ends', () => {
  add('b@x.example', 'bounce');
  add('b@x.example', 'unsubscribe');
  assert.equal(list.find(did, 'b@x.example')?.reason, 'bounce');
  add('b@x.example', 'complaint');
  add('b@x.example', 'unsubscribe');
  assert.equal(list.find(did, 'b@x.example')?.reason, 'complaint');

  add('c@x.example', 'unsubscribe');
  add('c@x.example', 'bounce');
  now += 31 * day;
  assert.equal(list.find(did, 'c@x.example')?.reason, 'unsubscribe');
});

test('a repeated bounce lasts 30 days from the last one; what never ends is not given an end', () => {
  add('b@x.example', 'bounce');
  now += 20 * day;
  add('b@x.example', 'bounce', { evidence: '550 5.1.1 again' });
  now += 20 * day;
  assert.equal(list.find(did, 'b@x.example')?.evidence, '550 5.1.1 again');
  add('m@x.example', 'manual');
  add('m@x.example', 'manual', { expiresAt: now + day });
  now += 2 * day;
  assert.equal(list.find(did, 'm@x.example')?.reason, 'manual');
});

test('remove takes every reason, or those that are named, and says which there were', () => {
  add('c@x.example', 'bounce');
  add('c@x.example', 'complaint');
  assert.deepEqual(list.remove(did, 'c@x.example', ownReasons), ['bounce']);
  assert.deepEqual(list.remove(did, 'c@x.example', ownReasons), []);
  assert.equal(list.find(did, 'c@x.example')?.reason, 'complaint');
  add('b@x.example', 'bounce');
  add('b@x.example', 'unsubscribe');
  assert.deepEqual(list.remove(did, 'B@X.example'), ['unsubscribe', 'bounce']);
  assert.deepEqual(list.remove(did, 'b@x.example'), []);
  assert.equal(list.find(did, 'b@x.example'), undefined);
});

test('the list has each address once, with its strongest reason, page by page', () => {
  for (let n = 0; n < 7; n++) add(`b${n}@x.example`, 'unsubscribe');
  add('b3@x.example', 'complaint');
  add('b4@x.example', 'bounce');
  list.add({ did: 'did:plc:other', address: 'z@x.example', reason: 'manual', evidence: '' });
  const seen: string[] = [];
  let cursor: string | undefined;
  do {
    const page = list.list(did, { limit: 3, ...(cursor !== undefined && { cursor }) });
    assert.ok(page.suppressions.length <= 3);
    seen.push(...page.suppressions.map(({ address, reason }) => `${address} ${reason}`));
    cursor = page.cursor;
  } while (cursor !== undefined);
  const reasons = [
    'unsubscribe',
    'unsubscribe',
    'unsubscribe',
    'complaint',
    'bounce',
    'unsubscribe',
    'unsubscribe',
  ];
  assert.deepEqual(
    seen,
    reasons.map((reason, n) => `b${n}@x.example ${reason}`),
  );
  now += 31 * day;
  assert.equal(
    list.list(did, { limit: 100 }).suppressions.find(({ address }) => address.startsWith('b4'))?.reason,
    'unsubscribe',
  );
});

test('entries that ended are deleted as others come', () => {
  for (let n = 0; n < 50; n++) add(`b${n}@x.example`, 'bounce');
  now += 31 * day;
  add('c@x.example', 'bounce');
  assert.equal(rows(), 1);
});

test('evidence is cut', () => {
  add('b@x.example', 'bounce', { evidence: 'x'.repeat(5_000) });
  assert.equal(list.find(did, 'b@x.example')?.evidence.length, 1_000);
});
