/** Debian's SpamAssassin with deploy/mta/spamassassin beside its stock rules: what lowers a score, and what does not. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { needs } from '../peers.ts';
import { addresses, message, openWorld, type World } from './consumers/cast.ts';
import type { Verdict } from './consumers/rspamd.ts';
import { snippet } from './consumers/snippets.ts';
import { type SpamAssassin, startSpamAssassin } from './consumers/spamassassin.ts';

const skip = needs('spamd', 'unbound');

let world: World;
let spamd: SpamAssassin;
if (!skip) {
  before(async () => {
    world = await openWorld();
    spamd = await startSpamAssassin({
      resolver: { host: '127.0.0.1', port: world.resolver.port },
      rules: snippet('spamassassin/fed.cf'),
    });
  });
  after(async () => {
    await spamd?.stop();
    await world?.close();
  });
}

type Mail = { from: string; mailFrom?: string; author?: string; signedBy?: string[]; received?: string };

/** As our own mail server would hand it over. `received`: who the client says that it had it from. */
async function judge({ from, mailFrom, author = 'a@reef.test', signedBy, received }: Mail): Promise<Verdict> {
  const raw = await message({ from: author, ...(signedBy && { signedBy }) });
  const hop = (address: string, by: string) =>
    `Received: from client.test (unknown [${address.includes(':') ? `IPv6:${address}` : address}])\r\n` +
    `\tby ${by} (Postfix) with ESMTP id 4Abc; ${new Date().toUTCString()}\r\n`;
  const head = `Return-Path: <${mailFrom ?? author}>\r\n${hop(from, 'mx.dest.test')}`;
  return spamd.judge(
    Buffer.concat([Buffer.from(head + (received ? hop(received, 'client.test') : '')), raw]),
  );
}

/** Ours among the symbols, each with its score. */
function ours({ symbols }: Verdict): Record<string, number> {
  return Object.fromEntries(Object.entries(symbols).filter(([name]) => name.startsWith('FED_')));
}

const { relay, relay6, newRelay, stranger, blocked, fallen } = addresses;
const cases: [what: string, mail: Mail, symbols: Record<string, number>][] = [
  [
    'a member through its listed relay',
    { from: relay, signedBy: ['reef.test'] },
    { FED_IP_MED: -0.5, FED_MEMBER_MED: -2.5, FED_VOUCHED: -0.1 },
  ],
  [
    'the same over IPv6',
    { from: relay6, signedBy: ['reef.test'] },
    { FED_IP_MED: -0.5, FED_MEMBER_MED: -2.5, FED_VOUCHED: -0.1 },
  ],
  [
    'a subdomain that its listing covers',
    { from: relay, author: 'a@news.atoll.test', signedBy: ['news.atoll.test'] },
    { FED_IP_MED: -0.5, FED_MEMBER_LOW: -1, FED_VOUCHED: -0.1 },
  ],
  ['the relay alone, without a signature', { from: relay }, { FED_IP_MED: -0.5 }],
  ['a relay of trust 0', { from: newRelay, signedBy: ['reef.test'] }, {}],
  [
    'a stranger, authenticated',
    { from: stranger, author: 'a@stranger.test', signedBy: ['stranger.test'] },
    {},
  ],
  ['a forged MAIL FROM and From of a domain without SPF', { from: stranger }, {}],
  ['a forged MAIL FROM and From of a domain with SPF', { from: stranger, author: 'a@atoll.test' }, {}],
  ['a forged Received', { from: stranger, received: relay, signedBy: ['reef.test'] }, {}],
  [
    'a forged From, signed by the stranger',
    { from: stranger, mailFrom: 'a@stranger.test', signedBy: ['stranger.test'] },
    {},
  ],
  [
    'a forged From, signed by the stranger, through a listed relay',
    { from: relay, mailFrom: 'a@stranger.test', signedBy: ['stranger.test'] },
    { FED_IP_MED: -0.5 },
  ],
  [
    'a message that a stranger sends again',
    { from: stranger, mailFrom: 'a@stranger.test', signedBy: ['reef.test'] },
    {},
  ],
  [
    'a message that a stranger sends again with its MAIL FROM',
    { from: stranger, signedBy: ['reef.test'] },
    {},
  ],
  [
    "a listed domain's signature below another author, through a listed relay",
    { from: relay, author: 'a@stranger.test', signedBy: ['stranger.test', 'reef.test'] },
    { FED_IP_MED: -0.5 },
  ],
  [
    'two authors, of whom the unlisted one signed',
    { from: relay, author: 'a@stranger.test>, <a@reef.test', signedBy: ['stranger.test'] },
    { FED_IP_MED: -0.5 },
  ],
  [
    "a member's signature below another member's name",
    { from: relay, signedBy: ['lagoon.test'] },
    { FED_IP_MED: -0.5 },
  ],
  [
    'a blocked address',
    { from: blocked, author: 'a@stranger.test', signedBy: ['stranger.test'] },
    { FED_BLOCK_IP: 4 },
  ],
  [
    'an address that is vouched for and blocked',
    { from: fallen, author: 'a@stranger.test' },
    { FED_IP_MED: -0.5, FED_BLOCK_IP: 4 },
  ],
  [
    'a blocked signer through a listed relay',
    { from: relay, author: 'a@sunk.test', signedBy: ['sunk.test'] },
    { FED_IP_MED: -0.5, FED_BLOCK_DKIM: 4 },
  ],
];
for (const [what, mail, symbols] of cases) {
  test(`SpamAssassin: ${what}: ${JSON.stringify(symbols)}`, { skip }, async () => {
    assert.deepEqual(ours(await judge(mail)), symbols);
  });
}

// The last, for the list answers nothing any more.
test('SpamAssassin: when the list refuses, nothing is gained', { skip }, async () => {
  await world.refuse();
  assert.deepEqual(ours(await judge({ from: relay, signedBy: ['reef.test'] })), {});
});
