/** Sessions that say anything in any order, cut anywhere: every reply is one, and nothing is left behind. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { authPlain, Dialogue } from '../integration/smtp-dialogue.ts';
import { openWorld, reef, type World } from '../integration/submission-world.ts';
import { Fuzz } from './random.ts';

const fuzz = new Fuzz('submission-session');
const memoryBytes = 1024 * 1024;

const parameters = [
  ...[
    'SIZE=10',
    'SIZE=99999999999',
    'BODY=8BITMIME',
    'SMTPUTF8',
    'REQUIRETLS',
    'RET=FULL',
    'ENVID=a+2B',
    'AUTH=<>',
  ],
  ...[
    'NOTIFY=NEVER',
    'NOTIFY=SUCCESS,FAILURE',
    'ORCPT=rfc822;x@y.test',
    'FOO',
    'FOO=1',
    '=',
    '  ',
    'ENVID=+',
  ],
];
const message = 'From: a@reef.test\r\nSubject: x\r\n\r\nbody\r\n.\r\n';
const lines = (login: string): string[] => [
  ...[
    'EHLO x',
    'EHLO',
    'HELO x',
    'NOOP',
    'RSET',
    'VRFY x',
    'HELP',
    'STARTTLS',
    'DATA',
    'DATA x',
    'BDAT 1',
    '',
  ],
  ...[login, 'AUTH PLAIN', 'AUTH LOGIN', 'AUTH PLAIN =', '*', 'AGEAYg==', 'MAIL FROM:<>', 'RCPT TO:<>'],
  ...['MAIL FROM:<a@reef.test>', 'MAIL FROM:<"a b"@reef.test>', 'RCPT TO:<b@dest.test>', 'RCPT TO:<"\\"@x>'],
];

/** A plausible session with faults in it. */
function script(login: string): Buffer {
  const said: string[] = fuzz.below(4) === 0 ? [] : ['EHLO x', login];
  for (let n = fuzz.below(12); n > 0; n--) {
    const line =
      fuzz.below(3) === 0
        ? fuzz.pick(['MAIL FROM:<a@reef.test>', 'RCPT TO:<b@dest.test>'])
        : fuzz.pick(lines(login));
    said.push(fuzz.below(3) === 0 ? `${line} ${fuzz.pick(parameters)}` : line);
    if (fuzz.below(6) === 0)
      said.push('MAIL FROM:<a@reef.test>', 'RCPT TO:<b@dest.test>', `DATA\r\n${message.trimEnd()}`);
  }
  const octets = Buffer.from(`${said.join('\r\n')}\r\n`);
  return fuzz.below(2) === 0 ? octets : fuzz.mutate(octets);
}

async function talk(world: World, login: string): Promise<void> {
  const dialogue = await Dialogue.open(world.implicit, true);
  const octets = script(login);
  const cut = 1 + fuzz.below(octets.length);
  dialogue.write(octets.subarray(0, cut));
  dialogue.write(octets.subarray(cut));
  if (fuzz.below(5) === 0) {
    dialogue.close();
    return;
  }
  // Out of whatever it is in: a line, an AUTH exchange, a message.
  dialogue.write('\r\n*\r\n.\r\nQUIT\r\n.\r\nQUIT\r\n');
  for (let reply = await dialogue.reply(); reply !== ''; reply = await dialogue.reply()) {
    const said = () => `${JSON.stringify(reply)} to ${JSON.stringify(octets.toString('latin1'))}`;
    assert.match(reply, /^(220|221|235|25[02]|214|334|354|4[25]\d|5[0-5]\d)[ -]?/, said());
    // RFC 2034 §4: the greeting and the answers to HELO and EHLO have none.
    if (/^[245]/.test(reply) && !/^(220|250-|501 Error: ([sS]yntax|Bad hostname syntax))/.test(reply))
      assert.match(reply, /^\d{3} (\d)\.\d{1,3}\.\d{1,3} |^250 harbor\.test/, said());
  }
}

test('a session of anything is answered, and leaves neither octets nor connections behind', async () => {
  const world = await openWorld({ memoryBytes, limits: { maxAuthFailures: 100 } });
  try {
    const login = authPlain({ user: reef, pass: world.reefKey });
    for (let round = fuzz.rounds(150, 500); round > 0; round -= 10)
      await Promise.all(Array.from({ length: Math.min(round, 10) }, () => talk(world, login)));
    const honest = await Dialogue.ready(world.implicit, { user: reef, pass: world.reefKey });
    await honest.say('MAIL FROM:<a@reef.test>');
    await honest.say('RCPT TO:<b@dest.test>');
    assert.match(await honest.data(message.slice(0, -3)), /^250 2\.0\.0 queued/);
    honest.close();
    await Promise.all(world.servers.map((server) => server.stop()));
    assert.ok(world.budget.take(memoryBytes), 'every octet was given back');
  } finally {
    await world.close();
  }
});
