/** What an operator says of a member, through the socket of the node that runs. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { pino } from 'pino';
import { openDatabase } from '../../appview/database.ts';
import type { RecordEvents } from '../../node/enforcement/event-log.ts';
import type { OwnEvent } from '../../node/enforcement/event-store.ts';
import { Contacts } from '../../node/members/contacts.ts';
import { Members } from '../../node/members/members.ts';
import { Seal } from '../../node/members/seal.ts';
import { Suppressions } from '../../node/members/suppressions.ts';
import { nodeMigrations } from '../../node/migrations.ts';
import { type ControlError, ControlSocket, callNode } from '../../node/operator/control.ts';
import { memberAddresses } from '../../node/operator/member-addresses.ts';
import { membersApi } from '../../node/operator/members-api.ts';

const reef = 'did:plc:reef';
const dir = mkdtempSync(join(tmpdir(), 'atmos-members-'));
const db = openDatabase(':memory:', nodeMigrations, { synchronous: 'NORMAL' });
const members = new Members({
  ...{ db, seal: new Seal(Buffer.alloc(32)), now: Date.now },
  ...{ poolDomain: 'pool.test', mailHost: 'mail.pool.test' },
});
await members.enrol({ did: reef, domains: ['reef.test'], relay: true });
const events: OwnEvent[] = [];
const record: RecordEvents = (event, change) => {
  change?.();
  events.push(...[event].flat());
};
const suppressions = new Suppressions({ db, now: Date.now });
const contacts = new Contacts({ db, now: Date.now });
const control = new ControlSocket({ stateDir: dir, log: pino({ level: 'silent' }) });
await control.app.register(
  membersApi({
    ...{ members, tiers: ['standard', 'trusted'] },
    record,
    setStanding: () => 'done',
    addresses: memberAddresses({
      ...{ members, contacts, suppressions, record },
      ownMail: { send: async () => assert.fail('no letter is to be sent') },
      publicUrl: 'https://pool.test',
      poolDomain: 'pool.test',
      receivesFor: async (domain) => domain === 'reef.test',
    }),
  }),
);
await control.start();
after(async () => {
  await control.stop();
  db.close();
  rmSync(dir, { recursive: true });
});

const post = (path: string, body: object) => callNode(dir, 'POST', path, { actor: 'mira', ...body });
const refused = (code: string) => (error: ControlError) => error.code === code;

test('a member gets another tier, and the record says who did it', async () => {
  await post('/members/tier', { did: reef, tier: 'trusted' });
  assert.equal((db.prepare('SELECT tier FROM member').get() as { tier: string }).tier, 'trusted');
  const { type, did, detail } = events.at(-1)!;
  assert.deepEqual(
    [type, did, detail],
    ['staff_act', reef, { act: 'tier', tier: 'trusted', by: 'person', actor: 'mira' }],
  );
});

test('the mail of a domain is transactional where nobody said otherwise', async () => {
  assert.equal(members.domain('reef.test')!.defaultCategory, 'bulk');
  await post('/members/category', { domain: 'Reef.test', category: 'transactional' });
  assert.equal(members.domain('reef.test')!.defaultCategory, 'transactional');
  assert.deepEqual([events.at(-1)!.domain, events.at(-1)!.detail.category], ['reef.test', 'transactional']);
});

test('an operator takes what a recipient asked for off a list, and the record says why', async () => {
  const address = 'ana@harbor.test';
  suppressions.add({ did: reef, address, reason: 'complaint', evidence: 'ARF' });
  suppressions.add({ did: reef, address, reason: 'unsubscribe', evidence: 'the link' });
  const asked = { did: reef, address, reason: 'a mistake, she says' };
  await assert.rejects(post('/members/unsuppress', { ...asked, reason: '' }), refused('INVALID_REQUEST'));
  assert.deepEqual(await post('/members/unsuppress', asked), { removed: ['unsubscribe', 'complaint'] });
  assert.equal(suppressions.find(reef, address), undefined);
  const { type, did, detail } = events.at(-1)!;
  const what = { act: 'unsuppress', recipient: address, was: 'complaint', reason: 'a mistake, she says' };
  assert.deepEqual([type, did, detail], ['staff_act', reef, { ...what, by: 'person', actor: 'mira' }]);
});

const wrong: [name: string, path: string, body: object, code: string][] = [
  [
    'a tier that the configuration does not have',
    '/members/tier',
    { did: reef, tier: 'gold' },
    'INVALID_REQUEST',
  ],
  [
    'an address off a list where it is not',
    '/members/unsuppress',
    { did: reef, address: 'x@y.test', reason: 'r' },
    'NOT_FOUND',
  ],
  ['a tier for a stranger', '/members/tier', { did: 'did:plc:x', tier: 'trusted' }, 'NOT_FOUND'],
  [
    'a category that is none',
    '/members/category',
    { domain: 'reef.test', category: 'bulky' },
    'INVALID_REQUEST',
  ],
  [
    'a category for a strange domain',
    '/members/category',
    { domain: 'x.test', category: 'bulk' },
    'NOT_FOUND',
  ],
];
for (const address of ['ana@pool.test', 'ana@simulator.pool.test', 'ana@reef.test', 'ana']) {
  test(`bounces do not go to ${address}, whoever asks`, async () => {
    const asked = { domain: 'reef.test', address };
    await assert.rejects(callNode(dir, 'POST', '/members/forward-to', asked), refused('INVALID_REQUEST'));
    assert.equal(contacts.state(reef, { kind: 'forward-to', domain: 'reef.test' }).pending, null);
  });
}

for (const [name, path, body, code] of wrong) {
  test(`${name} is ${code}, and nothing is recorded`, async () => {
    const before = events.length;
    await assert.rejects(post(path, body), refused(code));
    assert.equal(events.length, before);
  });
}
