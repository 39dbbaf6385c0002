import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { UnsignedLabel } from '../../appview/labels/codec.ts';
import { LabelStore } from '../../appview/labels/store.ts';
import { Ledger } from '../../appview/listing/ledger.ts';
import { cids, dayMs, iso, issuer, june, memberDid, memoryDatabases, uriOf } from './labels-fixtures.ts';

const harbor = await issuer();
const reef = uriOf('reef.test');

/** A label store whose history the ledger witnesses, and which can be thrown away and rebuilt. */
function openWorld() {
  const clock = { now: june };
  const { ledgerDb } = memoryDatabases();
  const now = () => clock.now;
  const ledger = new Ledger({ db: ledgerDb, now });
  const newStore = () =>
    new LabelStore({
      ...{ db: memoryDatabases().db, now, count: () => undefined },
      witness: (applied) => ledger.observe(applied),
    });
  const history: { at: number; fields: Partial<UnsignedLabel> }[] = [];
  const world = {
    clock,
    ledgerDb,
    ledger,
    store: newStore(),
    /** The label is made and received at `at`. */
    async issue(at: number, fields: Partial<UnsignedLabel> = {}) {
      history.push({ at, fields });
      clock.now = Math.max(clock.now, at);
      world.store.receive(harbor.did, history.length, [await harbor.sign({ cts: iso(at), ...fields })]);
    },
    /** appview.db is gone; the issuer's stream brings its history again, much later. */
    async rebuild(at: number, { inOneFrame = false } = {}) {
      clock.now = at;
      world.store = newStore();
      const labels = await Promise.all(
        history.map(({ at, fields }) => harbor.sign({ cts: iso(at), ...fields })),
      );
      if (inOneFrame) world.store.receive(harbor.did, labels.length, labels);
      else for (const [index, label] of labels.entries()) world.store.receive(harbor.did, index + 1, [label]);
    },
    age() {
      const [current] = world.store.current(reef);
      return current && ledger.firstSight(current.label);
    },
  };
  return world;
}

test('a chain begins when we see it, whatever its cts says', async () => {
  const world = openWorld();
  await world.issue(june, { cts: '2020-01-01T00:00:00.000Z' });
  assert.equal(world.age(), june);
});

test('issuing anew, on another version too, continues the chain', async () => {
  const world = openWorld();
  await world.issue(june);
  await world.issue(june + dayMs);
  await world.issue(june + 2 * dayMs, { cid: cids[1] });
  assert.equal(world.age(), june);
});

test('a negation breaks the chain', async () => {
  const world = openWorld();
  await world.issue(june);
  await world.issue(june + dayMs, { neg: true });
  await world.issue(june + 2 * dayMs);
  assert.equal(world.age(), june + 2 * dayMs);
});

test('a negation and a new label in one frame break it too', async () => {
  const world = openWorld();
  await world.issue(june);
  world.clock.now = june + 3 * dayMs;
  world.store.receive(harbor.did, 9, [
    await harbor.sign({ cts: iso(june + dayMs), neg: true }),
    await harbor.sign({ cts: iso(june + 2 * dayMs) }),
  ]);
  assert.equal(world.age(), june + 3 * dayMs);
});

test('a rebuild that meets an old negation changes no age', async () => {
  for (const inOneFrame of [false, true]) {
    const world = openWorld();
    await world.issue(june);
    await world.issue(june + dayMs, { neg: true, cid: undefined });
    await world.issue(june + 2 * dayMs);
    await world.rebuild(june + 9 * dayMs, { inOneFrame });
    assert.equal(world.age(), june + 2 * dayMs);
  }
});

test('an expiry that passed breaks the chain, a renewal before it does not', async () => {
  const world = openWorld();
  await world.issue(june, { exp: iso(june + 10) });
  await world.issue(june + 9, { exp: iso(june + 20) });
  assert.equal(world.age(), june);
  await world.issue(june + 20);
  assert.equal(world.age(), june + 20);
});

test('a renewal that we received late, for we were down, continues the chain', async () => {
  const world = openWorld();
  await world.issue(june, { exp: iso(june + 10) });
  world.clock.now = june + dayMs;
  await world.issue(june + 9);
  assert.equal(world.age(), june);
});

for (const inOneFrame of [false, true]) {
  test(`a rebuild changes no age (${inOneFrame ? 'one frame' : 'frame by frame'})`, async () => {
    const world = openWorld();
    await world.issue(june, { exp: iso(june + 10) });
    await world.issue(june + 5);
    await world.issue(june + dayMs, { neg: true });
    await world.issue(june + 2 * dayMs, { exp: iso(june + 90 * dayMs) });
    await world.issue(june + 3 * dayMs);
    const age = world.age();
    assert.equal(age, june + 2 * dayMs);
    await world.rebuild(june + 200 * dayMs, { inOneFrame });
    assert.equal(world.age(), age);
  });
}

test('a label that the ledger lost begins to age when it is told so, and reading tells it nothing', async () => {
  const world = openWorld();
  await world.issue(june);
  world.ledgerDb.exec('DELETE FROM first_sight');
  world.clock.now = june + dayMs;
  assert.equal(world.age(), undefined);
  assert.equal(world.age(), undefined);
  world.ledger.begin(world.store.current(reef));
  world.clock.now = june + 2 * dayMs;
  assert.equal(world.age(), june + dayMs);
});

test('only labels on attestations are noted: no other can vote', async () => {
  const world = openWorld();
  await world.issue(june, { uri: memberDid, cid: undefined });
  assert.equal(world.ledgerDb.prepare('SELECT 1 FROM first_sight').all().length, 0);
});
