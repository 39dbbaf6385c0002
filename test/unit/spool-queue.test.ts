import assert from 'node:assert/strict';
import { existsSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { CorruptState } from '../../appview/database.ts';
import { newQueueId } from '../../node/spool/ids.ts';
import { Spool } from '../../node/spool/spool.ts';
import {
  bodyFor,
  Clock,
  day,
  delivered,
  due,
  mail,
  minute,
  openSpool,
  putOff,
  silent,
  start,
  temporaryFolder,
} from './spool-fixtures.ts';

const large = 300 * 1024;

test('queue ids are unique, and sort by the time of acceptance', () => {
  const ids = Array.from({ length: 1_000 }, (_, ms) => newQueueId(() => start + ms));
  assert.deepEqual([...ids].sort(), ids);
  assert.equal(new Set(Array.from({ length: 1_000 }, () => newQueueId(() => start))).size, 1_000);
  for (const id of ids) assert.match(id, /^[0-9a-v]{16}$/);
});

test('an accepted message is due at once, with its bytes as they came', async (t) => {
  const spool = await openSpool(t);
  const message = mail({ to: ['ann@Dest.test', 'bob@other.test'], signatures: 'DKIM-Signature: x\r\n' });
  assert.deepEqual(await spool.accept(message), { kind: 'committed' });
  const claims = await due(spool, 10, start);
  assert.deepEqual(
    claims.map((claim) => [claim.recipientId, claim.address, claim.recipientDomain, claim.attempts]),
    [
      [`${message.queueId}.1`, 'ann@Dest.test', 'dest.test', 0],
      [`${message.queueId}.2`, 'bob@other.test', 'other.test', 0],
    ],
  );
  const { signatures, signedAt, prefix } = message.recipients[0]!;
  assert.deepEqual(
    [claims[0]!.signatures, claims[0]!.signedAt, claims[0]!.prefix],
    [signatures, signedAt, prefix],
  );
  assert.deepEqual(await spool.body(message.queueId), message.body);
});

test('a claimed recipient is nobody else’s until it is settled or released', async (t) => {
  const spool = await openSpool(t);
  await spool.accept(mail({ to: ['a@dest.test', 'b@dest.test', 'c@dest.test'] }));
  const [first] = await due(spool, 1, start);
  const others = await due(spool, 10, start);
  assert.equal(others.length, 2);
  assert.ok(!others.some((claim) => claim.recipientId === first!.recipientId));
  assert.deepEqual(await due(spool, 10, start), []);
  assert.equal(await spool.nextDueAt(), undefined);
  await spool.release([first!.recipientId]);
  assert.equal(await spool.nextDueAt(), start);
  assert.deepEqual(
    (await due(spool, 10, start)).map((claim) => claim.recipientId),
    [first!.recipientId],
  );
});

test('a full domain is passed over, and its recipients do not hide those behind them', async (t) => {
  const spool = await openSpool(t);
  await spool.accept(mail({ to: ['a@slow.test', 'b@slow.test', 'c@fast.test'] }));
  const claims = await due(spool, 10, start, ['slow.test']);
  assert.deepEqual(
    claims.map((claim) => claim.recipientDomain),
    ['fast.test'],
  );
  assert.equal(await spool.nextDueAt({ exceptSites: ['slow.test'], exceptMembers: [] }), undefined);
  assert.equal(await spool.nextDueAt(), start);
});

test('a deferred recipient is due at its time, and a sent one never again', async (t) => {
  const spool = await openSpool(t);
  const message = mail({ to: ['a@dest.test', 'b@dest.test'] });
  await spool.accept(message);
  const [a, b] = await due(spool, 2, start);
  await spool.settle({
    recipientId: a!.recipientId,
    attempt: putOff(),
    next: { state: 'deferred', at: start + minute },
  });
  await spool.settle({ recipientId: b!.recipientId, attempt: delivered(), next: { state: 'sent' } });
  assert.deepEqual(await due(spool, 10, start + minute - 1), []);
  assert.equal(await spool.nextDueAt(), start + minute);
  const [again] = await due(spool, 10, start + minute);
  assert.deepEqual([again!.recipientId, again!.attempts], [a!.recipientId, 1]);
  const status = await spool.message(message.queueId);
  assert.deepEqual(
    status!.recipients.map(({ state, nextAt }) => [state, nextAt]),
    [
      ['deferred', start + minute],
      ['sent', null],
    ],
  );
  assert.equal(status!.recipients[0]!.timeline[0]!.reply, '451 4.7.1 later');
});

test('a large body is a file until the last recipient is terminal', async (t) => {
  const dir = temporaryFolder(t);
  const spool = await openSpool(t, { dir });
  const message = mail({ to: ['a@dest.test', 'b@dest.test'], body: bodyFor('large', large) });
  await spool.accept(message);
  const file = join(dir, 'spool', message.queueId);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.deepEqual(await spool.body(message.queueId), message.body);
  const claims = await due(spool, 2, start);
  await spool.settle({ recipientId: claims[0]!.recipientId, attempt: delivered(), next: { state: 'sent' } });
  assert.ok(existsSync(file));
  await spool.settle({
    recipientId: claims[1]!.recipientId,
    attempt: delivered(),
    next: { state: 'bounced' },
  });
  assert.ok(!existsSync(file));
  assert.equal(await spool.body(message.queueId), undefined);
});

test('the body does not belong to recipient 1: it is there without one, in a row or in a file', async (t) => {
  const dir = temporaryFolder(t);
  const first = await Spool.open({ dir, log: silent, now: () => start });
  const messages = [100, large].map((size) => {
    const message = mail({
      to: ['gone@dest.test', 'ann@dest.test', 'bob@dest.test'],
      body: bodyFor('x', size),
    });
    message.recipients.shift();
    return message;
  });
  for (const message of messages) assert.equal((await first.accept(message)).kind, 'committed');
  await first.close();
  const spool = await openSpool(t, { dir });
  const claims = await due(spool, 9, start);
  for (const { queueId, recipients, body } of messages) {
    const own = claims.filter((claim) => claim.queueId === queueId);
    assert.deepEqual(
      own.map(({ recipientId: id, prefix }) => [id, prefix.toString()]).sort(),
      recipients.map(({ id, prefix }) => [id, prefix.toString()]).sort(),
    );
    for (const claim of own) {
      assert.deepEqual(claim.body ?? (await spool.body(queueId)), body);
      await spool.settle({ recipientId: claim.recipientId, attempt: delivered(), next: { state: 'sent' } });
    }
    assert.equal(await spool.body(queueId), undefined);
  }
});

test('a repeated queue id is refused and changes nothing, in a row or in a file', async (t) => {
  const spool = await openSpool(t);
  for (const size of [100, large]) {
    const message = mail({ body: bodyFor('first', size) });
    const twin = mail({ queueId: message.queueId, body: bodyFor('second', size) });
    const answers = await Promise.all([spool.accept(message), spool.accept(twin), spool.accept(mail())]);
    assert.deepEqual(
      answers.map(({ kind }) => kind),
      ['committed', 'failed', 'committed'],
    );
    assert.deepEqual(await spool.body(message.queueId), message.body);
  }
});

test('a bounce without its DSN is not committed, and the claim stands', async (t) => {
  const spool = await openSpool(t);
  const message = mail();
  await spool.accept(message);
  const [claim] = await due(spool, 1, start);
  const settle = (dsn: ReturnType<typeof mail>) =>
    spool.settle({ recipientId: claim!.recipientId, attempt: putOff(), next: { state: 'bounced' }, dsn });
  // Its queue id is taken, so it cannot be stored.
  await assert.rejects(settle(mail({ queueId: message.queueId, kind: 'dsn' })), /UNIQUE/);
  assert.equal((await spool.message(message.queueId))!.recipients[0]!.state, 'accepted');
  assert.deepEqual(await due(spool, 10, start), []);
  const dsn = mail({ kind: 'dsn', to: ['owner@elsewhere.test'] });
  await settle(dsn);
  assert.equal((await spool.message(message.queueId))!.recipients[0]!.state, 'bounced');
  assert.deepEqual(
    (await due(spool, 10, start)).map(({ queueId, kind }) => [queueId, kind]),
    [[dsn.queueId, 'dsn']],
  );
});

test('a recipient that is terminal or forgotten is not settled again, its DSN is not sent, its claim is gone', async (t) => {
  const spool = await openSpool(t);
  await spool.accept(mail());
  const [claim] = await due(spool, 1, start);
  const settlement = {
    recipientId: claim!.recipientId,
    attempt: delivered(),
    next: { state: 'sent' } as const,
  };
  assert.equal(await spool.settle(settlement), 'settled');
  const dsn = mail({ kind: 'dsn', to: ['owner@elsewhere.test'] });
  assert.equal(await spool.settle({ ...settlement, next: { state: 'bounced' }, dsn }), 'not-open');
  assert.equal(await spool.message(dsn.queueId), undefined);
  assert.equal(await spool.settle({ ...settlement, recipientId: 'nobody.1' }), 'not-open');
  assert.equal(await spool.nextDueAt(), undefined);
});

test('a failure of our own that repeats is one line of the timeline and one event', async (t) => {
  const spool = await openSpool(t);
  const message = mail();
  await spool.accept(message);
  for (let i = 0; i < 5; i++) {
    const [claim] = await due(spool, 1, start);
    await spool.settle({
      recipientId: claim!.recipientId,
      attempt: putOff(start + i, false),
      next: { state: 'deferred', at: start },
    });
  }
  const [recipient] = (await spool.message(message.queueId))!.recipients;
  assert.deepEqual(
    recipient!.timeline.map(({ at, repeats }) => [at, repeats]),
    [[start + 4, 4]],
  );
  assert.equal(recipient!.attempts, 0);
  const events = await spool.eventsAfter('0', 10);
  assert.deepEqual(
    events.map(({ type }) => type),
    ['relay_attempt', 'delivery_result'],
  );
});

test('events carry the cause, grow in id, and are dropped once copied', async (t) => {
  const dir = temporaryFolder(t);
  const first = await Spool.open({ dir, log: silent, now: () => start });
  const message = mail();
  await first.accept(message);
  await first.accept(mail({ kind: 'dsn' }));
  const [claim] = await due(first, 1, start);
  await first.settle({ recipientId: claim!.recipientId, attempt: delivered(), next: { state: 'sent' } });
  const events = await first.eventsAfter('0', 10);
  assert.deepEqual(
    events.map(({ type, messageId, recipientId, did, domain }) => ({
      type,
      messageId,
      recipientId,
      did,
      domain,
    })),
    [
      {
        type: 'relay_attempt',
        messageId: message.queueId,
        recipientId: `${message.queueId}.1`,
        did: message.did,
        domain: message.domain,
      },
      {
        type: 'delivery_result',
        messageId: message.queueId,
        recipientId: `${message.queueId}.1`,
        did: message.did,
        domain: message.domain,
      },
    ],
  );
  assert.ok(Number(events[0]!.id) < Number(events[1]!.id));
  assert.deepEqual((await first.eventsAfter(events[0]!.id, 10)).length, 1);
  await first.forgetEvents(events[1]!.id);
  await first.close();
  // The clock stepped back meanwhile: ids still grow.
  const second = await openSpool(t, { dir, now: () => start - day });
  await second.accept(mail());
  const [newer] = await second.eventsAfter(events[1]!.id, 10);
  assert.equal(newer!.type, 'relay_attempt');
});

test('many accepts at once are all counted against one cap', async (t) => {
  const spool = await openSpool(t);
  const caps = [{ scope: 'did:plc:reef', perHour: 10, perDay: 10 }];
  const answers = await Promise.all(Array.from({ length: 30 }, () => spool.accept(mail({ caps }))));
  assert.equal(answers.filter(({ kind }) => kind === 'committed').length, 10);
  assert.equal((await due(spool, 100, start)).length, 10);
});

test('a restart brings everything back, claims included', async (t) => {
  const dir = temporaryFolder(t);
  const first = await Spool.open({ dir, log: silent });
  const messages = [mail(), mail({ body: bodyFor('large', large) }), mail()];
  for (const message of messages) await first.accept(message);
  const [claimed, sent] = await due(first, 2, start);
  assert.ok(claimed);
  await first.settle({ recipientId: sent!.recipientId, attempt: delivered(), next: { state: 'sent' } });
  await first.close();
  assert.equal((await first.accept(mail())).kind, 'failed');

  const second = await openSpool(t, { dir });
  const again = (await due(second, 10, start)).map((claim) => claim.queueId);
  assert.deepEqual(
    again.sort(),
    messages
      .map(({ queueId }) => queueId)
      .filter((id) => id !== sent!.queueId)
      .sort(),
  );
  for (const { queueId, body } of messages.filter(({ queueId }) => again.includes(queueId))) {
    assert.deepEqual(await second.body(queueId), body);
  }
});

test('a body file without a row is swept at the start, a row without its file stops it', async (t) => {
  const dir = temporaryFolder(t);
  const first = await Spool.open({ dir, log: silent });
  const message = mail({ body: bodyFor('large', large) });
  await first.accept(message);
  await first.close();
  writeFileSync(join(dir, 'spool', 'orphan'), 'x');
  writeFileSync(join(dir, 'spool', 'torn.part'), 'x');
  const second = await Spool.open({ dir, log: silent });
  // It sweeps between the calls.
  while (readdirSync(join(dir, 'spool')).length > 1) await second.message(message.queueId);
  await second.close();
  assert.deepEqual(readdirSync(join(dir, 'spool')), [message.queueId]);
  rmSync(join(dir, 'spool', message.queueId));
  await assert.rejects(Spool.open({ dir, log: silent }), (error) => {
    assert.ok(error instanceof CorruptState);
    assert.match(error.message, new RegExp(message.queueId));
    return true;
  });
});

test('a damaged database stops the start with its name', async (t) => {
  const dir = temporaryFolder(t);
  writeFileSync(join(dir, 'spool.db'), 'this is not a database, but long enough to look at '.repeat(50));
  await assert.rejects(Spool.open({ dir, log: silent }), (error) => {
    assert.ok(error instanceof CorruptState);
    assert.match(error.message, /spool\.db/);
    return true;
  });
});

test('state that breaks while we run is fatal, not silent', async (t) => {
  const dir = temporaryFolder(t);
  const fatal = Promise.withResolvers<Error>();
  const spool = await openSpool(t, { dir, onFatal: fatal.resolve });
  const message = mail({ body: bodyFor('large', large) });
  await spool.accept(message);
  rmSync(join(dir, 'spool', message.queueId));
  await assert.rejects(spool.body(message.queueId));
  assert.ok((await fatal.promise) instanceof CorruptState);
  assert.equal((await spool.accept(mail())).kind, 'failed');
});

test('after that nothing more is committed, and the spool can be opened anew', async (t) => {
  const dir = temporaryFolder(t);
  const fatal = Promise.withResolvers<Error>();
  const spool = await Spool.open({ dir, log: silent, now: () => start, onFatal: fatal.resolve });
  const [broken, late] = [mail({ body: bodyFor('large', large) }), mail()];
  await spool.accept(broken);
  rmSync(join(dir, 'spool', broken.queueId));
  const [read, accepted] = [spool.body(broken.queueId), spool.accept(late)];
  await assert.rejects(read);
  assert.equal((await accepted).kind, 'failed');
  await fatal.promise;
  writeFileSync(join(dir, 'spool', broken.queueId), broken.body);
  const again = await openSpool(t, { dir });
  assert.deepEqual(
    (await due(again, 9, start)).map(({ queueId }) => queueId),
    [broken.queueId],
  );
});

test('two processes cannot have one spool', async (t) => {
  const dir = temporaryFolder(t);
  await openSpool(t, { dir });
  await assert.rejects(Spool.open({ dir, log: silent }), /in use by another process/);
});

test('finished messages are forgotten after their retention, unfinished ones never', async (t) => {
  const clock = new Clock();
  const spool = await openSpool(t, { now: clock.now, retainMs: 30 * day });
  const [finished, open] = [mail(), mail({ to: ['late@dest.test'] })];
  await spool.accept(finished);
  await spool.accept(open);
  const [claim] = await due(spool, 1, start);
  await spool.settle({ recipientId: claim!.recipientId, attempt: delivered(), next: { state: 'sent' } });
  clock.forward(30 * day);
  await spool.accept(mail({ receivedAt: clock.at }));
  assert.ok(await spool.message(finished.queueId));
  clock.forward(2 * minute);
  await spool.accept(mail({ receivedAt: clock.at }));
  assert.equal(await spool.message(finished.queueId), undefined);
  assert.ok(await spool.message(open.queueId));
});

test('history past its retention is removed however much there is, also when nothing is written', async (t) => {
  t.mock.timers.enable({ apis: ['setInterval'] });
  const clock = new Clock();
  const spool = await openSpool(t, { now: clock.now, retainMs: 30 * day });
  const messages = Array.from({ length: 450 }, () => mail());
  await Promise.all(messages.map((message) => spool.accept(message)));
  const claims = await due(spool, 450, start);
  const sent = claims.map(({ recipientId }) =>
    spool.settle({ recipientId, attempt: delivered(), next: { state: 'sent' } }),
  );
  await Promise.all(sent);
  clock.forward(31 * day);
  t.mock.timers.tick(minute);
  // The thread goes on by itself, a batch a turn: each question here comes a turn later.
  const left = async () => {
    const found = await Promise.all(messages.map(({ queueId }) => spool.message(queueId)));
    return found.filter((message) => message !== undefined).length;
  };
  let turns = 0;
  while ((await left()) > 0 && turns < 20) turns += 1;
  assert.equal(await left(), 0);
});

test('a message without a recipient is refused', async (t) => {
  const spool = await openSpool(t);
  assert.equal((await spool.accept(mail({ to: [] }))).kind, 'failed');
});
