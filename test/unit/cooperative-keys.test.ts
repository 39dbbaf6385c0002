/** Keys, their files, and what is derived from them. */
import assert from 'node:assert/strict';
import { createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Secp256k1Keypair } from '@atproto/crypto';
import { CorruptState } from '../../appview/database.ts';
import { selfSignedCertificate } from '../../node/cooperative/certificate.ts';
import { poolDkimRecord } from '../../node/cooperative/dns-records.ts';
import { ensureKeys, readKeys } from '../../node/cooperative/keys.ts';
import { judgeDkim } from '../../node/labeler/dkim-record.ts';

const root = mkdtempSync(join(tmpdir(), 'atmos-keys-'));
after(() => rmSync(root, { recursive: true, force: true }));
const folder = () => join(mkdtempSync(join(root, 'k-')), 'keys');
const names = ['label.key', 'pool-dkim.pem', 'seal.key', 'verp.key'];
const contents = (dir: string) => names.map((name) => readFileSync(join(dir, name), 'utf8'));

test('the first call makes every key, readable by their owner alone', async () => {
  const dir = folder();
  const keys = await ensureKeys(dir);
  assert.deepEqual(readdirSync(dir).sort(), names);
  assert.equal(statSync(dir).mode & 0o777, 0o700);
  for (const name of names) assert.equal(statSync(join(dir, name)).mode & 0o777, 0o600, name);
  assert.match(keys.label.did(), /^did:key:zQ3s/);
  assert.equal(keys.seal.length, 32);
  assert.equal(keys.verp.length, 32);
  assert.notDeepEqual(keys.seal, keys.verp);
  assert.equal(createPrivateKey(keys.pool.privateKey).asymmetricKeyDetails?.modulusLength, 2048);
});

test('a second call changes nothing, and only what is missing is made', async () => {
  const dir = folder();
  const first = await ensureKeys(dir);
  const before = contents(dir);
  assert.equal((await ensureKeys(dir)).label.did(), first.label.did());
  assert.deepEqual(contents(dir), before);
  rmSync(join(dir, 'verp.key'));
  await ensureKeys(dir);
  assert.deepEqual(contents(dir).slice(0, 3), before.slice(0, 3));
  assert.notEqual(contents(dir)[3], before[3]);
});

test('two programs that start at once end with the same keys', async () => {
  const dir = folder();
  const both = await Promise.all([ensureKeys(dir), ensureKeys(dir)]);
  assert.equal(both[0].label.did(), both[1].label.did());
  assert.deepEqual(both[0].seal, both[1].seal);
  assert.equal(both[0].pool.privateKey, both[1].pool.privateKey);
  assert.deepEqual(readdirSync(dir).sort(), names);
});

test('a hex key of another labeler keeps its did:key', async () => {
  const dir = folder();
  await ensureKeys(dir);
  const keypair = await Secp256k1Keypair.create({ exportable: true });
  const hex = Buffer.from(await keypair.export()).toString('hex');
  writeFileSync(join(dir, 'label.key'), hex.toUpperCase());
  assert.equal((await readKeys(dir)).label.did(), keypair.did());
});

const damages: [claim: string, (dir: string) => void, says: RegExp][] = [
  ['a missing key', (dir) => rmSync(join(dir, 'seal.key')), /seal\.key is missing/],
  ['a key that others may read', (dir) => chmodSync(join(dir, 'label.key'), 0o644), /chmod 600/],
  [
    'a truncated key',
    (dir) => writeFileSync(join(dir, 'verp.key'), 'ab12'),
    /verp\.key does not hold 32 bytes/,
  ],
  [
    'a number that is no key',
    (dir) => writeFileSync(join(dir, 'label.key'), '00'.repeat(32)),
    /label\.key is not/,
  ],
  [
    'a PEM that is none',
    (dir) => writeFileSync(join(dir, 'pool-dkim.pem'), 'secret!'),
    /pool-dkim\.pem is not/,
  ],
];
for (const [claim, damage, says] of damages) {
  test(`${claim} stops us, by its name and without its content`, async () => {
    const dir = folder();
    await ensureKeys(dir);
    damage(dir);
    await assert.rejects(readKeys(dir), (error: Error) => {
      assert.ok(error instanceof CorruptState);
      assert.match(error.message, says);
      assert.doesNotMatch(error.message, /secret|ab12/);
      return true;
    });
  });
}

test("the pool's DNS record names the key that signs, and passes our own check", async () => {
  const keys = await ensureKeys(folder());
  const record = poolDkimRecord('harbor.test', keys.pool);
  assert.equal(record.name, 'pool._domainkey.harbor.test');
  assert.equal(judgeDkim([record.value], 'pool').verdict, 'passed');
  const published = Buffer.from(/p=(.+)$/.exec(record.value)![1]!, 'base64');
  const own = createPublicKey(keys.pool.privateKey).export({ type: 'spki', format: 'der' });
  assert.deepEqual(published, own);
});

test('a self-signed certificate is for its names, is kept, and is made anew near its end', async () => {
  const dir = folder();
  const clock = { now: Date.parse('2026-06-01T00:00:00Z') };
  const ask = (...hosts: [string, ...string[]]) =>
    selfSignedCertificate({ dir, names: hosts, now: () => clock.now });
  const first = await ask('mx.harbor.test', 'localhost');
  const certificate = new X509Certificate(first.cert);
  assert.equal(certificate.checkHost('mx.harbor.test'), 'mx.harbor.test');
  assert.equal(certificate.checkHost('localhost'), 'localhost');
  assert.ok(certificate.checkPrivateKey(createPrivateKey(first.key)));
  assert.equal(statSync(join(dir, 'tls-self-signed.pem')).mode & 0o777, 0o600);

  assert.deepEqual(await ask('mx.harbor.test', 'localhost'), first);
  assert.notDeepEqual(await ask('other.harbor.test'), first);
  const second = await ask('other.harbor.test');
  clock.now += 340 * 86_400_000;
  const third = await ask('other.harbor.test');
  assert.notDeepEqual(third, second);
  assert.ok(Date.parse(new X509Certificate(third.cert).validTo) > clock.now + 300 * 86_400_000);
});
