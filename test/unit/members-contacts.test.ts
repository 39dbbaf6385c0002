/** Addresses that get mail from us: confirmed by their owners, or not at all. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { openDatabase } from '../../appview/database.ts';
import { Contacts, type Purpose } from '../../node/members/contacts.ts';
import { Members } from '../../node/members/members.ts';
import { Seal } from '../../node/members/seal.ts';
import { nodeMigrations } from '../../node/migrations.ts';

const reef = 'did:plc:reef';
const orchard = 'did:plc:orchard';
const dayMs = 86_400_000;
const forwardTo: Purpose = { kind: 'forward-to', domain: 'reef.test' };
const contact: Purpose = { kind: 'contact' };

async function setUp() {
  const clock = { now: Date.UTC(2026, 10, 20) };
  const now = () => clock.now;
  const db = openDatabase(':memory:', nodeMigrations, { synchronous: 'NORMAL' });
  const seal = new Seal(randomBytes(32));
  const members = new Members({
    ...{ db, seal, now, poolDomain: 'harbor.test', mailHost: 'mx.harbor.test', bcryptCost: 4 },
  });
  await members.enrol({ did: reef, domains: ['reef.test'], relay: true });
  await members.enrol({ did: orchard, domains: ['orchard.test'], relay: true });
  return { clock, db, members, contacts: new Contacts({ db, now }) };
}

function tokenOf(asked: ReturnType<Contacts['ask']>): string {
  assert.equal(asked.kind, 'asked');
  return asked.kind === 'asked' ? asked.token : '';
}

for (const purpose of [forwardTo, contact]) {
  test(`${purpose.kind}: an address counts once its token was used, and the one before stays until then`, async () => {
    const { contacts } = await setUp();
    const first = tokenOf(contacts.ask(reef, purpose, 'a@else.test'));
    assert.deepEqual(contacts.state(reef, purpose), { confirmed: null, pending: 'a@else.test' });
    assert.equal(contacts.confirm(first)?.address, 'a@else.test');
    assert.deepEqual(contacts.state(reef, purpose), { confirmed: 'a@else.test', pending: null });

    const second = tokenOf(contacts.ask(reef, purpose, 'b@else.test'));
    assert.deepEqual(contacts.state(reef, purpose), { confirmed: 'a@else.test', pending: 'b@else.test' });
    contacts.confirm(second);
    assert.deepEqual(contacts.state(reef, purpose), { confirmed: 'b@else.test', pending: null });
  });

  test(`${purpose.kind}: taking the address away acts at once, and ends the link that waits`, async () => {
    const { contacts } = await setUp();
    contacts.confirm(tokenOf(contacts.ask(reef, purpose, 'a@else.test')));
    const waiting = tokenOf(contacts.ask(reef, purpose, 'b@else.test'));
    contacts.clear(reef, purpose);
    assert.deepEqual(contacts.state(reef, purpose), { confirmed: null, pending: null });
    assert.equal(contacts.confirm(waiting), undefined);
  });
}

test('a token works once', async () => {
  const { contacts } = await setUp();
  const token = tokenOf(contacts.ask(reef, contact, 'a@else.test'));
  assert.ok(contacts.confirm(token));
  assert.equal(contacts.confirm(token), undefined);
  assert.equal(contacts.look(token), undefined);
});

test('a token works for seven days', async () => {
  const { contacts, clock } = await setUp();
  const token = tokenOf(contacts.ask(reef, contact, 'a@else.test'));
  clock.now += 7 * dayMs - 1;
  assert.ok(contacts.look(token));
  clock.now += 1;
  assert.equal(contacts.look(token), undefined);
  assert.equal(contacts.confirm(token), undefined);
  assert.deepEqual(contacts.state(reef, contact), { confirmed: null, pending: null });
});

test('a new request ends the link of the one before', async () => {
  const { contacts } = await setUp();
  const old = tokenOf(contacts.ask(reef, contact, 'a@else.test'));
  const now = tokenOf(contacts.ask(reef, contact, 'b@else.test'));
  assert.equal(contacts.confirm(old), undefined);
  assert.equal(contacts.confirm(now)?.address, 'b@else.test');
});

test('looking at a token changes nothing', async () => {
  const { contacts } = await setUp();
  const token = tokenOf(contacts.ask(reef, forwardTo, 'a@else.test'));
  for (let n = 0; n < 3; n++) assert.equal(contacts.look(token)?.address, 'a@else.test');
  assert.deepEqual(contacts.state(reef, forwardTo), { confirmed: null, pending: 'a@else.test' });
});

test('naming the confirmed address again needs no mail, and drops what waited', async () => {
  const { contacts } = await setUp();
  contacts.confirm(tokenOf(contacts.ask(reef, contact, 'a@else.test')));
  const other = tokenOf(contacts.ask(reef, contact, 'b@else.test'));
  assert.deepEqual(contacts.ask(reef, contact, 'a@else.test'), { kind: 'confirmed' });
  assert.equal(contacts.confirm(other), undefined);
  assert.deepEqual(contacts.state(reef, contact), { confirmed: 'a@else.test', pending: null });
});

for (const token of ['', 'x', 'x'.repeat(43), "'; DROP TABLE confirmation; --"]) {
  test(`"${token.slice(0, 8)}" (${token.length} characters) is no token`, async () => {
    const { contacts } = await setUp();
    contacts.ask(reef, contact, 'a@else.test');
    assert.equal(contacts.look(token), undefined);
    assert.equal(contacts.confirm(token), undefined);
  });
}

test('a domain that is another member’s when the link is followed is not touched', async () => {
  const { contacts, db } = await setUp();
  const token = tokenOf(contacts.ask(reef, forwardTo, 'a@else.test'));
  db.exec(`UPDATE domain SET did = '${orchard}' WHERE name = 'reef.test'`);
  assert.equal(contacts.confirm(token), undefined);
  assert.equal(contacts.state(orchard, forwardTo).confirmed, null);
});

test('a letter that could not be sent takes its own request back, and none that came after it', async () => {
  const { contacts } = await setUp();
  const first = tokenOf(contacts.ask(reef, contact, 'a@else.test'));
  const second = tokenOf(contacts.ask(reef, contact, 'b@else.test'));
  contacts.withdraw(first);
  assert.equal(contacts.state(reef, contact).pending, 'b@else.test');
  contacts.withdraw(second);
  assert.equal(contacts.state(reef, contact).pending, null);
});

test('in a sandbox an address counts at once, for a domain that is enrolled', async () => {
  const { contacts } = await setUp();
  const waiting = tokenOf(contacts.ask(reef, forwardTo, 'a@else.test'));
  contacts.confirmNow(reef, forwardTo, 'b@else.test');
  assert.deepEqual(contacts.state(reef, forwardTo), { confirmed: 'b@else.test', pending: null });
  assert.equal(contacts.confirm(waiting), undefined);
  const foreign: Purpose = { kind: 'forward-to', domain: 'orchard.test' };
  assert.throws(() => contacts.confirmNow(reef, foreign, 'b@else.test'), RangeError);
});

test('a member asks for ten mails a day, whatever the addresses', async () => {
  const { contacts, clock } = await setUp();
  for (let n = 0; n < 10; n++) {
    tokenOf(contacts.ask(reef, contact, `a${n}@else.test`));
    clock.now += 60_000;
  }
  const refused = contacts.ask(reef, forwardTo, 'new@else.test');
  assert.ok(refused.kind === 'too-many' && refused.whose === 'member');
  // Another member is not held up.
  tokenOf(contacts.ask(orchard, contact, 'new@else.test'));
  clock.now = refused.retryAt;
  tokenOf(contacts.ask(reef, forwardTo, 'new@else.test'));
});

test('a mailbox gets three mails a day, whoever asks and however it is spelled', async () => {
  const { contacts, clock } = await setUp();
  tokenOf(contacts.ask(reef, contact, 'ann@else.test'));
  tokenOf(contacts.ask(reef, forwardTo, 'Ann+1@else.test'));
  tokenOf(contacts.ask(orchard, contact, 'ANN+2@else.test'));
  const refused = contacts.ask(orchard, { kind: 'forward-to', domain: 'orchard.test' }, 'ann@else.test');
  assert.ok(refused.kind === 'too-many' && refused.whose === 'mailbox');
  clock.now = refused.retryAt;
  tokenOf(contacts.ask(orchard, contact, 'ann@else.test'));
});

test('a refused request leaves what waited', async () => {
  const { contacts } = await setUp();
  const waiting = tokenOf(contacts.ask(reef, contact, 'a@else.test'));
  for (let n = 0; n < 9; n++) contacts.ask(reef, forwardTo, `b${n}@else.test`);
  assert.equal(contacts.ask(reef, contact, 'c@else.test').kind, 'too-many');
  assert.equal(contacts.confirm(waiting)?.address, 'a@else.test');
});

test('bounces go to the forward-to of the domain, else to the contact of the member, else nowhere', async () => {
  const { contacts } = await setUp();
  assert.equal(contacts.forBounces('reef.test', reef), undefined);
  const first = tokenOf(contacts.ask(reef, contact, 'contact@else.test'));
  const second = tokenOf(contacts.ask(reef, forwardTo, 'bounces@else.test'));
  assert.equal(contacts.forBounces('reef.test', reef), undefined);
  contacts.confirm(first);
  assert.equal(contacts.forBounces('reef.test', reef), 'contact@else.test');
  contacts.confirm(second);
  assert.equal(contacts.forBounces('reef.test', reef), 'bounces@else.test');
  contacts.clear(reef, forwardTo);
  assert.equal(contacts.forBounces('reef.test', reef), 'contact@else.test');
  assert.equal(contacts.forBounces('orchard.test', orchard), undefined);
});

test('bounces of a domain that went to another member go to neither by mistake', async () => {
  const { contacts, db } = await setUp();
  contacts.confirm(tokenOf(contacts.ask(orchard, contact, 'new-owner@else.test')));
  db.exec(`UPDATE domain SET did = '${orchard}' WHERE name = 'reef.test'`);
  assert.equal(contacts.forBounces('reef.test', reef), undefined, 'mail of the time before');
  assert.equal(contacts.forBounces('reef.test', orchard), 'new-owner@else.test');
});

test('no token stands in the database', async () => {
  const { contacts, db } = await setUp();
  const token = tokenOf(contacts.ask(reef, contact, 'a@else.test'));
  const rows = db.prepare('SELECT * FROM confirmation').all() as Record<string, unknown>[];
  const everything = rows.flatMap((row) =>
    Object.values(row).flatMap((value) =>
      value instanceof Uint8Array || value instanceof ArrayBuffer
        ? [
            Buffer.from(value as ArrayBuffer).toString('latin1'),
            Buffer.from(value as ArrayBuffer).toString('base64url'),
          ]
        : [String(value)],
    ),
  );
  assert.equal(
    everything.some((text) => text.includes(token)),
    false,
  );
});
