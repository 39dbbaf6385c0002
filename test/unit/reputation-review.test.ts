/** A member that a peer suspended: at its enrolment here, and when it is enrolled already. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { openDatabase } from '../../appview/database.ts';
import { EventStore } from '../../node/enforcement/event-store.ts';
import { OperatorNotices } from '../../node/enforcement/operator-notices.ts';
import { standings } from '../../node/enforcement/standing.ts';
import { Members, type Newcomers } from '../../node/members/members.ts';
import { Seal } from '../../node/members/seal.ts';
import { nodeMigrations } from '../../node/migrations.ts';
import { findings } from '../../node/reputation/findings.ts';
import { EnrolmentReview } from '../../node/reputation/review.ts';
import { telling } from '../../node/reputation/telling.ts';
import { log, policy, reef } from './enforcement-fixtures.ts';
import { cooperative, harbor, memorySignals, reefUri, signalOf } from './reputation-fixtures.ts';

const peer = await cooperative(harbor);
const noon = Date.parse('2026-06-01T12:00:00Z');
const other = 'did:plc:other';

/** Meadow, which hears Harbor; `attested` is what the AppView knows. */
function openMeadow(attested: Record<string, string[]> = {}) {
  const clock = { now: noon };
  const now = () => clock.now;
  const db = openDatabase(':memory:', nodeMigrations, { synchronous: 'NORMAL' });
  const signals = memorySignals(now);
  const heard = new Set([harbor]);
  const notices = new OperatorNotices({ db, now, log });
  const domainsOf = (did: string) => attested[did] ?? [];
  const review = new EnrolmentReview({
    ...{ db, now, projections: [notices] },
    findingsOf: findings({
      ...{ signals, isHeard: (src) => heard.has(src) },
      attestedBy: (domain) => Object.keys(attested).filter((did) => domainsOf(did).includes(domain)),
    }),
  });
  const newcomers: Newcomers = {
    reasons: (did, domains) => review.reasons(did, domains),
    hold: (did, reasons, enrol) => review.hold(did, reasons as never, enrol),
    warmedDays: () => 0,
  };
  const members = new Members({
    ...{
      db,
      now,
      newcomers,
      seal: new Seal(randomBytes(32)),
      poolDomain: 'meadow.test',
      mailHost: 'mx.meadow.test',
    },
  });
  const store = new EventStore({ db, projections: [notices], now });
  const tell = telling({
    ...{
      db,
      signals,
      isHeard: (src: string) => heard.has(src),
      attestationsOf: domainsOf,
      log,
      count: () => undefined,
      retryMs: 1,
    },
    record: (events, change = () => undefined) => void store.record(0, [events].flat(), change),
  });
  let seq = 0;
  const hear = async (...fields: Parameters<typeof signalOf>[1][]) => {
    const made = await Promise.all(
      fields.map((one) => signalOf(peer, { cts: new Date(noon).toISOString(), ...one })),
    );
    signals.receive(harbor, ++seq, made, { countedAt: now, maxStored: 100 });
  };
  const standingOf = standings({ db, policy, now });
  const events = () =>
    db.prepare('SELECT type, did, domain, detail FROM event ORDER BY id').all() as {
      type: string;
      did: string;
      domain: string | null;
      detail: string;
    }[];
  const told = () => events().filter(({ type }) => type === 'peer_signal');
  const reinstate = (did: string) =>
    db
      .prepare("UPDATE member SET state = 'active', state_by = 'person', person_at = ? WHERE did = ?")
      .run(clock.now, did);
  return { clock, db, signals, heard, members, hear, tell, standingOf, events, told, notices, reinstate };
}

const enrolment = (did = reef, ...domains: string[]) => ({
  did,
  domains: domains.length ? domains : ['reef.test'],
  relay: true,
});

for (const [why, signal, wanted, attested] of [
  ['the same DID, with another domain', { uri: reef }, enrolment(reef, 'fresh.test'), {}],
  ['the same domain, under another DID', { uri: reefUri }, enrolment(other), {}],
  [
    'a domain that the suspended account attests',
    { uri: reef },
    enrolment(other, 'second.test'),
    { [reef]: ['second.test'] },
  ],
  ['one that was removed', { uri: reef, val: 'removed' }, enrolment(), {}],
] as const) {
  test(`held for review at enrolment: ${why}`, async () => {
    const { members, hear, standingOf, told, notices } = openMeadow(attested as never);
    await hear(signal);
    await members.enrol({ ...wanted, domains: [...wanted.domains] });
    const { state, reason, by } = standingOf(wanted.did);
    assert.deepEqual([state, reason, by], ['held', 'Held for review.', 'automatic']);
    assert.equal(told().length, 1);
    assert.match(told()[0]!.detail, /"src":"did:web:harbor.test".*"held":true/);
    const [notice, ...more] = notices.waiting(10);
    assert.deepEqual(more, []);
    assert.match(
      notice!.text,
      /harbor\.test says (suspended|removed) of .*\(spam, from review\).*held for review/s,
    );
  });
}

for (const [why, signal] of [
  ['a warning', { val: 'warned' }],
  ['probation', { val: 'probation' }],
  ['a value of a later protocol', { val: 'hexed' }],
  ['an end', { neg: true }],
  ['one that is over', { exp: new Date(noon - 1).toISOString() }],
  ['one about somebody else', { uri: 'did:plc:somebody' }],
] as const) {
  test(`not held: ${why}`, async () => {
    const { members, hear, standingOf } = openMeadow();
    await hear(signal);
    await members.enrol(enrolment());
    assert.equal(standingOf(reef).state, 'active');
  });
}

test('the word of one whom we hesitate about holds nobody', async () => {
  const { members, hear, heard, standingOf } = openMeadow();
  heard.clear();
  await hear({});
  await members.enrol(enrolment());
  assert.equal(standingOf(reef).state, 'active');
});

test('an enrolment that is refused is not held either: nothing is stored', async () => {
  const { members, hear, events, notices } = openMeadow();
  await hear({});
  await members.enrol(enrolment(other, 'reef.test'));
  assert.deepEqual(await members.enrol(enrolment()), { kind: 'domain-taken', domain: 'reef.test' });
  assert.deepEqual([members.get(reef), events(), notices.waiting(9)], [undefined, [], []]);
});

test('what was known when a person decided does not hold again; what came later does', async () => {
  const { members, hear, standingOf, clock, reinstate } = openMeadow();
  await hear({});
  await members.enrol(enrolment());
  clock.now += 1_000;
  reinstate(reef);
  await members.enrol(enrolment(reef, 'reef.test', 'second.test'));
  assert.equal(standingOf(reef).state, 'active');
  clock.now += 1_000;
  await hear({ uri: 'at://did:plc:reef/email.atmos.attestation/reef.test' });
  await members.enrol({ did: reef, handle: 'reef.test', domains: [], relay: true });
  assert.equal(standingOf(reef).state, 'active', 'nothing new was enrolled');
});

test('a harder standing stays', async () => {
  const { members, hear, standingOf, db } = openMeadow();
  await members.enrol(enrolment());
  db.prepare("UPDATE member SET state = 'suspended', state_reason = 'ours' WHERE did = ?").run(reef);
  await hear({});
  await members.enrol(enrolment(reef, 'reef.test', 'second.test'));
  assert.deepEqual([standingOf(reef).state, standingOf(reef).reason], ['suspended', 'ours']);
});

test('of a member that is here already the operator is told, once, and nothing else happens', async () => {
  const { members, hear, tell, standingOf, told, notices, clock } = openMeadow();
  await members.enrol(enrolment());
  await hear({}, { uri: reefUri }, { uri: 'did:plc:nobody' });
  tell();
  tell();
  assert.deepEqual(
    told()
      .map(({ did, domain }) => [did, domain])
      .sort(),
    [
      [reef, null],
      [reef, 'reef.test'],
    ],
  );
  assert.equal(standingOf(reef).state, 'active');
  assert.equal(notices.waiting(9).length, 2);
  clock.now += 1_000;
  // Said again, it is no news; ended and said anew, it is.
  await hear({ cts: new Date(clock.now).toISOString() });
  tell();
  assert.equal(told().length, 2);
  await hear({ neg: true, cts: new Date(clock.now + 1).toISOString() });
  clock.now += 2_000;
  await hear({ cts: new Date(clock.now).toISOString() });
  tell();
  assert.equal(told().length, 3);
});

test('a crash between the event and the mark tells nothing twice', async () => {
  const { members, hear, tell, told, signals } = openMeadow();
  await members.enrol(enrolment());
  await hear({});
  const markTold = signals.markTold.bind(signals);
  signals.markTold = () => {
    throw new Error('power failure');
  };
  tell();
  signals.markTold = markTold;
  tell();
  assert.equal(told().length, 1);
});

test('signals of a peer in quarantine wait untold', async () => {
  const { members, hear, tell, told, signals } = openMeadow();
  await members.enrol(enrolment());
  await hear({});
  signals.quarantine(harbor, 'too_many_suspensions');
  tell();
  assert.equal(told().length, 0);
  signals.release(harbor);
  tell();
  assert.equal(told().length, 1);
});

test('what nobody was told of this member holds it, whatever a person decided about it meanwhile', async () => {
  for (const [uri, domains] of [
    ['at://did:plc:bad/email.atmos.attestation/bad.test', ['bad.test']],
    [reef, ['second.test']],
  ] as const) {
    const { members, hear, standingOf, clock, reinstate } = openMeadow();
    await members.enrol(enrolment());
    await hear({ uri });
    clock.now += 1_000;
    // A throttle that was lifted, say: this signal was no part of it.
    reinstate(reef);
    clock.now += 1_000;
    await members.enrol(enrolment(reef, 'reef.test', ...domains));
    assert.equal(standingOf(reef).state, 'held', uri);
  }
});

test('said anew after a person decided, it holds again', async () => {
  const { members, hear, standingOf, clock, reinstate } = openMeadow();
  await hear({});
  await members.enrol(enrolment());
  clock.now += 1_000;
  reinstate(reef);
  clock.now += 1_000;
  await hear({ neg: true, cts: new Date(clock.now).toISOString() });
  await hear({ cts: new Date(clock.now + 1).toISOString() });
  clock.now += 1_000;
  await members.enrol(enrolment(reef, 'reef.test', 'second.test'));
  assert.equal(standingOf(reef).state, 'held');
});

test('a signal that could not be told is told as soon as it can be, without another one', async (t) => {
  const { members, hear, tell, told, signals } = openMeadow();
  t.after(tell.stop);
  await members.enrol(enrolment());
  await hear({});
  const markTold = signals.markTold.bind(signals);
  const retried = Promise.withResolvers<void>();
  signals.markTold = () => {
    signals.markTold = (signal) => {
      markTold(signal);
      retried.resolve();
    };
    throw new Error('database is locked');
  };
  tell();
  const held = setInterval(() => undefined, 1_000);
  await retried.promise;
  clearInterval(held);
  assert.deepEqual([told().length, signals.untold(9)], [1, []]);
});
