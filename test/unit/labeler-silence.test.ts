/** DNS that falls silent or changes, over a real node.db: labels, rows and events. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Secp256k1Keypair } from '@atproto/crypto';
import { pino } from 'pino';
import { openDatabase } from '../../appview/database.ts';
import { EventStore, type OwnEvent } from '../../node/enforcement/event-store.ts';
import { domainChecks } from '../../node/labeler/checks.ts';
import { IssuedLabels } from '../../node/labeler/issued-labels.ts';
import { Labeler } from '../../node/labeler/labeler.ts';
import { reportOf } from '../../node/labeler/report.ts';
import { Verifications } from '../../node/labeler/verifications.ts';
import { Members } from '../../node/members/members.ts';
import { Seal } from '../../node/members/seal.ts';
import { nodeMigrations } from '../../node/migrations.ts';
import { AttestedWorld, goodDns, tableResolver } from './labeler-fixtures.ts';

const did = 'did:plc:reef';
const domain = 'reef.test';
const hour = 3_600_000;
const start = Date.parse('2026-11-20T12:00:00Z');
const otherKey = `v=DKIM1; k=ed25519; p=${Buffer.alloc(32, 9).toString('base64')}`;

/** An enrolled member whose domain passed; look() is what the schedule does when the domain is due. */
async function makeWorld() {
  const db = openDatabase(':memory:', nodeMigrations, { synchronous: 'NORMAL' });
  const clock = { now: start };
  const now = () => clock.now;
  const dns = goodDns(domain, did);
  const seal = new Seal(randomBytes(32));
  const members = new Members({ db, seal, poolDomain: 'harbor.test', mailHost: 'mx.harbor.test', now });
  const issued = new IssuedLabels({
    db,
    did: 'did:web:harbor.test',
    key: await Secp256k1Keypair.create(),
    now,
  });
  const verifications = new Verifications(db);
  const attestations = new AttestedWorld(now);
  const store = new EventStore({ db, now });
  const labeler = new Labeler({
    ...{ issued, verifications, members, attestations: attestations.index, now },
    check: domainChecks({
      resolver: tableResolver(dns),
      control: { identities: { resolve: async () => ({ did }) } },
      now,
    }),
    ...{ reverifyIntervalMs: 24 * hour, retryUnverifiedMs: 300_000, transientGraceMs: 72 * hour },
    record: (events, change = () => undefined) => void store.record(0, [events].flat(), change),
    log: pino({ level: 'silent' }),
    count: () => undefined,
  });
  await members.enrol({ did, domains: [domain], relay: false });
  attestations.put(did, domain, 'cid1');
  const look = async (atMs?: number) => {
    if (atMs !== undefined) clock.now = atMs;
    verifications.makeDue({ did, domain });
    const [claim] = verifications.claim(clock.now, 1_000, 1);
    await labeler.verify(claim!, new AbortController().signal);
    return verifications.get({ did, domain })!;
  };
  const events = () =>
    (db.prepare('SELECT type, did, domain, detail FROM event ORDER BY id').all() as { detail: string }[]).map(
      ({ detail, ...event }) => ({ ...event, detail: JSON.parse(detail) }) as unknown as OwnEvent,
    );
  const silence = () => {
    for (const name of Object.keys(dns)) dns[name] = 'fail';
  };
  assert.equal((await look()).verdict, 'passed');
  return { db, clock, dns, issued, verifications, attestations, labeler, look, events, silence };
}

test('labels stand through a silence of DNS as long as the grace, and go at its end for that reason', async () => {
  const { issued, look, silence } = await makeWorld();
  silence();
  const since = start + 24 * hour;
  await look(since);
  const last = await look(since + 71 * hour + 3_599_000);
  assert.equal(last.verdict, 'passed');
  assert.match(last.note!, /did not answer since 2026-11-21T12:00:00\.000Z; the verdict of before stands/);
  assert.equal(last.nextAt, since + 72 * hour, 'looked at again when the grace ends');
  assert.equal(issued.inForce(did).length, 2);

  const over = await look(since + 72 * hour);
  assert.deepEqual(
    [over.verdict, over.note],
    ['failed', 'DNS did not answer since 2026-11-21T12:00:00.000Z'],
  );
  assert.deepEqual(issued.inForce(did), []);
});

test('an answer within the grace ends it; the next silence has its own', async () => {
  const { dns, issued, look, silence } = await makeWorld();
  const good = { ...dns };
  silence();
  await look(start + 24 * hour);
  Object.assign(dns, good);
  assert.deepEqual((await look(start + 90 * hour)).note, null);
  silence();
  await look(start + 95 * hour);
  assert.equal((await look(start + 150 * hour)).verdict, 'passed');
  assert.equal(issued.inForce(did).length, 2);
});

test('a new version that nobody answers for keeps no old label for ever', async () => {
  const { attestations, issued, look, silence } = await makeWorld();
  silence();
  attestations.put(did, domain, 'cid2');
  assert.equal((await look(start + hour)).verdict, 'undecided');
  assert.equal(issued.inForce(did).length, 2);
  assert.equal((await look(start + 73 * hour)).verdict, 'failed');
  assert.deepEqual(issued.inForce(did), []);
});

test('a domain that stays silent is asked after a minute, then ever more rarely', async () => {
  const { clock, verifications, labeler, look, silence } = await makeWorld();
  silence();
  const waits: number[] = [(await look(start + hour)).nextAt - clock.now];
  for (let n = 0; n < 12; n++) {
    clock.now = verifications.get({ did, domain })!.nextAt;
    const [claim] = verifications.claim(clock.now, 1_000, 1);
    await labeler.verify(claim!, new AbortController().signal);
    waits.push(verifications.get({ did, domain })!.nextAt - clock.now);
  }
  assert.equal(waits[0], 60_000);
  assert.ok(
    waits.every((wait, i) => i === 0 || wait > waits[i - 1]! * 1.2),
    waits.join(' '),
  );
  assert.ok(waits.at(-1)! > hour);
});

test('a DKIM key that changes under the same attestation is an event with both fingerprints', async () => {
  const { dns, look, events } = await makeWorld();
  assert.deepEqual(events(), []);
  dns[`TXT s1._domainkey.${domain}`] = [otherKey];
  dns[`MX ${domain}`] = ['10 mx.elsewhere.test'];
  const before = await look(start + 24 * hour);
  const [event, ...others] = events();
  assert.deepEqual(others, []);
  assert.deepEqual(
    { ...event, detail: { ...event!.detail, keys: undefined } },
    {
      ...{ type: 'dns_changed', did, domain },
      detail: {
        cid: 'cid1',
        keys: undefined,
        records: [{ name: 'MX', old: '10 mx.reef.test', new: '10 mx.elsewhere.test' }],
      },
    },
  );
  const [key] = event!.detail.keys as { name: string; old: string; new: string }[];
  assert.equal(key!.name, 's1');
  assert.match(`${key!.old} ${key!.new}`, /^sha256:[0-9a-f]{64} sha256:[0-9a-f]{64}$/);
  assert.notEqual(key!.old, key!.new);
  assert.equal(before.verdict, 'passed', 'it is told, not judged');
  await look(start + 48 * hour);
  assert.equal(events().length, 1, 'once');
});

test('a key that a new version of the record comes with is declared', async () => {
  const { dns, attestations, look, events } = await makeWorld();
  dns[`TXT s1._domainkey.${domain}`] = [otherKey];
  attestations.put(did, domain, 'cid2');
  await look(start + hour);
  assert.deepEqual(events(), []);
});

test('a look whose claim is void tells nobody of a change', async () => {
  const { clock, dns, verifications, labeler, events } = await makeWorld();
  dns[`MX ${domain}`] = ['10 mx.elsewhere.test'];
  verifications.makeDue({ did, domain });
  const [claim] = verifications.claim(clock.now, 1_000, 1);
  const looking = labeler.verify(claim!, new AbortController().signal);
  verifications.makeDue({ did, domain });
  await looking;
  assert.deepEqual(events(), []);
  assert.equal(verifications.get({ did, domain })!.seen.records!.MX, '10 mx.reef.test');
});

test('whoever asks for a look has changed something: patience starts anew', async () => {
  const { dns, clock, look, verifications } = await makeWorld();
  dns[`MX ${domain}`] = [];
  for (let n = 0; n < 3; n++) assert.equal((await look()).nextAt - clock.now, 300_000);
  assert.equal(verifications.get({ did, domain })!.tries, 1);
});

test('whoever reads the row is told of the silence, of each check, and on demand of each question', async () => {
  const { dns, look, silence } = await makeWorld();
  dns[`TXT _dmarc.${domain}`] = ['v=DMARC1; p=reject; pct=50'];
  const [first, ...lines] = reportOf(await look(start + hour), true);
  assert.equal(
    first,
    'reef.test: passed (decided 2026-11-20T13:00:00.000Z), looked at 2026-11-20T13:00:00.000Z',
  );
  assert.equal(lines[0], '  control  passed     the TXT record names the DID');
  assert.ok(lines.some((line) => line.includes('note: DMARC pct=50')));
  assert.ok(
    lines.includes(
      '           2026-11-20T13:00:00.000Z MX reef.test of 127.0.0.1:53: found "10 mx.reef.test"',
    ),
  );
  silence();
  const silent = reportOf(await look(start + 2 * hour), false);
  assert.match(silent[1]!, /^ {2}DNS did not answer since .*; the verdict of before stands/);
  assert.equal(silent.length, 2 + 5);
});

test('what strangers wrote cannot steer the terminal that shows it', async () => {
  const { dns, look } = await makeWorld();
  dns[`TXT ${domain}`] = ['v=spf1 \u001b[2J\u202e +all'];
  const report = reportOf(await look(), true).join('\n');
  assert.doesNotMatch(report.replaceAll('\n', ''), /\p{C}/u);
});

test('a row from before there were silences is read as one without', () => {
  const folder = mkdtempSync(join(tmpdir(), 'atmos-labeler-old-'));
  const file = join(folder, 'node.db');
  const old = openDatabase(
    file,
    nodeMigrations.filter(({ number }) => number <= 8),
    { synchronous: 'NORMAL' },
  );
  old.exec(
    `INSERT INTO verification (did, domain, verdict, cid, checked_at, next_at) VALUES ('${did}', '${domain}', 'passed', 'cid1', 5, 7)`,
  );
  old.close();
  const db = openDatabase(file, nodeMigrations, { synchronous: 'NORMAL' });
  assert.deepEqual(new Verifications(db).get({ did, domain }), {
    ...{ did, domain, verdict: 'passed', cid: 'cid1', evidence: [], checkedAt: 5, nextAt: 7 },
    ...{ decidedAt: null, undecidedSince: null, note: null, tries: 0, seen: {} },
  });
  db.close();
  rmSync(folder, { recursive: true });
});
