/** Debian's rspamd with deploy/mta/rspamd beside its stock rules: what lowers a score, and what does not. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { needs } from '../peers.ts';
import { addresses, message, openWorld, type World } from './consumers/cast.ts';
import { type Rspamd, startRspamd, type Verdict } from './consumers/rspamd.ts';
import { snippetPath } from './consumers/snippets.ts';

const skip = needs('rspamd', 'unbound');

let world: World;
let rspamd: Rspamd;
if (!skip) {
  before(async () => {
    world = await openWorld();
    rspamd = await startRspamd({
      resolver: { host: '127.0.0.1', port: world.resolver.port },
      localFolder: snippetPath('rspamd/local.d'),
    });
  });
  after(async () => {
    await rspamd?.stop();
    await world?.close();
  });
}

type Mail = { from: string; mailFrom?: string; author?: string; signedBy?: string[] };

async function judge({ from, mailFrom, author = 'a@reef.test', signedBy }: Mail): Promise<Verdict> {
  const raw = await message({ from: author, ...(signedBy && { signedBy }) });
  return rspamd.judge({ from, mailFrom: mailFrom ?? author, message: raw });
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
    { FED_IP_MED: -0.5, FED_DKIM_MED: 0, FED_MEMBER_MED: -2.5 },
  ],
  [
    'the same over IPv6',
    { from: relay6, signedBy: ['reef.test'] },
    { FED_IP_MED: -0.5, FED_DKIM_MED: 0, FED_MEMBER_MED: -2.5 },
  ],
  [
    'a subdomain that its listing covers',
    { from: relay, author: 'a@news.atoll.test', signedBy: ['news.atoll.test'] },
    { FED_IP_MED: -0.5, FED_DKIM_LOW: 0, FED_MEMBER_LOW: -1 },
  ],
  ['the relay alone, without a signature', { from: relay }, { FED_IP_MED: -0.5 }],
  ['a relay of trust 0', { from: newRelay, signedBy: ['reef.test'] }, { FED_IP_NONE: 0, FED_DKIM_MED: 0 }],
  [
    'a stranger, authenticated',
    { from: stranger, author: 'a@stranger.test', signedBy: ['stranger.test'] },
    {},
  ],
  ['a forged MAIL FROM and From of a domain without SPF', { from: stranger }, {}],
  ['a forged MAIL FROM and From of a domain with SPF', { from: stranger, author: 'a@atoll.test' }, {}],
  [
    'a forged From, signed by the stranger',
    { from: stranger, mailFrom: 'a@stranger.test', signedBy: ['stranger.test'] },
    {},
  ],
  [
    'a message that a stranger sends again',
    { from: stranger, mailFrom: 'a@stranger.test', signedBy: ['reef.test'] },
    { FED_DKIM_MED: 0 },
  ],
  [
    'a message that a stranger sends again with its MAIL FROM',
    { from: stranger, signedBy: ['reef.test'] },
    { FED_DKIM_MED: 0 },
  ],
  [
    "a listed domain's signature below another author",
    { from: stranger, author: 'a@stranger.test', signedBy: ['stranger.test', 'reef.test'] },
    {},
  ],
  [
    "a listed domain's signature below another author, through a listed relay",
    { from: relay, author: 'a@stranger.test', signedBy: ['stranger.test', 'reef.test'] },
    { FED_IP_MED: -0.5 },
  ],
  [
    'a signature for the author by a listed domain above',
    { from: relay, author: 'a@other.reef.test', signedBy: ['reef.test'] },
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
    { FED_BLOCK_IP: 5 },
  ],
  [
    'an address that is vouched for and blocked',
    { from: fallen, author: 'a@stranger.test' },
    { FED_IP_MED: -0.5, FED_BLOCK_IP: 5 },
  ],
  [
    'a blocked signer through a listed relay',
    { from: relay, author: 'a@sunk.test', signedBy: ['sunk.test'] },
    { FED_IP_MED: -0.5, FED_BLOCK_DKIM: 5 },
  ],
];
for (const [what, mail, symbols] of cases) {
  test(`rspamd: ${what}: ${JSON.stringify(symbols)}`, { skip }, async () => {
    assert.deepEqual(ours(await judge(mail)), symbols);
  });
}

test('rspamd: a message sent again scores no better than with a signature of nobody known', {
  skip,
}, async () => {
  const again = { from: stranger, mailFrom: 'a@stranger.test' };
  const replayed = await judge({ ...again, signedBy: ['reef.test'] });
  const unknown = await judge({ ...again, author: 'a@nobody.test', signedBy: ['stranger.test'] });
  assert.ok(replayed.score >= unknown.score, `${replayed.score} against ${unknown.score}`);
});

test('rspamd: from trust 2 on, other lists are not asked about the address', { skip }, async () => {
  const others = async (from: string) => 'RBL_SPAMHAUS_SBL' in (await judge({ from })).symbols;
  assert.equal(await others(newRelay), true);
  assert.equal(await others(relay), false);
});

// The last, for the list answers nothing any more.
test('rspamd: when the list refuses, nothing is gained', { skip }, async () => {
  await world.refuse();
  const found = ours(await judge({ from: relay, signedBy: ['reef.test'] }));
  assert.ok(
    Object.values(found).every((score) => score === 0),
    JSON.stringify(found),
  );
});
