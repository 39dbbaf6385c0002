import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { type Database, openDatabase } from '../../appview/database.ts';
import { DkimRotation, overlapMs } from '../../node/members/dkim-rotation.ts';
import { Members } from '../../node/members/members.ts';
import { Seal } from '../../node/members/seal.ts';
import { nodeMigrations } from '../../node/migrations.ts';
import { startSigner } from './signing-fixtures.ts';

const domain = 'reef.test';
let now: number;
let db: Database.Database;
let members: Members;
let rotation: DkimRotation;

beforeEach(async () => {
  now = 1_800_000_000_000;
  db = openDatabase(':memory:', nodeMigrations, { synchronous: 'FULL' });
  const shared = { db, seal: new Seal(Buffer.alloc(32, 1)), now: () => now };
  members = new Members({ ...shared, poolDomain: 'harbor.test', mailHost: 'mx.harbor.test', bcryptCost: 4 });
  rotation = new DkimRotation(shared);
  await members.enrol({ did: 'did:plc:reef', domains: [domain], relay: true });
});

const signing = (): string[] => members.dkimKeys(domain).map(({ selector }) => selector);
const shown = (): string[] =>
  members
    .dnsRecords(domain)
    .flatMap(({ name }) => (name.includes('._domainkey.') ? [name.split('.', 1)[0]!] : []))
    .sort();
const states = (): string[] => rotation.state(domain).map(({ selector, state }) => `${selector} ${state}`);

test('new keys are shown first, sign when told to, and the old ones leave after the overlap', async () => {
  assert.deepEqual(signing(), ['atmose', 'atmosr']);

  const records = await rotation.begin(domain);
  assert.deepEqual(
    records.map(({ name }) => name),
    ['atmos2e._domainkey.reef.test', 'atmos2r._domainkey.reef.test'],
  );
  assert.match(records[1]!.value, /^v=DKIM1; k=rsa; p=/);
  assert.deepEqual(signing(), ['atmose', 'atmosr']);
  assert.deepEqual(shown(), ['atmos2e', 'atmos2r', 'atmose', 'atmosr']);

  now += 3_600_000;
  assert.equal(rotation.activate(domain), true);
  assert.deepEqual(signing(), ['atmos2e', 'atmos2r']);
  assert.deepEqual(shown(), ['atmos2e', 'atmos2r', 'atmose', 'atmosr']);
  assert.equal(members.isDkimPublished(domain, 'atmosr'), true);

  now += overlapMs;
  assert.deepEqual(shown(), ['atmos2e', 'atmos2r']);
  assert.equal(members.isDkimPublished(domain, 'atmosr'), false);
  assert.deepEqual(states(), ['atmos2e signing', 'atmos2r signing', 'atmose retired', 'atmosr retired']);
});

test('each step may be called again', async () => {
  const first = await rotation.begin(domain);
  assert.deepEqual(await rotation.begin(domain), first);
  rotation.activate(domain);
  assert.equal(rotation.activate(domain), false);
  assert.deepEqual(rotation.pendingRecords(domain), []);
  assert.deepEqual(signing(), ['atmos2e', 'atmos2r']);
});

test('two that begin at once make one set of keys', async () => {
  const [one, other] = await Promise.all([rotation.begin(domain), rotation.begin(domain)]);
  assert.deepEqual(one, other);
  assert.equal(shown().length, 4);
});

test('keys can be told to sign from a given time on, and told otherwise before', async () => {
  await rotation.begin(domain);
  rotation.activate(domain, { at: now + 1_000 });
  assert.deepEqual(signing(), ['atmose', 'atmosr']);
  assert.deepEqual(states(), ['atmos2e pending', 'atmos2r pending', 'atmose signing', 'atmosr signing']);
  rotation.activate(domain, { at: now + 30 * 86_400_000 });
  now += 29 * 86_400_000;
  assert.deepEqual(signing(), ['atmose', 'atmosr'], 'a later time keeps the old ones longer');
  now += 86_400_000;
  assert.deepEqual(signing(), ['atmos2e', 'atmos2r']);
});

test('one key of each algorithm signs at every moment, over many rotations', async () => {
  for (let round = 2; round < 6; round++) {
    await rotation.begin(domain);
    now += 60_000;
    assert.equal(signing().length, 2);
    rotation.activate(domain);
    assert.deepEqual(signing(), [`atmos${round}e`, `atmos${round}r`]);
    now += 86_400_000;
  }
  assert.equal(states().filter((state) => state.endsWith('leaving')).length, 8);
  now += overlapMs;
  assert.equal(states().filter((state) => state.endsWith('retired')).length, 8);
});

test('a leaked key leaves at once, and its private half is erased', async () => {
  await rotation.begin(domain);
  rotation.activate(domain, { overlapMs: 0 });
  assert.equal(members.isDkimPublished(domain, 'atmosr'), false);
  assert.deepEqual(shown(), ['atmos2e', 'atmos2r']);
  const rows = db
    .prepare('SELECT selector FROM dkim_key WHERE length(private_key) = 0 ORDER BY selector')
    .all();
  assert.deepEqual(rows, [{ selector: 'atmose' }, { selector: 'atmosr' }]);
});

test('what was begun can be given up, and its selectors do not come again', async () => {
  await rotation.begin(domain);
  assert.equal(rotation.abandon(domain), true);
  assert.equal(rotation.abandon(domain), false);
  assert.deepEqual(shown(), ['atmose', 'atmosr']);
  const [record] = await rotation.begin(domain);
  assert.equal(record!.name, 'atmos3e._domainkey.reef.test');
});

test('a domain that is not enrolled has nothing to rotate', async () => {
  await assert.rejects(rotation.begin('other.test'), RangeError);
  assert.equal(rotation.activate('other.test'), false);
});

test('the signer follows: new keys at once, and waiting signatures are current until the old ones retire', async () => {
  let reads = 0;
  const read = (name: string) => {
    reads += 1;
    return members.dkimKeys(name);
  };
  const signer = startSigner({
    memberKeys: read,
    memberKeysVersion: (name) => members.dkimVersion(name),
    isPublished: (name, selector) => members.isDkimPublished(name, selector),
    now: () => now,
  });
  const message = {
    prefixes: [Buffer.alloc(0)],
    body: Buffer.from('From: a@reef.test\r\n\r\nx\r\n'),
    domain,
  };
  const sign = async () => {
    const made = await signer.sign(message);
    assert.ok(made.kind === 'signed');
    return { signatures: made.signatures[0]!, signedAt: made.signedAt, domain };
  };
  const old = await sign();
  await sign();
  assert.equal(reads, 1);
  await rotation.begin(domain);
  assert.match((await sign()).signatures.toString(), / s=atmosr;/);
  rotation.activate(domain, { overlapMs: 3_600_000 });
  assert.match((await sign()).signatures.toString(), / s=atmos2r;/);
  assert.equal(reads, 2);
  assert.equal(signer.isCurrent(old), true);
  now += 3_600_000;
  assert.equal(signer.isCurrent(old), false);
  assert.equal(signer.isCurrent(await sign()), true);
  await signer.close();
});
