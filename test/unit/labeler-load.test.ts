/** The schedule with 100,000 domains: no burst after a long stop, none in steady state, who waits comes first. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pino } from 'pino';
import { openDatabase } from '../../appview/database.ts';
import { nextRound } from '../../node/labeler/next-look.ts';
import { LabelerSchedule } from '../../node/labeler/schedule.ts';
import { type Claim, Verifications } from '../../node/labeler/verifications.ts';
import { nodeMigrations } from '../../node/migrations.ts';
import { AttestedWorld } from './labeler-fixtures.ts';

const day = 86_400_000;
const start = Date.parse('2026-11-20T00:00:00Z');
const count = 100_000;
const silent = pino({ level: 'silent' });

/**
 * Each look takes a turn of the event loop and passes.
 *
 * @param dueAt SQL: when domain `i` is due, Unix ms
 */
function makeWorld(dueAt: string) {
  const db = openDatabase(':memory:', nodeMigrations, { synchronous: 'NORMAL' });
  db.exec(`
    WITH RECURSIVE number (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM number WHERE i + 1 < ${count})
    INSERT INTO verification (did, domain, next_at)
    SELECT 'did:plc:' || i, 'd' || i || '.test', ${dueAt} FROM number`);
  const clock = { now: start };
  const now = () => clock.now;
  const verifications = new Verifications(db);
  const looked: { claim: Claim; at: number }[] = [];
  let [running, mostAtOnce] = [0, 0];
  const labeler = {
    verify: async (claim: Claim) => {
      looked.push({ claim, at: clock.now });
      running += 1;
      mostAtOnce = Math.max(mostAtOnce, running);
      await Promise.resolve();
      running -= 1;
      verifications.reschedule(claim, nextRound(clock.now, claim, day));
    },
    reconcile: async () => undefined,
  };
  const attestations = new AttestedWorld(now).index;
  const schedule = new LabelerSchedule({ labeler, verifications, attestations, now, log: silent });
  return { db, clock, verifications, looked, schedule, mostAtOnce: () => mostAtOnce };
}

test('100,000 overdue domains after a long stop are looked at ten in a second, and the newest wish first', async (t) => {
  t.mock.timers.enable({ apis: ['setInterval'] });
  const { db, clock, verifications, looked, schedule, mostAtOnce } = makeWorld(`${start - 10 * day} + i`);
  schedule.start();
  await runSeconds(120);
  const early = looked.filter(({ at }) => at < start + 10_000).length;
  assert.ok(early <= 120, `${early} in the first ten seconds`);
  const perSecond = histogram(looked.map(({ at }) => at));
  assert.ok(Math.max(...perSecond.slice(3)) <= 12, perSecond.join(' '));
  assert.ok(looked.length > 1_190 && looked.length <= 1_230, `${looked.length}`);
  assert.ok(mostAtOnce() <= 8);

  const wish = { did: 'did:plc:99999', domain: 'd99999.test' };
  verifications.makeDue(wish);
  await runSeconds(2);
  assert.ok(looked.some(({ claim }) => claim.did === wish.did));
  await schedule.stop();
  db.close();

  async function runSeconds(seconds: number) {
    for (let n = 0; n < seconds; n++) {
      clock.now += 1_000;
      t.mock.timers.tick(1_000);
      await settled();
    }
  }
});

test('in steady state 100,000 domains are looked at one or two in a second, each when it is due', async (t) => {
  t.mock.timers.enable({ apis: ['setInterval'] });
  // A quarter of an hour of the day in which each has its even place.
  const { db, clock, looked, schedule } = makeWorld(`${start} + i * ${day / count}`);
  schedule.start();
  for (let n = 0; n < 900; n++) {
    clock.now += 1_000;
    t.mock.timers.tick(1_000);
    await settled();
  }
  await schedule.stop();
  db.close();
  assert.ok(Math.abs(looked.length - count / 96) <= 2, `${looked.length}`);
  assert.ok(Math.max(...histogram(looked.map(({ at }) => at))) <= 2);
});

/** The looks of this second have begun their successors, and those have ended too. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 6; turn++) await new Promise<void>((resolve) => setImmediate(resolve));
}

function histogram(times: readonly number[]): number[] {
  const seconds: number[] = [];
  for (const at of times) {
    const second = Math.floor((at - start) / 1_000);
    seconds[second] = (seconds[second] ?? 0) + 1;
  }
  return Array.from(seconds, (n) => n ?? 0);
}
