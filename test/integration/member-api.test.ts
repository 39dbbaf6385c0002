/** How a member stands, and where its bounces and notices go. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { deliverabilityAnswer } from '../../node/relay/api/deliverability.ts';
import { contactAnswer, forwardToAnswer } from '../../node/relay/api/forward-to.ts';
import { statusAnswer } from '../../node/relay/api/member-status.ts';
import { openApiWorld } from './api-world.ts';
import { orchard, reef, type WorldOptions } from './submission-world.ts';

const dayMs = 86_400_000;
const clock = { now: Date.UTC(2026, 10, 20, 12) };
const caps = {
  warmingDays: 14,
  warming: [{ untilDay: 14, perHour: 5, perDay: 50, burst: 10 }],
  tiers: { standard: { perHour: 200, perDay: 2000 } },
};
const options: WorldOptions = { now: () => clock.now, caps };
const world = await openApiWorld(options);
const { call } = world;
after(() => world.close());

const mail = { from: 'a@reef.test', to: ['b@dest.test', 'c@dest.test'], subject: 'hello', text: 'body' };

async function status(to = world) {
  const {
    status: code,
    body,
    text,
  } = await to.call('GET', `/member/status?did=${reef}`, {
    as: { authorization: to.login.authorization },
  });
  assert.equal(code, 200, text);
  return statusAnswer.parse(body);
}

test('the status says how the member stands and what is left of its caps', async () => {
  const before = await status();
  assert.deepEqual(before.standing, {
    ...{ state: 'active', reason: null, until: null, by: 'person', tier: 'standard' },
  });
  assert.equal((await call('POST', '/v1/send', { body: mail })).status, 200);
  const { budget } = await status();
  const warming = budget.find(({ scope }) => scope === 'domain:reef.test')!;
  const { scope, domains, perHour, perDay, burst } = warming;
  assert.deepEqual(
    { scope, domains, perHour, perDay, burst },
    { scope: 'domain:reef.test', domains: ['reef.test'], perHour: 5, perDay: 50, burst: 10 },
  );
  assert.deepEqual([warming.hour.used, warming.day.used, warming.day.left], [2, 2, 48]);
  assert.equal(budget.find(({ scope: other }) => other === 'domain:news.reef.test')!.day.used, 0);
});

test('domains that share a cap share one entry of the budget', async () => {
  const wide = await openApiWorld();
  try {
    const { budget, domains } = await status(wide);
    assert.deepEqual(
      budget.map(({ scope, domains: names }) => [scope, [...names].sort()]),
      [[reef, ['news.reef.test', 'reef.test']]],
    );
    assert.deepEqual(
      domains.map(({ warming }) => warming),
      [null, null],
    );
  } finally {
    await wide.close();
  }
});

test('a domain that warms up says which day it is', async () => {
  const { domains } = await status();
  const { warming, tier } = domains.find(({ domain }) => domain === 'reef.test')!;
  assert.equal(tier, 'warming');
  assert.equal(warming!.day, 1);
  assert.equal(warming!.of, 14);
  assert.equal(Date.parse(warming!.until) - clock.now, 14 * dayMs);
});

test('sends, bounces and complaints stand there by window and by domain', async () => {
  const at = clock.now;
  const event = (n: number, type: string, detail: object) =>
    ({ id: String(n), type, at, did: reef, domain: 'reef.test', recipientId: `x.${n}`, detail }) as never;
  world.rates.project([
    ...[1, 2, 3, 4].map((n) => event(n, 'relay_attempt', { recipient: `r${n}@dest.test` })),
    event(5, 'delivery_result', { state: 'sent', recipient: 'r1@dest.test', site: 'dest.test' }),
    event(6, 'delivery_result', {
      ...{ state: 'bounced', recipient: 'r2@dest.test', site: 'dest.test', recipientInvalid: true },
    }),
    event(7, 'complaint_received', { recipient: 'r1@dest.test' }),
  ]);
  const { rates, domains } = await status();
  const expected = { sends: 4, delivered: 1, bounces: 1, invalidRecipients: 1, complaints: 1 };
  for (const window of ['1h', '24h', '7d', '30d'] as const) assert.deepEqual(rates[window], expected, window);
  const of = (name: string) => domains.find(({ domain }) => domain === name)!.rates['24h'];
  assert.deepEqual(of('reef.test'), expected);
  assert.equal(of('news.reef.test').sends, 0);

  const { body } = await call('GET', `/member/deliverability?did=${reef}`);
  const answer = deliverabilityAnswer.parse(body);
  assert.equal(answer.window, '14d');
  assert.deepEqual(
    [answer.sends, answer.bounces, answer.complaints, answer.bounceRate, answer.complaintRate],
    [4, 1, 1, 0.25, 0.25],
  );
  assert.deepEqual(
    answer.domains.map(({ domain, sends, bounceRate }) => [domain, sends, bounceRate]).sort(),
    [
      ['news.reef.test', 0, null],
      ['reef.test', 4, 0.25],
    ],
  );
  assert.deepEqual(
    answer.providers.map(({ provider, sends, bounces }) => [provider, sends, bounces]),
    [['dest.test', 2, 1]],
  );
});

test('a suspended member reads why, and until when', async () => {
  const until = clock.now + dayMs;
  world.db.exec(
    `UPDATE member SET state = 'suspended', state_reason = 'report 7', state_until = ${until} WHERE did = '${reef}'`,
  );
  const { standing, notices } = await status();
  assert.equal((await call('GET', `/member/deliverability?did=${reef}`)).status, 200);
  const refused = await call('PUT', '/member/contact', { body: { contact: 'a@else.test' } });
  world.db.exec(`UPDATE member SET state = 'active', state_until = NULL WHERE did = '${reef}'`);
  assert.deepEqual(
    [standing.state, standing.reason, standing.until],
    ['suspended', 'report 7', new Date(until).toISOString()],
  );
  assert.match(notices.join('\n'), /suspended: report 7/);
  assert.deepEqual([refused.status, refused.body.code], [403, 'MEMBER_SUSPENDED']);
});

test('the figures of another member are 403 DID_MISMATCH', async () => {
  for (const url of [`/member/status?did=${orchard}`, '/member/deliverability?did=did:plc:nobody']) {
    const { status: code, body } = await call('GET', url);
    assert.deepEqual([code, body.code], [403, 'DID_MISMATCH']);
  }
});

/** The one letter that waits for an address, as text. */
async function letterTo(address: string) {
  const claims = (await world.accepted()).filter((claim) => claim.address === address);
  const claim = claims.at(-1)!;
  assert.equal(claim.kind, 'notice');
  return { claim, text: claim.message.toString('latin1') };
}

function linkIn(text: string): string {
  const body = text.slice(text.indexOf('\r\n\r\n')).replace(/=\r\n/g, '');
  return new URL(/https:\/\/harbor\.test\/c\/\S+/.exec(body)![0]).pathname;
}

const form = { 'content-type': 'application/x-www-form-urlencoded' };

test('a forward-to counts once its owner pressed the button behind the mailed link', async () => {
  const asked = await call('PUT', '/member/forward-to', {
    body: { domain: 'reef.test', forward_to: 'ana@else.test' },
  });
  assert.equal(asked.status, 200, asked.text);
  assert.deepEqual(forwardToAnswer.parse(asked.body), {
    ...{ domain: 'reef.test', forward_to: 'ana@else.test', status: 'pending', active: null },
  });
  assert.equal(world.contacts.forBounces('reef.test', reef), undefined);
  const pending = (await status()).domains.find(({ domain }) => domain === 'reef.test')!;
  assert.deepEqual([pending.forwardTo.pending, pending.bouncesGoTo], ['ana@else.test', 'nowhere']);

  const link = linkIn((await letterTo('ana@else.test')).text);
  // Scanners of mail open every link, some more than once.
  for (let n = 0; n < 3; n++) {
    const page = await call('GET', link, { as: {} });
    assert.equal(page.status, 200);
    assert.match(page.text, /<form method="post"><button>/);
    assert.match(page.text, /bounces of mail from reef\.test/);
    assert.match(`${page.headers['cache-control']}`, /no-store/);
  }
  assert.equal(world.contacts.forBounces('reef.test', reef), undefined);

  const pressed = await call('POST', link, { as: {}, headers: form, body: '' });
  assert.equal(pressed.status, 200, pressed.text);
  assert.match(pressed.text, /Confirmed/);
  assert.equal(world.contacts.forBounces('reef.test', reef), 'ana@else.test');
  const { domains, notices } = await status();
  assert.equal(domains.find(({ domain }) => domain === 'reef.test')!.bouncesGoTo, 'forward-to');
  assert.doesNotMatch(notices.join('\n'), /Bounces of reef\.test /);

  const again = await call('POST', link, { as: {}, headers: form, body: '' });
  assert.equal(again.status, 404);
  assert.match(again.text, /not valid, or was used before/);
});

test('the confirmed address stays until the owner of the new one said yes; null ends it at once', async () => {
  const put = (forward_to: string | null) =>
    call('PUT', '/member/forward-to', { body: { domain: 'REEF.test', forward_to } });
  assert.deepEqual(forwardToAnswer.parse((await put('ben@else.test')).body), {
    ...{ domain: 'reef.test', forward_to: 'ben@else.test', status: 'pending', active: 'ana@else.test' },
  });
  assert.equal(world.contacts.forBounces('reef.test', reef), 'ana@else.test');
  assert.deepEqual(forwardToAnswer.parse((await put('ana@else.test')).body), {
    ...{ domain: 'reef.test', forward_to: 'ana@else.test', status: 'active', active: 'ana@else.test' },
  });
  assert.deepEqual(forwardToAnswer.parse((await put(null)).body), {
    ...{ domain: 'reef.test', forward_to: null, status: 'none', active: null },
  });
  assert.equal(world.contacts.forBounces('reef.test', reef), undefined);
});

test('the status says where bounces have nowhere to go', async () => {
  const { notices } = await status();
  assert.match(notices.join('\n'), /Bounces of news\.reef\.test have nowhere to go/);
});

test('a contact counts after its owner pressed the button, and takes bounces that have no forward-to', async () => {
  const asked = await call('PUT', '/member/contact', { body: { contact: 'carl@else.test' } });
  assert.deepEqual(contactAnswer.parse(asked.body), {
    ...{ contact: 'carl@else.test', status: 'pending', active: null },
  });
  const { text } = await letterTo('carl@else.test');
  await call('POST', linkIn(text), { as: {}, headers: form, body: 'x=1' });
  const { contact, domains, notices } = await status();
  assert.equal(contact.confirmed, 'carl@else.test');
  assert.deepEqual(
    domains.map(({ bouncesGoTo }) => bouncesGoTo),
    ['contact', 'contact'],
  );
  assert.deepEqual(notices, []);
});

test('the letter is the pool’s own: null sender, signed, written by a program, without a DSN', async () => {
  await call('PUT', '/member/contact', { body: { contact: 'dora@else.test' } });
  const { claim, text } = await letterTo('dora@else.test');
  assert.equal(claim.returnPath, '');
  assert.equal(claim.mailFrom, '');
  assert.match(text, /^DKIM-Signature:[\s\S]*?d=harbor\.test/m);
  assert.match(text, /^From: Harbor <postmaster@harbor\.test>\r$/m);
  assert.match(text, /^Auto-Submitted: auto-generated\r$/m);
  assert.match(text, new RegExp(`^Message-ID: <${claim.queueId}@harbor\\.test>\\r$`, 'm'));
  assert.match(text, new RegExp(reef));
});

const refused: [name: string, url: string, body: unknown, status: number, code: string, says: RegExp][] = [
  [
    'a domain of another member',
    '/member/forward-to',
    { domain: 'orchard.test', forward_to: 'a@else.test' },
    403,
    'DOMAIN_MISMATCH',
    /orchard\.test/,
  ],
  [
    'a domain of nobody',
    '/member/forward-to',
    { domain: 'nowhere.test', forward_to: 'a@else.test' },
    403,
    'DOMAIN_MISMATCH',
    /nowhere\.test/,
  ],
  ['no address', '/member/forward-to', { domain: 'reef.test' }, 400, 'INVALID_REQUEST', /forward_to/],
  [
    'a malformed address',
    '/member/forward-to',
    { domain: 'reef.test', forward_to: 'x' },
    400,
    'INVALID_REQUEST',
    /forward_to: is not an address/,
  ],
  [
    'an address with a name',
    '/member/contact',
    { contact: 'A <a@else.test>' },
    400,
    'INVALID_REQUEST',
    /contact/,
  ],
  [
    'an address of the pool',
    '/member/contact',
    { contact: 'postmaster@harbor.test' },
    400,
    'INVALID_REQUEST',
    /cooperative/,
  ],
  [
    'an address of the simulator',
    '/member/contact',
    { contact: 'delivered@simulator.harbor.test' },
    400,
    'INVALID_REQUEST',
    /cooperative/,
  ],
  [
    'an address whose mail comes to this relay',
    '/member/forward-to',
    { domain: 'reef.test', forward_to: 'ana@news.reef.test' },
    400,
    'INVALID_REQUEST',
    /mail for news\.reef\.test comes to this relay/,
  ],
  [
    'an unknown field',
    '/member/contact',
    { contact: 'a@else.test', confirmed: true },
    400,
    'INVALID_REQUEST',
    /"confirmed"/,
  ],
];
for (const [name, url, body, code, catalogued, says] of refused) {
  test(`${url} with ${name} is ${code} ${catalogued}, and no mail is sent`, async () => {
    const before = (await world.accepted()).length;
    const answer = await call('PUT', url, { body });
    assert.deepEqual([answer.status, answer.body.code], [code, catalogued]);
    assert.match(answer.body.error, says);
    assert.equal((await world.accepted()).length, before);
  });
}

test('nobody is flooded: the fourth mail to one mailbox within a day is 429 CONFIRMATION_LIMIT', async () => {
  const ask = (n: number) => call('PUT', '/member/contact', { body: { contact: `victim+${n}@else.test` } });
  for (let n = 0; n < 3; n++) assert.equal((await ask(n)).status, 200);
  const before = (await world.accepted()).length;
  const { status: code, body } = await ask(3);
  assert.deepEqual([code, body.code], [429, 'CONFIRMATION_LIMIT']);
  assert.equal((await world.accepted()).length, before);
});

test('where the letter cannot be stored, nothing waits and the member is told to try again', async () => {
  const full = await openApiWorld({
    queue: () => ({ accept: async () => ({ kind: 'failed', reason: 'x' }) }),
  });
  try {
    const { status: code, body } = await full.call('PUT', '/member/contact', {
      body: { contact: 'a@else.test' },
    });
    assert.deepEqual([code, body.code], [503, 'STORAGE_FAILED']);
    assert.deepEqual(full.contacts.state(reef, { kind: 'contact' }), { confirmed: null, pending: null });
  } finally {
    await full.close();
  }
});

for (const token of ['x', 'A'.repeat(43), '%00', 'A'.repeat(200)]) {
  test(`the link /c/${token.slice(0, 5)} (${token.length}) is a friendly 404, for both methods`, async () => {
    for (const method of ['GET', 'POST'] as const) {
      const page = await call(method, `/c/${token}`, {
        as: {},
        ...(method === 'POST' && { headers: form, body: '' }),
      });
      assert.equal(page.status, 404);
      assert.match(page.text, /This link does nothing/);
    }
  });
}
