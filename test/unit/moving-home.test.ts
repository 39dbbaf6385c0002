/** A member of Harbor moves to Meadow: with its keys, a shorter warming, and no gap in its listing. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { Secp256k1Keypair } from '@atproto/crypto';
import { openDatabase } from '../../appview/database.ts';
import { LabelStore } from '../../appview/labels/store.ts';
import { Ledger } from '../../appview/listing/ledger.ts';
import { Listings } from '../../appview/listing/listings.ts';
import { defaultPolicy } from '../../appview/listing/policy.ts';
import { Signals } from '../../appview/listing/signals.ts';
import { appviewMigrations, ledgerMigrations } from '../../appview/migrations.ts';
import { init } from '../../node/cli/init.ts';
import { dnsRecords, enrolMember, listMembers } from '../../node/cli/member.ts';
import { exportMember, importedMember } from '../../node/cli/moving-home.ts';
import { showMember } from '../../node/cli/reputation.ts';
import { readConfig } from '../../node/config.ts';
import { standings } from '../../node/enforcement/standing.ts';
import type { CheckResult } from '../../node/labeler/checks.ts';
import { IssuedLabels } from '../../node/labeler/issued-labels.ts';
import { Labeler } from '../../node/labeler/labeler.ts';
import { Verifications } from '../../node/labeler/verifications.ts';
import { Members } from '../../node/members/members.ts';
import { Seal } from '../../node/members/seal.ts';
import { nodeMigrations } from '../../node/migrations.ts';
import { openMembership } from '../../node/state.ts';
import { day, log } from './enforcement-fixtures.ts';
import {
  Commits,
  cids,
  counters,
  issuer,
  june,
  memberDid,
  memoryDatabases,
  uriOf,
} from './labels-fixtures.ts';
import { cooperative, signalOf } from './reputation-fixtures.ts';

const dir = mkdtempSync(join(tmpdir(), 'atmos-moving-'));
after(() => rmSync(dir, { recursive: true }));
const passphrase = 'correct horse battery';
const harborDid = 'did:web:harbor.example';
let count = 0;

/** A cooperative as `atmos init` makes it; `peer` with this stance. */
async function node(name: string, stance?: 'guarantee' | 'endorse' | 'hesitate') {
  const file = join(dir, String(++count), 'atmos.jsonc');
  const domain = `${name.toLowerCase()}.example`;
  await init({ name, domain, url: `https://${domain}`, file });
  if (stance) {
    const peers = `"peers": [{ "did": "${harborDid}", "stance": "${stance}" }]`;
    writeFileSync(file, readFileSync(file, 'utf8').replace(/"peers": \[[^\]]*\]/, peers));
    assert.equal(readConfig(file).peers[0]?.stance, stance);
  }
  return { file, stateDir: join(dirname(file), 'state') };
}

async function exported() {
  const harbor = await node('Harbor');
  await enrolMember(harbor.file, {
    did: memberDid,
    handle: 'reef.test',
    domains: ['reef.test'],
    relay: true,
  });
  const out = join(harbor.stateDir, 'reef.json');
  await exportMember(harbor.file, memberDid, out, passphrase);
  return { harbor, out };
}

const dkimOf = async (file: string) =>
  (await dnsRecords(file, 'reef.test')).filter(({ name }) => name.includes('_domainkey'));

async function enrolAt(file: string, out: string) {
  const brought = await importedMember(out, passphrase);
  const keys = new Map(brought.domains.map((one) => [one.name, one.keys]));
  return enrolMember(file, { did: brought.did, domains: [...keys.keys()], relay: true, keys });
}

test('with its keys a member needs no new DKIM record', async () => {
  const { harbor, out } = await exported();
  const meadow = await node('Meadow');
  const { held } = await enrolAt(meadow.file, out);
  assert.deepEqual([await dkimOf(meadow.file), held], [await dkimOf(harbor.file), false]);
  const signing = async (file: string) => {
    const { db, members } = await openMembership(readConfig(file), Date.now);
    const keys = members.dkimKeys('reef.test');
    db.close();
    return keys;
  };
  assert.deepEqual(await signing(meadow.file), await signing(harbor.file));
});

test('the file is the owner’s alone, and nothing that exists is overwritten', async () => {
  const { harbor, out } = await exported();
  assert.equal(statSync(out).mode & 0o777, 0o600);
  await assert.rejects(exportMember(harbor.file, memberDid, out, passphrase), /EEXIST/);
});

test('a wrong passphrase, a damaged file and a domain that is enrolled are refused', async () => {
  const { out } = await exported();
  const meadow = await node('Meadow');
  await assert.rejects(
    importedMember(out, 'another passphrase'),
    /passphrase is wrong, or the file is damaged/,
  );
  writeFileSync(`${out}.cut`, readFileSync(out).subarray(0, 500));
  await assert.rejects(importedMember(`${out}.cut`, passphrase), /is not what atmos member export wrote/);
  await enrolAt(meadow.file, out);
  await assert.rejects(enrolAt(meadow.file, out), /reef\.test is enrolled for this member already/);
  const other = await node('Dune');
  await enrolMember(other.file, { did: 'did:plc:other', domains: ['reef.test'], relay: true });
  await assert.rejects(enrolAt(other.file, out), /reef\.test is enrolled for another member/);
  assert.equal((await listMembers(other.file)).length, 1);
});

test('the commands: the passphrase comes on standard input', async () => {
  const { out, harbor } = await exported();
  const meadow = await node('Meadow');
  const atmos = (input: string, ...words: string[]) =>
    spawnSync(process.execPath, ['node/atmos.js', 'member', ...words], { input, encoding: 'utf8' });
  const second = `${out}.2`;
  const made = atmos(`${passphrase}\n`, 'export', memberDid, '--out', second, '--config', harbor.file);
  assert.deepEqual([made.status, made.stderr], [0, '']);
  const wrong = atmos('nonsense nonsense\n', 'enrol', '--import', second, '--config', meadow.file);
  assert.equal(wrong.status, 2);
  assert.match(wrong.stderr, /the passphrase is wrong/);
  const enrolled = atmos(`${passphrase}\n`, 'enrol', '--import', second, '--config', meadow.file, '--json');
  assert.equal(enrolled.status, 0, enrolled.stderr);
  assert.deepEqual(
    [JSON.parse(enrolled.stdout).did, JSON.parse(enrolled.stdout).domains],
    [memberDid, ['reef.test']],
  );
  assert.doesNotMatch(enrolled.stdout + enrolled.stderr, /PRIVATE|horse/);
});

/** What Meadow has read of Harbor: that its member is a clean sender. */
async function readCleanSender(stateDir: string) {
  const db = openDatabase(join(stateDir, 'appview.db'), appviewMigrations, { synchronous: 'NORMAL' });
  const labels = new LabelStore({ db, now: Date.now, count: () => undefined });
  const from = await issuer(harborDid);
  labels.receive(harborDid, 1, [await from.sign({ val: 'clean-sender' })]);
  db.close();
}

for (const [stance, tier, perDay] of [
  ['guarantee', 'warming', 200],
  ['endorse', 'warming', 50],
] as const) {
  test(`clean at a peer that we ${stance}: the first day's cap is ${perDay}`, async () => {
    const { out } = await exported();
    const meadow = await node('Meadow', stance);
    await readCleanSender(meadow.stateDir);
    await enrolAt(meadow.file, out);
    const config = readConfig(meadow.file);
    const { db } = await openMembership(config, Date.now);
    const on = (dayOf: number) =>
      standings({ db, policy: config.caps, now: () => Date.now() + dayOf * day })(memberDid, 'reef.test');
    assert.deepEqual([on(0).tier, on(0).caps.perDay], [tier, perDay]);
    assert.equal(on(8).tier, stance === 'guarantee' ? 'standard' : 'warming');
    db.close();
  });
}

for (const [stance, held] of [
  ['guarantee', true],
  ['endorse', true],
  ['hesitate', false],
] as const) {
  test(`suspended at a peer that we ${stance}: ${held ? 'held for review' : 'enrolled'}`, async () => {
    const { out } = await exported();
    const meadow = await node('Meadow', stance);
    const db = openDatabase(join(meadow.stateDir, 'ledger.db'), ledgerMigrations, { synchronous: 'FULL' });
    const signal = await signalOf(await cooperative(harborDid), { uri: uriOf('reef.test') });
    new Signals({ db, now: Date.now }).receive(harborDid, 1, [signal], { countedAt: Date.now, maxStored: 9 });
    db.close();
    assert.equal((await enrolAt(meadow.file, out)).held, held);
    const { standing, signals } = await showMember(meadow.file, memberDid);
    assert.deepEqual([standing.state, signals.length], held ? ['held', 1] : ['active', 0]);
  });
}

const allPassed: CheckResult[] = (['control', 'mx', 'spf', 'dkim', 'dmarc'] as const).map((check) => ({
  ...{ check, verdict: 'passed', reason: '', observations: [] },
}));

/** One cooperative's labeler, over a node.db of its own and the shared index of the network. */
async function labelerOf(did: string, attestations: Commits['index'], now: () => number) {
  const db = openDatabase(':memory:', nodeMigrations, { synchronous: 'NORMAL' });
  const poolDomain = did.slice('did:web:'.length);
  const members = new Members({
    db,
    seal: new Seal(randomBytes(32)),
    poolDomain,
    mailHost: `mx.${poolDomain}`,
    now,
  });
  const key = await Secp256k1Keypair.create({ exportable: true });
  const issued = new IssuedLabels({ db, did, key, now });
  const verifications = new Verifications(db);
  const policy = { warmingDays: 0, warming: [], tiers: { standard: { perHour: 10, perDay: 100 } } };
  const labeler = new Labeler({
    ...{ issued, verifications, members, attestations, now, log, count: () => undefined },
    check: async () => allPassed,
    standingOf: standings({ db, policy, now }),
    reverifyIntervalMs: day,
    retryUnverifiedMs: 300_000,
  });
  const work = async () => {
    for (const claim of verifications.claim(now(), 1_000, 10))
      await labeler.verify(claim, new AbortController().signal);
  };
  return { db, members, issued, work };
}

test('the listing never lapses: Meadow’s votes stand before Harbor’s are negated', async () => {
  const clock = { now: june };
  const now = () => clock.now;
  const { db, ledgerDb } = memoryDatabases();
  const commits = new Commits(db);
  const ledger = new Ledger({ db: ledgerDb, now });
  const labels = new LabelStore({
    db,
    now,
    count: () => undefined,
    witness: (applied) => ledger.observe(applied),
  });
  const harbor = await labelerOf('did:web:harbor.test', commits.index, now);
  const meadow = await labelerOf('did:web:meadow.test', commits.index, now);
  const listings = new Listings({
    ...{ db, labels, ledger, log, count: counters().count, now, attestations: commits.index },
    policy: { ...defaultPolicy, roots: ['did:web:harbor.test', 'did:web:meadow.test'], newcomerDays: 0 },
    publicUrl: 'https://harbor.test',
  });
  const seen: string[] = [];
  listings.onChange(({ removed, vouchers }) =>
    seen.push(removed ? 'removed' : vouchers.join(' ').replaceAll('did:web:', '')),
  );
  listings.start();
  const read = async ({ issued }: typeof harbor) => {
    for (const frame of await issued.since(labels.cursor(issued.did) ?? 0))
      labels.receive(issued.did, frame.seq, [...frame.labels]);
  };
  const step = async (at: typeof harbor) => {
    clock.now += 60_000;
    await at.work();
    await read(at);
  };
  commits.put('reef.test', { cid: cids[0] });
  await harbor.members.enrol({ did: memberDid, domains: ['reef.test'], relay: true });
  await step(harbor);
  await meadow.members.enrol({ did: memberDid, domains: ['reef.test'], relay: true });
  await step(meadow);
  harbor.db.prepare("UPDATE member SET state = 'removed' WHERE did = ?").run(memberDid);
  await step(harbor);
  assert.deepEqual(seen, ['harbor.test', 'harbor.test meadow.test', 'meadow.test']);
  listings.stop();
});
