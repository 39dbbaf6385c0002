/** From enrolment and attestation to labels, and back: the labeler at work over a real node.db. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Secp256k1Keypair } from '@atproto/crypto';
import { pino } from 'pino';
import { openDatabase } from '../../appview/database.ts';
import type { SignedLabel } from '../../appview/labels/codec.ts';
import { type CheckDomain, type CheckResult, domainChecks } from '../../node/labeler/checks.ts';
import { IssuedLabels } from '../../node/labeler/issued-labels.ts';
import { Labeler, type LabelerOptions } from '../../node/labeler/labeler.ts';
import { LabelerSchedule } from '../../node/labeler/schedule.ts';
import { Verifications } from '../../node/labeler/verifications.ts';
import { Members } from '../../node/members/members.ts';
import { Seal } from '../../node/members/seal.ts';
import { nodeMigrations } from '../../node/migrations.ts';
import { AttestedWorld, type DnsTable, goodDns, tableResolver } from './labeler-fixtures.ts';

const did = 'did:plc:reef';
const domain = 'reef.test';
const uri = `at://${did}/email.atmos.attestation/${domain}`;
const operator = 'verified-mail-operator';
const day = 86_400_000;

const allPassed: CheckResult[] = (['control', 'mx', 'spf', 'dkim', 'dmarc'] as const).map((check) => ({
  check,
  verdict: 'passed',
  reason: '',
  observations: [],
}));

const folder = mkdtempSync(join(tmpdir(), 'atmos-labeler-'));
const stops: (() => Promise<void>)[] = [];
const closes: (() => void)[] = [];
after(async () => {
  await Promise.all(stops.map((stop) => stop()));
  for (const close of closes) close();
  rmSync(folder, { recursive: true, force: true });
});
let worlds = 0;

/** One cooperative's labeler; `dns` and `clock` are the test's to change. */
async function makeWorld(check?: CheckDomain) {
  const file = join(folder, `node-${worlds++}.db`);
  const db = openDatabase(file, nodeMigrations, { synchronous: 'NORMAL' });
  closes.push(() => db.close());
  const clock = { now: 1_700_000_000_000 };
  const now = () => clock.now;
  const dns: DnsTable = goodDns(domain, did);
  const identities = { resolve: async () => ({ did }) };
  const key = await Secp256k1Keypair.create();
  const issued = new IssuedLabels({ db, did: 'did:web:harbor.test', key, now });
  const state = {
    issued,
    verifications: new Verifications(db),
    members: membersOf(db, now),
    check: check ?? domainChecks({ resolver: tableResolver(dns), control: { identities }, now }),
    now,
  };
  const attestations = new AttestedWorld(now);
  const next = follower(issued);
  return { ...state, file, db, clock, dns, attestations, next, ...labelerOver(state, attestations) };
}

type State = Pick<LabelerOptions, 'issued' | 'verifications' | 'members' | 'check' | 'now'>;

function labelerOver(state: State, { index }: AttestedWorld) {
  const shared = { attestations: index, log: pino({ level: 'silent' }) };
  const labeler = new Labeler({
    ...state,
    ...shared,
    reverifyIntervalMs: day,
    retryUnverifiedMs: 300_000,
    count: () => undefined,
  });
  const { verifications, now } = state;
  const schedule = new LabelerSchedule({ labeler, verifications, now, ...shared, pollMs: 5 });
  stops.push(() => schedule.stop());
  return { labeler, schedule };
}

function membersOf(db: ReturnType<typeof openDatabase>, now: () => number): Members {
  const seal = new Seal(randomBytes(32));
  return new Members({ db, seal, poolDomain: 'harbor.test', mailHost: 'mx.harbor.test', now });
}

/** Each call waits for the next `count` labels and gives them as short texts. */
function follower(issued: IssuedLabels): (count: number) => Promise<string[]> {
  const batches = issued.follow(0, AbortSignal.timeout(20_000));
  const read: SignedLabel[] = [];
  return async (count) => {
    while (read.length < count) {
      const { value } = await batches.next();
      assert.ok(value, `expected ${count} labels, got ${read.map(short)}`);
      read.push(...value.flatMap(({ labels }) => labels));
    }
    return read.splice(0, count).map(short);
  };
}

/** Resolves when the next look at the domain is set to such a time. */
function rescheduled(verifications: Verifications, isIt: (at: number) => boolean): Promise<void> {
  const reschedule = verifications.reschedule.bind(verifications);
  return new Promise((resolve) => {
    verifications.reschedule = (claim, at) => {
      reschedule(claim, at);
      if (isIt(at)) resolve();
    };
  });
}

function short(label: SignedLabel): string {
  return `${label.neg ? '-' : '+'}${label.val} ${label.uri}${label.cid ? ` ${label.cid}` : ''}`;
}

/** One with an enrolled member whose labels are out, before its schedule starts. */
async function makeVerifiedWorld() {
  const world = await makeWorld();
  await enrol(world.members);
  world.attestations.put(did, domain, 'cid1');
  const [claim] = world.verifications.claim(world.clock.now, 1_000, 1);
  await world.labeler.verify(claim!, new AbortController().signal);
  await world.next(2);
  return world;
}

const enrol = (members: Members, relay = false) => members.enrol({ did, domains: [domain], relay });

test('an enrolled member is labelled at once when its attestation commit arrives', async () => {
  const { members, attestations, schedule, next } = await makeWorld();
  await enrol(members, true);
  schedule.start();
  attestations.put(did, domain, 'cid1', { relayMember: true });
  assert.deepEqual(await next(4), [
    `+${operator} ${uri} cid1`,
    `+relay-member ${uri} cid1`,
    `+${operator} ${did}`,
    `+relay-member ${did}`,
  ]);
});

test('an enrolment that another process writes is found, though the attestation is older', async () => {
  const { file, clock, attestations, schedule, next } = await makeWorld();
  attestations.put(did, domain, 'cid1');
  schedule.start();
  const beside = openDatabase(file, nodeMigrations, { synchronous: 'NORMAL' });
  await enrol(membersOf(beside, () => clock.now));
  beside.close();
  assert.deepEqual(await next(2), [`+${operator} ${uri} cid1`, `+${operator} ${did}`]);
});

test('who attests but is not enrolled here is not even checked', async () => {
  const { attestations, verifications, labeler, issued } = await makeWorld();
  attestations.put(did, domain, 'cid1');
  await labeler.reconcile(did);
  assert.deepEqual(verifications.claim(Number.MAX_SAFE_INTEGER, 1, 10), []);
  assert.equal(issued.newest, 0);
});

test('a new cid is checked with its own selectors and voted for anew', async () => {
  const { members, attestations, schedule, dns, next } = await makeWorld();
  await enrol(members);
  schedule.start();
  attestations.put(did, domain, 'cid1');
  await next(2);
  dns[`TXT s2._domainkey.${domain}`] = dns[`TXT s1._domainkey.${domain}`]!;
  attestations.put(did, domain, 'cid2', { dkimSelectors: ['s2'] });
  assert.deepEqual(await next(1), [`+${operator} ${uri} cid2`]);
  attestations.put(did, domain, 'cid3', { dkimSelectors: ['s3'] });
  assert.deepEqual(await next(2), [`-${operator} ${uri}`, `-${operator} ${did}`]);
});

test('an attestation that goes takes its labels with it, without a question to DNS', async () => {
  const { members, attestations, schedule, dns, next } = await makeWorld();
  await enrol(members);
  schedule.start();
  attestations.put(did, domain, 'cid1');
  await next(2);
  for (const name of Object.keys(dns)) dns[name] = 'fail';
  attestations.delete(did, domain);
  assert.deepEqual(await next(2), [`-${operator} ${uri}`, `-${operator} ${did}`]);
});

test('an account that is not active, or said to be deleted, keeps its labels when it comes back within a day', async () => {
  for (const status of ['deactivated', 'deleted']) {
    const { members, attestations, schedule, clock, verifications, issued, next } = await makeWorld();
    await enrol(members);
    schedule.start();
    attestations.put(did, domain, 'cid1');
    await next(2);
    const graceSet = rescheduled(verifications, (at) => at === clock.now + day);
    attestations.setActive(did, false, status);
    await graceSet;
    clock.now += day - 1;
    const lookedAgain = rescheduled(verifications, (at) => at > clock.now + day / 2);
    attestations.setActive(did, true);
    await lookedAgain;
    await schedule.stop();
    assert.equal(issued.newest, 2, `${status}: no label was touched, so no age is broken`);
  }
});

test('an account that stays away for a day loses its labels, over a restart too', async () => {
  const world = await makeWorld();
  const { members, attestations, schedule, clock, verifications, next } = world;
  await enrol(members);
  schedule.start();
  attestations.put(did, domain, 'cid1');
  await next(2);
  const graceSet = rescheduled(verifications, (at) => at === clock.now + day);
  attestations.setActive(did, false);
  await graceSet;
  // That its PDS is asked meanwhile, and does not answer, gives it no more time.
  attestations.index.recheck(did, domain);
  await schedule.stop();
  clock.now += day;
  labelerOver(world, attestations).schedule.start();
  assert.deepEqual(await next(2), [`-${operator} ${uri}`, `-${operator} ${did}`]);
});

test('what a hidden account deletes with its signature loses its labels at once', async () => {
  const { members, attestations, schedule, next } = await makeWorld();
  await enrol(members);
  schedule.start();
  attestations.put(did, domain, 'cid1');
  await next(2);
  attestations.setActive(did, false);
  attestations.delete(did, domain);
  assert.deepEqual(await next(2), [`-${operator} ${uri}`, `-${operator} ${did}`]);
});

test('DNS that degrades is negated at the next check, and DNS that recovers issued again within minutes', async () => {
  const { members, attestations, schedule, dns, clock, verifications, next } = await makeWorld();
  await enrol(members);
  schedule.start();
  attestations.put(did, domain, 'cid1');
  await next(2);
  dns[`TXT _dmarc.${domain}`] = ['v=DMARC1; p=none'];
  clock.now += 1.1 * day;
  assert.deepEqual(await next(2), [`-${operator} ${uri}`, `-${operator} ${did}`]);
  const { verdict, evidence } = verifications.get({ did, domain })!;
  assert.equal(verdict, 'failed');
  assert.match(evidence.find(({ check }) => check === 'dmarc')!.reason, /p=none/);

  dns[`TXT _dmarc.${domain}`] = ['v=DMARC1; p=reject'];
  clock.now += 300_000;
  assert.deepEqual(await next(2), [`+${operator} ${uri} cid1`, `+${operator} ${did}`]);
});

test('silence of DNS takes no label away, keeps the verdict, says so, and is asked again within a minute', async () => {
  const { members, attestations, dns, clock, verifications, labeler, issued } = await makeWorld();
  await enrol(members);
  attestations.put(did, domain, 'cid1');
  await verifyDue();
  assert.equal(issued.newest, 2);
  for (const name of Object.keys(dns)) dns[name] = 'fail';
  clock.now += 2 * day;
  await verifyDue();
  const row = verifications.get({ did, domain })!;
  assert.equal(row.verdict, 'passed');
  assert.ok(row.evidence.every(({ verdict }) => verdict === 'undecided'));
  assert.equal(row.nextAt, clock.now + 60_000);
  assert.equal(issued.newest, 2);

  async function verifyDue() {
    const [claim] = verifications.claim(clock.now, 1_000, 1);
    await labeler.verify(claim!, new AbortController().signal);
  }
});

test('whoever leaves, or may no longer relay, loses what rested on it', async () => {
  const { db, members, attestations, schedule, verifications, next } = await makeWorld();
  await enrol(members, true);
  schedule.start();
  attestations.put(did, domain, 'cid1', { relayMember: true });
  await next(4);
  await enrol(members, false);
  assert.deepEqual(await next(2), [`-relay-member ${uri}`, `-relay-member ${did}`]);
  db.exec(`DELETE FROM dkim_key; DELETE FROM domain WHERE name = '${domain}'`);
  assert.deepEqual(await next(2), [`-${operator} ${uri}`, `-${operator} ${did}`]);
  await schedule.stop();
  assert.equal(verifications.get({ did, domain }), undefined);
});

test('a change while a check runs is not lost: the domain is looked at again', async () => {
  const first = Promise.withResolvers<CheckResult[]>();
  let runs = 0;
  const { members, attestations, schedule, next } = await makeWorld(() => {
    runs += 1;
    return runs === 1 ? first.promise : Promise.resolve(allPassed);
  });
  await enrol(members);
  attestations.put(did, domain, 'cid1');
  schedule.start();
  assert.equal(runs, 1);
  attestations.put(did, domain, 'cid2');
  first.resolve(allPassed);
  assert.deepEqual(await next(2), [`+${operator} ${uri} cid2`, `+${operator} ${did}`]);
});

test('a run that ends after a younger one changes nothing', async () => {
  const slow = Promise.withResolvers<CheckResult[]>();
  let runs = 0;
  const { members, attestations, verifications, labeler, issued, clock } = await makeWorld(() => {
    runs += 1;
    return runs === 1 ? slow.promise : Promise.resolve(allPassed);
  });
  const signal = new AbortController().signal;
  await enrol(members);
  attestations.put(did, domain, 'cid1');
  const [older] = verifications.claim(clock.now, 1_000, 1);
  const running = labeler.verify(older!, signal);
  verifications.makeDue({ did, domain });
  const [younger] = verifications.claim(clock.now, 1_000, 1);
  await labeler.verify(younger!, signal);
  slow.resolve(allPassed.map((result) => ({ ...result, verdict: 'failed' })));
  await running;
  assert.equal(verifications.get({ did, domain })!.verdict, 'passed');
  assert.equal(issued.inForce(did).length, 2);
});

test('what changed while the node was down is found at its start', async () => {
  const { attestations, schedule, clock, verifications, next } = await makeVerifiedWorld();
  attestations.put(did, domain, 'cid2');
  assert.ok(verifications.get({ did, domain })!.nextAt > clock.now);
  schedule.start();
  assert.deepEqual(await next(1), [`+${operator} ${uri} cid2`]);
});

test('an attestation that went while the node was down takes its labels at the start', async () => {
  const { attestations, schedule, next } = await makeVerifiedWorld();
  attestations.delete(did, domain);
  schedule.start();
  assert.deepEqual(await next(2), [`-${operator} ${uri}`, `-${operator} ${did}`]);
});

test('an index that is being rebuilt takes no label away, until it has read the account', async () => {
  const world = await makeVerifiedWorld();
  const { clock, verifications, issued, next } = world;
  const rebuilt = new AttestedWorld(world.now);
  const again = labelerOver(world, rebuilt);
  clock.now += 2 * day;
  await again.labeler.verify(verifications.claim(clock.now, 1_000, 1)[0]!, new AbortController().signal);
  assert.equal(issued.newest, 2);
  assert.equal(verifications.get({ did, domain })!.verdict, 'passed');

  rebuilt.put(did, domain, 'cid1');
  rebuilt.delete(did, domain);
  again.schedule.start();
  assert.deepEqual(await next(2), [`-${operator} ${uri}`, `-${operator} ${did}`]);
});

test('a record that a rebuilt index asks for at its PDS keeps its labels until it is proved absent', async () => {
  const world = await makeWorld();
  const { members, attestations, clock, verifications, labeler, issued, next } = world;
  const signal = new AbortController().signal;
  await enrol(members);
  attestations.put(did, domain, 'cid1');
  await labeler.verify(verifications.claim(clock.now, 1_000, 1)[0]!, signal);
  await next(2);

  const rebuilt = new AttestedWorld(world.now);
  const again = labelerOver(world, rebuilt);
  rebuilt.index.recheck(did, domain);
  clock.now += 2 * day;
  await again.labeler.verify(verifications.claim(clock.now, 1_000, 1)[0]!, signal);
  assert.equal(issued.newest, 2);
  assert.equal(verifications.get({ did, domain })!.verdict, 'passed');

  rebuilt.index.applyRecheck(did, '3lqq2rlhtkc22', { rkey: domain });
  clock.now += 60_000;
  again.schedule.start();
  assert.deepEqual(await next(2), [`-${operator} ${uri}`, `-${operator} ${did}`]);
});

test('damage of node.db stops us, a lock does not', async () => {
  const { schedule, verifications } = await makeWorld();
  const failWith = (code: string) => {
    verifications.claim = () => {
      throw Object.assign(new Error(code), { code });
    };
  };
  failWith('SQLITE_BUSY');
  schedule.start();
  await schedule.stop();
  const other = await makeWorld();
  other.verifications.claim = () => {
    throw Object.assign(new Error('malformed'), { code: 'SQLITE_CORRUPT' });
  };
  assert.throws(() => other.schedule.start(), /malformed/);
  // What start() had begun looks once more; there too the damage would end the process.
  other.verifications.claim = () => [];
});

test('stopping does not wait for DNS, and nothing is written after it', async () => {
  const dns = Promise.withResolvers<CheckResult[]>();
  const { members, attestations, schedule, verifications } = await makeWorld(() => dns.promise);
  await enrol(members);
  attestations.put(did, domain, 'cid1');
  schedule.start();
  await schedule.stop();
  const before = verifications.get({ did, domain });
  dns.resolve([]);
  await dns.promise;
  assert.deepEqual(verifications.get({ did, domain }), before);
});
