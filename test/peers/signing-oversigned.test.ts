/** Our signatures, and what is added to a signed message, judged by dkimpy and opendkim. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { verifyAllWithDkimpy } from '../dkimpy.ts';
import { needs } from '../peers.ts';
import { records, startSigner } from '../unit/signing-fixtures.ts';

const folder = mkdtempSync(join(tmpdir(), 'atmos-oversigned-'));
after(() => rmSync(folder, { recursive: true, force: true }));

const prefix = Buffer.from('X-Atmos-Id: 0123456789abcdef.1\r\n');
const body = Buffer.from(
  'From: Reef <a@reef.test>\r\nTo: b@example.com\r\nSubject: x\r\nDate: Fri, 20 Nov 2026 00:00:00 +0000\r\n' +
    'Message-ID: <1@reef.test>\r\n\r\n  blanks \t and\tmore \r\n\r\n.dot\r\n\r\n',
);

/** The signed message, and the same with one field more: one that stood there, or one that did not. */
const fields = [
  'From: a@evil.test',
  'To: c@evil.test',
  'Cc: c@evil.test',
  'Subject: y',
  'Reply-To: c@evil.test',
];
fields.push('Date: Fri, 20 Nov 2026 01:00:00 +0000', 'Message-ID: <2@evil.test>');

async function signed(): Promise<Buffer> {
  const signer = startSigner({ now: Date.now });
  const made = await signer.sign({ prefixes: [prefix], body, domain: 'reef.test' });
  await signer.close();
  assert.ok(made.kind === 'signed');
  return Buffer.concat([made.signatures[0]!, prefix, body]);
}

function forgeries(whole: Buffer): Buffer[] {
  const end = whole.indexOf('\r\n\r\n') + 2;
  return fields.flatMap((field) => {
    const line = Buffer.from(`${field}\r\n`);
    return [Buffer.concat([line, whole]), Buffer.concat([whole.subarray(0, end), line, whole.subarray(end)])];
  });
}

test('dkimpy passes the three signatures, and none once a field is added', {
  skip: needs('python3-dkim'),
}, async () => {
  const whole = await signed();
  const [good, ...forged] = await verifyAllWithDkimpy([whole, ...forgeries(whole)], records);
  assert.deepEqual(good, [
    'harbor.test rsa-sha256 True',
    'reef.test ed25519-sha256 True',
    'reef.test rsa-sha256 True',
  ]);
  assert.equal(forged.length, 14);
  for (const verdicts of forged) {
    assert.equal(verdicts.length, 3);
    assert.ok(
      verdicts.every((verdict) => !verdict.endsWith(' True')),
      verdicts.join(),
    );
  }
});

test('opendkim passes a message, and none to which a field is added', {
  skip: needs('opendkim'),
}, async () => {
  const whole = await signed();
  assert.equal(opendkimPasses(whole), true);
  for (const forged of forgeries(whole)) assert.equal(opendkimPasses(forged), false, forged.toString());
});

/** Its test mode judges all signatures and names one of the verdicts. */
function opendkimPasses(message: Buffer): boolean {
  const keys = Object.entries(records).map(([name, value]) => `${name} ${value}\n`);
  writeFileSync(join(folder, 'keys'), keys.join(''));
  writeFileSync(join(folder, 'conf'), `Mode v\nTestPublicKeys ${join(folder, 'keys')}\n`);
  writeFileSync(join(folder, 'message'), message);
  const command = ['-x', join(folder, 'conf'), '-t', join(folder, 'message'), '-vv'];
  const { stdout, stderr } = spawnSync('/usr/sbin/opendkim', command, { encoding: 'utf8' });
  const verdict = /verification \(.*\) (succeeded|failed)|bad signature|dkim=(\w+)/.exec(stdout + stderr);
  assert.ok(verdict, stdout + stderr);
  return verdict[1] === 'succeeded' || verdict[2] === 'pass';
}
