/** Whatever a member sends: stored byte for byte, or refused cleanly; and the process lives. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseMailboxes } from '../../node/relay/mailbox.ts';
import { parseMessage, withoutFields } from '../../node/relay/message.ts';
import { Dialogue } from '../integration/smtp-dialogue.ts';
import { openWorld, reef, type World } from '../integration/submission-world.ts';
import { Fuzz } from './random.ts';

const fuzz = new Fuzz('relay-message');

const shards = [
  ...[
    '\r\n',
    '\r',
    '\n',
    '\0',
    ' ',
    '\t',
    ':',
    ';',
    ',',
    '<',
    '>',
    '(',
    ')',
    '"',
    '\\',
    '@',
    '.',
    '..\r\n',
    '\xff',
  ],
  ...[
    '\r\n.\r\n',
    '\r\n\r\n',
    '\n.\n',
    'From: a@reef.test\r\n',
    'From: b@evil.test\r\n',
    'from : x',
    'Bcc: x@y.test\r\n',
  ],
  ...[
    '=?utf-8?q?a=40b.test?=',
    '=?utf-8?b?',
    'a@reef.test',
    '<a@reef.test>',
    'X-Atmos-Id: 1\r\n',
    '\r\n \r\n',
    'é',
  ],
];
const base = [
  'From: "Reef" <a@reef.test>\r\nTo: b@dest.test\r\nSubject: x\r\n\r\nbody\r\n.dot\r\n',
  'From: a@reef.test\r\nBcc: c@dest.test\r\nX-Long: a\r\n b\r\n\tc\r\nMIME-Version: 1.0\r\n\r\n',
  // Malformed MIME is the member's own: it leaves as it came.
  [
    'From: a@reef.test\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n',
    'Content-Type: text/plain; charset="\r\n\tutf-8"\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!=\r\n--b\r\n',
    'Content-Type: message/rfc822\r\n\r\nFrom: x@evil.test\r\n\r\n--b--x\r\n--B--\r\n.\r\n',
  ].join(''),
  '',
];

function mutate(): Buffer {
  let text = fuzz.pick(base);
  for (let changes = fuzz.below(6); changes > 0; changes--) {
    const at = fuzz.below(text.length + 1);
    const cut = fuzz.below(3) === 0 ? fuzz.below(10) : 0;
    const piece = fuzz.below(4) === 0 ? String.fromCharCode(fuzz.below(256)) : fuzz.pick(shards);
    text = text.slice(0, at) + piece + text.slice(at + cut);
  }
  return Buffer.from(text, 'latin1');
}

test('parsing never throws, covers every byte of the header once, and changes none', () => {
  for (let i = fuzz.rounds(4_000); i > 0; i--) {
    const bytes = mutate();
    const parsed = parseMessage(bytes);
    if (parsed.kind === 'fault') continue;
    const { fields, headerEnd } = parsed.message;
    let at = 0;
    for (const { start, end } of fields) {
      assert.equal(start, at);
      at = end;
    }
    assert.equal(at, headerEnd);
    assert.ok(withoutFields(parsed.message, () => false).equals(bytes));
    const bare = withoutFields(parsed.message, () => true);
    assert.ok(bare.equals(bytes.subarray(headerEnd)));
    assert.ok(bare.length === 0 || bare.subarray(0, 2).equals(Buffer.from('\r\n')));
  }
});

test('an address list is read the same after its own addresses are written out', () => {
  for (let i = fuzz.rounds(4_000); i > 0; i--) {
    let text = 'Reef <a@reef.test>, b@news.reef.test (x)';
    for (let changes = fuzz.below(5); changes > 0; changes--) {
      const at = fuzz.below(text.length + 1);
      text = text.slice(0, at) + fuzz.pick(shards) + text.slice(at + fuzz.below(4));
    }
    const read = parseMailboxes(text);
    if (!read) continue;
    const addresses = read.map(({ address }) => address);
    assert.deepEqual(
      parseMailboxes(addresses.join(', '))?.map(({ address }) => address),
      addresses,
      text,
    );
  }
});

test('what is accepted over SMTP is stored byte for byte, signed and from an own domain', async () => {
  // A message costs three signatures and a commit.
  const messages = fuzz.rounds(200, 25);
  let accepted = 0;
  // A spool of its own for every few, since each is looked at in whole afterwards.
  for (let left = messages; left > 0; left -= 500) accepted += await submitSome(Math.min(left, 500));
  assert.ok(
    accepted > messages / 20,
    `only ${accepted} of ${messages} were accepted: the mutations are too wild`,
  );
});

/** @returns how many were accepted */
async function submitSome(count: number): Promise<number> {
  const world = await openWorld();
  try {
    return await submitInto(world, count);
  } finally {
    await world.close();
  }
}

async function submitInto(world: World, count: number): Promise<number> {
  const dialogue = await Dialogue.ready(world.implicit, { user: reef, pass: world.reefKey });
  const sent = new Map<string, Buffer>();
  for (let round = 0; round < count; round++) {
    const bytes = mutate();
    // DATA cannot carry a last line without CR LF, and dot-stuffing is the client's part.
    const isEnded = bytes.length === 0 || bytes.subarray(-2).equals(Buffer.from('\r\n'));
    const whole = isEnded ? bytes : Buffer.concat([bytes, Buffer.from('\r\n')]);
    const stuffed = whole.toString('latin1').replace(/(^|\r\n)\./g, '$1..');
    await dialogue.say('MAIL FROM:<a@reef.test> SMTPUTF8');
    await dialogue.say('RCPT TO:<b@dest.test>');
    const reply = await dialogue.data(Buffer.from(stuffed, 'latin1'));
    assert.match(reply, /^(250 2\.0\.0 queued as [0-9a-v]{16}|550 5\.[16]\.0 .*)$/);
    if (reply.startsWith('250')) sent.set(reply.slice(-16), whole);
  }
  dialogue.close();
  const accepted = await world.accepted();
  assert.equal(accepted.length, sent.size);
  for (const { queueId, body, message, domain } of accepted) {
    const parsed = parseMessage(sent.get(queueId)!);
    assert.ok(parsed.kind === 'message');
    const reserved = /^(bcc|return-path|feedback-id|vbr-info|x-atmos-.*)$/;
    assert.deepEqual(
      body,
      withoutFields(parsed.message, (name) => reserved.test(name)),
    );
    const prepended = message.subarray(0, message.length - body.length).toString();
    assert.equal(prepended.match(/^DKIM-Signature:/gm)?.length, 3);
    assert.match(domain, /^(news\.)?reef\.test$/);
  }
  return sent.size;
}

const commands = [
  ...[
    'EHLO x',
    'HELO x',
    'AUTH PLAIN',
    'AUTH LOGIN',
    'AUTH',
    'AUTH XOAUTH2 eA==',
    'MAIL FROM:<a@reef.test>',
    'RCPT TO:<b@dest.test>',
  ],
  ...[
    'DATA',
    'RSET',
    'NOOP',
    'VRFY x',
    'HELP',
    'STARTTLS',
    'BDAT 10 LAST',
    'XCLIENT ADDR=1.2.3.4',
    'WIZ',
    'SHELL',
    '*',
    '=',
    '',
  ],
];

test('AUTH and command garbage: the process lives, tells nothing and takes nothing', async () => {
  const world = await openWorld({ limits: { maxAuthFailures: 100 } });
  try {
    await talkGarbage(world);
    const fresh = await Dialogue.ready(world.implicit, { user: reef, pass: world.reefKey });
    assert.match(await fresh.say('NOOP'), /^250/);
    fresh.close();
    assert.deepEqual(await world.accepted(), []);
  } finally {
    await world.close();
  }
});

async function talkGarbage(world: World): Promise<void> {
  // A session costs a handshake.
  const sessions = fuzz.rounds(4, 1_000);
  for (let session = 0; session < sessions; session++) {
    const dialogue =
      session % 2 === 0 ? await Dialogue.ready(world.implicit) : await Dialogue.open(world.starttls);
    for (let step = 0; step < 25; step++) {
      const line = fuzz.below(3) === 0 ? mutate() : Buffer.from(garble(fuzz.pick(commands)), 'latin1');
      dialogue.write(Buffer.concat([line, Buffer.from('\r\n')]));
    }
    dialogue.write('\r\n.\r\nQUIT\r\n');
    for (let reply = await dialogue.reply(); reply !== ''; reply = await dialogue.reply()) {
      assert.doesNotMatch(reply, /^235|queued as|\bat .*\.[jt]s:/);
      // What was said behind STARTTLS is dropped, QUIT too, and the server waits for a handshake: none comes.
      if (reply.startsWith('220')) dialogue.write('QUIT\r\n');
    }
    dialogue.close();
  }
}

function garble(command: string): string {
  switch (fuzz.below(4)) {
    case 0:
      return command;
    case 1:
      return `${command} ${fuzz.pick(shards)}`;
    case 2:
      return `${command} ${Buffer.from(`\0${fuzz.pick(shards)}\0${'x'.repeat(fuzz.below(200))}`).toString('base64')}`;
    default:
      return `${command}${'A'.repeat(fuzz.below(6000))}`;
  }
}
