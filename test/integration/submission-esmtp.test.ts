/** What the listener offers, and what each reply and parameter is. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, test } from 'node:test';
import { connect } from 'node:tls';
import { authPlain, Dialogue } from './smtp-dialogue.ts';
import { openWorld, reef } from './submission-world.ts';

const world = await openWorld();
after(() => world.close());
const login = { user: reef, pass: world.reefKey };
const plain = 'From: a@reef.test\r\n\r\nbody\r\n';
const queued = /^250 2\.0\.0 queued as ([0-9a-v]{16})$/;

const extensions = (reply: string): string[] =>
  reply
    .split(/\r?\n/)
    .slice(1)
    .map((line) => line.slice(4))
    .sort();

test('the answer to EHLO offers what is served, and AUTH and REQUIRETLS under TLS alone', async () => {
  const always = ['8BITMIME', 'DSN', 'ENHANCEDSTATUSCODES', 'PIPELINING', 'SIZE 26214400', 'SMTPUTF8'];
  const dialogue = await Dialogue.open(world.starttls);
  assert.deepEqual(extensions(await dialogue.say('EHLO x')), [...always, 'STARTTLS'].sort());
  await dialogue.startTls();
  assert.deepEqual(
    extensions(await dialogue.say('EHLO x')),
    [...always, 'AUTH PLAIN LOGIN', 'REQUIRETLS'].sort(),
  );
  await dialogue.say(authPlain(login));
  assert.deepEqual(extensions(await dialogue.say('EHLO x')), [...always, 'REQUIRETLS'].sort());
  dialogue.close();
});

/** One session, in this order; every reply with its status, once. */
const clear: [say: string, reply: RegExp][] = [
  ['NOOP', /^250 2\.0\.0 /],
  ['MAIL FROM:<a@reef.test>', /^503 5\.5\.1 /],
  ['EHLO', /^501 Error/],
  ['EHLO x', /^250-harbor\.test/],
  ['AUTH PLAIN', /^530 5\.7\.0 TLS is required/],
  ['MAIL FROM:<a@reef.test>', /^530 5\.7\.0 TLS is required/],
  ['RCPT TO:<b@dest.test>', /^503 5\.5\.1 /],
  ['DATA', /^503 5\.5\.1 /],
];
const secured: [say: string, reply: RegExp][] = [
  ['EHLO x', /^250-harbor\.test/],
  ['STARTTLS', /^503 5\.5\.1 /],
  ['AUTH', /^504 5\.5\.4 /],
  ['AUTH CRAM-MD5', /^504 5\.5\.4 /],
  ['AUTH PLAIN a b', /^501 5\.5\.4 /],
  ['AUTH PLAIN', /^334/],
  ['*', /^501 5\.7\.0 /],
  ['AUTH PLAIN !!!!', /^501 5\.5\.2 /],
  ['AUTH LOGIN', /^334 /],
  ['*', /^501 5\.7\.0 /],
  ['MAIL FROM:<a@reef.test>', /^530 5\.7\.0 Authentication/],
  ['AUTH PLAIN AGEAYg==', /^535 5\.7\.8 /],
  [authPlain(login), /^235 2\.7\.0 /],
  [authPlain(login), /^503 5\.5\.1 /],
  ['RCPT TO:<b@dest.test>', /^503 5\.5\.1 /],
  ['MAIL FROM:<a@orchard.test>', /^550 5\.1\.0 /],
  ['MAIL FROM:a@reef.test', /^501 5\.5\.4 /],
  ['MAIL FROM:<a@reef.test> FOO=1', /^555 5\.5\.4 /],
  ['MAIL FROM:<a@reef.test> SIZE=26214401', /^552 5\.3\.4 .*26214400/],
  ['MAIL FROM:<a@reef.test> SIZE=26214400 BODY=8BITMIME AUTH=<>', /^250 2\.1\.0 /],
  ['MAIL FROM:<a@reef.test>', /^503 5\.5\.1 /],
  ['DATA', /^503 5\.5\.1 .*no recipient/],
  ['RCPT TO:<nonsense>', /^553 5\.1\.3 /],
  ['RCPT TO:<b@dest.test> FOO', /^555 5\.5\.4 /],
  ['RCPT TO:<b@dest.test> NOTIFY=x', /^501 5\.5\.4 /],
  ['RCPT TO:<b@dest.test>', /^250 2\.1\.5 /],
  ['DATA now', /^501 5\.5\.4 /],
  ['RSET', /^250 2\.0\.0 /],
  ['DATA', /^503 5\.5\.1 /],
  ['VRFY b', /^252 2\.0\.0 /],
  ['VRFY', /^501 5\.5\.4 /],
  ['HELP', /^214 2\.0\.0 /],
  ['XCLIENT ADDR=192.0.2.1', /^500 5\.5\.2 /],
  ['WIZ x', /^500 5\.5\.2 /],
  ['NONSENSE', /^500 5\.5\.2 /],
  ['QUIT', /^221 2\.0\.0 /],
];
test('every reply has its enhanced status code, once', async () => {
  const dialogue = await Dialogue.open(world.starttls);
  const walk = async (steps: typeof clear) => {
    for (const [say, expected] of steps) {
      const reply = await dialogue.say(say);
      assert.match(reply, expected, say);
      assert.doesNotMatch(reply, /\d\.\d\.\d .*\b[245]\.\d\.\d /, say);
    }
  };
  await walk(clear);
  await dialogue.startTls();
  await walk(secured);
  await dialogue.hungUp();
});

test('what MAIL and RCPT ask for arrives in the spool', async () => {
  const dialogue = await Dialogue.ready(world.implicit, login);
  const asked = 'RET=HDRS ENVID=QQ+2B314159 REQUIRETLS SMTPUTF8 BODY=8BITMIME';
  assert.match(await dialogue.say(`MAIL FROM:<a@reef.test> ${asked}`), /^250/);
  assert.match(
    await dialogue.say('RCPT TO:<b@dest.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Bob+2Bx@c.test'),
    /^250/,
  );
  assert.match(await dialogue.say('RCPT TO:<c@dest.test> NOTIFY=NEVER'), /^250/);
  assert.match(await dialogue.say('RCPT TO:<d@dest.test>'), /^250/);
  const [, queueId] = queued.exec(await dialogue.data(plain))!;
  // The next transaction begins with nothing of this one.
  await dialogue.say('MAIL FROM:<a@reef.test>');
  await dialogue.say('RCPT TO:<b@dest.test>');
  const [, second] = queued.exec(await dialogue.data(plain))!;
  dialogue.close();
  const claims = (await world.accepted()).sort((a, b) => (a.recipientId < b.recipientId ? -1 : 1));
  const facts = (id: string) =>
    claims
      .filter((claim) => claim.queueId === id)
      .map(({ address, ret, envid, requireTls, notify, orcpt }) => ({
        address,
        ret,
        envid,
        requireTls,
        notify,
        orcpt,
      }));
  const shared = { ret: 'hdrs', envid: 'QQ+314159', requireTls: true };
  assert.deepEqual(facts(queueId!), [
    { address: 'b@dest.test', ...shared, notify: ['success', 'delay'], orcpt: 'rfc822;Bob+x@c.test' },
    { address: 'c@dest.test', ...shared, notify: ['never'], orcpt: undefined },
    { address: 'd@dest.test', ...shared, notify: undefined, orcpt: undefined },
  ]);
  assert.deepEqual(facts(second!), [
    {
      address: 'b@dest.test',
      ret: undefined,
      envid: undefined,
      requireTls: false,
      notify: undefined,
      orcpt: undefined,
    },
  ]);
});

test('an authorisation identity must be a name of the same account', async () => {
  const plainOf = (authzid: string) =>
    `AUTH PLAIN ${Buffer.from(`${authzid}\0${reef}\0${world.reefKey}`).toString('base64')}`;
  for (const [authzid, reply] of [
    ['reef.test', /^235 /],
    [reef, /^235 /],
    ['did:plc:somebodyelse', /^535 5\.7\.8 /],
  ] as const) {
    const dialogue = await Dialogue.ready(world.implicit);
    assert.match(await dialogue.say(plainOf(authzid)), reply, authzid);
    dialogue.close();
  }
});

test('bounced and complained recipients are refused at RCPT; unsubscribed ones behind the dot', async () => {
  for (const [name, reason] of [
    ['gone', 'bounce'],
    ['angry', 'complaint'],
    ['left', 'unsubscribe'],
  ] as const)
    world.suppressions.add({ did: reef, address: `${name}@dest.test`, reason, evidence: 'x' });
  const dialogue = await Dialogue.ready(world.implicit, login);
  const offer = async (category: string, ...names: string[]) => {
    await dialogue.say('MAIL FROM:<a@reef.test>');
    for (const name of names) assert.match(await dialogue.say(`RCPT TO:<${name}@dest.test>`), /^250/);
    return dialogue.data(`From: a@reef.test\r\nX-Atmos-Category: ${category}\r\n\r\nb\r\n`);
  };
  await dialogue.say('MAIL FROM:<a@reef.test>');
  for (const name of ['gone', 'ANGRY']) {
    const reply = await dialogue.say(`RCPT TO:<${name}@dest.test>`);
    assert.match(reply, /^550 5\.7\.1 The recipient is on your suppression list\./);
  }
  await dialogue.say('RSET');
  assert.match(await offer('bulk', 'left'), /^550 5\.7\.1 .*unsubscribed/);
  const [, both] = queued.exec(await offer('bulk', 'left', 'stays'))!;
  const status = await world.spool.message(both!);
  assert.deepEqual(status!.recipients.map(({ address, state }) => [address, state]).sort(), [
    ['left@dest.test', 'bounced'],
    ['stays@dest.test', 'accepted'],
  ]);
  const left = status!.recipients.find(({ address }) => address === 'left@dest.test')!;
  assert.equal(left.timeline.length, 1);
  // Exempt mail passes, five times a day.
  for (let n = 0; n < 5; n++) assert.match(await offer('login-link', 'left'), queued);
  assert.match(await offer('login-link', 'left'), /^550 5\.7\.1 .*had 5 exempt/);
  assert.match(await offer('login-link', 'left', 'stays'), queued);
  dialogue.close();
});

/** What some servers take for the end of a message. Behind each stands what an attacker wants to be heard. */
const terminators = [
  '\n.\n',
  '\n.\r\n',
  '\r.\r',
  '\r\n.\n',
  '\r\n.\r',
  '\r.\r\n',
  '\n.\r',
  '\r.\n',
  '\0\r\n.\n',
  '\r\n\0.\r\n',
];
for (const terminator of terminators) {
  test(`${JSON.stringify(terminator)} does not end a message`, async () => {
    const before = (await world.accepted()).length;
    const dialogue = await Dialogue.ready(world.implicit, login);
    await dialogue.say('MAIL FROM:<a@reef.test>');
    await dialogue.say('RCPT TO:<b@dest.test>');
    const smuggled =
      'MAIL FROM:<a@reef.test>\r\nRCPT TO:<victim@dest.test>\r\nDATA\r\nFrom: a@reef.test\r\n\r\nx\r\n';
    assert.match(await dialogue.data(`${plain}end${terminator}${smuggled}`), /^550 5\.6\.0 .*Line [45] /);
    // Nothing else was answered: the next reply is to the next command.
    assert.match(await dialogue.say('VRFY x'), /^252/);
    assert.equal((await world.accepted()).length, before);
    dialogue.close();
  });
}

test('a dot that was stuffed comes out, one that was not is a dot less, and neither ends the message', async () => {
  const dialogue = await Dialogue.ready(world.implicit, login);
  await dialogue.say('MAIL FROM:<a@reef.test>');
  await dialogue.say('RCPT TO:<b@dest.test>');
  const [, queueId] = queued.exec(await dialogue.data(`${plain}..\r\n...\r\n.x\r\n`))!;
  const claim = (await world.accepted()).find((one) => one.queueId === queueId);
  assert.equal(claim!.body.toString(), `${plain}.\r\n..\r\nx\r\n`);
  dialogue.close();
});

test('replies to commands that came together come together', async () => {
  const socket = connect({ ...world.implicit, rejectUnauthorized: false });
  const chunks: string[] = [];
  const heard = async (pattern: RegExp) => {
    chunks.length = 0;
    while (!pattern.test(chunks.join(''))) chunks.push(String((await once(socket, 'data'))[0]));
    return chunks.length;
  };
  await heard(/^220 .*\r\n/);
  socket.write('EHLO x\r\n');
  await heard(/250 .*\r\n/);
  socket.write(`${authPlain(login)}\r\n`);
  await heard(/^235 /);
  socket.write('MAIL FROM:<a@reef.test>\r\nRCPT TO:<b@dest.test>\r\nRCPT TO:<nonsense>\r\nDATA\r\n');
  assert.equal(await heard(/\n354 .*\r\n/), 1);
  assert.deepEqual(chunks[0]!.match(/^\d{3}/gm), ['250', '250', '553', '354']);
  socket.write(`${plain}.\r\nQUIT\r\n`);
  await heard(/\n221 .*\r\n/);
  socket.destroy();
});

test('a whole message pipelined behind another is one more message, however it is cut', async () => {
  const one = `MAIL FROM:<a@reef.test>\r\nRCPT TO:<b@dest.test>\r\nDATA\r\n${plain}.\r\n`;
  const all = Buffer.from(one.repeat(3));
  for (const size of [all.length, 7]) {
    const dialogue = await Dialogue.ready(world.implicit, login);
    for (let at = 0; at < all.length; at += size) dialogue.write(all.subarray(at, at + size));
    const replies: string[] = [];
    for (let n = 0; n < 12; n++) replies.push(await dialogue.reply());
    assert.equal(replies.filter((reply) => queued.test(reply)).length, 3, replies.join('\n'));
    dialogue.close();
  }
});

test('caps come before suppression: over the cap even a suppressed recipient is 451', async () => {
  const small = await openWorld({
    caps: { warmingDays: 0, warming: [], tiers: { standard: { perHour: 2, perDay: 2 } } },
  });
  try {
    small.suppressions.add({ did: reef, address: 'left@dest.test', reason: 'unsubscribe', evidence: 'x' });
    const dialogue = await Dialogue.ready(small.implicit, { user: reef, pass: small.reefKey });
    const offer = async (to: string) => {
      await dialogue.say('MAIL FROM:<a@reef.test>');
      await dialogue.say(`RCPT TO:<${to}>`);
      return dialogue.data(plain);
    };
    assert.match(await offer('left@dest.test'), /^550 5\.7\.1 /);
    for (let n = 0; n < 2; n++) assert.match(await offer('b@dest.test'), queued);
    assert.match(await offer('left@dest.test'), /^451 4\.7\.1 .*2 recipients an hour, 2 a day\./);
    dialogue.close();
  } finally {
    await small.close();
  }
});
