/** Labels follow a member's standing and its figures, and live on by renewal: the labeler over a real node.db. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { Secp256k1Keypair } from '@atproto/crypto';
import { pino } from 'pino';
import { openDatabase } from '../../appview/database.ts';
import { standings } from '../../node/enforcement/standing.ts';
import type { CheckResult } from '../../node/labeler/checks.ts';
import { IssuedLabels } from '../../node/labeler/issued-labels.ts';
import { Labeler } from '../../node/labeler/labeler.ts';
import { Verifications } from '../../node/labeler/verifications.ts';
import { Members } from '../../node/members/members.ts';
import { Seal } from '../../node/members/seal.ts';
import { nodeMigrations } from '../../node/migrations.ts';
import { heldForReview } from '../../node/reputation/review.ts';
import { AttestedWorld } from './labeler-fixtures.ts';

const did = 'did:plc:reef';
const domain = 'reef.test';
const uri = `at://${did}/email.atmos.attestation/${domain}`;
const day = 86_400_000;
const caps = { perHour: 10, perDay: 100 };
const allPassed: CheckResult[] = (['control', 'mx', 'spf', 'dkim', 'dmarc'] as const).map((check) => ({
  check,
  verdict: 'passed',
  reason: '',
  observations: [],
}));

/** An enrolled member that sends here, attested, whose figures are as good as `world.isClean` says. */
async function makeWorld() {
  const clock = { now: 1_700_000_000_000 };
  const now = () => clock.now;
  const db = openDatabase(':memory:', nodeMigrations, { synchronous: 'NORMAL' });
  const seal = new Seal(randomBytes(32));
  const members = new Members({ db, seal, poolDomain: 'harbor.test', mailHost: 'mx.harbor.test', now });
  await members.enrol({ did, domains: [domain], relay: true });
  const attested = new AttestedWorld(now);
  attested.put(did, domain, 'cid1', { relayMember: true });
  const key = await Secp256k1Keypair.create({ exportable: true });
  const issued = new IssuedLabels({ db, did: 'did:web:harbor.test', key, now });
  const verifications = new Verifications(db);
  const world = { isClean: true, dnsQuestions: 0 };
  const labeler = new Labeler({
    ...{ issued, verifications, members, attestations: attested.index, now, count: () => undefined },
    check: async () => {
      world.dnsQuestions += 1;
      return allPassed;
    },
    standingOf: standings({ db, policy: { warmingDays: 0, warming: [], tiers: { standard: caps } }, now }),
    isCleanSender: () => world.isClean,
    reverifyIntervalMs: day,
    retryUnverifiedMs: 300_000,
    labelLifetimeMs: 14 * day,
    log: pino({ level: 'silent' }),
  });
  /** All that is due now. @returns the labels that came of it */
  const work = async () => {
    const before = issued.newest;
    for (const claim of verifications.claim(clock.now, 1_000, 10))
      await labeler.verify(claim, new AbortController().signal);
    return (await issued.since(before)).flatMap(({ labels }) => labels.map(short));
  };
  const measure = (state: string, until: number | null = null) =>
    db.prepare('UPDATE member SET state = ?, state_until = ? WHERE did = ?').run(state, until, did);
  const values = () => issued.inForce(did).map(({ uri: on, val }) => `${val}${on === did ? '' : ' vote'}`);
  return {
    ...{ world, db, clock, attested, issued, verifications, labeler, work, measure, values },
    members,
  };
}

const short = ({ neg, val, uri: on }: { neg?: boolean; val: string; uri: string }) =>
  `${neg ? '-' : '+'}${val}${on === did ? '' : ' vote'}`;
const six = [
  ...['clean-sender vote', 'relay-member vote', 'verified-mail-operator vote'],
  ...['clean-sender', 'relay-member', 'verified-mail-operator'],
];
const withoutClean = six.filter((label) => !label.startsWith('clean-sender'));

for (const state of ['throttled', 'probation', 'held']) {
  test(`${state}: clean-sender goes at once, before DNS is asked, and comes back when it is over`, async () => {
    const { world, work, measure, values, labeler, verifications, clock } = await makeWorld();
    await work();
    assert.deepEqual(values(), six);
    measure(state);
    const [claim] = verifications.claim(clock.now, 1_000, 1);
    const stop = new AbortController();
    stop.abort();
    // Nothing beyond the first step: DNS does not answer within this look.
    await labeler.verify(claim!, stop.signal);
    assert.deepEqual(values(), withoutClean);
    measure('active');
    assert.deepEqual(await work(), ['+clean-sender vote', '+clean-sender']);
    assert.equal(world.isClean, true);
  });
}

for (const state of ['suspended', 'removed']) {
  test(`${state}: every label is negated at once, DNS is not asked, and all come back with the standing`, async () => {
    const { world, work, measure, values } = await makeWorld();
    await work();
    const asked = world.dnsQuestions;
    measure(state);
    assert.equal((await work()).length, 6);
    assert.deepEqual(values(), []);
    assert.equal(world.dnsQuestions, asked);
    measure('active');
    await work();
    assert.deepEqual(values(), six);
  });
}

test('a suspension negates though the index of attestations is being rebuilt', async () => {
  const { work, measure, values, members, issued, verifications, clock, labeler, db } = await makeWorld();
  await work();
  measure('suspended');
  const rebuilt = new Labeler({
    ...{ issued, verifications, members, attestations: new AttestedWorld(() => clock.now).index },
    ...{
      check: async () => allPassed,
      reverifyIntervalMs: day,
      retryUnverifiedMs: 1,
      count: () => undefined,
    },
    ...{ now: () => clock.now, log: pino({ level: 'silent' }) },
    standingOf: standings({
      ...{ db, policy: { warmingDays: 0, warming: [], tiers: { standard: caps } }, now: () => clock.now },
    }),
  });
  await rebuilt.reconcile(did);
  assert.deepEqual(values(), []);
  measure('active');
  await labeler.reconcile(did);
  assert.deepEqual(values(), six);
});

test('a measure with an end is over at its end, by itself', async () => {
  const { clock, work, measure, values, verifications } = await makeWorld();
  await work();
  measure('throttled', clock.now + 3 * 3_600_000);
  await work();
  assert.deepEqual(values(), withoutClean);
  assert.equal(verifications.get({ did, domain })!.nextAt, clock.now + 3 * 3_600_000);
  clock.now += 3 * 3_600_000;
  assert.deepEqual(await work(), ['+clean-sender vote', '+clean-sender']);
});

test('figures that fall short take clean-sender at the next look, and bring it back when they are good again', async () => {
  const { world, clock, work } = await makeWorld();
  await work();
  world.isClean = false;
  clock.now += 1.2 * day;
  assert.deepEqual(await work(), ['-clean-sender vote', '-clean-sender']);
  world.isClean = true;
  clock.now += 1.2 * day;
  assert.deepEqual(await work(), ['+clean-sender vote', '+clean-sender']);
});

test('a label lives for its time and is renewed well before; the chain has no gap and no negation', async () => {
  const { clock, issued, work, values } = await makeWorld();
  await work();
  for (let n = 0; n < 40; n++) {
    clock.now += 1.1 * day;
    assert.deepEqual(values(), six, `on day ${n}`);
    await work();
    for (const { exp } of issued.inForce(did)) assert.ok(Date.parse(exp!) - clock.now > 5 * day);
  }
  const ofVote = (await issued.since(0))
    .flatMap(({ labels }) => labels)
    .filter((label) => label.uri === uri && label.val === 'verified-mail-operator');
  // 44 days, and a renewal after each 5.6 to 8.4 and up to a round.
  assert.ok(ofVote.length >= 5 && ofVote.length <= 9, `${ofVote.length} labels`);
  for (const [n, label] of ofVote.entries()) {
    assert.equal(label.neg, undefined);
    assert.equal(Date.parse(label.exp!) - Date.parse(label.cts), 14 * day);
    if (n > 0) assert.ok(label.cts > ofVote[n - 1]!.cts && label.cts < ofVote[n - 1]!.exp!);
  }
});

test('a label that nobody renews ends by itself', async () => {
  const { clock, work, values } = await makeWorld();
  await work();
  clock.now += 14 * day;
  assert.deepEqual(values(), []);
  await work();
  assert.deepEqual(values(), six);
});

test('looks side by side issue each label once', async () => {
  const { members, attested, labeler, issued, verifications, clock } = await makeWorld();
  for (let n = 0; n < 9; n++) {
    await members.enrol({ did: `did:plc:m${n}`, domains: [`m${n}.test`], relay: true });
    attested.put(`did:plc:m${n}`, `m${n}.test`, 'cid1');
  }
  const { signal } = new AbortController();
  const claims = verifications.claim(clock.now, 1_000, 10);
  await Promise.all(claims.flatMap((claim) => [labeler.verify(claim, signal), labeler.reconcile(claim.did)]));
  await Promise.all(claims.flatMap((claim) => [labeler.reconcile(claim.did), labeler.reconcile(claim.did)]));
  // Six of the one that sends here, four of each other.
  assert.equal(issued.newest, 6 + 9 * 4);
});

/** As node/reputation/review.ts writes it, and as a person's act does. */
function holder(db: Awaited<ReturnType<typeof makeWorld>>['db']) {
  const set = db.prepare('UPDATE member SET state = ?, state_reason = ?, state_by = ? WHERE did = ?');
  return {
    review: () => set.run('held', heldForReview, 'automatic', did),
    person: (state: string) => set.run(state, heldForReview, 'person', did),
  };
}

test("held for a peer's signal, a newcomer gets no label until a person has decided", async () => {
  const { db, work, values } = await makeWorld();
  holder(db).review();
  assert.deepEqual(await work(), []);
  assert.deepEqual(values(), []);
  holder(db).person('active');
  await work();
  assert.deepEqual(values(), six);
});

test("held for a peer's signal, a member keeps what it earned before, and earns nothing new", async () => {
  const { db, world, attested, work, values, clock } = await makeWorld();
  await work();
  holder(db).review();
  world.isClean = false;
  attested.put(did, domain, 'cid2', { relayMember: true });
  clock.now += 2 * day;
  assert.deepEqual(await work(), []);
  assert.deepEqual(values(), six);
  holder(db).person('held');
  await work();
  assert.deepEqual(values(), withoutClean);
});

test("held for a peer's signal, a member loses what its domain no longer earns", async () => {
  const { db, attested, work, values, labeler } = await makeWorld();
  await work();
  holder(db).review();
  attested.delete(did, domain);
  await labeler.reconcile(did);
  assert.deepEqual(values(), []);
});
