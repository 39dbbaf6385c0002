import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { CorruptState, openDatabase } from '../../appview/database.ts';
import { verifyLabel } from '../../appview/labels/codec.ts';
import { LabelStore, type StoredLabel } from '../../appview/labels/store.ts';
import { appviewMigrations } from '../../appview/migrations.ts';
import {
  cids,
  counters,
  dayMs,
  iso,
  issuer,
  june,
  memberDid,
  memoryDatabases,
  uriOf,
} from './labels-fixtures.ts';

const harbor = await issuer();
const meadow = await issuer('did:web:meadow.test');
const reef = uriOf('reef.test');

function openStore(options: Partial<ConstructorParameters<typeof LabelStore>[0]> = {}) {
  const counted = counters();
  const { db } = memoryDatabases();
  const store = new LabelStore({ db, now: () => june + dayMs, count: counted.count, ...options });
  const values = () => store.current(reef).map(({ label }) => label.val);
  return { store, db, counted, values };
}

test('a label is kept exactly as its issuer signed it, over a restart', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'atmos-labels-'));
  const file = join(folder, 'appview.db');
  const label = await harbor.sign({ neg: false });
  try {
    for (const round of ['first', 'second']) {
      const db = openDatabase(file, appviewMigrations, { synchronous: 'NORMAL' });
      const store = new LabelStore({ db, now: () => june, count: () => undefined });
      if (round === 'first') store.receive(harbor.did, 5, [label]);
      assert.equal(store.cursor(harbor.did), 5);
      const [stored] = store.current(reef);
      assert.deepEqual(stored?.label, label);
      assert.ok(stored && verifyLabel(stored.label, harbor.didKey));
      db.close();
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('labels and cursor are one commit: a failure leaves neither', async () => {
  const failing = { on: true };
  const witness = () => {
    if (failing.on) throw new Error('disk full');
  };
  const { store, values } = openStore({ witness, maxPerIssuer: () => 1 });
  const label = await harbor.sign({});
  let told = 0;
  store.onChange(() => {
    told += 1;
  });
  assert.throws(() => store.receive(harbor.did, 1, [label]), /disk full/);
  assert.deepEqual([store.cursor(harbor.did), values(), told], [undefined, [], 0]);

  failing.on = false;
  assert.equal(store.receive(harbor.did, 1, [label]), 'stored');
  assert.deepEqual([store.cursor(harbor.did), values(), told], [1, ['verified-mail-operator'], 1]);
});

test('a frame that is not beyond the cursor changes nothing', async () => {
  const { store, values } = openStore();
  store.receive(harbor.did, 7, []);
  const label = await harbor.sign({});
  assert.equal(store.receive(harbor.did, 7, [label]), 'replayed');
  assert.equal(store.receive(harbor.did, 3, [label]), 'replayed');
  assert.deepEqual([store.cursor(harbor.did), values()], [7, []]);
});

test('frame 0 is taken, and each issuer has a cursor of its own', async () => {
  const { store } = openStore();
  assert.equal(store.receive(harbor.did, 0, []), 'stored');
  assert.equal(store.cursor('did:web:meadow.test'), undefined);
});

test('the latest cts stands, in whatever order they come', async () => {
  const { store, counted } = openStore();
  const older = await harbor.sign({ cid: cids[0], cts: iso(june) });
  const newer = await harbor.sign({ cid: cids[1], cts: iso(june + 1) });
  store.receive(harbor.did, 1, [newer, older]);
  assert.deepEqual(
    store.current(reef).map(({ label }) => label.cid),
    [cids[1]],
  );
  assert.equal(counted.of('labels_refused{older}'), 1);
});

test('of two labels with one cts the later one stands', async () => {
  const { store, values } = openStore();
  store.receive(harbor.did, 1, [await harbor.sign({}), await harbor.sign({ neg: true })]);
  assert.deepEqual(values(), []);
});

test('a negation without cid negates, and nothing older comes back', async () => {
  const { store, values } = openStore();
  store.receive(harbor.did, 1, [await harbor.sign({})]);
  store.receive(harbor.did, 2, [await harbor.sign({ neg: true, cid: undefined, cts: iso(june + 5) })]);
  store.receive(harbor.did, 3, [await harbor.sign({ cts: iso(june + 4) })]);
  assert.deepEqual(values(), []);
  store.receive(harbor.did, 4, [await harbor.sign({ cts: iso(june + 6) })]);
  assert.deepEqual(values(), ['verified-mail-operator']);
});

test('values and issuers do not negate one another', async () => {
  const { store, values } = openStore();
  const meadow = await issuer('did:web:meadow.test');
  store.receive(harbor.did, 1, [await harbor.sign({}), await harbor.sign({ val: 'relay-member' })]);
  store.receive(meadow.did, 1, [await meadow.sign({ neg: true, cts: iso(june + 1) })]);
  store.receive(harbor.did, 2, [await harbor.sign({ val: 'relay-member', neg: true, cts: iso(june + 1) })]);
  assert.deepEqual(values(), ['verified-mail-operator']);
});

test('a cts ahead of our clock takes effect now and yields to what comes after, in a rebuild too', async () => {
  const history = [
    await harbor.sign({ cts: '2099-01-01T00:00:00.000Z' }),
    await harbor.sign({ neg: true, cts: iso(june + 1000) }),
  ];
  for (const [clock, rebuilt] of [
    [june + 500, false],
    [june + 300 * dayMs, true],
  ] as const) {
    const { store, values } = openStore({ now: () => clock });
    store.receive(harbor.did, 1, history.slice(0, 1));
    assert.deepEqual(values(), ['verified-mail-operator'], `rebuilt: ${rebuilt}`);
    store.receive(harbor.did, 2, history.slice(1));
    assert.deepEqual(values(), [], `rebuilt: ${rebuilt}`);
  }
});

test('exp is applied when a label is read', async () => {
  let now = june;
  const { store } = openStore({ now: () => now });
  store.receive(harbor.did, 1, [await harbor.sign({ exp: iso(june + 1000) })]);
  assert.equal(store.current(reef)[0]?.expiresAt, june + 1000);
  now = june + 999;
  assert.equal(store.current(reef).length, 1);
  now = june + 1000;
  assert.equal(store.current(reef).length, 0);
});

test('one frame is one notice, of what became current and nothing else', async () => {
  const { store } = openStore();
  const notices: (readonly StoredLabel[])[] = [];
  const end = store.onChange((applied) => notices.push(applied));
  const labels = [
    await harbor.sign({ cts: iso(june + 2) }),
    await harbor.sign({ cts: iso(june + 1) }),
    await harbor.sign({ uri: memberDid, cid: undefined }),
  ];
  store.receive(harbor.did, 1, labels);
  store.receive(harbor.did, 2, []);
  end();
  store.receive(harbor.did, 3, [await harbor.sign({ cts: iso(june + 3) })]);
  assert.deepEqual(
    notices.map((applied) => applied.map(({ label }) => label)),
    [[labels[0], labels[2]]],
  );
});

test('an issuer over its limit can change what it issued and add nothing', async () => {
  const { store, db, counted, values } = openStore({ maxPerIssuer: () => 2 });
  store.receive(harbor.did, 1, [await harbor.sign({}), await harbor.sign({ val: 'a' })]);
  store.receive(harbor.did, 2, [
    await harbor.sign({ val: 'b' }),
    await harbor.sign({ neg: true, cts: iso(june + 1) }),
  ]);
  assert.deepEqual(values(), ['a']);
  assert.equal(counted.of('labels_refused{too_many}'), 1);

  const restarted = new LabelStore({ db, now: () => june, count: counted.count, maxPerIssuer: () => 2 });
  restarted.receive(harbor.did, 3, [await harbor.sign({ val: 'c' })]);
  assert.equal(counted.of('labels_refused{too_many}'), 2);
});

test('attestations are found by their domain, by who labelled them and as what', async () => {
  const { store, db } = openStore();
  const from = (...srcs: string[]) => ({ srcs, vals: ['verified-mail-operator'] });
  store.receive(harbor.did, 1, [
    await harbor.sign({}),
    await harbor.sign({ val: 'relay-member' }),
    await harbor.sign({ uri: uriOf('news.reef.test') }),
    await harbor.sign({ uri: uriOf('reef.test', 'did:plc:gone'), neg: true }),
    await harbor.sign({ uri: uriOf('reef.test', 'did:plc:expired'), exp: iso(june) }),
    await harbor.sign({ uri: uriOf('reef.test', 'did:plc:relayed'), val: 'relay-member' }),
    await harbor.sign({ uri: memberDid, cid: undefined }),
  ]);
  store.receive(meadow.did, 1, [
    await meadow.sign({ uri: uriOf('reef.test', 'did:plc:other') }),
    await meadow.sign({}),
    await meadow.sign({ uri: uriOf('meadow.test') }),
  ]);
  assert.deepEqual(store.attestationsLabelled('reef.test', from(harbor.did), june, 10), [reef]);
  const both = from(harbor.did, meadow.did);
  assert.equal(store.attestationsLabelled('reef.test', both, june, 10).length, 2);
  assert.equal(store.attestationsLabelled('reef.test', both, june, 1).length, 1);
  assert.deepEqual(store.domainsLabelled([harbor.did]).sort(), ['news.reef.test', 'reef.test']);
  assert.deepEqual(
    store.currentOf(reef, from(harbor.did), june).map(({ label }) => [label.src, label.val]),
    [[harbor.did, 'verified-mail-operator']],
  );
  // Others' labels are not even walked over.
  const plan = db.prepare(
    "EXPLAIN QUERY PLAN SELECT uri FROM label WHERE domain = 'a' AND src IN (SELECT value FROM json_each('[]'))",
  );
  assert.match(JSON.stringify(plan.all()), /label_by_domain \(domain=\? AND src=\?\)/);
});

test('a label of ours that does not decode stops us', async () => {
  const { store, db } = openStore();
  store.receive(harbor.did, 1, [await harbor.sign({})]);
  db.exec("UPDATE label SET body = x'00'");
  assert.throws(() => store.current(reef), CorruptState);
});
