/** What an issuer serves, compared with what we hold of it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SignedLabel } from '../../appview/labels/codec.ts';
import { cids, dayMs, iso, issuer, june, uriOf } from './labels-fixtures.ts';
import { settled, worldOf } from './labels-source.ts';

const harbor = await issuer('did:plc:ewvi7nxzyoun6zhxrhs64oiz');
const meadow = await issuer('did:web:meadow.test');
const src = harbor.did;
const hour = 3_600_000;

/** Follows harbor, whose stream has brought `streamed`, an hour ago. */
async function worldWith(...streamed: SignedLabel[]) {
  const world = worldOf(src, harbor.didKey);
  const consumer = world.open();
  consumer.start();
  world.labeler.emit(...streamed);
  await settled(world.store, src, 1);
  world.clock.now += hour;
  /** One walk, now. */
  const reconcile = () => {
    world.store.states.reconcileAt(src, world.clock.now);
    return consumer.look();
  };
  const listed = (...names: string[]) =>
    names.filter((name) => world.store.current(uriOf(name), world.clock.now).length > 0);
  return { ...world, consumer, reconcile, listed };
}

const vote = (name: string, fields = {}) => harbor.sign({ uri: uriOf(name), ...fields });

test('what the stream lost is stored, and what was negated meanwhile is negated', async () => {
  const { labeler, listed, reconcile, consumer } = await worldWith(
    await vote('a.test'),
    await vote('b.test'),
  );
  const negated = await vote('b.test', { neg: true, cid: undefined, cts: iso(june + 1) });
  labeler.pages = [[await vote('a.test')], [negated], [await vote('c.test')]];
  await reconcile();
  assert.deepEqual(listed('a.test', 'b.test', 'c.test'), ['a.test', 'c.test']);
  assert.deepEqual(labeler.questions[0], { uriPatterns: ['*'], src });
  await consumer.stop();
});

test('what is served no more is not in force, comes back when it is sent again, and the ledger hears of it', async () => {
  const { labeler, listed, reconcile, consumer, store, clock } = await worldWith(
    await vote('a.test'),
    await vote('b.test'),
  );
  const gone: [string, boolean][] = [];
  store.onChange((applied) =>
    gone.push(...applied.map((one) => [one.label.uri, !!one.goneAt] as [string, boolean])),
  );
  labeler.pages = [[await vote('a.test')]];
  await reconcile();
  assert.deepEqual(listed('a.test', 'b.test'), ['a.test']);
  assert.deepEqual(gone, [[uriOf('b.test'), true]]);
  labeler.emit(await vote('b.test', { cts: iso(clock.now) }));
  await settled(store, src, 2);
  assert.deepEqual(listed('a.test', 'b.test'), ['a.test', 'b.test']);
  await consumer.stop();
});

test('a walk that does not come to its end shows no absence', async () => {
  const { labeler, listed, reconcile, consumer, counted } = await worldWith(
    await vote('a.test'),
    await vote('b.test'),
  );
  labeler.pages = [[await vote('a.test')], [await vote('a.test')]];
  labeler.cursorAfter = () => '1';
  await reconcile();
  assert.deepEqual(listed('a.test', 'b.test'), ['a.test', 'b.test']);
  assert.equal(counted.of('label_reconciliations{incomplete}'), 1);
  await consumer.stop();
});

test('an empty page is the end, whatever its cursor says', async () => {
  const { labeler, reconcile, consumer, counted } = await worldWith(await vote('a.test'));
  labeler.pages = [[await vote('a.test')], []];
  labeler.cursorAfter = (page) => (page === 0 ? '1' : '0');
  await reconcile();
  assert.equal(counted.of('label_reconciliations{complete}'), 1);
  assert.equal(labeler.questions.length, 2);
  await consumer.stop();
});

test('a page order that shifted hides nothing: what is missing is asked for by its own URI', async () => {
  const { labeler, listed, reconcile, consumer } = await worldWith(
    await vote('a.test'),
    await vote('b.test'),
  );
  const [a, b] = [await vote('a.test'), await vote('b.test')];
  labeler.pages = [[a]];
  const query = labeler.query.bind(labeler);
  labeler.query = async (question) => {
    if (question.uriPatterns[0] !== '*') labeler.pages = [[a, b]];
    return query(question);
  };
  await reconcile();
  assert.deepEqual(listed('a.test', 'b.test'), ['a.test', 'b.test']);
  assert.deepEqual(labeler.questions.at(-1)?.uriPatterns, [uriOf('b.test')]);
  await consumer.stop();
});

test('a label newer than the walk is not missing', async () => {
  const { labeler, listed, reconcile, consumer, store, clock } = await worldWith(await vote('a.test'));
  labeler.emit(await vote('b.test', { cts: iso(clock.now) }));
  await settled(store, src, 2);
  labeler.pages = [[await vote('a.test')]];
  await reconcile();
  assert.deepEqual(listed('a.test', 'b.test'), ['a.test', 'b.test']);
  await consumer.stop();
});

test('where too much is missing nothing is touched, and the operator is told', async () => {
  const names = Array.from({ length: 30 }, (_, n) => `d${n}.test`);
  const { labeler, listed, reconcile, consumer, alerts } = await worldWith(
    ...(await Promise.all(names.map((name) => vote(name)))),
  );
  labeler.pages = [[]];
  await reconcile();
  assert.equal(listed(...names).length, 30);
  assert.deepEqual(alerts, [['vanished', src, 30, 30]]);
  await consumer.stop();
});

test('what others signed, or say, changes nothing', async () => {
  const { labeler, listed, reconcile, consumer, counted } = await worldWith(await vote('a.test'));
  const forged = { ...(await meadow.sign({ uri: uriOf('b.test') })), src };
  labeler.pages = [[await vote('a.test'), await meadow.sign({ uri: uriOf('c.test') }), forged]];
  await reconcile();
  assert.deepEqual(listed('a.test', 'b.test', 'c.test'), ['a.test']);
  assert.equal(counted.of('labels_refused{foreign_src}'), 1);
  assert.equal(counted.of('labels_refused{bad_signature}'), 1);
  await consumer.stop();
});

test('after a rotation the labels that stand get their new signatures, and nobody is told that they changed', async () => {
  const { labeler, reconcile, consumer, store, document } = await worldWith(await vote('a.test'));
  const after = await issuer(src);
  document.key = after.didKey;
  const resigned = await after.sign({ uri: uriOf('a.test') });
  labeler.pages = [[resigned]];
  let told = 0;
  store.onChange(() => {
    told += 1;
  });
  await reconcile();
  assert.deepEqual(store.current(uriOf('a.test'))[0]?.label, resigned);
  assert.equal(told, 0);
  await consumer.stop();
});

test('of a history that is served whole only the newest counts', async () => {
  const { labeler, listed, reconcile, consumer, store } = await worldWith(
    await vote('a.test', { cts: iso(june + 2), cid: cids[1] }),
  );
  labeler.pages = [
    [
      await vote('a.test', { cts: iso(june) }),
      await vote('a.test', { cts: iso(june + 1), neg: true, cid: undefined }),
      await vote('a.test', { cts: iso(june + 2), cid: cids[1] }),
    ],
  ];
  await reconcile();
  assert.deepEqual(listed('a.test'), ['a.test']);
  assert.equal(store.current(uriOf('a.test'))[0]?.label.cid, cids[1]);
  await consumer.stop();
});

test('it comes by itself: an hour after the first frame, daily, and after OutdatedCursor', async () => {
  const { labeler, consumer, store, clock, counted } = await worldWith(await vote('a.test'));
  labeler.pages = [[await vote('a.test')]];
  assert.equal(store.states.reconcileDueAt(src), june + hour);
  await consumer.look();
  assert.equal(labeler.questions.length, 1);
  clock.now += dayMs - 1;
  await consumer.look();
  assert.equal(labeler.questions.length, 1);
  clock.now += 1;
  await consumer.look();
  assert.equal(labeler.questions.length, 2);
  const again = counted.reached('label_reconciliations{complete}', 3);
  labeler.send({ kind: 'info', name: 'OutdatedCursor' });
  await again;
  assert.equal(consumer.status().reconciledAt, clock.now);
  await consumer.stop();
});

for (const when of ['while it looks', 'while it notes that'] as const) {
  test(`a disk that is full ${when} ends nothing: it is counted, and the next look does its work`, async () => {
    const { labeler, reconcile, consumer, db, store, counted, listed, clock } = await worldWith(
      await vote('a.test'),
    );
    labeler.pages = [[await vote('a.test'), await vote('b.test')]];
    store.states.reconcileAt(src, clock.now);
    const { countWaiting } = store;
    if (when === 'while it looks') {
      store.countWaiting = () => Promise.reject(Object.assign(new Error('full'), { code: 'SQLITE_FULL' }));
    }
    db.exec('PRAGMA query_only = ON');
    await consumer.look();
    db.exec('PRAGMA query_only = OFF');
    store.countWaiting = countWaiting;
    assert.ok(counted.of('label_reconcile_failed') >= 1);
    await reconcile();
    assert.deepEqual(listed('a.test', 'b.test'), ['a.test', 'b.test']);
    await consumer.stop();
  });
}
