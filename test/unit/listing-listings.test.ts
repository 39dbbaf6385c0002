import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { UnsignedLabel } from '../../appview/labels/codec.ts';
import { LabelStore } from '../../appview/labels/store.ts';
import { Ledger } from '../../appview/listing/ledger.ts';
import { Listings } from '../../appview/listing/listings.ts';
import { defaultPolicy, type Policy } from '../../appview/listing/policy.ts';
import type { Listing } from '../../dnsbl/listing.ts';
import {
  Commits,
  cids,
  counters,
  dayMs,
  iso,
  issuer,
  june,
  memberDid,
  memoryDatabases,
  quiet,
  strangerDid,
  uriOf,
} from './labels-fixtures.ts';

const harbor = await issuer();
const meadow = await issuer('did:web:meadow.test');

type World = ReturnType<typeof openWorld>;

function openWorld({ now = undefined as (() => number) | undefined, policy = {} as Partial<Policy> } = {}) {
  const clock = { now: june };
  const time = now ?? (() => clock.now);
  const databases = memoryDatabases();
  const counted = counters();
  const asked: string[] = [];
  const changes: Listing[] = [];
  const build = (with_: Partial<Policy> = {}) => {
    const ledger = new Ledger({ db: databases.ledgerDb, now: time });
    const { db } = databases;
    const commits = new Commits(db);
    const labels = new LabelStore({
      ...{ db, now: time, count: counted.count },
      witness: (applied) => ledger.observe(applied),
    });
    const listings = new Listings({
      ...{ db, labels, ledger, log: quiet, count: counted.count, now: time },
      attestations: {
        get: (uri) => {
          asked.push(uri);
          return commits.index.get(uri);
        },
        onChange: (callback) => commits.index.onChange(callback),
      },
      policy: { ...defaultPolicy, roots: [harbor.did, meadow.did], newcomerDays: 0, ...policy, ...with_ },
      publicUrl: 'https://harbor.test',
    });
    listings.onChange((listing) => changes.push(listing));
    return { commits, labels, listings };
  };
  const world = { clock, databases, counted, asked, changes, build, ...build() };
  return world;
}

/** A frame of Harbor's votes, behind all frames before it. */
async function vote(world: World, ...frame: Partial<UnsignedLabel>[]): Promise<void> {
  const labels = await Promise.all(frame.map((fields) => harbor.sign(fields)));
  world.labels.receive(harbor.did, (world.labels.cursor(harbor.did) ?? 0) + 1, labels);
}

/** As a zone is filled. */
const all = (listings: Listings) => listings.since(0, 1000).filter(({ removed }) => !removed);
const listed = ({ listings }: World) => all(listings).map(({ name }) => name);

test('a vote lists the domain before receive() returns, with its page as url', async () => {
  const world = openWorld();
  world.listings.start();
  world.commits.put('reef.test');
  assert.deepEqual(world.changes, []);
  await vote(world, {});
  assert.equal(world.changes.length, 1);
  const [listing] = world.changes;
  assert.deepEqual(listing, {
    name: 'reef.test',
    list: 'vouched',
    kind: 4,
    trust: 1,
    mailTypes: ['transaction'],
    coverSubdomains: false,
    did: memberDid,
    vouchers: [harbor.did],
    url: 'https://harbor.test/listing/reef.test',
    seq: june + 1,
  });
  assert.deepEqual(all(world.listings), [listing]);
  world.listings.stop();
});

test('a vote that comes before its attestation counts when that comes', async () => {
  const world = openWorld();
  world.listings.start();
  await vote(world, {});
  assert.deepEqual(listed(world), []);
  world.commits.put('reef.test');
  assert.deepEqual(listed(world), ['reef.test']);
  world.listings.stop();
});

test('one frame is one pass over exactly the domains that it names', async () => {
  const world = openWorld();
  world.listings.start();
  for (const domain of ['reef.test', 'news.reef.test', 'orchard.test']) world.commits.put(domain);
  await vote(world, { uri: uriOf('orchard.test') });
  world.asked.length = 0;
  world.changes.length = 0;
  await vote(
    world,
    { uri: uriOf('reef.test') },
    { uri: uriOf('news.reef.test') },
    { uri: uriOf('reef.test'), val: 'relay-member' },
    { uri: memberDid, cid: undefined },
  );
  assert.deepEqual(world.asked.sort(), [uriOf('news.reef.test'), uriOf('reef.test')]);
  assert.deepEqual(
    world.changes.map(({ name, kind, seq }) => [name, kind, seq]),
    [
      ['reef.test', 3, june + 2],
      ['news.reef.test', 4, june + 3],
    ],
  );
  world.listings.stop();
});

test('strangers who attest a domain cost nothing: only what is labelled is looked at', async () => {
  const world = openWorld();
  world.listings.start();
  world.commits.put('reef.test');
  await vote(world, {});
  world.asked.length = 0;
  for (let n = 0; n < 100; n++) world.commits.put('reef.test', { did: `${strangerDid}${n}` });
  assert.equal(new Set(world.asked).size, 1);
  assert.deepEqual(listed(world), ['reef.test']);
  world.listings.stop();
});

test('a negation, another version, a deletion and an inactive account each unlist, and the row stays as a removed one', async () => {
  const ends: [why: string, end: (world: World) => unknown][] = [
    ['negation', (world) => vote(world, { neg: true, cid: undefined, cts: iso(june + 1) })],
    ['another version', (world) => world.commits.put('reef.test', { cid: cids[1] })],
    ['deletion', (world) => world.commits.remove('reef.test')],
    ['an account that is not active', (world) => world.commits.setActive(false)],
  ];
  for (const [why, end] of ends) {
    const world = openWorld();
    world.listings.start();
    world.commits.put('reef.test');
    await vote(world, {});
    await end(world);
    const [before, after] = world.changes;
    assert.deepEqual(after, { ...before, seq: june + 2, removed: true }, why);
    assert.deepEqual(listed(world), [], why);
    assert.equal(world.listings.get('reef.test'), undefined, why);
    assert.deepEqual(world.listings.since(0, 10), [after], why);
    world.listings.stop();
  }
});

test('what changes nothing moves no seq and tells nobody', async () => {
  const world = openWorld();
  world.listings.start();
  const row = world.commits.put('reef.test');
  await vote(world, {});
  await vote(world, { cts: iso(june + 1) });
  world.commits.put('reef.test', { cid: row.cid });
  world.commits.put('orchard.test');
  world.commits.remove('orchard.test');
  assert.equal(world.changes.length, 1);
  assert.equal(world.listings.last, june + 1);
  world.listings.stop();
});

test('the explanation carries the attestation and each vote with its first sight', async () => {
  const world = openWorld();
  world.listings.start();
  const attestation = world.commits.put('reef.test');
  await vote(world, {});
  world.clock.now += dayMs;
  world.labels.receive(meadow.did, 1, [await meadow.sign({})]);
  const found = world.listings.get('reef.test');
  assert.deepEqual(found?.attestation, attestation);
  assert.deepEqual(found.listing, world.changes.at(-1));
  assert.deepEqual(
    found.votes.map(({ issuer, firstSeen, label }) => [issuer, firstSeen, label.sig.length]),
    [
      [harbor.did, june, 64],
      [meadow.did, june + dayMs, 64],
    ],
  );
  world.listings.stop();
});

test('an expiry unlists by itself', async () => {
  const world = openWorld({ now: Date.now });
  world.listings.start();
  world.commits.put('reef.test');
  const gone = new Promise<Listing>((resolve) => {
    world.listings.onChange((listing) => listing.removed && resolve(listing));
  });
  await vote(world, { exp: iso(Date.now() + 50) });
  assert.deepEqual(listed(world), ['reef.test']);
  // The listings' own timer does not keep a process alive.
  const keepAlive = setInterval(() => undefined, 1000);
  assert.equal((await gone).name, 'reef.test');
  clearInterval(keepAlive);
  world.listings.stop();
});

test('the end of the newcomer days raises the trust, of this domain alone', async () => {
  const world = openWorld({ policy: { newcomerDays: 14 } });
  world.listings.start();
  world.commits.put('reef.test');
  world.commits.put('orchard.test');
  await vote(world, {});
  world.clock.now += dayMs;
  await vote(world, { uri: uriOf('orchard.test') });
  assert.deepEqual(
    world.changes.map(({ trust }) => trust),
    [0, 0],
  );

  world.clock.now = june + 14 * dayMs - 1;
  world.listings.recomputeDue();
  assert.equal(world.changes.length, 2);
  world.clock.now += 1;
  world.listings.recomputeDue();
  assert.deepEqual(
    world.changes.slice(2).map(({ name, trust }) => [name, trust]),
    [['reef.test', 1]],
  );
  world.listings.stop();
});

test('a start applies what changed while nobody looked: the policy, and the time', async () => {
  const world = openWorld();
  world.listings.start();
  world.commits.put('reef.test');
  world.commits.put('orchard.test');
  await vote(world, {}, { uri: uriOf('orchard.test'), exp: iso(june + 10) });
  world.listings.stop();

  world.clock.now = june + 10;
  const again = world.build();
  again.listings.start();
  assert.deepEqual(
    all(again.listings).map(({ name }) => name),
    ['reef.test'],
  );
  again.listings.stop();

  const distrusting = world.build({ roots: [meadow.did] });
  distrusting.listings.start();
  assert.deepEqual(all(distrusting.listings), []);
  assert.deepEqual(
    world.changes.slice(2).map(({ name, removed }) => [name, removed]),
    [
      ['orchard.test', true],
      ['reef.test', true],
    ],
  );
  distrusting.listings.stop();
});

test('what could not be written is written by a later pass', async () => {
  const world = openWorld();
  const { db } = world.databases;
  world.listings.start();
  world.commits.put('reef.test');
  db.exec("CREATE TRIGGER full BEFORE INSERT ON listing BEGIN SELECT RAISE(ABORT, 'disk full'); END");
  await vote(world, {});
  assert.deepEqual(listed(world), []);
  assert.equal(world.counted.of('listing_pass_failed'), 1);
  db.exec('DROP TRIGGER full');
  world.listings.recomputeDue();
  assert.deepEqual(listed(world), ['reef.test']);
  world.listings.stop();
});

test('after the AppView was thrown away no seq is given twice, and the ages stay', async () => {
  const world = openWorld({ policy: { newcomerDays: 14 } });
  world.listings.start();
  world.commits.put('reef.test');
  await vote(world, {});
  world.listings.stop();
  const { last } = world.listings;

  world.databases.db = memoryDatabases().db;
  world.clock.now = june + 14 * dayMs;
  Object.assign(world, world.build());
  world.listings.start();
  world.commits.put('reef.test');
  assert.ok(world.listings.epoch > last);
  await vote(world, {});
  const rebuilt = world.changes.at(-1);
  assert.equal(rebuilt?.trust, 1);
  assert.ok(rebuilt.seq > last);
  world.listings.stop();
});

test('since() goes forward in order of seq, each name with its newest state', async () => {
  const world = openWorld();
  world.listings.start();
  for (const domain of ['a.test', 'b.test', 'c.test']) {
    world.commits.put(domain);
    await vote(world, { uri: uriOf(domain) });
  }
  world.commits.remove('a.test');
  const names = (listings: Listing[]) => listings.map(({ name, removed }) => (removed ? `-${name}` : name));
  const first = world.listings.since(0, 2);
  assert.deepEqual(names(first), ['b.test', 'c.test']);
  assert.deepEqual(names(world.listings.since(first[1]?.seq ?? 0, 2)), ['-a.test']);
  assert.deepEqual(world.listings.since(world.listings.last, 2), []);
  world.listings.stop();
});

test('labels of a peer without weight cost a decision nothing, however many', async () => {
  const world = openWorld();
  const reads: string[] = [];
  for (const name of ['currentOf', 'attestationsLabelled'] as const) {
    const read = world.labels[name].bind(world.labels) as (...args: unknown[]) => unknown[];
    world.labels[name] = ((...args: unknown[]) => {
      const rows = read(...args);
      reads.push(...rows.map(() => name));
      return rows;
    }) as never;
  }
  world.listings.start();
  const attestation = world.commits.put('reef.test');
  const crowd = await issuer('did:web:crowd.test');
  const onOthers = Array.from({ length: 200 }, (_, n) =>
    crowd.sign({ uri: uriOf('reef.test', `did:plc:x${n}`) }),
  );
  const onTheSame = Array.from({ length: 200 }, (_, n) => crowd.sign({ val: `v${n}` }));
  world.asked.length = 0;
  world.labels.receive(crowd.did, 1, await Promise.all([...onOthers, ...onTheSame]));
  assert.deepEqual([world.asked, reads], [[], []], 'their frame decides nothing');
  await vote(world, {});
  assert.deepEqual(world.asked, [attestation.uri]);
  assert.deepEqual(reads, ['attestationsLabelled', 'currentOf']);
  assert.deepEqual(listed(world), ['reef.test']);
  world.listings.stop();
});

test('a root that vouches for many accounts of one domain lists none, and bounds the work', async () => {
  const world = openWorld();
  world.listings.start();
  world.commits.put('reef.test');
  await vote(world, {});
  world.asked.length = 0;
  const exp = iso(june + dayMs);
  const others = Array.from({ length: 50 }, (_, n) => ({ uri: uriOf('reef.test', `did:plc:x${n}`), exp }));
  await vote(world, ...others);
  assert.deepEqual([listed(world), world.asked], [[], []]);
  assert.equal(world.counted.of('listing_candidates_over_limit'), 1);
  world.clock.now = june + dayMs;
  world.listings.recomputeDue();
  assert.deepEqual(listed(world), ['reef.test'], 'the others have expired');
  world.listings.stop();
});

test('asking for an explanation writes nothing; a pass notes all new first sights in one commit', async () => {
  const world = openWorld();
  const { ledgerDb } = world.databases;
  world.listings.start();
  for (const domain of ['reef.test', 'news.reef.test']) world.commits.put(domain);
  await vote(world, {}, { uri: uriOf('news.reef.test') });
  ledgerDb.exec('DELETE FROM first_sight');
  const sights = () => ledgerDb.prepare('SELECT at FROM first_sight').all().length;
  world.clock.now += dayMs;
  assert.equal(world.listings.get('reef.test')?.votes[0]?.firstSeen, june + dayMs);
  assert.equal(sights(), 0);
  const exec = ledgerDb.exec.bind(ledgerDb);
  let commits = 0;
  ledgerDb.exec = (sql) => {
    if (sql === 'COMMIT') commits += 1;
    return exec(sql);
  };
  world.listings.recompute(['reef.test', 'news.reef.test']);
  assert.deepEqual([sights(), commits], [2, 1]);
  world.listings.stop();
});

test('damage of our own database comes out of a pass, and is not tried again', async () => {
  const world = openWorld();
  world.listings.start();
  world.commits.put('reef.test');
  world.labels.currentOf = () => {
    throw Object.assign(new Error('database disk image is malformed'), { code: 'SQLITE_CORRUPT_INDEX' });
  };
  await assert.rejects(vote(world, {}), /malformed/);
  assert.equal(world.counted.of('listing_pass_failed'), 0);
  world.listings.stop();
});
