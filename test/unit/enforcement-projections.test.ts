import assert from 'node:assert/strict';
import { mkdtempSync, renameSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { openDatabase } from '../../appview/database.ts';
import { EventLog } from '../../node/enforcement/event-log.ts';
import { EventStore } from '../../node/enforcement/event-store.ts';
import { type Event, outboxes } from '../../node/enforcement/events.ts';
import { Rates } from '../../node/enforcement/rates.ts';
import { suppressionProjection } from '../../node/enforcement/suppression-projection.ts';
import { Suppressions } from '../../node/members/suppressions.ts';
import { nodeMigrations } from '../../node/migrations.ts';
import {
  accepted,
  day,
  log,
  reef,
  result,
  start,
  times,
  unknownUser,
  world,
} from './enforcement-fixtures.ts';

test('a projection sees each event once, oldest first, also what is copied again', async () => {
  const seen: string[] = [];
  const { happen, db, now } = world(() => [
    { project: (events) => seen.push(...events.map(({ id }) => id)) },
  ]);
  const made = await happen(...times(120, () => accepted()));
  assert.deepEqual(
    seen,
    made.map(({ id }) => id),
  );
  const again = new EventStore({ db, now, projections: [{ project: () => assert.fail('seen before') }] });
  assert.deepEqual(again.store(outboxes.spool, made.slice(-3)), []);
});

test('a projection that fails stores nothing, and the next copy does all of it', async () => {
  let fails = true;
  const { happen, db, events } = world((base, now) => [
    new Rates({ db: base, now }),
    {
      project: () => {
        if (fails) throw new Error('not now');
      },
    },
  ]);
  await assert.rejects(happen(accepted()), /not now/);
  const rows = (table: string) => db.prepare(`SELECT * FROM ${table}`).all().length;
  assert.deepEqual([rows('event'), rows('rate_minute'), rows('event_position')], [0, 0, 0]);
  fails = false;
  assert.equal(await events.copy(), 1);
  assert.deepEqual([rows('event'), rows('rate_minute')], [1, 1]);
});

test("the node's own events have ids of its own outbox, and their cause is in the same commit", () => {
  const { events, db } = world();
  events.record(
    [
      { type: 'unsubscribe', did: reef, detail: {} },
      { type: 'staff_act', did: reef, detail: {} },
    ],
    () => db.exec("UPDATE member SET handle = 'reef.test'"),
  );
  const rows = db.prepare('SELECT (id >> 7) & 15 AS outbox, at FROM event ORDER BY id').all();
  assert.deepEqual(
    rows,
    times(2, () => ({ outbox: 0, at: start })),
  );
  assert.throws(() => {
    events.record({ type: 'staff_act', did: reef, detail: {} }, () => {
      db.exec('UPDATE member SET handle = NULL');
      throw new Error('second thoughts');
    });
  }, /second thoughts/);
  assert.deepEqual(db.prepare('SELECT handle FROM member').all(), [{ handle: 'reef.test' }]);
});

test('two writers of own events never share an id', () => {
  const { db, now } = world();
  const [one, two] = [new EventStore({ db, now }), new EventStore({ db, now })];
  const event = { type: 'staff_act', did: reef, detail: {} } as const;
  const nothing = () => undefined;
  const ids = times(20, (n) => (n % 2 ? one : two).record(0, [event], nothing)[0]!.id);
  assert.equal(new Set(ids).size, 20);
  assert.deepEqual(ids, [...ids].sort());
});

test('listeners hear after the commit; one that fails harms nobody', async () => {
  const { events, happen, db, counted } = world();
  const heard: number[] = [];
  events.onStored(() => {
    throw new Error('a bug');
  });
  const unfollow = events.onStored((stored) => {
    assert.equal(db.inTransaction, false);
    heard.push(stored.length);
  });
  await happen(accepted(), accepted());
  events.record({ type: 'staff_act', did: reef, detail: {} });
  unfollow();
  await happen(accepted());
  assert.deepEqual(heard, [2, 1]);
  assert.deepEqual(new Set(counted), new Set(['event_listeners_failed']));
});

test('a commit in the outbox wakes the copy', async () => {
  const db = openDatabase(':memory:', nodeMigrations, { synchronous: 'NORMAL' });
  const waiting: Event[] = [];
  const asked = Promise.withResolvers<void>();
  const source = {
    eventsAfter: async (id: string) => {
      asked.resolve();
      return waiting.filter((event) => Number(event.id) > Number(id));
    },
    forgetEvents: async () => undefined,
  };
  const options = { db, source, outbox: outboxes.spool, log, count: () => undefined };
  const events = new EventLog({ ...options, intervalMs: 1_000_000, patienceMs: 1 });
  const stored = Promise.withResolvers<number>();
  events.onStored(({ length }) => stored.resolve(length));
  events.start();
  await asked.promise;
  waiting.push({ id: String(start * 2048 + 128), type: 'relay_attempt', at: start, did: reef, detail: {} });
  events.wake();
  assert.equal(await stored.promise, 1);
  await events.stop();
});

test('an outbox does not forget before the log of node.db has been synced', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'events-'));
  const file = join(dir, 'node.db');
  const db = openDatabase(file, nodeMigrations, { synchronous: 'FULL' });
  const forgotten: string[] = [];
  const id = String(start * 2048 + 128);
  const source = {
    eventsAfter: async (after: string): Promise<Event[]> =>
      after === '0' ? [{ id, type: 'relay_attempt', at: start, did: reef, detail: {} }] : [],
    forgetEvents: async (through: string) => void forgotten.push(through),
  };
  const options = { db, source, outbox: outboxes.spool, log, now: () => start, count: () => undefined };
  const events = new EventLog(options);
  renameSync(`${file}-wal`, `${file}-away`);
  await assert.rejects(events.copy(), /ENOENT/, 'there is nothing that could be synced');
  assert.deepEqual(forgotten, []);
  const { synchronous } = db.prepare('PRAGMA synchronous').get() as { synchronous: number };
  assert.equal(synchronous, 2, 'FULL again');
  renameSync(`${file}-away`, `${file}-wal`);
  await events.copy();
  assert.deepEqual(forgotten, [id]);
  db.close();
  rmSync(dir, { recursive: true });
});

test('the log of node.db does not grow with the events that came through it', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'events-'));
  const file = join(dir, 'node.db');
  const db = openDatabase(file, nodeMigrations, { synchronous: 'FULL' });
  const store = new EventStore({ db, now: () => start });
  let id = start * 2048 + 128;
  const detail = { words: 'x'.repeat(500) };
  const sizes: number[] = [];
  for (let round = 0; round < 6; round++) {
    for (let n = 0; n < 25; n++) {
      const events = times(100, (): Event => {
        return { id: String(++id), type: 'relay_attempt', at: start, did: reef, detail };
      });
      store.store(outboxes.spool, events);
    }
    await store.makeDurable();
    sizes.push(statSync(`${file}-wal`).size);
  }
  assert.ok(sizes.at(-1)! < 2 * sizes[0]!, `without checkpoints it grows by as much each time: ${sizes}`);
  db.close();
  rmSync(dir, { recursive: true });
});

test('a database of before knows where each outbox stands', () => {
  const dir = mkdtempSync(join(tmpdir(), 'events-'));
  const file = join(dir, 'node.db');
  const old = openDatabase(file, nodeMigrations.slice(0, 3), { synchronous: 'NORMAL' });
  const ids = [start * 2048 + 128, start * 2048 + 129, (start - 5) * 2048];
  for (const id of ids)
    old.prepare("INSERT INTO event (id, type, at, did, detail) VALUES (?, 'x', 1, 'd', '{}')").run(id);
  old.close();
  const db = openDatabase(file, nodeMigrations, { synchronous: 'NORMAL' });
  const store = new EventStore({ db, now: () => start });
  assert.deepEqual([store.position(1), store.position(0)], [String(ids[1]), String(ids[2])]);
  db.close();
  rmSync(dir, { recursive: true });
});

function suppressing() {
  const lists: Suppressions[] = [];
  const base = world((db, now) => {
    lists.push(new Suppressions({ db, now }));
    return [suppressionProjection(lists[0]!)];
  });
  return { ...base, list: lists[0]! };
}

test('an address that does not exist is suppressed for 30 days, with what its server said', async () => {
  const { happen, list, clock } = suppressing();
  const said = { reply: '550 5.1.1 No such user', host: 'mx.harbor.example' };
  await happen(unknownUser('No@harbor.example', said));
  const entry = list.find(reef, 'no@harbor.example')!;
  assert.deepEqual(
    [entry.reason, entry.messageId, entry.expiresAt, entry.evidence],
    [
      'bounce',
      'm',
      start + 30 * day,
      `${new Date(start).toISOString()}: mx.harbor.example said: 550 5.1.1 No such user`,
    ],
  );
  clock.at += 30 * day;
  assert.equal(list.find(reef, 'no@harbor.example'), undefined);
});

test('who complains is suppressed for good', async () => {
  const { happen, list, clock } = suppressing();
  await happen({ type: 'complaint_received', detail: { recipient: 'ana@harbor.example' } });
  clock.at += 1000 * day;
  assert.equal(list.find(reef, 'ana@harbor.example')!.reason, 'complaint');
});

test('nobody else is suppressed', async () => {
  const { happen, list } = suppressing();
  const simulated = { simulated: true };
  await happen(
    ...[accepted(), result('sent'), result('deferred', { recipientInvalid: true }), result('bounced')],
    unknownUser('bounced@simulator.pool.test', simulated),
    { type: 'complaint_received', detail: { recipient: 'complained@simulator.pool.test', ...simulated } },
    { type: 'complaint_received', detail: { recipient: 'not an address' } },
    { type: 'bounce_received', detail: { recipientInvalid: true } },
  );
  assert.deepEqual(list.list(reef, { limit: 10 }).suppressions, []);
});
