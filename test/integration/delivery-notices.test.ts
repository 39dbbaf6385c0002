/** Who is told what, when, as RFC 3461, 3464 and 8689 have it. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { recipientOf, refusalNotice } from '../../node/delivery/bounce.ts';
import type { NewMessage, NewRecipient } from '../../node/spool/spool.ts';
import {
  anywhere,
  destination,
  resolverOf,
  type Script,
  scripted,
  type World,
  world,
} from '../unit/delivery-fixtures.ts';
import { day, mail, minute, start } from '../unit/spool-fixtures.ts';

const hour = 60 * minute;
const owner = 'owner@owner.test';

/** The mail's destination follows the script; the owner's does not exist, so that DSNs stay in the queue. */
async function scene(
  t: TestContext,
  script: Script,
  options: Parameters<typeof world>[1] = {},
): Promise<World & { dsns: () => Promise<string[]> }> {
  const peer = await scripted(t, script);
  const resolver = resolverOf({ 'dest.test': { a: ['127.0.0.1'] }, 'owner.test': 'down' });
  const here = await world(t, { port: peer.port, resolver, forwardTo: owner, ...options });
  const dsns = async () => {
    const { messages } = await here.spool.messages({ recipient: owner, limit: 10 });
    const bodies = await Promise.all(messages.map(({ queueId }) => here.spool.body(queueId)));
    return bodies.map(String);
  };
  return { ...here, dsns };
}

function asked(recipient: Partial<NewRecipient>, message: Partial<NewMessage> = {}): NewMessage {
  const made = { ...mail(), ...message };
  return { ...made, recipients: made.recipients.map((one) => ({ ...one, ...recipient })) };
}

/** One try of `message`, and what its member is told then. */
async function told(here: Awaited<ReturnType<typeof scene>>, message: NewMessage): Promise<string[]> {
  await here.spool.accept(message);
  const first = here.results(1);
  here.deliverer.start();
  await first;
  return here.dsns();
}

const refuse: Script = { RCPT: '550 5.1.1 no such user' };

test('a failure names the envelope id and the original recipient as they were given', async (t) => {
  const here = await scene(t, refuse);
  const message = asked({ orcpt: 'rfc822;Ann@dest.test', notify: ['failure'] }, { envid: 'QQ314159' });
  const [dsn] = await told(here, message);
  assert.match(dsn!, /\r\n\r\nOriginal-Envelope-Id: QQ314159\r\nReporting-MTA: dns; harbor\.test\r\n/);
  assert.match(
    dsn!,
    /\r\n\r\nOriginal-Recipient: rfc822;Ann@dest\.test\r\nFinal-Recipient: rfc822; ann@dest\.test\r\nAction: failed\r\n/,
  );
});

test('NOTIFY=NEVER: no DSN, and the bounce stands on the timeline', async (t) => {
  const here = await scene(t, refuse);
  const message = asked({ notify: ['never'] });
  assert.deepEqual(await told(here, message), []);
  const { state, timeline } = await here.recipient(message.queueId);
  assert.deepEqual([state, timeline[0]!.reply], ['bounced', '550 5.1.1 no such user']);
});

test('NOTIFY=SUCCESS alone: a failure makes no DSN', async (t) => {
  assert.deepEqual(await told(await scene(t, refuse), asked({ notify: ['success'] })), []);
});

test('RET=FULL returns the whole message, RET=HDRS and no wish its header', async (t) => {
  const body = Buffer.from('From: pds@reef.test\r\nSubject: Your code\r\n\r\nthe code is 123\r\n');
  const full = (await told(await scene(t, refuse), asked({}, { ret: 'full', body })))[0]!;
  assert.match(
    full,
    /\r\nContent-Type: message\/rfc822\r\nContent-Transfer-Encoding: 7bit\r\n\r\nX-Atmos-Id: [^\r]+\r\nFrom: pds@reef\.test\r\n/,
  );
  assert.match(full, /the code is 123/);
  for (const ret of ['hdrs', undefined] as const) {
    const [short] = await told(await scene(t, refuse), asked({}, { ...(ret && { ret }), body }));
    assert.match(short!, /text\/rfc822-headers/);
    assert.doesNotMatch(short!, /the code is 123/);
  }
});

test('RET=FULL of 8-bit content says 8bit around it too, and a huge message is returned as its header', async (t) => {
  const eight = Buffer.from('From: pds@reef.test\r\n\r\nGrüße\r\n');
  const offering = { ...refuse, EHLO: '250-scripted.test\r\n250 8BITMIME' };
  const [dsn] = await told(await scene(t, offering), asked({}, { ret: 'full', body: eight }));
  assert.equal([...dsn!.matchAll(/Content-Transfer-Encoding: 8bit\r\n/g)].length, 2);
  assert.match(dsn!, /Grüße/);
  const huge = Buffer.from(`From: pds@reef.test\r\n\r\n${'x'.repeat(70)}\r\n`.padEnd(300_000, 'line\r\n'));
  const [cut] = await told(await scene(t, refuse), asked({}, { ret: 'full', body: huge }));
  assert.ok(cut!.length < 10_000);
});

test('NOTIFY=SUCCESS: a peer without DSN is followed by a `relayed` report, one with DSN is handed the wish', async (t) => {
  const message = () =>
    asked({ notify: ['success', 'failure'], orcpt: 'rfc822;ann@dest.test' }, { envid: 'e1', ret: 'hdrs' });
  const [dsn] = await told(await scene(t, {}), message());
  assert.match(dsn!, /\r\nAction: relayed\r\nStatus: 2\.0\.0\r\n/);
  assert.match(dsn!, /\r\nSubject: Handed on: mail to ann@dest\.test\r\n/);

  const peer = await scripted(t, { EHLO: '250-scripted.test\r\n250 DSN' });
  const here = await world(t, { port: peer.port, forwardTo: owner });
  const wished = message();
  await here.spool.accept(wished);
  const first = here.results(1);
  here.deliverer.start();
  assert.deepEqual(await first, ['sent']);
  assert.deepEqual(
    (await here.spool.messages({ recipient: owner, limit: 1 })).messages,
    [],
    'no DSN was made',
  );
  const said = peer.commands.filter((line) => /^(MAIL|RCPT)/.test(line)).join('\n');
  assert.match(said, /^MAIL FROM:<[^>]+>.* RET=HDRS.*ENVID=e1|^MAIL FROM:<[^>]+>.* ENVID=e1.*RET=HDRS/m);
  assert.match(said, /^RCPT TO:<ann@dest\.test>.* NOTIFY=SUCCESS,FAILURE/m);
  assert.match(said, /ORCPT=rfc822;ann@dest\.test/);
});

test('a report of success that cannot be signed does not hold up the delivery', async (t) => {
  const here = await scene(
    t,
    {},
    {
      dsn: {
        recipientFor: () => owner,
        seal: () => Promise.reject(new Error('no key')),
        from: 'x@harbor.test',
      },
    },
  );
  const message = asked({ notify: ['success'] });
  assert.deepEqual(await told(here, message), []);
  assert.equal((await here.recipient(message.queueId)).state, 'sent');
});

const defer: Script = { RCPT: '451 4.3.0 busy' };
const late = { delayNoticeMs: 20 * minute, retryMinutes: [30, 30, 30], longTailMs: 2 * hour };

async function deferThrice(here: Awaited<ReturnType<typeof scene>>, message: NewMessage): Promise<string[]> {
  await here.spool.accept(message);
  here.deliverer.start();
  for (const tries of [1, 2, 3]) {
    while ((await here.recipient(message.queueId)).timeline.length < tries) await new Promise(setImmediate);
    here.clock.forward(30 * minute);
    here.deliverer.wake();
  }
  return here.dsns();
}

test('a delay is told once, with the time until which it is tried', async (t) => {
  const here = await scene(t, defer, late);
  const [dsn, ...others] = await deferThrice(here, mail());
  assert.deepEqual(others, []);
  assert.match(dsn!, /\r\nAction: delayed\r\nStatus: 4\.3\.0\r\n/);
  assert.match(dsn!, /\r\nWill-Retry-Until: Tue, 24 Nov 2026 09:00:00 \+0000\r\n/);
  assert.match(dsn!, /\r\nSubject: Not delivered yet: mail to ann@dest\.test\r\n/);
});

test('NOTIFY without DELAY, and no configuration: no word of a delay', async (t) => {
  assert.deepEqual(await deferThrice(await scene(t, defer, late), asked({ notify: ['failure'] })), []);
  const { delayNoticeMs: _, ...silent } = late;
  assert.deepEqual(await deferThrice(await scene(t, defer, silent), mail()), []);
});

test('time that a message was scheduled is no delay', async (t) => {
  const here = await scene(t, defer, late);
  const sendAt = start + 10 * hour;
  await here.spool.accept(mail({ sendAt, expiresAt: start + 4 * day }));
  const result = here.results(1);
  here.clock.at = sendAt;
  here.deliverer.start();
  await result;
  assert.deepEqual(await here.dsns(), []);
});

test('a notice of a message under REQUIRETLS is under REQUIRETLS itself (RFC 8689 §5)', async (t) => {
  const message = { ...mail(), requireTls: true };
  const recipient = { ...message.recipients[0]!, refused: refusal };
  const dsn = await refusalNotice({ message, recipient }, dsnOptions, context);
  assert.equal(dsn!.requireTls, true);
  const here = await scene(t, {});
  await here.spool.accept(dsn!);
  const [claim] = await here.spool.due({ limit: 1, now: start + day, ...anywhere });
  assert.equal(claim!.requireTls, true);
});

const refusal = {
  ...({ at: start, durationMs: 0, outcome: 'failed', counted: false } as const),
  ...{ status: '5.7.1', summary: 'the recipient unsubscribed' },
};
const dsnOptions = {
  recipientFor: (domain: string, did: string) =>
    domain === 'reef.test' && did === 'did:plc:reef' ? owner : undefined,
  seal: () => Promise.resolve(Buffer.from('X-Sealed: yes\r\n')),
  from: 'mailer-daemon@harbor.test',
};
const context = { hostname: 'harbor.test', lifetimeMs: 4 * day, now: () => start };

test('a recipient refused after the dot has its DSN before anything is stored', async () => {
  const message = mail({ to: ['ann@dest.test', 'bob@dest.test'] });
  const recipient = { ...message.recipients[1]!, refused: refusal };
  const dsn = (await refusalNotice({ message, recipient }, dsnOptions, context))!;
  assert.deepEqual([dsn.kind, dsn.mailFrom, dsn.recipients[0]!.address], ['dsn', '', owner]);
  assert.match(
    String(dsn.body),
    /Final-Recipient: rfc822; bob@dest\.test\r\nAction: failed\r\nStatus: 5\.7\.1\r\n/,
  );
  const never = { ...recipient, notify: ['never'] as const };
  assert.equal(await refusalNotice({ message, recipient: never }, dsnOptions, context), undefined);
});

test('our own mail, and mail with the null sender, is never reported on', () => {
  const [claim] = [
    { kind: 'mail', mailFrom: 'a@reef.test', domain: 'reef.test', did: 'did:plc:reef' },
  ] as const;
  const to = (change: object) => recipientOf('failed', { ...claim, ...change } as never, dsnOptions);
  assert.equal(to({}), owner);
  for (const change of [{ kind: 'dsn' }, { kind: 'notice' }, { mailFrom: '' }, { domain: 'other.test' }])
    assert.equal(to(change), undefined, JSON.stringify(change));
});

test('an inbox gets a DSN that its program can thread', async (t) => {
  const { port, received } = await destination(t, {
    onRcptTo: ({ address }, _session, done) =>
      done(address === owner ? null : Object.assign(new Error('5.1.1 no'), { responseCode: 550 })),
  });
  const here = await world(t, { port, forwardTo: owner });
  await here.spool.accept(mail());
  const both = here.results(2);
  here.deliverer.start();
  assert.deepEqual(await both, ['bounced', 'sent']);
  assert.match(received[0]!.bytes.toString(), /\r\nIn-Reply-To: <1@reef\.test>\r\n/);
});

test('a report of success that nobody can address now takes no delivery back', async (t) => {
  const { port } = await destination(t);
  const recipientFor = () => {
    throw new Error('the database is locked');
  };
  const dsn = { recipientFor, seal: () => Promise.resolve(Buffer.alloc(0)), from: 'x@harbor.test' };
  const here = await world(t, { port, dsn });
  const message = asked({ notify: ['success'] });
  await here.spool.accept(message);
  const [result, failure] = [here.results(1), here.next('delivery_dsn_failures')];
  here.deliverer.start();
  assert.deepEqual(await result, ['sent']);
  await failure;
});

test('a DSN is made from the beginning of a large message, however many are made at once', async (t) => {
  const here = await scene(t, {});
  const body = Buffer.concat([Buffer.from('Subject: large\r\n\r\n'), Buffer.alloc(2_000_000, 'a line\r\n')]);
  const message = asked({}, { body });
  const read: number[] = [];
  const whole = here.spool.body.bind(here.spool);
  here.spool.body = async (...asks) => {
    const bytes = await whole(...asks);
    read.push(bytes!.length);
    return bytes;
  };
  await here.spool.accept(message);
  await here.spool.fail({ ids: [message.queueId] }, { by: 'ana', reason: 'why' });
  const result = here.results(1);
  here.deliverer.start();
  assert.deepEqual(await result, ['bounced']);
  assert.ok(read.length > 0 && Math.max(...read) < 64 * 1024, `${read} octets`);
  const [dsn] = await here.dsns();
  assert.match(dsn!, /\r\nSubject: large\r\n/);
});
