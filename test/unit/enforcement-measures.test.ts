import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Measure, Measures } from '../../node/enforcement/measures.ts';
import { standings } from '../../node/enforcement/standing.ts';
import { day, hour, log, policy, reef, start, world } from './enforcement-fixtures.ts';

function setUp() {
  const base = world();
  const done: string[] = [];
  const broken = { isBroken: false };
  const queue = {
    hold: async (did: string, reason: string) => {
      if (broken.isBroken) throw new Error('the spool is busy');
      done.push(`hold ${did} ${reason}`);
    },
    release: async (did: string) => {
      if (broken.isBroken) throw new Error('the spool is busy');
      done.push(`release ${did}`);
    },
  };
  const { db, events, now } = base;
  const counted: string[] = [];
  const make = () =>
    new Measures({ db, record: events.record, queue, now, log, count: (what) => counted.push(what) });
  const standing = () => base.standingOf(reef);
  const told = () =>
    (
      db.prepare("SELECT detail FROM event WHERE type = 'staff_act' ORDER BY id").all() as {
        detail: string;
      }[]
    ).map(({ detail }) => JSON.parse(detail) as Record<string, unknown>);
  return { ...base, measures: make(), make, done, broken, standing, told, counted };
}

const guard = { did: reef, reason: 'too many', by: 'automatic', actor: 'guard' } as const satisfies Measure;
const person = { did: reef, reason: 'we spoke', by: 'person', actor: 'mira' } as const satisfies Measure;

test('a measure stands in the member, in the event, and in the queue', async () => {
  const { measures, standing, told, done } = setUp();
  assert.equal(measures.hold({ ...guard, evidence: { breaker: 'unknown-users' } }), 'done');
  await measures.settle();
  const { state, reason, by, until } = standing();
  assert.deepEqual([state, reason, by, until], ['held', 'too many', 'automatic', null]);
  assert.deepEqual(told(), [
    {
      ...{ act: 'standing', state: 'held', from: 'active', reason: 'too many', until: null },
      ...{ by: 'automatic', actor: 'guard', breaker: 'unknown-users' },
    },
  ]);
  assert.deepEqual(done, [`hold ${reef} too many`]);
});

test('a member who is not enrolled is not measured', () => {
  assert.equal(setUp().measures.hold({ ...guard, did: 'did:plc:nobody' }), 'unknown-member');
});

test('a second pass holds what was being accepted meanwhile, and then it is enough', async () => {
  const { measures, clock, done } = setUp();
  measures.suspend(guard);
  await measures.settle();
  await measures.settle();
  assert.equal(done.length, 1);
  clock.at += 10_000;
  await measures.settle();
  assert.equal(done.length, 2);
  clock.at += day;
  await measures.settle();
  assert.equal(done.length, 2);
});

test('reinstating releases the mail', async () => {
  const { measures, standing, done, clock } = setUp();
  measures.hold(guard);
  await measures.settle();
  clock.at += hour;
  await measures.settle();
  done.length = 0;
  assert.equal(
    measures.setStanding('active', { did: reef, by: 'person', reason: 'it was a mistake', actor: 'mira' }),
    'done',
  );
  await measures.settle();
  assert.deepEqual([standing().state, standing().reason, done], ['active', null, [`release ${reef}`]]);
  assert.equal(measures.personActedAt(reef), clock.at);
});

test('a throttle touches no mail and lowers the caps', async () => {
  const { measures, standing, done } = setUp();
  measures.throttle({ ...guard, until: start + day });
  await measures.settle();
  assert.deepEqual([standing().state, standing().caps, done], ['throttled', { perHour: 2, perDay: 25 }, []]);
});

test('caps of a throttled member never fall to nothing, and bursts are lowered too', () => {
  const { measures, db, now } = setUp();
  measures.throttle(guard);
  const tiers = { standard: { perHour: 2, perDay: 40, burst: 8 } };
  const standing = standings({ db, policy: { ...policy, tiers }, throttleFactor: 0.1, now })(reef);
  assert.deepEqual(standing.caps, { perHour: 1, perDay: 4, burst: 1 });
});

const outranking: [name: string, before: (measures: Measures) => unknown, outcome: string, state: string][] =
  [
    ['what a person decided', (measures) => measures.throttle(person), 'outranked', 'throttled'],
    ['a harder measure', (measures) => measures.suspend(guard), 'unchanged', 'suspended'],
    ['the same measure', (measures) => measures.hold(guard), 'unchanged', 'held'],
    ['a milder measure gives way', (measures) => measures.throttle(guard), 'done', 'held'],
    [
      'a person who reinstated does not protect for ever',
      (measures) => measures.setStanding('active', person),
      'done',
      'held',
    ],
    [
      'a measure of a person that is over',
      (measures) => measures.suspend({ ...person, until: start }),
      'done',
      'held',
    ],
  ];
for (const [name, before, outcome, state] of outranking) {
  test(`a program's hold against: ${name}`, () => {
    const { measures, standing } = setUp();
    before(measures);
    assert.equal(measures.hold(guard), outcome);
    assert.equal(standing().state, state);
  });
}

test('a person may do anything', () => {
  const { measures, standing } = setUp();
  measures.suspend(guard);
  assert.equal(measures.throttle(person), 'done');
  assert.deepEqual([standing().state, standing().by], ['throttled', 'person']);
});

test('at its end a measure is over, and the mail goes on', async () => {
  const { measures, clock, standing, done, told } = setUp();
  measures.hold({ ...person, until: start + hour });
  await measures.settle();
  clock.at = start + hour;
  done.length = 0;
  await measures.settle();
  assert.deepEqual(done, [`release ${reef}`]);
  assert.deepEqual(
    [standing().state, told().at(-1)!.state, told().at(-1)!.actor],
    ['active', 'active', 'clock'],
  );
});

test('a queue that fails is asked again', async () => {
  const { measures, broken, done, counted } = setUp();
  broken.isBroken = true;
  measures.hold(guard);
  await measures.settle();
  assert.deepEqual([done, counted.includes('standing_work_failed')], [[], true]);
  broken.isBroken = false;
  await measures.settle();
  assert.equal(done.length, 1);
});

test('after a crash between the standing and the queue the next start finishes', async () => {
  const { db, make, done } = setUp();
  // Whoever wrote it: another process, or one that died before its queue.
  db.prepare("UPDATE member SET state = 'suspended', state_reason = 'fraud' WHERE did = ?").run(reef);
  const restarted = make();
  restarted.start();
  await restarted.settle();
  await restarted.stop();
  assert.deepEqual(done, [`hold ${reef} fraud`]);
});

test('what fails to be recorded changes no standing', () => {
  const { db, now, standing } = setUp();
  const record = () => {
    throw new Error('the disk is full');
  };
  const queue = { hold: async () => undefined, release: async () => undefined };
  const measures = new Measures({ db, record, queue, now, log, count: () => undefined });
  assert.throws(() => measures.hold(guard), /disk is full/);
  assert.equal(standing().state, 'active');
});
