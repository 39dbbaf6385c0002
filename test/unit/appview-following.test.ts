/** Issuers that come and go while the AppView runs: what they voted for is listed, and unlisted, at once. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setImmediate as breathe } from 'node:timers/promises';
import { AppView, type AppViewOptions } from '../../appview/appview.ts';
import { Identities } from '../../appview/identity/did.ts';
import type { Frame, SignedLabel } from '../../appview/labels/codec.ts';
import type { LabelSource } from '../../appview/labels/source.ts';
import type { Listing } from '../../dnsbl/listing.ts';
import { Commits, counters, issuer, june, memoryDatabases, quiet, uriOf } from './labels-fixtures.ts';

const own = await issuer('did:web:harbor.test');
const harbor = own.did;
const meadow = await issuer('did:web:meadow.test');
const dune = await issuer('did:web:dune.test');

/** A labeler that keeps all its frames: whoever follows gets those after the cursor, then waits. */
class Labeler implements LabelSource {
  readonly frames: Frame[] = [];
  readonly cursors: (number | undefined)[] = [];
  /** Follows in hand. */
  open = 0;

  add(...labels: SignedLabel[]): void {
    this.frames.push({ kind: 'labels', seq: this.frames.length + 1, labels });
  }

  async follow(cursor: number | undefined, onFrame: (frame: Frame) => Promise<void>, signal: AbortSignal) {
    this.cursors.push(cursor);
    this.open += 1;
    for (const frame of this.frames) if ('seq' in frame && frame.seq > (cursor ?? 0)) await onFrame(frame);
    const { promise, resolve } = Promise.withResolvers<void>();
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve());
    await promise;
    this.open -= 1;
  }
}

function openWorld(
  t: TestContext,
  {
    databases = memoryDatabases(),
    roots = [] as string[],
    follow = [] as string[],
    more = {} as Partial<AppViewOptions>,
  } = {},
) {
  const counted = counters();
  const sources = { [meadow.did]: new Labeler(), [dune.did]: new Labeler() };
  const identities = new Identities({ plcUrl: 'https://plc.test', now: () => june, fetch: () => fail() });
  const keys: Record<string, string> = Object.fromEntries(
    [own, meadow, dune].map(({ did, didKey }) => [did, didKey]),
  );
  identities.resolve = async (did) => ({ did, labelKey: keys[did]!, labeler: 'https://labels.test' });
  const appview = new AppView({
    ...{
      appviewDb: databases.db,
      ledgerDb: databases.ledgerDb,
      did: harbor,
      publicUrl: 'https://harbor.test',
    },
    ...{ identities, firehose: [], rules: { allowLoopback: false, loopbackOnly: true }, log: quiet },
    ...{ count: counted.count, now: () => june, roots, follow: [] },
    ...{ policy: { newcomerDays: 0 }, ...more },
  });
  for (const did of follow) appview.follow(did, { source: sources[did]! });
  t.after(() => appview.stop());
  const commits = new Commits(databases.db);
  const listed = () =>
    appview.listings.since(0, 1000).flatMap(({ name, removed }) => (removed ? [] : [name as string]));
  return { appview, commits, counted, databases, sources, listed };
}

function fail(): never {
  throw new Error('nothing is fetched here');
}

async function gone(rows: () => number): Promise<void> {
  for (let i = 0; rows() > 0; i++) {
    assert.ok(i < 10_000, `${rows()} are left`);
    await breathe();
  }
}

const countOf = (world: ReturnType<typeof openWorld>, table: 'label' | 'label_cursor', did: string) => () =>
  (world.databases.db.prepare(`SELECT count(*) AS n FROM ${table} WHERE src = ?`).get(did) as { n: number })
    .n;
const sightsOf = (world: ReturnType<typeof openWorld>, did: string) => () =>
  (
    world.databases.ledgerDb.prepare('SELECT count(*) AS n FROM first_sight WHERE src = ?').get(did) as {
      n: number;
    }
  ).n;

test('a peer that is followed and made a root is listed, and unlisted before setRoots() returns', async (t) => {
  const world = openWorld(t);
  world.sources[meadow.did]!.add(await meadow.sign({}));
  world.commits.put('reef.test');
  world.appview.start();
  world.appview.follow(meadow.did, { source: world.sources[meadow.did]! });
  await world.counted.reached('labels_accepted');
  assert.deepEqual(world.listed(), []);
  await world.appview.setRoots([meadow.did]);
  assert.deepEqual(world.listed(), ['reef.test']);
  const changes: Listing[] = [];
  world.appview.listings.onChange((listing) => changes.push(listing));
  await world.appview.setRoots([]);
  assert.deepEqual(world.listed(), []);
  assert.deepEqual(
    changes.map(({ name, removed }) => [name, removed]),
    [['reef.test', true]],
  );
});

test('a root that comes touches its own domains alone', async (t) => {
  const world = openWorld(t, { roots: [meadow.did], follow: [meadow.did, dune.did] });
  world.sources[meadow.did]!.add(await meadow.sign({}));
  world.sources[dune.did]!.add(await dune.sign({ uri: uriOf('orchard.test') }));
  world.commits.put('reef.test');
  world.commits.put('orchard.test');
  world.appview.start();
  await world.counted.reached('labels_accepted', 2);
  const asked: string[] = [];
  const { get } = world.appview.attestations;
  world.appview.attestations.get = (uri) => {
    asked.push(uri);
    return get.call(world.appview.attestations, uri);
  };
  await world.appview.setRoots([meadow.did, dune.did]);
  assert.deepEqual(asked, [uriOf('orchard.test')]);
  assert.deepEqual(world.listed().sort(), ['orchard.test', 'reef.test']);
});

test('with hundreds of domains others get their turn in between, and every one is decided', async (t) => {
  const world = openWorld(t, { follow: [meadow.did] });
  const domains = Array.from({ length: 450 }, (_, i) => `d${i}.test`);
  // No account has more than a hundred.
  const owner = (i: number) => `did:plc:${'abcde'[i % 5]!.repeat(24)}`;
  for (const [i, domain] of domains.entries()) world.commits.put(domain, { did: owner(i) });
  world.sources[meadow.did]!.add(
    ...(await Promise.all(domains.map((domain, i) => meadow.sign({ uri: uriOf(domain, owner(i)) })))),
  );
  world.appview.start();
  await world.counted.reached('labels_accepted', domains.length);
  let turns = 0;
  const turn = () => {
    turns += 1;
    again = setImmediate(turn);
  };
  let again = setImmediate(turn);
  await world.appview.setRoots([meadow.did]);
  clearImmediate(again);
  assert.ok(turns >= 2, `${turns} turns`);
  assert.equal(world.listed().length, domains.length);
});

test('an issuer that is followed no more leaves no label, no cursor and no first sight, and begins anew', async (t) => {
  const world = openWorld(t, { roots: [meadow.did], follow: [meadow.did, dune.did] });
  world.commits.put('reef.test');
  world.sources[meadow.did]!.add(await meadow.sign({}));
  world.sources[dune.did]!.add(await dune.sign({}));
  world.appview.start();
  await world.counted.reached('labels_accepted', 2);
  assert.equal(sightsOf(world, meadow.did)(), 1);
  await world.appview.setRoots([]);
  await world.appview.unfollow(meadow.did);
  assert.equal(world.sources[meadow.did]!.open, 0);
  assert.equal(world.appview.peerStatus(meadow.did), undefined);
  await gone(countOf(world, 'label_cursor', meadow.did));
  assert.equal(countOf(world, 'label', meadow.did)(), 0);
  assert.equal(sightsOf(world, meadow.did)(), 0);
  assert.equal(countOf(world, 'label', dune.did)(), 1);
  await world.appview.setRoots([meadow.did]);
  world.appview.follow(meadow.did, { source: world.sources[meadow.did]! });
  await world.counted.reached('labels_accepted', 3);
  assert.deepEqual(world.sources[meadow.did]!.cursors, [0, 0]);
  assert.deepEqual(world.listed(), ['reef.test']);
});

test('followed anew while its labels are being dropped, an issuer waits until they are gone', async (t) => {
  const world = openWorld(t, { follow: [meadow.did] });
  const domains = Array.from({ length: 1_200 }, (_, i) => `d${i}.test`);
  world.sources[meadow.did]!.add(
    ...(await Promise.all(domains.map((domain) => meadow.sign({ uri: uriOf(domain) })))),
  );
  world.appview.start();
  await world.counted.reached('labels_accepted', domains.length);
  const unfollowed = world.appview.unfollow(meadow.did);
  world.appview.follow(meadow.did, { source: world.sources[meadow.did]! });
  await unfollowed;
  await world.counted.reached('labels_accepted', 2 * domains.length);
  assert.deepEqual(world.sources[meadow.did]!.cursors, [0, 0]);
  assert.equal(countOf(world, 'label', meadow.did)(), domains.length);
});

test('what a stop left of a former peer goes after the next start', async (t) => {
  const world = openWorld(t, { follow: [meadow.did] });
  world.sources[meadow.did]!.add(await meadow.sign({}));
  world.appview.start();
  await world.counted.reached('labels_accepted');
  await world.appview.stop();
  assert.equal(countOf(world, 'label', meadow.did)(), 1);
  const later = openWorld(t, { databases: world.databases });
  later.appview.start();
  await gone(countOf(later, 'label_cursor', meadow.did));
  assert.equal(countOf(later, 'label', meadow.did)(), 0);
});

test('the limits of peers are not ours: our labels are all held, and nobody is told of a log that was behind', async (t) => {
  const told: unknown[] = [];
  const log = new Labeler();
  const behindOnce: LabelSource = {
    follow: async (cursor, onFrame, signal) => {
      if (log.cursors.push(cursor) === 1) await onFrame({ kind: 'error', error: 'FutureCursor' });
      else await log.follow(cursor, onFrame, signal);
    },
  };
  const databases = memoryDatabases();
  const world = openWorld(t, {
    databases,
    follow: [meadow.did],
    more: {
      labelLimits: { maxStored: 2 },
      labelAlerts: { onQuarantine: (...what) => told.push(what), onKeyChange: (...what) => told.push(what) },
      follow: [{ did: harbor, source: behindOnce }],
    },
  });
  const votes = (peer: typeof own) =>
    Promise.all(['a', 'b', 'c'].map((name) => peer.sign({ uri: uriOf(`${name}.test`) })));
  log.add(...(await votes(own)));
  world.sources[meadow.did]!.add(...(await votes(meadow)));
  world.appview.start();
  await world.counted.reached('labels_refused{too_many}');
  while (world.appview.labels.cursor(harbor) === undefined) await breathe();
  assert.deepEqual([countOf(world, 'label', harbor)(), world.appview.labels.held(harbor)], [3, 3]);
  assert.deepEqual([countOf(world, 'label', meadow.did)(), world.appview.labels.held(meadow.did)], [2, 2]);
  assert.deepEqual(told, []);
});

test('the label key that was shown is trusted first', async (t) => {
  const keyChanges: unknown[][] = [];
  const world = openWorld(t, {
    more: { labelAlerts: { onKeyChange: (...what) => keyChanges.push(what) } },
  });
  world.sources[meadow.did]!.add(await meadow.sign({}));
  world.appview.start();
  world.appview.follow(meadow.did, { source: world.sources[meadow.did]!, labelKey: dune.didKey });
  await world.counted.reached('labels_waiting');
  assert.deepEqual(
    keyChanges.map(([did]) => did),
    [meadow.did],
  );
});
