/** Another label key in an issuer's document: seen, told of, and trusted when it may be. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LabelStore } from '../../appview/labels/store.ts';
import { Ledger } from '../../appview/listing/ledger.ts';
import { Listings } from '../../appview/listing/listings.ts';
import { defaultPolicy } from '../../appview/listing/policy.ts';
import { Commits, dayMs, iso, issuer, june, memoryDatabases, quiet, uriOf } from './labels-fixtures.ts';
import { settled, worldOf } from './labels-source.ts';

const hour = 3_600_000;
const reef = uriOf('reef.test');
const kelp = uriOf('kelp.test');
const web = 'did:web:harbor.test';
const plc = 'did:plc:ewvi7nxzyoun6zhxrhs64oiz';

/** One label under the first key; then the document has another. */
async function rotated(did: string) {
  const [before, after] = [await issuer(did), await issuer(did)];
  const world = worldOf(did, before.didKey);
  const consumer = world.open();
  consumer.start();
  world.labeler.emit(await before.sign({}));
  await settled(world.store, did, 1);
  world.document.key = after.didKey;
  world.clock.now = june + hour;
  const vals = (uri = reef) => world.store.current(uri, world.clock.now).map(({ label }) => label.val);
  return { ...world, consumer, before, after, vals };
}

test("a did:web's labels under a new key wait 24 h, its old ones stand, and the operator is told", async () => {
  const { store, labeler, consumer, after, before, alerts, vals, clock } = await rotated(web);
  labeler.emit(await after.sign({ uri: kelp, cts: iso(june + hour) }));
  await settled(store, web, 2);
  const countsFrom = june + hour + dayMs;
  assert.deepEqual(alerts, [['key', web, { before: before.didKey, after: after.didKey, countsFrom }]]);
  assert.deepEqual([vals(), vals(kelp)], [['verified-mail-operator'], []]);
  assert.deepEqual([store.weighs(web), store.weighs(web, countsFrom)], [false, true]);
  assert.equal(consumer.status().newKey, after.didKey);

  clock.now = countsFrom - 1;
  await consumer.look();
  assert.deepEqual(vals(kelp), []);
  clock.now = countsFrom;
  await consumer.look();
  assert.deepEqual(vals(kelp), ['verified-mail-operator']);
  assert.equal(store.states.trustedKey(web), after.didKey);
  assert.equal(consumer.status().newKey, undefined);
  await consumer.stop();
});

test("the operator's word counts them at once, and whoever decides hears of it", async () => {
  const { store, labeler, consumer, after, vals } = await rotated(web);
  labeler.emit(await after.sign({ uri: kelp, cts: iso(june + hour) }));
  await settled(store, web, 2);
  const heard: string[] = [];
  store.onChange((applied) => heard.push(...applied.map(({ label }) => label.uri)));
  assert.equal(await store.trustKey(web), 1);
  assert.deepEqual([vals(kelp), heard], [['verified-mail-operator'], [kelp]]);
  await consumer.stop();
});

test('a renewal under a key that waits leaves the vote that stands', async () => {
  const { store, labeler, consumer, after, vals } = await rotated(web);
  labeler.emit(await after.sign({ cts: iso(june + hour), exp: iso(june + 30 * dayMs) }));
  await settled(store, web, 2);
  assert.deepEqual(vals(), ['verified-mail-operator']);
  assert.equal(store.current(reef)[0]?.expiresAt, undefined);
  await store.trustKey(web);
  assert.equal(store.current(reef)[0]?.expiresAt, june + 30 * dayMs);
  await consumer.stop();
});

test('a negation under a key that waits negates at once: whoever withdraws its word needs no trust', async () => {
  const { store, labeler, consumer, after, vals } = await rotated(web);
  labeler.emit(await after.sign({ neg: true, cid: undefined, cts: iso(june + hour) }));
  await settled(store, web, 2);
  assert.deepEqual(vals(), []);
  await consumer.stop();
});

test('a key that is taken back before it counted never counted: what it added is dropped, what it negated comes back', async () => {
  const { store, labeler, consumer, after, before, vals, document, clock } = await rotated(web);
  labeler.emit(await after.sign({ uri: kelp, cts: iso(june + hour) }));
  labeler.emit(await after.sign({ neg: true, cid: undefined, cts: iso(june + hour) }));
  await settled(store, web, 3);
  assert.deepEqual([vals(), store.held(web)], [[], 2]);

  document.key = before.didKey;
  labeler.pages = [[await before.sign({})]];
  clock.now += hour;
  await consumer.look();
  assert.deepEqual(vals(), ['verified-mail-operator']);
  clock.now += 2 * dayMs;
  await consumer.look();
  assert.deepEqual(vals(kelp), []);
  assert.equal(store.states.trustedKey(web), before.didKey);
  await consumer.stop();
});

test('a key that changes while another waits begins to wait anew', async () => {
  const { store, labeler, consumer, after, document, vals, clock } = await rotated(web);
  labeler.emit(await after.sign({ uri: kelp, cts: iso(june + hour) }));
  await settled(store, web, 2);
  const third = await issuer(web);
  document.key = third.didKey;
  clock.now = june + 20 * hour;
  await consumer.look();
  assert.equal(store.states.keyChange(web)?.countsFrom, june + 20 * hour + dayMs);
  clock.now = june + 30 * hour;
  await consumer.look();
  assert.deepEqual(vals(kelp), []);
  await consumer.stop();
});

test('a waiting key survives a restart', async () => {
  const { store, labeler, consumer, after, vals, clock, open } = await rotated(web);
  labeler.emit(await after.sign({ uri: kelp, cts: iso(june + hour) }));
  await settled(store, web, 2);
  await consumer.stop();
  const restarted = open();
  restarted.start();
  clock.now = june + hour + dayMs;
  await restarted.look();
  assert.deepEqual(vals(kelp), ['verified-mail-operator']);
  await restarted.stop();
});

test("a did:plc's rotation is its proof: the new key counts at once, and the operator is told", async () => {
  const { store, labeler, consumer, after, alerts, vals } = await rotated(plc);
  labeler.emit(await after.sign({ uri: kelp, cts: iso(june + hour) }));
  await settled(store, plc, 2);
  assert.deepEqual(vals(kelp), ['verified-mail-operator']);
  assert.equal(alerts.length, 1);
  assert.equal(store.weighs(plc), true);
  await consumer.stop();
});

test('a vote under a key that waits lists nobody, and the listing comes with the word', async () => {
  const { store, labeler, consumer, after, db, counted } = await rotated(web);
  const commits = new Commits(db);
  commits.put('kelp.test');
  const listings = new Listings({
    ...{
      db,
      attestations: commits.index,
      labels: store,
      log: quiet,
      count: counted.count,
      now: () => june + hour,
    },
    ledger: new Ledger({ db: memoryDatabases().ledgerDb, now: () => june + hour }),
    policy: { ...defaultPolicy, roots: [web] },
    publicUrl: 'https://harbor.test',
  });
  listings.start();
  labeler.emit(await after.sign({ uri: kelp, cts: iso(june + hour) }));
  await settled(store, web, 2);
  assert.equal(listings.get('kelp.test'), undefined);
  await store.trustKey(web);
  assert.equal(listings.get('kelp.test')?.listing.did, commits.put('kelp.test').did);
  listings.stop();
  await consumer.stop();
});

/** As in the node: the ledger sees each label before it is committed. */
async function aged() {
  const [before, after] = [await issuer(web), await issuer(web)];
  const world = worldOf(web, before.didKey);
  const { db, ledgerDb } = memoryDatabases();
  const now = () => world.clock.now;
  const ledger = new Ledger({ db: ledgerDb, now });
  const store = new LabelStore({
    ...{ db, now, count: world.counted.count, witness: (applied) => ledger.observe(applied) },
  });
  const consumer = world.open({ store });
  consumer.start();
  const vote = await before.sign({});
  world.labeler.emit(vote);
  await settled(store, web, 1);
  world.clock.now = june + 100 * dayMs;
  world.document.key = after.didKey;
  world.labeler.emit(await after.sign({ neg: true, cid: undefined, cts: iso(world.clock.now) }));
  await settled(store, web, 2);
  return { ...world, consumer, store, ledger, before, after, vote };
}

test('a key that is taken back cost no label its age', async () => {
  const { store, ledger, consumer, document, clock, labeler, before, vote } = await aged();
  assert.deepEqual(store.current(reef), []);
  document.key = before.didKey;
  clock.now += hour;
  labeler.pages = [[vote]];
  await consumer.look();
  assert.deepEqual([store.current(reef).length, ledger.firstSight(vote)], [1, june]);
  await consumer.stop();
});

test('what a waiting key negated begins anew once the key counts and the label comes again', async () => {
  const { store, ledger, consumer, clock, labeler, after, vote } = await aged();
  clock.now += hour;
  labeler.emit(await after.sign({ cts: iso(clock.now) }));
  await settled(store, web, 3);
  clock.now += dayMs;
  await consumer.look();
  assert.deepEqual([store.current(reef).length, ledger.firstSight(vote)], [1, clock.now]);
  await consumer.stop();
});

for (const did of [web, plc]) {
  test(`a process that ended before the operator was told of another key tells after its restart: ${did}`, async () => {
    const { store, consumer, alerts, after, open } = await rotated(did);
    await consumer.stop();
    const ended = open({
      onKeyChange: () => {
        throw new Error('the process ends here');
      },
    });
    await ended.look();
    await ended.stop();
    assert.equal(alerts.length, 0);
    const restarted = open();
    restarted.start();
    await restarted.look();
    await restarted.look();
    assert.deepEqual(
      alerts.map(([what]) => what),
      ['key'],
    );
    assert.equal(store.states.trustedKey(did) === after.didKey, did === plc);
    await restarted.stop();
  });
}

test('a batch of both sides of a rotation: what the trusted key signed counts, the rest waits', async () => {
  const { store, labeler, consumer, before, after, vals, clock, open } = await rotated(web);
  await consumer.stop();
  // What was read last stands until the document is asked for anew.
  let read = before.didKey;
  const identities = {
    forget: () => {
      read = after.didKey;
    },
    resolve: async () => ({ labelKey: read }),
  };
  const cts = iso(clock.now);
  labeler.emit(await before.sign({ cts, val: 'late' }), await after.sign({ cts, uri: kelp }));
  const restarted = open({ identities });
  restarted.start();
  await settled(store, web, 2);
  assert.deepEqual([vals(), vals(kelp)], [['late', 'verified-mail-operator'], []]);
  await store.trustKey(web);
  assert.deepEqual(vals(kelp), ['verified-mail-operator']);
  await restarted.stop();
});

test('what a waiting key signed counts for nothing when the document, read again, is back at the trusted one', async () => {
  const { store, labeler, consumer, before, after, vals, clock, open } = await rotated(web);
  labeler.emit(await after.sign({ cts: iso(clock.now), val: 'x' }));
  await settled(store, web, 2);
  await consumer.stop();
  labeler.pages = [[await before.sign({})]];
  let read = after.didKey;
  const identities = {
    forget: () => {
      read = before.didKey;
    },
    resolve: async () => ({ labelKey: read }),
  };
  const cts = iso(clock.now);
  labeler.emit(await after.sign({ cts, uri: kelp }), await before.sign({ cts, val: 'late' }));
  const restarted = open({ identities });
  restarted.start();
  await settled(store, web, 3);
  assert.deepEqual([vals(), vals(kelp)], [['late', 'verified-mail-operator'], []]);
  await restarted.stop();
});

test('the key that was shown is the one that is trusted: another one in the document waits, and is told of', async () => {
  const [shown, other] = [await issuer(web), await issuer(web)];
  const { open, labeler, store, alerts, clock } = worldOf(web, other.didKey);
  const consumer = open({ firstKey: shown.didKey });
  consumer.start();
  labeler.emit(await other.sign({}));
  await settled(store, web, 1);
  assert.deepEqual(store.current(reef), []);
  const countsFrom = clock.now + dayMs;
  assert.deepEqual(alerts, [['key', web, { before: shown.didKey, after: other.didKey, countsFrom }]]);
  await consumer.stop();
  // Only the first one: what was trusted since stands.
  await store.trustKey(web);
  const later = open({ firstKey: shown.didKey });
  later.start();
  await later.look();
  assert.equal(store.states.trustedKey(web), other.didKey);
  await later.stop();
});
