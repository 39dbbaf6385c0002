/** Debian's Exim with deploy/mta/exim: whom it takes for known at RCPT, and which messages at the final dot. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { needs } from '../peers.ts';
import { addresses, message, openWorld, type World } from './consumers/cast.ts';
import { type Exim, eximMissing, startExim } from './consumers/exim.ts';
import { asRoot } from './consumers/program.ts';
import { smtp } from './consumers/smtp.ts';

const skip = needs('unbound') || asRoot || eximMissing;

let world: World;
let atRcpt: Exim;
let atData: Exim;
if (!skip) {
  before(async () => {
    world = await openWorld();
    const resolver = world.resolver.host53!;
    atRcpt = await startExim({ resolver, strangersAt: 'rcpt' });
    atData = await startExim({ resolver, strangersAt: 'data' });
  });
  after(async () => {
    await atRcpt?.stop();
    await atData?.stop();
    await world?.close();
  });
}

const { relay, relay6, newRelay, atoll, stranger, stranger6, blocked, fallen } = addresses;

const senders: [says: RegExp, who: string, from: string, mailFrom: string][] = [
  [/^250 /, 'a listed relay', relay, 'a@reef.test'],
  [/^250 /, 'a listed relay over IPv6', relay6, 'a@reef.test'],
  [/^250 /, 'a listed relay with an empty MAIL FROM', relay, ''],
  [/^250 /, 'a direct member by SPF', atoll, 'a@atoll.test'],
  [/^550 a stranger/, 'a stranger with SPF', stranger, 'a@stranger.test'],
  [/^550 a stranger/, 'a stranger over IPv6', stranger6, 'a@stranger.test'],
  [/^550 a stranger/, 'a stranger with an empty MAIL FROM', stranger, ''],
  [/^550 a stranger/, 'a relay of trust 0', newRelay, 'a@reef.test'],
  [/^550 a stranger/, 'a forged MAIL FROM that SPF denies', stranger, 'a@atoll.test'],
  [/^550 a stranger/, 'a forged MAIL FROM of a domain without SPF', stranger, 'a@reef.test'],
  [/^550[ -]suspended by its cooperative: reason=spam/, 'a blocked address', blocked, 'a@stranger.test'],
  [/^550[ -]suspended by its cooperative: reason=spam/, 'a listed and blocked relay', fallen, 'a@reef.test'],
  [
    /^550[ -]suspended by its cooperative: reason=spam/,
    'a blocked sender at a listed relay',
    relay,
    'a@sunk.test',
  ],
];
for (const [says, who, from, mailFrom] of senders) {
  test(`Exim at RCPT: ${who} hears ${says.source.slice(1)}`, { skip }, async () => {
    assert.match(await smtp({ port: atRcpt.port, from, mailFrom }), says);
  });
}

test('Exim: a listed name in EHLO gains nothing', { skip }, async () => {
  const session = { port: atRcpt.port, from: stranger, mailFrom: '', helo: 'mail.atoll.test' };
  assert.match(await smtp(session), /^550 a stranger/);
});

test('Exim: a listed relay may not relay through us', { skip }, async () => {
  const session = { port: atRcpt.port, from: relay, mailFrom: 'a@reef.test', to: 'c@elsewhere.test' };
  assert.match(await smtp(session), /^550 relay not permitted/);
});

type Mail = { from: string; mailFrom: string; author: string; signedBy?: string[] };
const taken = /^250 OK/;
const refused = /^550 a stranger/;
const messages: [says: RegExp, what: string, mail: Mail][] = [
  [
    taken,
    'a member through its listed relay',
    { from: relay, mailFrom: 'a@reef.test', author: 'a@reef.test', signedBy: ['reef.test'] },
  ],
  [
    taken,
    'a member whose relay signs too',
    { from: relay, mailFrom: 'a@reef.test', author: 'a@reef.test', signedBy: ['stranger.test', 'reef.test'] },
  ],
  [refused, 'no signature', { from: relay, mailFrom: 'a@reef.test', author: 'a@reef.test' }],
  [
    refused,
    'a stranger, authenticated',
    { from: stranger, mailFrom: 'a@stranger.test', author: 'a@stranger.test', signedBy: ['stranger.test'] },
  ],
  [
    refused,
    'a message that a stranger sends again',
    { from: stranger, mailFrom: 'a@stranger.test', author: 'a@reef.test', signedBy: ['reef.test'] },
  ],
  [
    refused,
    "a listed domain's signature below another author",
    { from: relay, mailFrom: 'a@reef.test', author: 'a@stranger.test', signedBy: ['reef.test'] },
  ],
  [
    refused,
    'a forged From, signed by the stranger',
    { from: stranger, mailFrom: 'a@stranger.test', author: 'a@reef.test', signedBy: ['stranger.test'] },
  ],
  [
    refused,
    "a member's signature below another member's name",
    { from: relay, mailFrom: 'a@reef.test', author: 'a@reef.test', signedBy: ['lagoon.test'] },
  ],
  [
    refused,
    'two authors',
    {
      ...{ from: relay, mailFrom: 'a@reef.test', signedBy: ['reef.test'] },
      author: 'a@stranger.test>, <a@reef.test',
    },
  ],
];
for (const [says, what, { author, signedBy, ...session }] of messages) {
  test(`Exim at the final dot: ${what} is ${says === taken ? 'taken' : 'refused'}`, { skip }, async () => {
    const raw = await message({ from: author, ...(signedBy && { signedBy }) });
    assert.match(await smtp({ port: atData.port, ...session, message: raw }), says);
  });
}

// The last, for the list answers nothing any more.
test('Exim: when the list refuses, nobody is known', { skip }, async () => {
  await world.refuse();
  const session = { port: atRcpt.port, from: relay, mailFrom: 'a@reef.test' };
  assert.match(await smtp(session), /^550 a stranger/);
});
