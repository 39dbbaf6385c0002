/** Debian's Postfix with the settings of deploy/mta/postfix: who is let in, who is not, and by which name. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { needs } from '../peers.ts';
import { addresses, openWorld, type World } from './consumers/cast.ts';
import { type Postfix, startPostfix } from './consumers/postfix.ts';
import { asRoot } from './consumers/program.ts';
import { smtp } from './consumers/smtp.ts';
import { snippet } from './consumers/snippets.ts';

const skip = needs('postfix', 'unbound') || asRoot;

let world: World;
let smtpd: Postfix;
let postscreen: Postfix;
if (!skip) {
  before(async () => {
    world = await openWorld();
    const resolver = world.resolver.host53!;
    // For the test, no stranger is good enough.
    const strangers = 'strangers = reject';
    smtpd = await startPostfix({ resolver, settings: `${snippet('postfix/main.cf')}\n${strangers}\n` });
    postscreen = await startPostfix({
      resolver,
      settings: `${snippet('postfix/postscreen.cf')}\n${postscreenTests}\n`,
      behindPostscreen: true,
    });
  });
  after(async () => {
    await smtpd?.stop();
    await postscreen?.stop();
    await world?.close();
  });
}

// One test after the greeting, so that a new client hears "come again later".
const postscreenTests = `
postscreen_greet_wait = 1s
postscreen_pipelining_enable = yes
`;

type Case = [says: RegExp, who: string, from: string, mailFrom: string];

const cases: Case[] = [
  [/^250 /, 'a listed relay', addresses.relay, 'a@reef.test'],
  [/^250 /, 'a listed relay over IPv6', addresses.relay6, 'a@reef.test'],
  [/^250 /, 'a listed relay with an empty MAIL FROM', addresses.relay, ''],
  [/^250 /, 'a direct member by its forward-confirmed name', addresses.atoll, 'a@atoll.test'],
  [/^554 /, 'a stranger', addresses.stranger, 'a@stranger.test'],
  [/^554 /, 'a stranger over IPv6', addresses.stranger6, 'a@stranger.test'],
  [/^554 /, 'a relay of trust 0', addresses.newRelay, 'a@reef.test'],
  [/^554 /, 'a forged MAIL FROM of a listed domain without SPF', addresses.stranger, 'a@reef.test'],
  [/^554 /, 'a forged MAIL FROM of a listed domain with SPF', addresses.stranger, 'a@atoll.test'],
  [/^554 /, 'a reverse name that its domain does not confirm', addresses.liar, 'a@atoll.test'],
  [/^554 .*blocked using block/, 'a blocked address', addresses.blocked, 'a@stranger.test'],
  [/^554 .*blocked using block/, 'a listed and blocked relay', addresses.fallen, 'a@reef.test'],
  [/^554 .*blocked using block/, 'a blocked sender through a listed relay', addresses.relay, 'a@sunk.test'],
];
for (const [says, who, from, mailFrom] of cases) {
  test(`Postfix: ${who} hears ${says.source.slice(1)}`, { skip }, async () => {
    assert.match(await smtp({ port: smtpd.port, from, mailFrom }), says);
  });
}

test('Postfix: a listed name in EHLO gains nothing', { skip }, async () => {
  const session = { port: smtpd.port, from: addresses.stranger, mailFrom: 'a@atoll.test' };
  assert.match(await smtp({ ...session, helo: 'mail.atoll.test' }), /^554 /);
});

test('Postfix: for mail to elsewhere a listed relay is a stranger', { skip }, async () => {
  const session = { port: smtpd.port, from: addresses.relay, mailFrom: 'a@reef.test' };
  assert.match(await smtp({ ...session, to: 'c@elsewhere.test' }), /^554 /);
});

test('Postfix says why the blocked one is refused', { skip }, async () => {
  const session = { port: smtpd.port, from: addresses.blocked, mailFrom: 'a@stranger.test' };
  assert.match(await smtp(session), /reason=spam .*url=https:/);
});

const screened: [says: RegExp, who: string, from: string][] = [
  [/^250 /, 'a listed relay is handed on at once', addresses.relay],
  [/^250 /, 'a listed relay over IPv6 is handed on at once', addresses.relay6],
  [/^450 4\.3\.2/, 'a stranger must come again', addresses.stranger],
  [/^450 4\.3\.2/, 'a relay of trust 0 must come again', addresses.newRelay],
  [/^550 .*block/, 'a blocked address is refused', addresses.blocked],
];
for (const [says, what, from] of screened) {
  test(`postscreen: ${what}`, { skip }, async () => {
    assert.match(await smtp({ port: postscreen.port, from, mailFrom: 'a@reef.test' }), says);
  });
}

// The last, for the list answers nothing any more. Addresses that Postfix has not looked up yet.
test('Postfix: when the list refuses, nobody is let in for it, and strangers are told to come again', {
  skip,
}, async () => {
  await world.refuse();
  const from = '203.0.113.70';
  assert.match(await smtp({ port: smtpd.port, from, mailFrom: 'a@stranger.test' }), /^450 4\.7\.1/);
  assert.match(await smtp({ port: postscreen.port, from, mailFrom: 'a@reef.test' }), /^450 4\.3\.2/);
});
