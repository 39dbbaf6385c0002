/**
 * A labeler with 100,000 verified domains at work, two minutes of its day in each second. Its databases are made by
 * SQL, DNS answers from a function. Prints one line of JSON when it has looked at 800 of them.
 *
 *   node labeler-memory-child.ts FOLDER
 */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { Secp256k1Keypair } from '@atproto/crypto';
import { pino } from 'pino';
import { openDatabase } from '../../appview/database.ts';
import { Attestations } from '../../appview/firehose/attestations.ts';
import { appviewMigrations } from '../../appview/migrations.ts';
import { EventStore } from '../../node/enforcement/event-store.ts';
import { domainChecks } from '../../node/labeler/checks.ts';
import { DnsMemory } from '../../node/labeler/dns-memory.ts';
import { IssuedLabels } from '../../node/labeler/issued-labels.ts';
import { Labeler } from '../../node/labeler/labeler.ts';
import { LabelerSchedule } from '../../node/labeler/schedule.ts';
import { Verifications } from '../../node/labeler/verifications.ts';
import { Members } from '../../node/members/members.ts';
import { Seal } from '../../node/members/seal.ts';
import { nodeMigrations } from '../../node/migrations.ts';
import type { Answer, Resolver } from '../../node/resolver.ts';
import { dkimRecord } from '../unit/labeler-fixtures.ts';

const domains = 100_000;
const looks = 800;
const speed = 120;
const day = 86_400_000;
const cid = 'bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua';

const folder = process.argv[2]!;
const began = Date.now();
const now = () => began + (Date.now() - began) * speed;
const log = pino({ level: 'silent' });
const db = openDatabase(join(folder, 'node.db'), nodeMigrations, { synchronous: 'NORMAL' });
const appviewDb = openDatabase(join(folder, 'appview.db'), appviewMigrations, { synchronous: 'NORMAL' });

const each = (values: string) => `
  WITH RECURSIVE number (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM number WHERE i + 1 < ${domains})
  SELECT ${values} FROM number`;
const [did, name] = [`'did:plc:' || i`, `'d' || i || '.test'`];
db.exec(`INSERT INTO member (did, enrolled_at) ${each(`${did}, ${began}`)}`);
db.exec(`INSERT INTO domain (name, did, enrolled_at) ${each(`${name}, ${did}, ${began}`)}`);
db.exec(
  `UPDATE verification SET verdict = 'passed', cid = '${cid}', next_at = ${began} + CAST(substr(did, 9) AS INTEGER) * ${day / domains}`,
);
const record = `{"$type":"email.atmos.attestation","domain":"x","dkimSelectors":["s1"],"createdAt":"2026-01-01T00:00:00.000Z"}`;
appviewDb.exec(`INSERT INTO account (did, status, rev) ${each(`${did}, 'active', '3k2'`)}`);
appviewDb.exec(
  `INSERT INTO attestation (did, rkey, uri, cid, rev, record, indexed_at) ${each(
    `${did}, ${name}, 'at://' || ${did} || '/email.atmos.attestation/' || ${name}, '${cid}', '3k2', '${record}', ${began}`,
  )}`,
);

let asked = 0;
/** A world in which every domain is right and includes one provider's SPF. */
function answer<T>(records: T[]): Promise<Answer<T>> {
  asked += 1;
  return Promise.resolve({ kind: 'found', records, ttlSeconds: 300, server: '127.0.0.1:53' });
}
function txtOf(question: string): string {
  const [first, second] = question.split('.');
  if (first === '_atproto') return `did=did:plc:${second!.slice(1)}`;
  if (first === '_dmarc') return 'v=DMARC1; p=reject';
  if (first === 's1') return dkimRecord;
  return question.endsWith('.net')
    ? 'v=spf1 ip4:198.51.100.0/24 -all'
    : 'v=spf1 include:spf.provider.net -all';
}
const resolver: Resolver = {
  txt: (question) => answer([txtOf(question)]),
  mx: () => answer([{ preference: 10, exchange: 'mx.provider.net' }]),
  a: () => answer(['198.51.100.1']),
  aaaa: () => answer(['2001:db8::1']),
};

const count = () => undefined;
const store = new EventStore({ db, now });
const attestations = new Attestations({ db: appviewDb, log, count, now });
const verifications = new Verifications(db);
const control = { identities: { resolve: async (of: string) => ({ did: of }) } };
let done = 0;
const finished = Promise.withResolvers<void>();
const labeler = new Labeler({
  issued: new IssuedLabels({ db, did: 'did:web:harbor.test', key: await Secp256k1Keypair.create(), now }),
  members: new Members({
    ...{ db, seal: new Seal(randomBytes(32)), poolDomain: 'harbor.test', mailHost: 'mx.harbor.test', now },
  }),
  ...{ verifications, attestations, log, count, now },
  check: domainChecks({ resolver, memory: new DnsMemory(resolver, now), control, now }),
  record: (events, change = () => undefined) => void store.record(0, [events].flat(), change),
  ...{ reverifyIntervalMs: day, retryUnverifiedMs: 300_000 },
});
const counted = {
  reconcile: (of: string) => labeler.reconcile(of),
  verify: async (...args: Parameters<Labeler['verify']>) => {
    await labeler.verify(...args);
    done += 1;
    if (done === looks) finished.resolve();
  },
};
const schedule = new LabelerSchedule({ labeler: counted, verifications, attestations, now, log, pollMs: 10 });
schedule.start();
await finished.promise;
const { rss } = process.memoryUsage();
const { maxRSS } = process.resourceUsage();
await schedule.stop();
const { verdicts } = db
  .prepare(
    "SELECT count(*) AS verdicts FROM verification WHERE verdict = 'passed' AND checked_at IS NOT NULL",
  )
  .get() as { verdicts: number };
db.close();
appviewDb.close();
console.log(JSON.stringify({ rss, maxRss: maxRSS * 1_024, asked, verdicts, ms: Date.now() - began }));
