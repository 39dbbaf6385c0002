import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CorruptState, openDatabase } from '../../appview/database.ts';
import { type CapsPolicy, checkTiers, standings } from '../../node/enforcement/standing.ts';
import { nodeMigrations } from '../../node/migrations.ts';

const day = 86_400_000;
const policy: CapsPolicy = {
  warmingDays: 14,
  warming: [
    { untilDay: 7, perHour: 5, perDay: 50 },
    { untilDay: 14, perHour: 20, perDay: 200 },
  ],
  tiers: { standard: { perHour: 200, perDay: 2000 }, trusted: { perHour: 1000, perDay: 10_000 } },
};

function setUp(member: Record<string, string | number> = {}, rules: CapsPolicy = policy) {
  const db = openDatabase(':memory:', nodeMigrations, { synchronous: 'NORMAL' });
  db.exec("INSERT INTO member (did, enrolled_at) VALUES ('did:plc:reef', 0)");
  db.exec("INSERT INTO domain (name, did, enrolled_at) VALUES ('reef.test', 'did:plc:reef', 0)");
  for (const [column, value] of Object.entries(member))
    db.prepare(`UPDATE member SET ${column} = ?`).run(value);
  return (at: number) => standings({ db, policy: rules, now: () => at })('did:plc:reef', 'reef.test');
}

const ages: [age: number, tier: string, perHour: number, perDay: number][] = [
  [0, 'warming', 5, 50],
  [7 * day - 1, 'warming', 5, 50],
  [7 * day, 'warming', 20, 200],
  [14 * day - 1, 'warming', 20, 200],
  [14 * day, 'standard', 200, 2000],
];
for (const [age, tier, perHour, perDay] of ages) {
  test(`a domain of ${(age / day).toFixed(2)} days is ${tier} with ${perHour}/h and ${perDay}/day`, () => {
    const standing = setUp()(age);
    assert.deepEqual([standing.tier, standing.caps], [tier, { perHour, perDay }]);
  });
}

test('after warming the tier of the member counts', () => {
  assert.deepEqual(setUp({ tier: 'trusted' })(14 * day).caps, policy.tiers.trusted);
});

test('warmingDays 0 turns warming off', () => {
  assert.equal(setUp({}, { ...policy, warmingDays: 0 })(0).tier, 'standard');
});

test('a warming day behind the last step keeps the last step', () => {
  assert.deepEqual(setUp({}, { ...policy, warmingDays: 30 })(20 * day).caps, { perHour: 20, perDay: 200 });
});

test('a suspension says who, why and until when, and is over at its end', () => {
  const standing = setUp({
    state: 'suspended',
    state_reason: 'bounces',
    state_until: 1000,
    state_by: 'automatic',
  });
  const { state, reason, until, by } = standing(999);
  assert.deepEqual([state, reason, until, by], ['suspended', 'bounces', 1000, 'automatic']);
  assert.deepEqual([standing(1000).state, standing(1000).reason], ['active', null]);
});

test('a suspension without an end lasts', () => {
  assert.equal(setUp({ state: 'removed' })(1e12).state, 'removed');
});

test('a state or tier that this program does not know is corrupt state, not a guess', () => {
  assert.throws(() => setUp({ state: 'banished' })(0), CorruptState);
  assert.throws(() => setUp({ tier: 'gold' })(14 * day), CorruptState);
});

test("another member's domain has no standing", () => {
  const db = openDatabase(':memory:', nodeMigrations, { synchronous: 'NORMAL' });
  assert.throws(() => standings({ db, policy, now: () => 0 })('did:plc:reef', 'reef.test'), RangeError);
});

test('a tier that the configuration dropped stops the start, and says whose it is', () => {
  const db = openDatabase(':memory:', nodeMigrations, { synchronous: 'NORMAL' });
  db.exec("INSERT INTO member (did, enrolled_at) VALUES ('did:plc:reef', 0)");
  checkTiers(db, policy.tiers);
  db.exec("UPDATE member SET tier = 'gold'");
  assert.throws(() => checkTiers(db, policy.tiers), /did:plc:reef has the tier "gold".*caps\.tiers.*add it/);
});
