/** Mail is handed in by swaks and its signatures are verified by dkimpy: neither is ours. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, test } from 'node:test';
import { promisify } from 'node:util';
import { verifyWithDkimpy } from '../dkimpy.ts';
import { openWorld, orchard, poolDomain, reef } from '../integration/submission-world.ts';
import { needs } from '../peers.ts';

const run = promisify(execFile);
const world = await openWorld();
after(() => world.close());

function verify(message: Buffer): Promise<string[]> {
  const records = world.members.domainsOf(reef).flatMap(({ name }) => world.members.dnsRecords(name));
  const dns = Object.fromEntries(records.map(({ name, value }) => [name, value]));
  dns[`pool._domainkey.${poolDomain}`] = world.keys.pool.dnsRecord;
  return verifyWithDkimpy(message, dns);
}

function swaks(...more: string[]) {
  const common = ['--server', '127.0.0.1', '--from', 'a@reef.test', '--to', 'b@dest.test', '--timeout', '10'];
  return run('swaks', [...common, ...more]).then(
    ({ stdout }) => ({ code: 0, stdout }),
    ({ code, stdout }: { code: number; stdout: string }) => ({ code, stdout }),
  );
}

const good = (domain: string): string[] => [
  `${poolDomain} rsa-sha256 True`,
  `${domain} ed25519-sha256 True`,
  `${domain} rsa-sha256 True`,
];

const ways: [name: string, options: string[]][] = [
  ['STARTTLS and PLAIN', ['--tls', '--auth', 'PLAIN', '--port', String(world.starttls.port)]],
  ['STARTTLS and LOGIN', ['--tls', '--auth', 'LOGIN', '--port', String(world.starttls.port)]],
  ['implicit TLS', ['--tls-on-connect', '--auth', 'PLAIN', '--port', String(world.implicit.port)]],
];
for (const [name, options] of ways) {
  test(`swaks sends by ${name}, and all three signatures verify`, {
    skip: needs('swaks', 'python3-dkim'),
  }, async () => {
    const { code, stdout } = await swaks(...options, '--auth-user', reef, '--auth-password', world.reefKey);
    assert.equal(code, 0, stdout);
    const queueId = /250 2\.0\.0 queued as (\S+)/.exec(stdout)![1];
    const [claim] = (await world.accepted()).filter((one) => one.queueId === queueId);
    assert.deepEqual(await verify(claim!.message), good('reef.test').sort());
  });
}

test('swaks with a wrong key, or another account, is 535', { skip: needs('swaks') }, async () => {
  const tls = ['--tls', '--auth', 'PLAIN', '--port', String(world.starttls.port)];
  for (const [user, key] of [
    [reef, 'wrong'],
    [orchard, world.reefKey],
  ] as const) {
    const { code, stdout } = await swaks(...tls, '--auth-user', user, '--auth-password', key);
    assert.equal(code, 28, 'swaks calls it an authentication error');
    assert.match(stdout, /535 5\.7\.8 Authentication failed/);
  }
});

test('a foreign From is refused by both commands', { skip: needs('swaks') }, async () => {
  const auth = ['--tls', '--auth', 'PLAIN', '--auth-user', reef, '--auth-password', world.reefKey];
  const port = ['--port', String(world.starttls.port)];
  const envelope = await swaks(...auth, ...port, '--from', 'x@orchard.test');
  assert.match(envelope.stdout, /<~\* 550 5\.1\.0 .*orchard\.test/);
  const header = await swaks(...auth, ...port, '--h-From', 'x@orchard.test');
  assert.match(header.stdout, /<~\* 550 5\.1\.0 .*orchard\.test/);
});

const bodies: [name: string, message: string][] = [
  ['no body', 'From: a@news.reef.test\r\n'],
  ['an empty body', 'From: a@news.reef.test\r\n\r\n'],
  ['empty lines at the end', 'From: a@news.reef.test\r\n\r\na\r\n\r\n\r\n'],
  [
    'blanks that relaxed canonicalisation folds',
    'From:   a@news.reef.test  \r\nSubject:\r\n\tfolded \t value\r\n\r\na  b \t\r\n \r\n',
  ],
  ['8-bit octets', 'From: a@news.reef.test\r\n\r\n\xe9\xff\r\n'],
  [
    'a signature of its own',
    'DKIM-Signature: v=1; a=rsa-sha256; d=else.test; s=x; h=from; bh=; b=\r\nFrom: a@news.reef.test\r\n\r\nb\r\n',
  ],
];
for (const [name, text] of bodies) {
  test(`the signatures of a message with ${name} verify`, { skip: needs('python3-dkim') }, async () => {
    const taken = await world.intake.take({
      principal: { did: reef, keyId: 'x', defaultCategory: null },
      ...{ via: 'smtp', protocol: 'ESMTPSA', mailFrom: 'a@reef.test', smtpUtf8: false },
      recipients: [{ address: 'b@dest.test' }],
      bytes: Buffer.from(text, 'latin1'),
    });
    assert.equal(taken.kind, 'accepted');
    const queueId = taken.kind === 'accepted' && taken.queueId;
    const [claim] = (await world.accepted()).filter((one) => one.queueId === queueId);
    const verdicts = (await verify(claim!.message)).filter((line) => !line.startsWith('else.test'));
    assert.deepEqual(
      verdicts.filter((line) => line.endsWith(' True')),
      good('news.reef.test').sort(),
    );
  });
}

test('a changed octet in what is signed breaks every signature', {
  skip: needs('python3-dkim'),
}, async () => {
  await world.send({ from: 'a@reef.test', to: 'b@dest.test', subject: 'unchanged', text: 'unchanged' });
  const { message } = (await world.accepted()).find((one) => one.message.includes('unchanged'))!;
  for (const [from, to] of [
    ['\r\n\r\nunchanged', '\r\n\r\nXnchanged'],
    ['Subject: unchanged', 'Subject: Xnchanged'],
    ['From: a@reef.test', 'From: x@reef.test'],
    ['X-Atmos-Member-Did: did:plc:reef', 'X-Atmos-Member-Did: did:plc:xxxx'],
    ['Feedback-ID: reef.test', 'Feedback-ID: xxxx.test'],
  ] as const) {
    const changed = Buffer.from(message.toString('latin1').replace(from, to), 'latin1');
    assert.ok(!changed.equals(message), from);
    for (const verdict of await verify(changed)) assert.doesNotMatch(verdict, /True$/, `${from}: ${verdict}`);
  }
});
