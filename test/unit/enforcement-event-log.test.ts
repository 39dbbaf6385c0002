import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { pino } from 'pino';
import { openDatabase } from '../../appview/database.ts';
import { EventLog } from '../../node/enforcement/event-log.ts';
import { type Event, eventIds, outboxes } from '../../node/enforcement/events.ts';
import { nodeMigrations } from '../../node/migrations.ts';

const log = pino({ level: 'silent' });
const start = 1_700_000_000_000;
const day = 24 * 60 * 60_000;

function outbox(count: number) {
  const nextId = eventIds(outboxes.spool, () => start);
  const events = Array.from(
    { length: count },
    (): Event => ({
      id: nextId(),
      type: 'relay_attempt',
      at: start,
      did: 'did:plc:reef',
      detail: { n: 1 },
    }),
  );
  const asked: string[] = [];
  return {
    events,
    asked,
    async eventsAfter(id: string, limit: number) {
      asked.push(id);
      return events.filter((event) => Number(event.id) > Number(id)).slice(0, limit);
    },
    async forgetEvents(through: string) {
      events.splice(0, events.findIndex((event) => event.id === through) + 1);
    },
  };
}

function setUp(source: ConstructorParameters<typeof EventLog>[0]['source']) {
  const db = openDatabase(':memory:', nodeMigrations, { synchronous: 'NORMAL' });
  const clock = { at: start };
  const now = () => clock.at;
  const make = () =>
    new EventLog({ db, source, outbox: outboxes.spool, log, now, count: () => undefined, intervalMs: 1 });
  const rows = () => db.prepare('SELECT id, detail FROM event ORDER BY id').all() as { id: number }[];
  return { db, clock, make, rows };
}

test('every event is copied once and then forgotten by its outbox', async () => {
  const source = outbox(1200);
  const ids = source.events.map(({ id }) => Number(id));
  const { make, rows } = setUp(source);
  assert.equal(await make().copy(), 1200);
  assert.deepEqual(
    rows().map(({ id }) => id),
    ids,
  );
  assert.equal(source.events.length, 0);
});

test('a copy that broke off before the outbox forgot is repeated without a second row', async () => {
  const source = outbox(3);
  let forgets = 0;
  const { make, rows } = setUp({
    eventsAfter: source.eventsAfter,
    forgetEvents: async (through) => {
      if (++forgets === 1) throw new Error('gone');
      await source.forgetEvents(through);
    },
  });
  // Both begin at the beginning, as after a restart between commit and position.
  const [first, second] = [make(), make()];
  await assert.rejects(first.copy());
  assert.equal(rows().length, 3);
  assert.equal(await second.copy(), 0);
  assert.deepEqual([rows().length, source.events.length], [3, 0]);
});

test('a restart goes on behind the newest event of that outbox, not of another', async () => {
  const source = outbox(2);
  const newest = source.events[1]!.id;
  const { db, make } = setUp(source);
  await make().copy();
  // The node's own events share the table, and their ids run on.
  const own = eventIds(outboxes.node, () => 1_800_000_000_000)();
  db.prepare("INSERT INTO event (id, type, at, did, detail) VALUES (?, 'staff_act', 1, 'd', '{}')").run(
    Number(own),
  );
  source.asked.length = 0;
  await make().copy();
  assert.equal(source.asked[0], newest);
});

test('a failing outbox is asked again, and stop() ends it', async () => {
  const source = outbox(1);
  let calls = 0;
  const arrived = Promise.withResolvers<void>();
  const { make, rows } = setUp({
    forgetEvents: async (through) => {
      await source.forgetEvents(through);
      arrived.resolve();
    },
    eventsAfter: async (id, limit) => {
      if (++calls === 1) throw new Error('busy');
      return source.eventsAfter(id, limit);
    },
  });
  const eventLog = make();
  eventLog.start();
  await arrived.promise;
  await eventLog.stop();
  assert.equal(rows().length, 1);
});

test('rows are removed after 30 days, some at a time, also when nothing is copied', async () => {
  const source = outbox(2500);
  const newest = Number(source.events.at(-1)!.id);
  const { clock, make, rows } = setUp(source);
  const eventLog = make();
  await eventLog.copy();
  clock.at = start + 30 * day;
  await eventLog.copy();
  assert.equal(rows().length, 2500, 'not a moment early');
  clock.at = start + 31 * day;
  const left: number[] = [];
  for (let pass = 0; pass < 4; pass++) {
    await eventLog.copy();
    left.push(rows().length);
  }
  assert.deepEqual(left, [1500, 500, 1, 1]);
  // It says where the next copy begins.
  assert.equal(rows()[0]!.id, newest);
});

test('where events never stop, each commit removes more than it adds', async () => {
  const source = outbox(2000);
  const { clock, make, rows } = setUp(source);
  const eventLog = make();
  await eventLog.copy();
  clock.at = start + 31 * day;
  const nextId = eventIds(outboxes.spool, () => clock.at);
  const event = (): Event => ({ id: nextId(), type: 'relay_attempt', at: clock.at, did: 'd', detail: {} });
  source.events.push(...Array.from({ length: 1000 }, event));
  await eventLog.copy();
  assert.equal(rows().length, 1000);
});

test('damage ends the process; it is not tried again', () => {
  const program = `
    import { EventLog } from '${new URL('../../node/enforcement/event-log.ts', import.meta.url)}';
    import { openDatabase } from '${new URL('../../appview/database.ts', import.meta.url)}';
    import { nodeMigrations } from '${new URL('../../node/migrations.ts', import.meta.url)}';
    const db = openDatabase(':memory:', nodeMigrations, { synchronous: 'NORMAL' });
    const damaged = Object.assign(new Error('database disk image is malformed'), { code: 'SQLITE_CORRUPT' });
    const count = () => { console.log('tried again'); process.exit(0); };
    const source = { eventsAfter: () => Promise.reject(damaged), forgetEvents: () => Promise.resolve() };
    const log = { error() {} };
    new EventLog({ db, source, outbox: 1, log, count, intervalMs: 1 }).start();
    setInterval(() => undefined, 1000);
  `;
  const run = spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' });
  assert.match(run.stderr, /database disk image is malformed/);
  assert.deepEqual([run.status, run.stdout], [1, '']);
});

test('after a clock that was put back rows still live for 30 days, though ids ran ahead', async () => {
  const { clock, make, rows } = setUp(outbox(0));
  const eventLog = make();
  const happen = () => eventLog.record({ type: 'staff_act', did: 'did:plc:reef', detail: {} });
  clock.at = start + 365 * day;
  happen();
  clock.at = start;
  happen();
  clock.at = start + 31 * day;
  happen();
  await eventLog.copy();
  assert.equal(rows().length, 2, 'that of a year ahead, and the last');
});
