import assert from 'node:assert/strict';
import { createPublicKey, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { CorruptState, openDatabase } from '../../appview/database.ts';
import { normalizeDomain } from '../../node/members/domain-name.ts';
import { Members } from '../../node/members/members.ts';
import { Seal } from '../../node/members/seal.ts';
import { nodeMigrations } from '../../node/migrations.ts';

const reef = 'did:plc:reef';

function setUp(o: { now?: () => number; seal?: Seal; domainsPerMember?: number } = {}) {
  const db = openDatabase(':memory:', nodeMigrations, { synchronous: 'NORMAL' });
  const members = new Members({
    db,
    seal: o.seal ?? new Seal(randomBytes(32)),
    poolDomain: 'harbor.test',
    mailHost: 'mx.harbor.test',
    now: o.now ?? Date.now,
    bcryptCost: 4,
    ...(o.domainsPerMember !== undefined && { domainsPerMember: o.domainsPerMember }),
  });
  return { db, members };
}

test('an enrolled member owns its domains, in any spelling, and not their subdomains', async () => {
  const { members } = setUp();
  const member = await members.enrol({
    did: reef,
    handle: '@Reef.Test',
    domains: ['Reef.TEST', 'bücher.test'],
    relay: true,
  });
  assert.ok(!('kind' in member));
  assert.equal(member.handle, 'reef.test');
  assert.deepEqual(
    member.domains.map(({ name }) => name),
    ['reef.test', 'xn--bcher-kva.test'],
  );
  assert.equal(members.ownerOf('REEF.test'), reef);
  assert.equal(members.ownerOf('bücher.test'), reef);
  assert.equal(members.ownerOf('news.reef.test'), undefined);
});

test('a domain that another member has is refused, and nothing is stored', async () => {
  const { members } = setUp();
  await members.enrol({ did: reef, domains: ['reef.test'], relay: true });
  const refused = await members.enrol({
    did: 'did:plc:orchard',
    domains: ['orchard.test', 'reef.test'],
    relay: true,
  });
  assert.deepEqual(refused, { kind: 'domain-taken', domain: 'reef.test' });
  assert.equal(members.get('did:plc:orchard'), undefined);
  assert.equal(members.ownerOf('orchard.test'), undefined);
});

test('of two enrolments of one domain at the same moment one is refused', async () => {
  const { members } = setUp();
  const both = await Promise.all(
    [reef, 'did:plc:orchard'].map((did) => members.enrol({ did, domains: ['reef.test'], relay: true })),
  );
  assert.equal(both.filter((one) => 'kind' in one && one.kind === 'domain-taken').length, 1);
});

test('a member has at most the configured number of domains', async () => {
  const { members } = setUp({ domainsPerMember: 1 });
  await members.enrol({ did: reef, domains: ['reef.test'], relay: true });
  assert.deepEqual(await members.enrol({ did: reef, domains: ['news.reef.test'], relay: true }), {
    ...{ kind: 'too-many-domains', limit: 1 },
  });
});

test('enrolling again adds domains and keeps the old ones with their keys', async () => {
  const { members } = setUp();
  await members.enrol({ did: reef, handle: 'reef.test', domains: ['reef.test'], relay: true });
  const keys = members.dkimKeys('reef.test');
  const again = await members.enrol({ did: reef, domains: ['reef.test', 'news.reef.test'], relay: false });
  assert.ok(!('kind' in again));
  assert.deepEqual([again.handle, again.relay, again.domains.length], ['reef.test', false, 2]);
  assert.deepEqual(members.dkimKeys('reef.test'), keys);
});

test('what is not a DID or not a mail domain is refused', async () => {
  const { members } = setUp();
  assert.deepEqual(await members.enrol({ did: 'reef.test', domains: [], relay: true }), {
    kind: 'invalid-did',
    did: 'reef.test',
  });
  for (const domain of [
    'reef',
    '127.0.0.1',
    '0x7f.1',
    'a..test',
    '-a.test',
    'a b.test',
    'a_b.test',
    'a.test:25',
  ])
    assert.deepEqual(await members.enrol({ did: reef, domains: [domain], relay: true }), {
      kind: 'invalid-domain',
      domain,
    });
});

test('a name that a URL parser would decode or cut does not pass for another domain', () => {
  for (const name of [
    'reef%2Etest',
    'reef.test/x',
    'reef.test?x',
    'reef.test#x',
    'a@reef.test',
    'reef.test:1',
  ])
    assert.equal(normalizeDomain(name), undefined, name);
});

test('the DNS records carry the public halves of the keys that sign', async () => {
  const { members } = setUp();
  await members.enrol({ did: reef, domains: ['reef.test'], relay: true });
  const records = members.dnsRecords('reef.test');
  const value = (name: string): string => records.find((record) => record.name === name)!.value;
  const [ed25519, rsa] = members.dkimKeys('reef.test');
  const spki = createPublicKey(rsa!.privateKey).export({ type: 'spki', format: 'der' });
  const raw = createPublicKey(ed25519!.privateKey).export({ type: 'spki', format: 'der' }).subarray(-32);
  assert.equal(value('atmosr._domainkey.reef.test'), `v=DKIM1; k=rsa; p=${spki.toString('base64')}`);
  assert.equal(value('atmose._domainkey.reef.test'), `v=DKIM1; k=ed25519; p=${raw.toString('base64')}`);
  assert.equal(value('_atproto.reef.test'), `did=${reef}`);
  assert.match(value('_dmarc.reef.test'), /^v=DMARC1; p=quarantine/);
  assert.deepEqual(
    records.filter(({ name }) => name === 'reef.test').map(({ type }) => type),
    ['MX', 'TXT'],
  );
});

test('neither an API key nor a private DKIM key stands in the database', async () => {
  const { db, members } = setUp();
  await members.enrol({ did: reef, domains: ['reef.test'], relay: true });
  const { key } = await members.issueApiKey(reef, 'test');
  const everything = ['api_key', 'dkim_key', 'member', 'domain']
    .flatMap((table) => db.prepare(`SELECT * FROM ${table}`).all() as Record<string, unknown>[])
    .flatMap((row) =>
      Object.values(row).map((value) => (Buffer.isBuffer(value) ? value.toString('latin1') : value)),
    )
    .join('\n');
  assert.ok(!everything.includes(key));
  assert.ok(!everything.includes(key.slice('atmos_'.length + 17)));
  assert.ok(!everything.includes('PRIVATE KEY'));
});

test('a private key that was moved to another row does not open there', async () => {
  const { db, members } = setUp();
  await members.enrol({ did: reef, domains: ['reef.test', 'news.reef.test'], relay: true });
  db.exec(`UPDATE dkim_key SET private_key =
    (SELECT private_key FROM dkim_key WHERE domain = 'reef.test' AND algorithm = 'rsa')
    WHERE domain = 'news.reef.test' AND algorithm = 'rsa'`);
  assert.throws(() => members.dkimKeys('news.reef.test'), CorruptState);
});

test('a sealed secret opens with its key and purpose only', () => {
  const key = randomBytes(32);
  const sealed = new Seal(key).close(Buffer.from('secret'), 'a');
  assert.equal(new Seal(key).open(sealed, 'a').toString(), 'secret');
  assert.throws(() => new Seal(key).open(sealed, 'b'), CorruptState);
  assert.throws(() => new Seal(randomBytes(32)).open(sealed, 'a'), CorruptState);
  for (let bit = 0; bit < sealed.length; bit++) {
    const broken = Buffer.from(sealed);
    broken[bit]! ^= 1;
    assert.throws(() => new Seal(key).open(broken, 'a'), CorruptState);
  }
  assert.throws(() => new Seal(Buffer.alloc(16)), RangeError);
});
