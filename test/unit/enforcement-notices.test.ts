import assert from 'node:assert/strict';
import { test } from 'node:test';
import { tellingFailures } from '../../node/enforcement/failure-notices.ts';
import { Measures } from '../../node/enforcement/measures.ts';
import { NoticeSender } from '../../node/enforcement/notice-sender.ts';
import { type Notice, OperatorNotices } from '../../node/enforcement/operator-notices.ts';
import { day, hour, log, reef, start, times, world } from './enforcement-fixtures.ts';

function setUp() {
  const made: OperatorNotices[] = [];
  const base = world((db, now) => {
    made.push(new OperatorNotices({ db, now, log }));
    return made;
  });
  const { db, now, events } = base;
  const queue = { hold: async () => undefined, release: async () => undefined };
  const measures = new Measures({
    ...{ db, record: events.record, queue, now, log },
    count: () => undefined,
  });
  const letters: Notice[] = [];
  const mail = { isTaken: true };
  const send = async (letter: Notice) => {
    if (mail.isTaken) letters.push(letter);
    return mail.isTaken;
  };
  const sender = new NoticeSender({ notices: made[0]!, send, now, log });
  return { ...base, notices: made[0]!, measures, letters, mail, sender };
}

const guard = { did: reef, reason: '5 of 20 do not exist', by: 'automatic', actor: 'guard' } as const;

test('what a program did to a member is mailed once, with the reason and what to do next', async () => {
  const { measures, sender, letters } = setUp();
  measures.suspend({ ...guard, evidence: { breaker: 'door' } });
  await sender.look();
  await sender.look();
  assert.equal(letters.length, 1);
  assert.equal(letters[0]!.subject, `${reef} is suspended`);
  assert.match(letters[0]!.text, /5 of 20 do not exist[\s\S]*guard did this by itself \(door\)/);
  assert.match(letters[0]!.text, /atmos member reinstate did:plc:reef/);
});

test('a crash between the measure and the letter loses no notice', async () => {
  const { measures, db, now, letters } = setUp();
  measures.hold(guard);
  // Nothing of the first process is left but node.db.
  const notices = new OperatorNotices({ db, now, log });
  const send = async (letter: Notice) => letters.push(letter) > 0;
  await new NoticeSender({ notices, send, now, log }).look();
  assert.match(letters[0]!.subject, /is held for review/);
});

test('what a person did, and the end of a measure, is no news', async () => {
  const { measures, clock, notices } = setUp();
  measures.suspend({ ...guard, by: 'person', actor: 'mira', until: start + hour });
  clock.at += 2 * hour;
  await measures.settle();
  assert.deepEqual(notices.waiting(10), []);
});

test('a letter that was not taken is sent at the next look', async () => {
  const { measures, sender, letters, mail } = setUp();
  measures.hold(guard);
  mail.isTaken = false;
  await sender.look();
  mail.isTaken = true;
  await sender.look();
  assert.equal(letters.length, 1);
});

test('twenty letters an hour; what waits comes together in one of the next hour', async () => {
  const { notices, sender, letters, clock } = setUp();
  for (const n of times(23, (index) => index)) {
    notices.raise({ subject: `failure ${n}`, text: `text ${n}\n` });
    await sender.look();
    clock.at += 1_000;
  }
  assert.equal(letters.length, 20);
  clock.at += hour;
  await sender.look();
  await sender.look();
  assert.equal(letters.length, 21);
  assert.equal(letters[20]!.subject, 'failure 20, and 2 more');
  assert.match(letters[20]!.text, /text 20[\s\S]*text 21[\s\S]*text 22/);
});

test('a failure that goes on is told of once an hour', () => {
  const { notices, clock } = setUp();
  const failure = { subject: 'Mail is refused: it cannot be stored', text: 'disk' };
  for (let minute = 0; minute < 150; minute++) {
    notices.raise(failure);
    clock.at += 60_000;
  }
  assert.equal(notices.waiting(100).length, 3);
});

test('a notice that could not be written, because the disk is what fails, is written later', () => {
  const { notices, db } = setUp();
  db.exec('PRAGMA query_only = ON');
  notices.raise({ subject: 'Mail is refused: it cannot be stored', text: 'disk' });
  db.exec('PRAGMA query_only = OFF');
  assert.equal(notices.waiting(10).length, 1);
});

test('without an address nobody is written to, and a start warns of it once', async () => {
  const { notices, now } = setUp();
  const warned: string[] = [];
  const noisy = Object.assign(Object.create(log), { warn: (text: string) => warned.push(text) });
  const sender = new NoticeSender({ notices, send: undefined, now, log: noisy });
  sender.start();
  await sender.stop();
  assert.deepEqual(warned.length, 1);
  assert.match(warned[0]!, /operator\.email/);
});

test('notices live for 30 days', () => {
  const { notices, clock } = setUp();
  notices.raise({ subject: 'a', text: 'b' });
  clock.at += 31 * day;
  assert.equal(notices.housekeep(), false);
  assert.deepEqual(notices.waiting(10), []);
});

test('mail that cannot be stored or signed is told of; what is the member’s own fault is not', () => {
  const { notices } = setUp();
  const counted: string[] = [];
  const count = tellingFailures((what, reason) => counted.push(`${what} ${reason}`), notices);
  for (const code of ['RATE_LIMITED', 'STORAGE_FAILED', 'SIGNING_FAILED', 'STORAGE_FAILED'])
    count('messages_refused', code);
  assert.equal(counted.length, 4);
  assert.deepEqual(
    notices.waiting(10).map(({ subject }) => subject),
    ['Mail is refused: it cannot be stored', 'Mail is refused: it cannot be signed'],
  );
});
