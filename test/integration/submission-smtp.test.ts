import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { authPlain, Dialogue } from './smtp-dialogue.ts';
import { openWorld, orchard, reef } from './submission-world.ts';

const world = await openWorld();

const login = { user: reef, pass: world.reefKey };
/** One session for the many small cases. */
const shared = await Dialogue.ready(world.implicit, login);
after(async () => {
  shared.close();
  await world.close();
});
const queued = /^250 2\.0\.0 queued as ([0-9a-v]{16})$/;

test('a message goes in by STARTTLS and by implicit TLS, as DID and as handle', async () => {
  for (const via of ['starttls', 'implicit'] as const) {
    for (const user of [reef, 'reef.test']) {
      const transport = world.client({ user, pass: world.reefKey }, via);
      const { response } = await transport.sendMail({
        from: 'a@reef.test',
        to: 'b@dest.test',
        subject: `${via} ${user}`,
        text: 'hello',
      });
      transport.close();
      const [, queueId] = queued.exec(response)!;
      const mine = (await world.accepted()).filter((claim) => claim.queueId === queueId);
      assert.equal(mine.length, 1);
      assert.equal(mine[0]!.did, reef);
      assert.equal(mine[0]!.domain, 'reef.test');
    }
  }
});

test('AUTH LOGIN works as AUTH PLAIN does', async () => {
  const dialogue = await Dialogue.ready(world.implicit);
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  await dialogue.say('AUTH LOGIN');
  await dialogue.say(base64(reef));
  assert.match(await dialogue.say(base64(world.reefKey)), /^235 /);
  dialogue.close();
});

test('neither AUTH nor mail before TLS', async () => {
  const dialogue = await Dialogue.open(world.starttls);
  assert.doesNotMatch(await dialogue.say('EHLO client.test'), /AUTH/);
  assert.match(await dialogue.say(authPlain(login)), /^5/);
  assert.match(await dialogue.say('MAIL FROM:<a@reef.test>'), /^530 5\.7\.0 TLS is required/);
  await dialogue.startTls();
  assert.match(await dialogue.say('EHLO client.test'), /AUTH PLAIN LOGIN|AUTH LOGIN PLAIN/);
  assert.match(await dialogue.say('MAIL FROM:<a@reef.test>'), /^530 5\.7\.0 Authentication is required/);
  assert.match(await dialogue.say(authPlain(login)), /^235 /);
  assert.match(await dialogue.say('MAIL FROM:<a@reef.test>'), /^250/);
  dialogue.close();
});

test('commands sent in the clear behind STARTTLS are not run under TLS', async () => {
  const dialogue = await Dialogue.open(world.starttls);
  await dialogue.say('EHLO client.test');
  await dialogue.startTls('EHLO injected.test\r\n');
  // The first reply under TLS is to our own command, and no EHLO was heard.
  assert.match(await dialogue.say('RSET'), /^250 /);
  assert.match(await dialogue.say(authPlain(login)), /^503 /);
  dialogue.close();
});

test('a wrong login reads the same whatever is wrong, and the third one ends the session', async () => {
  const wrong = [
    { user: reef, pass: 'wrong' },
    { user: 'did:plc:nobody', pass: world.reefKey },
    { user: orchard, pass: world.reefKey },
    { user: 'did:plc:nobody', pass: 'wrong' },
    { user: reef, pass: `${world.reefKey.slice(0, -1)}_` },
  ];
  const replies = new Set<string>();
  for (const attempt of wrong) {
    const dialogue = await Dialogue.ready(world.implicit);
    replies.add(await dialogue.say(authPlain(attempt)));
    dialogue.close();
  }
  assert.deepEqual([...replies], ['535 5.7.8 Authentication failed.']);

  const dialogue = await Dialogue.ready(world.implicit);
  for (let n = 0; n < 3; n++) assert.match(await dialogue.say(authPlain(wrong[0]!)), /^535/);
  await dialogue.hungUp();
});

test('MAIL FROM must be in a domain of this member', async () => {
  const dialogue = await Dialogue.ready(world.implicit, login);
  for (const [address, reply] of [
    ['a@orchard.test', /^550 5\.1\.0 .*orchard\.test/],
    ['a@sub.reef.test', /^550 5\.1\.0 /],
    ['a@reef.test.evil.test', /^550 5\.1\.0 /],
    ['', /^550 5\.1\.0 /],
    ['a@news.reef.test', /^250/],
  ] as const) {
    assert.match(await dialogue.say(`MAIL FROM:<${address}>`), reply);
    await dialogue.say('RSET');
  }
  dialogue.close();
});

/** Reef sends these as a@reef.test; `\n` stands for CR LF. */
const refusedHeaders: [name: string, header: string, reply: RegExp][] = [
  ['a foreign From', 'From: b@orchard.test', /^550 5\.1\.0 .*orchard\.test/],
  ['a From in a subdomain', 'From: b@sub.reef.test', /^550 5\.1\.0 /],
  ['no From', 'Subject: x', /^550 5\.6\.0 /],
  ['two From headers', 'From: a@reef.test\nFrom: b@evil.test', /^550 5\.6\.0 /],
  ['two From headers, both own', 'From: a@reef.test\nfrom: a@reef.test', /^550 5\.6\.0 /],
  ['one of two From addresses foreign', 'From: a@reef.test, b@evil.test', /^550 5\.1\.0 .*evil\.test/],
  ['a foreign address behind an own display name', 'From: "a@reef.test" <b@evil.test>', /^550 5\.1\.0 /],
  ['two addresses in brackets', 'From: <a@reef.test> <b@evil.test>', /^550 5\.6\.0 /],
  ['a foreign address as display name', 'From: "ceo@evil.test" <a@reef.test>', /^550 5\.1\.0 .*evil\.test/],
  ['an unquoted address as display name', 'From: ceo@evil.test <a@reef.test>', /^550 5\.6\.0 /],
  ['a foreign address in a comment', 'From: a@reef.test (ceo@evil.test)', /^550 5\.1\.0 /],
  [
    'a foreign address in an encoded word',
    'From: =?utf-8?b?Y2VvQGV2aWwudGVzdA==?= <a@reef.test>',
    /^550 5\.1\.0 /,
  ],
  [
    'one split over encoded words',
    'From: =?utf-8?q?ceo=40ev?= =?utf-8?q?il=2Etest?= <a@reef.test>',
    /^550 5\.1\.0 /,
  ],
  ['an encoded word as address', 'From: =?utf-8?q?a=40reef.test?=@evil.test', /^550 5\.6\.0 /],
  ['an encoded word in the local part', 'From: =?utf-8?q?ceo=40evil.test?=@reef.test', /^550 5\.6\.0 /],
  [
    'a full-width @ in the display name',
    'From: =?utf-8?b?Y2Vv77ygZXZpbC50ZXN0?= <a@reef.test>',
    /^550 5\.1\.0 /,
  ],
  ['a quoted foreign address as local part', 'From: "ceo@evil.test"@reef.test', /^550 5\.6\.0 /],
  ['a group', 'From: Friends: a@reef.test;', /^550 5\.6\.0 /],
  ['a route', 'From: <@evil.test:a@reef.test>', /^550 5\.6\.0 /],
  ['a comment inside the address', 'From: a@(evil.test)reef.test', /^550 5\.6\.0 /],
  ['a foreign address on a folded line', 'From: a@reef.test,\n b@evil.test', /^550 5\.1\.0 /],
  ['a From hidden by a blank before the colon', 'From : a@reef.test', /^550 5\.6\.0 /],
  ['a blank folded line', 'From: a@reef.test\n \nFrom: b@evil.test', /^550 5\.6\.0 /],
  ['a header without a colon', 'From: a@reef.test\nnonsense', /^550 5\.6\.0 /],
  ['a continuation first', ' x\nFrom: a@reef.test', /^550 5\.6\.0 /],
  ['two subjects', 'From: a@reef.test\nSubject: a\nSubject: b', /^550 5\.6\.0 /],
  ['raw UTF-8 without SMTPUTF8', 'From: Jané <a@reef.test>', /^550 5\.6\.0 .*SMTPUTF8/],
  ['a loop', `${'Received: by x\n'.repeat(51)}From: a@reef.test`, /^550 5\.6\.0 .*loop/],
];
for (const [name, header, reply] of refusedHeaders) {
  test(`refused: ${name}`, async () => {
    const before = (await world.accepted()).length;
    assert.match(await submit(`${header}\n\nbody\n`.replaceAll('\n', '\r\n')), reply);
    assert.equal((await world.accepted()).length, before);
  });
}

const acceptedHeaders: [name: string, header: string][] = [
  ['a display name', 'From: Reef PDS <a@reef.test>'],
  ['a quoted display name with its own address', 'From: "a@reef.test" <a@reef.test>'],
  ['an encoded display name', 'From: =?utf-8?q?Jan=C3=A9?= <a@reef.test>'],
  ['an old-style comment', 'From: a@reef.test (Reef)'],
  ['two own addresses', 'From: a@reef.test, b@news.reef.test\nSender: a@reef.test'],
  ['the other own domain', 'From: a@news.reef.test'],
  ['another case', 'From: a@REEF.Test'],
  ['folding', 'From: Reef\n  <a@reef.test>'],
  ['an @ that is no address', 'From: "Reef @ Work" <a@reef.test>'],
];
for (const [name, header] of acceptedHeaders) {
  test(`accepted: ${name} in From`, async () => {
    assert.match(await submit(`${header}\n\nbody\n`.replaceAll('\n', '\r\n')), queued);
  });
}

const strays: [name: string, message: string][] = [
  ['a bare LF in the body', 'From: a@reef.test\r\n\r\na\nb\r\n'],
  ['a bare CR in the body', 'From: a@reef.test\r\n\r\na\rb\r\n'],
  ['CR CR LF', 'From: a@reef.test\r\n\r\na\r\r\nb\r\n'],
  ['a bare LF in the header', 'From: a@reef.test\nBcc: x\r\n\r\nb\r\n'],
  ['LF dot LF', 'From: a@reef.test\r\n\r\na\n.\nMAIL FROM:<x@reef.test>\r\n'],
  ['a NUL', 'From: a@reef.test\r\n\r\na\0b\r\n'],
];
for (const [name, message] of strays) {
  test(`refused: ${name}`, async () => {
    assert.match(await submit(message), /^550 5\.6\.0 /);
  });
}

test('header and body leave byte for byte; only our reserved fields are cut out', async () => {
  const kept = [
    'X-Odd:no blank',
    'SUBJECT:  two  blanks ',
    'From: a@reef.test',
    'x-folded: one\r\n\ttwo\r\n   three',
    'List-Unsubscribe: <https://reef.test/u>',
  ].join('\r\n');
  const octets = Buffer.concat([
    Buffer.from([...Array(256).keys()].filter((octet) => ![0, 10, 13].includes(octet))),
  ]);
  const body = Buffer.concat([
    Buffer.from('\r\n.leading dot\r\n..two\r\n'),
    octets,
    Buffer.from('\r\n\r\n\r\n'),
  ]);
  const cut =
    'Bcc: s@x.test\r\nReturn-Path: <x@x.test>\r\nX-Atmos-Foo: 1\r\n 2\r\nfeedback-id: a:b\r\nVBR-Info: md=x\r\n';
  const sent = Buffer.concat([Buffer.from(`${cut}${kept}\r\n`), body]);
  const stuffed = Buffer.from(sent.toString('latin1').replace(/^\./gm, '..'), 'latin1');

  const [, queueId] = queued.exec(await submit(stuffed))!;
  const [claim] = (await world.accepted()).filter((one) => one.queueId === queueId);
  assert.deepEqual(claim!.body, Buffer.concat([Buffer.from(`${kept}\r\n`), body]));
  const prefix = claim!.prefix.toString();
  assert.match(prefix, /^Message-ID: <[0-9a-v]{16}@reef\.test>\r$/m);
  assert.match(prefix, /^Date: /m);
});

test('our lines say which message and member it is, and not from which address it came', async () => {
  const [, queueId] = queued.exec(
    await submit(
      'From: a@reef.test\r\nDate: x\r\nMessage-ID: <x@y>\r\nX-Atmos-Category: mfa-otp\r\n\r\nb\r\n',
    ),
  )!;
  const [claim] = (await world.accepted()).filter((one) => one.queueId === queueId);
  const prefix = claim!.prefix.toString();
  assert.match(prefix, new RegExp(`^X-Atmos-Member-Did: ${reef}\r$`, 'm'));
  assert.match(prefix, new RegExp(`^X-Atmos-Id: ${queueId}\\.1\r$`, 'm'));
  assert.match(prefix, /^Feedback-ID: reef\.test:[0-9a-f]{12}:mfa-otp:harbor\.test\r$/m);
  assert.match(prefix, new RegExp(`^Received: by harbor\\.test with ESMTPSA id ${queueId};`, 'm'));
  assert.doesNotMatch(prefix, /127\.0\.0\.1|client\.test|^Date|^Message-ID/m);
  assert.doesNotMatch(prefix, /^DKIM-Signature:/m);
  const signatures = claim!.signatures.toString();
  assert.equal(signatures.match(/^DKIM-Signature:/gm)?.length, 3);
  assert.equal(new Set(signatures.match(/(?<=\bt=)\d+/g)).size, 1);
  assert.equal(Math.floor(claim!.signedAt / 1000), Number(/\bt=(\d+)/.exec(signatures)![1]));
});

test('each recipient has its own id, return path and signatures, and is delivered once', async () => {
  const dialogue = await Dialogue.ready(world.implicit, login);
  await dialogue.say('MAIL FROM:<a@reef.test>');
  for (const address of ['one@dest.test', 'two@bücher.test', 'one@dest.test'])
    assert.match(await dialogue.say(`RCPT TO:<${address.replace('bücher', 'xn--bcher-kva')}>`), /^250/);
  assert.match(await dialogue.say('RCPT TO:<three@[127.0.0.1]>'), /^553 5\.1\.3/);
  const [, queueId] = queued.exec(await dialogue.data('From: a@reef.test\r\n\r\nb\r\n'))!;
  dialogue.close();
  const claims = (await world.accepted()).filter((one) => one.queueId === queueId);
  assert.deepEqual(claims.map(({ address }) => address).sort(), ['one@dest.test', 'two@xn--bcher-kva.test']);
  assert.equal(new Set(claims.map(({ returnPath }) => returnPath)).size, 2);
  assert.equal(new Set(claims.map(({ prefix }) => prefix.toString())).size, 2);
  assert.equal(new Set(claims.map(({ signatures }) => signatures.toString())).size, 2);
  for (const { returnPath } of claims) assert.match(returnPath, /^b-[^@]{1,62}@harbor\.test$/);
});

test('8BITMIME and SMTPUTF8 are taken as they are', async () => {
  const dialogue = await Dialogue.ready(world.implicit, login);
  await dialogue.say('MAIL FROM:<a@reef.test> BODY=8BITMIME SMTPUTF8');
  assert.match(await dialogue.say('RCPT TO:<jané@dest.test>'.normalize()), /^250/);
  const message = Buffer.from('From: Jané <a@reef.test>\r\nSubject: héé\r\n\r\nbodý\r\n');
  const [, queueId] = queued.exec(await dialogue.data(message))!;
  dialogue.close();
  const [claim] = (await world.accepted()).filter((one) => one.queueId === queueId);
  assert.deepEqual(claim!.body, message);
  assert.equal(claim!.address, 'jané@dest.test');
  assert.match(claim!.prefix.toString(), /with UTF8SMTPSA id/);
});

test('a header that is not UTF-8 is refused even with SMTPUTF8', async () => {
  const dialogue = await Dialogue.ready(world.implicit, login);
  await dialogue.say('MAIL FROM:<a@reef.test> SMTPUTF8');
  await dialogue.say('RCPT TO:<b@dest.test>');
  const message = Buffer.from('From: a@reef.test\r\nSubject: \xe9\r\n\r\nb\r\n', 'latin1');
  assert.match(await dialogue.data(message), /^550 5\.6\.0 .*UTF-8/);
  dialogue.close();
});

test('a client that goes away before the final dot leaves nothing', async () => {
  const before = (await world.accepted()).length;
  const dialogue = await Dialogue.ready(world.implicit, login);
  await dialogue.say('MAIL FROM:<a@reef.test>');
  await dialogue.say('RCPT TO:<b@dest.test>');
  await dialogue.say('DATA');
  dialogue.write('From: a@reef.test\r\n\r\nhalf');
  dialogue.close();
  assert.match(await submit('From: a@reef.test\r\n\r\nwhole\r\n'), queued);
  assert.equal((await world.accepted()).length, before + 1);
});

test('one session sends several messages, also pipelined', async () => {
  const dialogue = await Dialogue.ready(world.implicit, login);
  for (let n = 0; n < 3; n++) {
    dialogue.write('MAIL FROM:<a@reef.test>\r\nRCPT TO:<b@dest.test>\r\nDATA\r\n');
    assert.deepEqual(
      [await dialogue.reply(), await dialogue.reply()],
      ['250 2.1.0 Accepted', '250 2.1.5 Accepted'],
    );
    await dialogue.reply();
    dialogue.write('From: a@reef.test\r\n\r\nb\r\n.\r\n');
    assert.match(await dialogue.reply(), queued);
  }
  dialogue.close();
});

test('a key that is revoked sends nothing more, not even in a session that is open', async () => {
  const { id, key } = await world.members.issueApiKey(reef, 'short-lived');
  const dialogue = await Dialogue.ready(world.implicit, { user: reef, pass: key });
  assert.match(await dialogue.say('MAIL FROM:<a@reef.test>'), /^250 /);
  await dialogue.say('RSET');
  world.members.revokeApiKey(reef, id);
  assert.match(await dialogue.say('MAIL FROM:<a@reef.test>'), /^535 5\.7\.8 /);
  dialogue.close();
});

async function submit(message: string | Buffer): Promise<string> {
  await shared.say('RSET');
  await shared.say('MAIL FROM:<a@reef.test>');
  await shared.say('RCPT TO:<b@dest.test>');
  return shared.data(message);
}
