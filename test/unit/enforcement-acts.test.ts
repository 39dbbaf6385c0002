import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Acts, type Measure } from '../../node/enforcement/acts.ts';
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
    new Acts({ db, record: events.record, queue, now, log, count: (what) => counted.push(what) });
  const standing = () => base.standingOf(reef);
  const told = () =>
    (
      db.prepare("SELECT detail FROM event WHERE type = 'staff_act' ORDER BY id").all() as {
        detail: string;
      }[]
    ).map(({ detail }) => JSON.parse(detail) as Record<string, unknown>);
  return { ...base, acts: make(), make, done, broken, standing, told, counted };
}

const guard = { did: reef, reason: 'too many', by: 'automatic', actor: 'guard' } as const satisfies Measure;
const person = { did: reef, reason: 'we spoke', by: 'person', actor: 'mira' } as const satisfies Measure;

test('a measure stands in the member, in the event, and in the queue', async () => {
  const { acts, standing, told, done } = setUp();
  assert.equal(acts.hold({ ...guard, evidence: { breaker: 'unknown-users' } }), 'done');
  await acts.settle();
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
  assert.equal(setUp().acts.hold({ ...guard, did: 'did:plc:nobody' }), 'unknown-member');
});

test('a second pass holds what was being accepted meanwhile, and then it is enough', async () => {
  const { acts, clock, done } = setUp();
  acts.suspend(guard);
  await acts.settle();
  await acts.settle();
  assert.equal(done.length, 1);
  clock.at += 10_000;
  await acts.settle();
  assert.equal(done.length, 2);
  clock.at += day;
  await acts.settle();
  assert.equal(done.length, 2);
});

test('reinstating releases the mail', async () => {
  const { acts, standing, done, clock } = setUp();
  acts.hold(guard);
  await acts.settle();
  clock.at += hour;
  await acts.settle();
  done.length = 0;
  assert.equal(acts.reinstate({ did: reef, reason: 'it was a mistake', actor: 'mira' }), 'done');
  await acts.settle();
  assert.deepEqual([standing().state, standing().reason, done], ['active', null, [`release ${reef}`]]);
  assert.equal(acts.personActedAt(reef), clock.at);
});

test('a throttle touches no mail and lowers the caps', async () => {
  const { acts, standing, done } = setUp();
  acts.throttle({ ...guard, until: start + day });
  await acts.settle();
  assert.deepEqual([standing().state, standing().caps, done], ['throttled', { perHour: 2, perDay: 25 }, []]);
});

test('caps of a throttled member never fall to nothing, and bursts are lowered too', () => {
  const { acts, db, now } = setUp();
  acts.throttle(guard);
  const tiers = { standard: { perHour: 2, perDay: 40, burst: 8 } };
  const standing = standings({ db, policy: { ...policy, tiers }, throttleFactor: 0.1, now })(reef);
  assert.deepEqual(standing.caps, { perHour: 1, perDay: 4, burst: 1 });
});

const outranking: [name: string, before: (acts: Acts) => unknown, outcome: string, state: string][] = [
  ['what a person decided', (acts) => acts.throttle(person), 'outranked', 'throttled'],
  ['a harder measure', (acts) => acts.suspend(guard), 'unchanged', 'suspended'],
  ['the same measure', (acts) => acts.hold(guard), 'unchanged', 'held'],
  ['a milder measure gives way', (acts) => acts.throttle(guard), 'done', 'held'],
  [
    'a person who reinstated does not protect for ever',
    (acts) => acts.setStanding('active', person),
    'done',
    'held',
  ],
  ['a measure of a person that is over', (acts) => acts.suspend({ ...person, until: start }), 'done', 'held'],
];
for (const [name, before, outcome, state] of outranking) {
  test(`a program's hold against: ${name}`, () => {
    const { acts, standing } = setUp();
    before(acts);
    assert.equal(acts.hold(guard), outcome);
    assert.equal(standing().state, state);
  });
}

test('a person may do anything', () => {
  const { acts, standing } = setUp();
  acts.suspend(guard);
  assert.equal(acts.throttle(person), 'done');
  assert.deepEqual([standing().state, standing().by], ['throttled', 'person']);
});

test('at its end a measure is over, and the mail goes on', async () => {
  const { acts, clock, standing, done, told } = setUp();
  acts.hold({ ...person, until: start + hour });
  await acts.settle();
  clock.at = start + hour;
  done.length = 0;
  await acts.settle();
  assert.deepEqual(done, [`release ${reef}`]);
  assert.deepEqual(
    [standing().state, told().at(-1)!.state, told().at(-1)!.actor],
    ['active', 'active', 'clock'],
  );
});

test('a queue that fails is asked again', async () => {
  const { acts, broken, done, counted } = setUp();
  broken.isBroken = true;
  acts.hold(guard);
  await acts.settle();
  assert.deepEqual([done, counted.includes('standing_work_failed')], [[], true]);
  broken.isBroken = false;
  await acts.settle();
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
  const acts = new Acts({ db, record, queue, now, log, count: () => undefined });
  assert.throws(() => acts.hold(guard), /disk is full/);
  assert.equal(standing().state, 'active');
});
