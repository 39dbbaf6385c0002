import assert from 'node:assert/strict';
import { after, test } from 'node:test';
// The field's own body hash is the oracle of ours; it has no types.
// @ts-expect-error
import relaxedBody from 'mailauth/lib/dkim/body/relaxed.js';
import { parseMessage } from '../../node/relay/message.ts';
import { BodyHash } from '../../node/relay/signing-body.ts';
import { verifyAllWithDkimpy } from '../dkimpy.ts';
import { needs } from '../peers.ts';
import { records, startSigner, verifyWithMailauth } from '../unit/signing-fixtures.ts';
import { Fuzz } from './random.ts';

const { RelaxedHash } = relaxedBody as { RelaxedHash: new (name: string) => MailauthHash };
type MailauthHash = { update(chunk: Buffer): void; digest(encoding: string): string };

const fuzz = new Fuzz('signing');
const signer = startSigner();
after(() => signer.close());

const base64 = `${'A'.repeat(76)}\r\n`.repeat(5);
const atoms = [
  ' ',
  '  ',
  '\t',
  ' \t ',
  '\r\n',
  '\r\n\r\n',
  ' \r\n',
  'a',
  'word',
  'A longer run of words',
  'é',
  '.',
  '=20',
  '\x01',
  base64,
];
const names = [
  'Subject',
  'To',
  'Cc',
  'Reply-To',
  'Date',
  'Message-ID',
  'References',
  'List-Id',
  'X-Other',
  'content-type',
];

function text(length: number): string {
  let made = '';
  for (let left = fuzz.below(length); left > 0; left--) made += fuzz.pick(atoms);
  return fuzz.below(20) === 0 ? made + 'x'.repeat(fuzz.below(6000)) : made;
}

/** Folded where a value may be, and in every spelling of a name. */
function field(name: string): string {
  const spelled = fuzz.pick([name, name.toUpperCase(), name.toLowerCase()]);
  const value = Array.from({ length: fuzz.below(8) }, () =>
    fuzz.pick(['a', 'b c', ' ', '\t', '  ', '\r\n x', '\r\n\t y', ': ; =', 'é']),
  ).join('');
  return `${spelled}:${value}\r\n`;
}

/** A message that admission would take; like all that SMTP carries it ends with CR LF. */
function message(): Buffer {
  for (;;) {
    const chosen = names.filter(() => fuzz.below(2) === 0);
    const fields = [...chosen.map(field), field('X-Two'), field('X-Two')];
    fields.splice(fuzz.below(fields.length + 1), 0, 'From: Reef  <a@reef.test> \r\n');
    const body = fuzz.below(10) === 0 ? '' : `\r\n${text(60)}`;
    const whole = Buffer.from(fields.join('') + (body.endsWith('\r\n') ? body : `${body}\r\n`));
    if (parseMessage(whole).kind === 'message') return whole;
  }
}

test('a body hash is what mailauth makes of it, in pieces too', () => {
  for (let round = fuzz.rounds(3_000, 4); round > 0; round--) {
    const body = Buffer.from(text(fuzz.pick([3, 40, 400])));
    const theirs = new RelaxedHash('sha256');
    theirs.update(body);
    const ours = new BodyHash();
    for (let at = 0; at < body.length; ) {
      const end = at + 1 + fuzz.below(fuzz.pick([3, 100, 100_000]));
      ours.update(body.subarray(at, end));
      at = end;
    }
    assert.equal(ours.digest(), theirs.digest('base64'), JSON.stringify(body.toString()));
  }
});

async function signed(): Promise<Buffer> {
  const body = message();
  const prefix = Buffer.from(
    `X-Atmos-Id: 0123456789abcdef.1\r\n${fuzz.pick(['', 'List-Unsubscribe: <https://x.test/u/1>\r\n'])}`,
  );
  const made = await signer.sign({ prefixes: [prefix], body, domain: 'reef.test' });
  assert.ok(made.kind === 'signed', JSON.stringify(made));
  return Buffer.concat([made.signatures[0]!, prefix, body]);
}

test('every message that is signed verifies in mailauth', async () => {
  for (let round = fuzz.rounds(150, 40); round > 0; round--) {
    const whole = await signed();
    const found = await verifyWithMailauth(whole);
    assert.deepEqual(
      found.map(({ result }) => result),
      ['pass', 'pass', 'pass'],
      JSON.stringify(whole.toString()),
    );
  }
});

test('every message that is signed verifies in dkimpy', { skip: needs('python3-dkim') }, async () => {
  const wholes: Buffer[] = [];
  for (let round = fuzz.rounds(100, 100); round > 0; round--) wholes.push(await signed());
  const found = await verifyAllWithDkimpy(wholes, records);
  for (const [index, verdicts] of found.entries()) {
    const expected = [
      'harbor.test rsa-sha256 True',
      'reef.test ed25519-sha256 True',
      'reef.test rsa-sha256 True',
    ];
    assert.deepEqual(verdicts, expected, JSON.stringify(wholes[index]!.toString()));
  }
});
