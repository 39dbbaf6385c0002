import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Guard, type GuardFigures } from '../../node/enforcement/guard.ts';
import { Measures } from '../../node/enforcement/measures.ts';
import { OperatorNotices } from '../../node/enforcement/operator-notices.ts';
import { Rates } from '../../node/enforcement/rates.ts';
import {
  accepted,
  day,
  enrol,
  hour,
  log,
  minute,
  reef,
  result,
  start,
  times,
  unknownUser,
  world,
} from './enforcement-fixtures.ts';

function setUp(figures: Partial<GuardFigures> = {}) {
  const made: Rates[] = [];
  const told: OperatorNotices[] = [];
  const base = world((db, now) => {
    made.push(new Rates({ db, now }));
    told.push(new OperatorNotices({ db, now, log }));
    return [...made, ...told];
  });
  const { db, events, now, standingOf } = base;
  const queue = { hold: async () => undefined, release: async () => undefined };
  const measures = new Measures({ db, record: events.record, queue, now, log, count: () => undefined });
  const notices = () => told[0]!.waiting(100);
  const make = () =>
    new Guard({
      ...{ db, rates: made[0]!, standingOf, measures, figures, now, log },
    });
  const guard = make();
  const unfollow = events.onStored((stored) => guard.examine(stored));
  const standing = (did = reef) => standingOf(did);
  const unknown = (count: number, from = 0) =>
    times(count, (n) => unknownUser(`u${from + n}@harbor.example`));
  /** The tier has 10 an hour. */
  const attempt = (recipients: number) =>
    events.record({ type: 'relay_attempt', did: reef, detail: { refused: 'RATE_LIMITED', recipients } });
  return { ...base, measures, notices, make, unfollow, standing, unknown, attempt };
}

test('3 × the hourly cap attempted in 5 minutes is no offence, one more throttles at once for a day', async () => {
  const { happen, attempt, standing, notices, clock } = setUp();
  await happen(...times(10, () => accepted()));
  attempt(20);
  assert.equal(standing().state, 'active');
  attempt(1);
  const { state, reason, until, by, caps } = standing();
  assert.deepEqual([state, by, until, caps.perHour], ['throttled', 'automatic', start + day, 2]);
  assert.match(reason!, /^31 recipients .* 5 minutes; 30 is the limit \(3 × the 10 an hour/);
  assert.equal(notices().length, 1);
  assert.match(notices()[0]!.text, /31 recipients/);
  attempt(100);
  assert.equal(notices().length, 1, 'told once');
  clock.at = start + day;
  assert.equal(standing().state, 'active');
});

test('the same attempts spread over an hour are no offence', () => {
  const { attempt, standing, clock } = setUp();
  for (let n = 0; n < 12; n++) {
    attempt(25);
    clock.at += 5 * minute;
  }
  assert.equal(standing().state, 'active');
});

test('attempts across the border of five minutes count together', () => {
  const { attempt, standing, clock } = setUp();
  clock.at = start + 4 * minute + 30_000;
  attempt(16);
  clock.at += minute;
  attempt(16);
  assert.equal(standing().state, 'throttled');
});

test('5 unknown users of 25 hold the member and its queue, with the figures', async () => {
  const { happen, standing, unknown, notices } = setUp({ velocityFactor: 100 });
  await happen(...times(25, () => accepted()), ...unknown(4));
  assert.equal(standing().state, 'active', '4 are too few');
  await happen(...unknown(1, 4));
  const { state, reason, until } = standing();
  assert.deepEqual([state, until], ['held', null]);
  assert.match(
    reason!,
    /^5 of 25 recipients \(20 %\) within 10 minutes do not exist; 5 and 20 % are the limit/,
  );
  assert.deepEqual(
    [notices().length, notices()[0]!.subject],
    [1, `${reef} is held for review, with all of its queue`],
  );
});

test('5 unknown users of 26 are less than a fifth', async () => {
  const { happen, standing, unknown } = setUp({ velocityFactor: 100 });
  await happen(...times(26, () => accepted()), ...unknown(5));
  assert.equal(standing().state, 'active');
});

test('one unknown user that is written to five times counts once', async () => {
  const { happen, standing } = setUp();
  await happen(...times(5, () => unknownUser('no@harbor.example')));
  assert.equal(standing().state, 'active');
});

test('a backlog that is tried now is measured by what ends now, not by what was accepted now', async () => {
  const { happen, standing, unknown, clock } = setUp({ velocityFactor: 100 });
  await happen(...times(40, () => accepted()));
  clock.at += 30 * minute;
  await happen(...times(35, () => result('sent')), ...unknown(5));
  assert.equal(standing().state, 'active');
});

test('what was in flight when it tripped is no second offence', async () => {
  const { happen, standing, unknown } = setUp({ velocityFactor: 100 });
  await happen(...times(8, () => accepted()), ...unknown(5));
  await happen(...unknown(3, 5));
  assert.equal(standing().state, 'held');
});

test('the second time in 24 hours suspends; the count began anew with the reinstatement', async () => {
  const { happen, standing, unknown, measures, clock, notices } = setUp({ velocityFactor: 100 });
  await happen(...times(5, () => accepted()), ...unknown(5));
  clock.at += 3 * minute;
  measures.setStanding('active', { did: reef, by: 'person', reason: 'a typo in a list', actor: 'mira' });
  clock.at += minute;
  await happen(...times(4, () => accepted()), ...unknown(4, 10));
  assert.equal(standing().state, 'active', 'the five of before do not count again');
  await happen(...unknown(1, 20));
  assert.equal(standing().state, 'suspended');
  assert.match(standing().reason!, /second time in 24 hours/);
  assert.match(notices().at(-1)!.subject, /is suspended/);
});

test('a day later it is the first time again', async () => {
  const { happen, standing, unknown, measures, clock } = setUp({ velocityFactor: 100 });
  await happen(...unknown(5));
  measures.setStanding('active', { did: reef, by: 'person', reason: 'a typo', actor: 'mira' });
  clock.at += day + minute;
  await happen(...unknown(5, 10));
  assert.equal(standing().state, 'held');
});

test('a tenth of 50 sends in an hour suspends, and says so', async () => {
  const { happen, standing, unknown, clock } = setUp({ velocityFactor: 100 });
  await happen(...times(25, () => accepted()), ...unknown(2));
  clock.at += 30 * minute;
  await happen(...times(25, () => accepted()), ...unknown(2, 10));
  assert.equal(standing().state, 'active');
  clock.at += 20 * minute;
  await happen(...unknown(1, 20));
  assert.equal(standing().state, 'suspended');
  assert.match(
    standing().reason!,
    /^5 of 50 recipients \(10 %\) within an hour do not exist; 10 % of at least 50/,
  );
});

test('a tenth of 49 does not suspend', async () => {
  const { happen, standing, unknown, clock } = setUp({ velocityFactor: 100 });
  for (let n = 0; n < 4; n++) {
    await happen(...times(n === 3 ? 10 : 13, () => accepted()), ...unknown(2, n * 10));
    clock.at += 12 * minute;
  }
  assert.equal(standing().state, 'active');
});

test('reports that come later trip nothing', async () => {
  const { happen, standing } = setUp({ velocityFactor: 100 });
  const reports = times(60, (n) => {
    const detail = { recipient: `r${n}@harbor.example`, recipientInvalid: true };
    return { type: 'bounce_received', detail } as const;
  });
  await happen(...times(60, () => accepted()), ...reports);
  assert.equal(standing().state, 'active');
});

test('other bounces than of unknown users trip nothing', async () => {
  const { happen, standing } = setUp({ velocityFactor: 100 });
  await happen(...times(60, () => accepted()));
  await happen(...times(60, (n) => result('bounced', { recipientInvalid: false }, `b${n}@x.example`)));
  assert.equal(standing().state, 'active');
});

test('simulated mail trips nothing', async () => {
  const { happen, standing } = setUp();
  await happen(...times(100, () => accepted('delivered@simulator.pool.test', { simulated: true })));
  await happen(...times(100, (n) => unknownUser(`s${n}@simulator.pool.test`, { simulated: true })));
  assert.equal(standing().state, 'active');
});

test('one member is not measured by the mail of another', async () => {
  const { happen, standing, unknown, db } = setUp();
  enrol(db, 'did:plc:atoll', 'atoll.test');
  await happen(...unknown(5).map((event) => ({ ...event, did: 'did:plc:atoll' })));
  assert.deepEqual([standing().state, standing('did:plc:atoll').state], ['active', 'held']);
});

test('what a person decided stands', async () => {
  const { happen, standing, unknown, measures, notices } = setUp();
  measures.throttle({ did: reef, reason: 'for a week', by: 'person', actor: 'mira', until: start + 7 * day });
  await happen(...unknown(50));
  assert.deepEqual([standing().state, standing().by, notices()], ['throttled', 'person', []]);
});

test('a start looks at everyone who sent in the last hour', async () => {
  const { happen, standing, unknown, unfollow, make, clock } = setUp({ velocityFactor: 100 });
  unfollow();
  await happen(...unknown(5));
  assert.equal(standing().state, 'active', 'the crash came first');
  clock.at += 2 * minute;
  make().start();
  assert.equal(standing().state, 'held');
});

test('a start counts what was attempted before it', () => {
  const { attempt, standing, unfollow, make, events } = setUp();
  attempt(20);
  unfollow();
  const restarted = make();
  events.onStored((stored) => restarted.examine(stored));
  attempt(11);
  assert.equal(standing().state, 'throttled');
});

test('switched off it does nothing', async () => {
  const { happen, standing, unknown, attempt, make } = setUp({ enabled: false });
  await happen(...unknown(50));
  attempt(1000);
  make().start();
  assert.equal(standing().state, 'active');
});

test('an event of somebody who is no member costs nothing', async () => {
  const { happen, notices, clock } = setUp();
  await happen(
    { ...unknownUser('a@x.example'), did: 'did:plc:gone' },
    { ...accepted(), did: 'did:plc:gone' },
  );
  clock.at += hour;
  assert.deepEqual(notices(), []);
});

test('what a person dismissed stays dismissed, also when a program acted in between', async () => {
  const { happen, standing, unknown, attempt, measures, clock } = setUp();
  await happen(...times(10, () => accepted()), ...unknown(5));
  assert.equal(standing().state, 'held');
  clock.at += 2 * minute;
  measures.setStanding('active', { did: reef, by: 'person', reason: 'an old list', actor: 'mira' });
  clock.at += minute;
  attempt(40);
  assert.equal(standing().state, 'throttled', 'the program acts after the person');
  await happen(...unknown(1, 20));
  assert.equal(standing().state, 'throttled', 'one new unknown user is not six');
});

test('a day is a day after a clock that was put back, though ids of events ran ahead', async () => {
  const { happen, standing, unknown, measures, clock, events } = setUp({ velocityFactor: 100 });
  const dismiss = () =>
    measures.setStanding('active', { did: reef, by: 'person', reason: 'a typo', actor: 'mira' });
  clock.at += 365 * day;
  events.record({ type: 'staff_act', did: reef, detail: { breaker: 'unknown-users' } });
  clock.at = start;
  await happen(...unknown(5));
  assert.equal(standing().state, 'held', 'what the wrong clock saw is not of the last day');
  dismiss();
  clock.at += 2 * day;
  await happen(...unknown(5, 10));
  assert.equal(standing().state, 'held', 'two days later it is the first time again');
});
