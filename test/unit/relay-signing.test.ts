import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { makeDkimKeys } from '../../node/members/dkim-keys.ts';
import type { SignerOptions, SigningKey } from '../../node/relay/signing.ts';
import { memberKeys, poolKey, signedAt, startSigner, verifyWithMailauth } from './signing-fixtures.ts';

const signer = startSigner();
after(() => signer.close());

const prefix = Buffer.from('X-Atmos-Id: 0123456789abcdef.1\r\nX-Atmos-Member-Did: did:plc:reef\r\n');
const message = Buffer.from(
  'From: a@reef.test\r\nTo: b@example.com\r\nSubject: x\r\nDate: Fri, 20 Nov 2026 00:00:00 +0000\r\n\r\nbody\r\n',
);
const allPass = ['reef.test rsa-sha256 pass', 'reef.test ed25519-sha256 pass', 'harbor.test rsa-sha256 pass'];

async function signed(prefixes: readonly Buffer[], body: Buffer, by = signer): Promise<Buffer[]> {
  const made = await by.sign({ prefixes, body, domain: 'reef.test' });
  assert.ok(made.kind === 'signed', JSON.stringify(made));
  return made.signatures.map((lines, index) => Buffer.concat([lines, prefixes[index]!, body]));
}

async function verdicts(whole: Buffer): Promise<string[]> {
  const found = await verifyWithMailauth(whole);
  return found.map(({ domain, algorithm, result }) => `${domain} ${algorithm} ${result}`);
}

test('three signatures: the domain with RSA and Ed25519, the pool with RSA', async () => {
  const [whole] = await signed([prefix], message);
  assert.deepEqual(await verdicts(whole!), allPass);
});

test('a signature has t= and x=, and never l=', async () => {
  const made = await signer.sign({ prefixes: [prefix], body: message, domain: 'reef.test' });
  assert.ok(made.kind === 'signed');
  assert.equal(made.signedAt, signedAt);
  const lines = made.signatures[0]!.toString();
  const seconds = signedAt / 1000;
  assert.equal(lines.match(new RegExp(` t=${seconds}; x=${seconds + 345_600};`, 'g'))?.length, 3);
  assert.doesNotMatch(lines, /[ ;]l=/);
  assert.ok(lines.endsWith('\r\n'));
  for (const line of lines.split('\r\n')) assert.ok(line.length <= 78, line);
});

test('each recipient has signatures of its own over one body', async () => {
  const prefixes = Array.from({ length: 20 }, (_, n) => Buffer.from(`X-Atmos-Id: 0123456789abcdef.${n}\r\n`));
  const wholes = await signed(prefixes, message);
  assert.equal(wholes.length, 20);
  for (const whole of wholes) assert.deepEqual(await verdicts(whole), allPass);
  const foreign = Buffer.concat([
    wholes[0]!.subarray(0, wholes[0]!.indexOf('X-Atmos-Id: 0')),
    prefixes[1]!,
    message,
  ]);
  assert.ok((await verdicts(foreign)).every((verdict) => verdict.endsWith(' fail')));
});

const added = [
  'From: a@evil.test',
  'To: c@evil.test',
  'Cc: c@evil.test',
  'Subject: y',
  'Reply-To: c@evil.test',
].concat([
  'Date: Fri, 20 Nov 2026 01:00:00 +0000',
  'Message-ID: <1@evil.test>',
  'X-Atmos-Id: 1.1',
  'List-Id: x',
]);
for (const field of added.slice(0, 7)) {
  for (const place of ['above', 'below'] as const) {
    test(`another ${field.split(':')[0]} ${place} the signed ones breaks all signatures`, async () => {
      const [whole] = await signed([prefix], message);
      const end = whole!.indexOf('\r\n\r\n') + 2;
      const line = Buffer.from(`${field}\r\n`);
      const forged =
        place === 'above'
          ? Buffer.concat([line, whole!])
          : Buffer.concat([whole!.subarray(0, end), line, whole!.subarray(end)]);
      const found = await verdicts(forged);
      assert.equal(found.length, 3);
      assert.ok(
        found.every((verdict) => !verdict.endsWith(' pass')),
        found.join(),
      );
    });
  }
}

for (const name of ['List-Unsubscribe', 'List-Unsubscribe-Post', 'Feedback-ID', 'VBR-Info'].concat([
  'X-Atmos-Member-Did',
  'X-Atmos-Id',
  'Auto-Submitted',
])) {
  test(`${name} is signed`, async () => {
    const [whole] = await signed([Buffer.from(`${name}: one\r\n`)], message);
    const changed = Buffer.from(whole!.toString('latin1').replace(`${name}: one`, `${name}: two`), 'latin1');
    assert.ok((await verdicts(changed)).every((verdict) => verdict.endsWith(' fail')));
  });
}

const [ed25519, rsa] = ['ed25519', 'rsa'].map((name) =>
  memberKeys.filter(({ algorithm }) => algorithm === name),
);
const broken: [name: string, options: Partial<SignerOptions>][] = [
  ['no key', { memberKeys: () => [] }],
  ['no RSA key', { memberKeys: () => ed25519! }],
  ['no Ed25519 key', { memberKeys: () => rsa! }],
  ['a key that is none', { memberKeys: () => [...rsa!, { ...ed25519![0]!, privateKey: 'nonsense' }] }],
  ['a key of the other kind', { memberKeys: () => [...rsa!, { ...rsa![0]!, algorithm: 'ed25519' }] }],
  [
    'a selector that would break out',
    { memberKeys: () => [...rsa!, { ...ed25519![0]!, selector: 'a; d=evil.test' }] },
  ],
];
for (const [name, options] of broken) {
  test(`with ${name} nothing is signed`, async () => {
    const made = await startSigner(options).sign({ prefixes: [prefix], body: message, domain: 'reef.test' });
    assert.ok(made.kind === 'failed');
    assert.doesNotMatch(made.reason, /PRIVATE KEY|nonsense/);
  });
}

test('a pool key that cannot sign stops the start, and a later one stops the signing', async () => {
  assert.throws(() => startSigner({ poolKey: { ...poolKey, privateKey: '' } }), /pool/);
  let key = poolKey;
  const rotating = startSigner({ poolKey: () => key });
  key = { ...poolKey, selector: 'a; d=evil.test' };
  assert.equal(
    (await rotating.sign({ prefixes: [prefix], body: message, domain: 'reef.test' })).kind,
    'failed',
  );
});

for (const [what, text] of [
  ['without From', 'Subject: x\r\n\r\n'],
  ['with two From', 'From: a@reef.test\r\nFrom: b@reef.test\r\n\r\n'],
  ['without a header', '\r\nFrom: a@reef.test\r\n'],
]) {
  test(`a message ${what} is not signed`, async () => {
    const made = await signer.sign({ prefixes: [prefix], body: Buffer.from(text!), domain: 'reef.test' });
    assert.equal(made.kind, 'failed');
  });
}

test('a changed key signs from the next message on, and keys are read only when their version changes', async () => {
  let reads = 0;
  let version = '1';
  let keys = memberKeys;
  const read = () => {
    reads += 1;
    return keys;
  };
  const rotating = startSigner({ memberKeys: read, memberKeysVersion: () => version });
  const sign = () => signed([prefix], message, rotating);
  await sign();
  await sign();
  assert.equal(reads, 1);
  keys = (await makeDkimKeys('next')).map((key) => ({ ...key, domain: 'reef.test' }));
  version = '2';
  const [whole] = await sign();
  assert.match(whole!.toString('latin1'), / s=nextr;/);
  assert.equal(reads, 2);
  await rotating.close();
});

test('without a version a changed key is seen all the same', async () => {
  let keys = memberKeys;
  const rotating = startSigner({ memberKeys: () => keys });
  await signed([prefix], message, rotating);
  keys = (await makeDkimKeys('next')).map((key) => ({ ...key, domain: 'reef.test' }));
  const [whole] = await signed([prefix], message, rotating);
  assert.match(whole!.toString('latin1'), / s=nexte;/);
  await rotating.close();
});

test('signatures are current for 24 h, while all their keys are published', async () => {
  let now = signedAt;
  let gone = '';
  const o = {
    isPublished: (domain: string, selector: string) => domain === 'reef.test' && selector !== gone,
  };
  const judge = startSigner({ ...o, now: () => now });
  const made = await judge.sign({ prefixes: [prefix], body: message, domain: 'reef.test' });
  assert.ok(made.kind === 'signed');
  const is = { signatures: made.signatures[0]!, signedAt: made.signedAt, domain: 'reef.test' };
  assert.equal(judge.isCurrent(is), true);
  gone = 'se';
  assert.equal(judge.isCurrent(is), false);
  gone = '';
  now += 24 * 3_600_000 - 1;
  assert.equal(judge.isCurrent(is), true);
  now += 1;
  assert.equal(judge.isCurrent(is), false);
  now = signedAt - 3_600_000;
  assert.equal(judge.isCurrent(is), false, 'made by a clock that went wrong');
  assert.equal(judge.isCurrent({ ...is, signedAt: now, signatures: Buffer.alloc(0) }), false);
  await judge.close();
});

test('signatures that live for less than two days are made again at half of it', async () => {
  let now = signedAt;
  const hour = 3_600_000;
  const judge = startSigner({ now: () => now, expireMs: 6 * hour });
  const signatures = await judge.signForPool(message);
  const is = { signatures, signedAt, domain: 'reef.test' };
  now += 3 * hour - 1;
  assert.equal(judge.isCurrent(is), true);
  now += 1;
  assert.equal(judge.isCurrent(is), false);
  await judge.close();
});

test('signatures of a retired pool key are not current', async () => {
  let key: SigningKey = poolKey;
  const judge = startSigner({ poolKey: () => key });
  const signatures = await judge.signForPool(message);
  assert.equal(judge.isCurrent({ signatures, signedAt, domain: 'reef.test' }), true);
  key = { ...poolKey, selector: 'pool2' };
  assert.equal(judge.isCurrent({ signatures, signedAt, domain: 'reef.test' }), false);
  await judge.close();
});

test('our own mail is signed by the pool alone, or not sent', async () => {
  const lines = await signer.signForPool(message);
  assert.deepEqual(await verdicts(Buffer.concat([lines, message])), ['harbor.test rsa-sha256 pass']);
  await assert.rejects(signer.signForPool(Buffer.from('Subject: x\r\n\r\n')), /could not be signed/);
});

test('a long body is hashed in pieces, with any line across their borders', async () => {
  const line = 'A  long\tline \r\n\r\n'.repeat(3);
  const texts = [
    line.repeat(40_000),
    'x'.repeat(900_000),
    `${' '.repeat(300_000)}\r\n${'\r\n'.repeat(300_000)}`,
    'x \t'.repeat(400_000),
  ];
  for (const text of texts) {
    const body = Buffer.concat([message, Buffer.from(text)]);
    const prefixes = Array.from({ length: 9 }, (_, n) =>
      Buffer.from(`X-Atmos-Id: 0123456789abcdef.${n}\r\n`),
    );
    const wholes = await signed(prefixes, body);
    for (const whole of [wholes[0]!, wholes[8]!]) assert.deepEqual(await verdicts(whole), allPass);
  }
});

test('a header too long to sign is a failure', async () => {
  const body = Buffer.from(`From: a@reef.test\r\nX: ${'x'.repeat(600_000)}\r\n\r\n`);
  assert.equal((await signer.sign({ prefixes: [prefix], body, domain: 'reef.test' })).kind, 'failed');
});

test('many messages at once are each signed, over two threads', async () => {
  const two = startSigner({ threads: 2 });
  const wholes = await Promise.all(
    Array.from({ length: 60 }, async (_, n) => {
      const body = Buffer.concat([message, Buffer.from(`number ${n}\r\n`.repeat(n * 50))]);
      return (await signed([prefix], body, two))[0]!;
    }),
  );
  for (const whole of wholes) assert.deepEqual(await verdicts(whole), allPass);
  await two.close();
});

test('a stop ends what was asked for, and takes no more', async () => {
  const closing = startSigner();
  const jobs = Array.from({ length: 20 }, () =>
    closing.sign({ prefixes: [prefix], body: message, domain: 'reef.test' }),
  );
  await closing.close();
  for (const made of await Promise.all(jobs)) assert.equal(made.kind, 'signed');
  const late = await closing.sign({ prefixes: [prefix], body: message, domain: 'reef.test' });
  assert.equal(late.kind, 'failed');
});
