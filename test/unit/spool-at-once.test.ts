/** A claim in the answer to an acceptance: the same as due() would give, only when its turn is now, and no less durable. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { Claim, NewMessage, Spool } from '../../node/spool/spool.ts';
import { delivered, due, mail, minute, openSpool, start, temporaryFolder } from './spool-fixtures.ts';

/** Takes everything that it is offered. */
function taking(spool: Spool, wants: (message: NewMessage) => boolean = () => true) {
  const claims: Claim[] = [];
  const sizes: number[] = [];
  spool.handTo({
    wants,
    recall: () => undefined,
    answered(size, claim) {
      sizes.push(size);
      if (claim) claims.push(claim);
    },
  });
  return { claims, sizes };
}

async function world(t: TestContext) {
  const dir = temporaryFolder(t);
  const spool = await openSpool(t, { dir });
  return { dir, spool, ...taking(spool) };
}

const full = (change: Parameters<typeof mail>[0] = {}): NewMessage => {
  const message = mail({ signatures: 'DKIM-Signature: v=1\r\n', keyId: 'k1', category: 'bulk', ...change });
  Object.assign(message, { envid: 'e', ret: 'hdrs', requireTls: true });
  Object.assign(message.recipients[0]!, { notify: ['failure'], orcpt: 'rfc822;ann@dest.test' });
  return message;
};

test('it is the claim that due() would give', async (t) => {
  const { spool, claims, sizes } = await world(t);
  const message = full({ to: ['Ann@Dest.test'] });
  assert.deepEqual(await spool.accept(message), { kind: 'committed' });
  assert.deepEqual([claims.length, sizes], [1, [claims[0]!.body!.length]]);
  assert.deepEqual(await due(spool, 10, start), []);
  await spool.release([claims[0]!.recipientId]);
  const [again] = await due(spool, 10, start);
  const known = (claim: Claim) =>
    Object.fromEntries(Object.entries(claim).filter(([, v]) => v !== undefined));
  assert.deepEqual(known(claims[0]!), known(again!));
});

test('it is nobody else’s until it is settled, and due again at the next start', async (t) => {
  const { dir, spool, claims } = await world(t);
  for (const n of [1, 2]) await spool.accept(mail({ to: [`ann@dest${n}.test`] }));
  assert.deepEqual([claims.length, await due(spool, 10, start)], [2, []]);
  const [{ recipientId }] = claims as [Claim];
  const attempt = delivered();
  assert.equal(await spool.settle({ recipientId, attempt, next: { state: 'sent' } }), 'settled');
  await spool.close();
  const next = await openSpool(t, { dir });
  const left = await due(next, 10, start);
  assert.deepEqual(
    left.map((claim) => claim.recipientId),
    [claims[1]!.recipientId],
  );
});

test('older mail of its lane, and of any other, goes first', async (t) => {
  for (const older of [{ to: ['bob@dest.test'] }, { to: ['bob@else.test'], did: 'did:plc:kelp' }]) {
    const { spool, claims } = await world(t);
    spool.handTo(undefined);
    await spool.accept(mail({ ...older, receivedAt: start - minute }));
    const taken = taking(spool);
    await spool.accept(mail());
    assert.deepEqual([claims.length, taken.claims.length, taken.sizes.length], [0, 0, 1]);
    const [first, second] = await due(spool, 10, start);
    assert.deepEqual([first!.address, second!.address], [older.to[0], 'ann@dest.test']);
    await spool.accept(mail({ to: ['eve@dest.test'] }));
    assert.equal(taken.claims[0]!.address, 'eve@dest.test');
  }
});

test('what may not be handed out now is not, whoever has mail that waits for it', async (t) => {
  const { spool, claims } = await world(t);
  await due(spool, 1, start, ['full.test'], ['did:plc:sated']);
  await spool.accept(mail({ to: ['a@full.test'] }));
  await spool.accept(mail({ did: 'did:plc:sated' }));
  assert.deepEqual(claims, []);
  await spool.accept(mail());
  assert.equal(claims.length, 1);
});

test('only one recipient who is due now, with a body that fits into a row', async (t) => {
  const { spool, claims, sizes } = await world(t);
  await spool.accept(mail({ to: ['a@dest.test', 'b@dest.test'] }));
  await spool.accept(mail({ sendAt: start + minute }));
  await spool.accept(mail({ hold: 'review' }));
  await spool.accept(mail({ body: Buffer.alloc(256 * 1024 + 1, 'a') }));
  assert.deepEqual([claims, sizes], [[], []]);
});

test('what is not accepted is answered too, without a claim', async (t) => {
  const { spool, claims, sizes } = await world(t);
  const cap = { scope: 'did:plc:reef', perHour: 1, perDay: 1 };
  assert.equal((await spool.accept(mail({ caps: [cap] }))).kind, 'committed');
  assert.equal((await spool.accept(mail({ caps: [cap] }))).kind, 'over-cap');
  await spool.close();
  assert.equal((await spool.accept(mail())).kind, 'failed');
  assert.deepEqual([claims.length, sizes.length], [1, 3]);
});

test('who does not want it leaves it to due()', async (t) => {
  const spool = await openSpool(t);
  const { claims, sizes } = taking(spool, () => false);
  await spool.accept(mail());
  assert.deepEqual([claims, sizes, (await due(spool, 1, start)).length], [[], [], 1]);
});

test('what an act of the same commit held, ended or moved is not claimed as it was accepted', async (t) => {
  const why = { by: 'operator', reason: 'review' };
  const reef = { did: 'did:plc:reef' };
  const acts: [string, (spool: Spool) => Promise<unknown>, Partial<Claim> | undefined][] = [
    ['held', (spool) => spool.hold(reef, why), undefined],
    ['cancelled', (spool) => spool.cancel(reef, why), undefined],
    ['failed', (spool) => spool.fail(reef, why), { failReason: 'review' }],
    [
      'rerouted',
      (spool) => spool.reroute(reef, { by: 'operator', to: 'else.test' }),
      { reroute: 'else.test' },
    ],
    ['assigned', (spool) => spool.assignSite('dest.test', 'mx.dest.test'), { site: 'mx.dest.test' }],
  ];
  for (const [name, act, left] of acts) {
    const { spool, claims } = await world(t);
    await Promise.all([spool.accept(mail()), act(spool)]);
    assert.deepEqual(claims, [], name);
    const [claim] = await due(spool, 1, start);
    assert.deepEqual(claim && { ...claim, ...left }, claim, name);
    assert.equal(claim !== undefined, left !== undefined, name);
  }
});
