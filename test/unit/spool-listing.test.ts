/** What members and operators see: pages of messages, the queue, and its shape. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ageBuckets } from '../../node/spool/selection.ts';
import type { MessageStatus, Spool } from '../../node/spool/spool.ts';
import { delivered, due, mail, minute, openSpool, putOff, start } from './spool-fixtures.ts';

const two = 'did:plc:two';

async function pages(spool: Spool, query: Parameters<Spool['messages']>[0]): Promise<MessageStatus[]> {
  const found: MessageStatus[] = [];
  for (let cursor: string | undefined; ; ) {
    const page = await spool.messages({ ...query, cursor });
    found.push(...page.messages);
    cursor = page.cursor;
    if (cursor === undefined) return found;
  }
}

test('messages come newest first, in pages that miss none and repeat none', async (t) => {
  const spool = await openSpool(t);
  const ids: string[] = [];
  for (let n = 0; n < 25; n++) {
    const message = mail({ receivedAt: start + n, did: n % 5 === 0 ? two : 'did:plc:reef' });
    await spool.accept(message);
    ids.unshift(message.queueId);
  }
  const all = await pages(spool, { limit: 4 });
  assert.deepEqual(
    all.map(({ queueId }) => queueId),
    ids,
  );
  assert.equal((await pages(spool, { limit: 3, did: two })).length, 5);
  const part = await pages(spool, { limit: 9, since: start + 5, until: start + 8 });
  assert.deepEqual(
    part.map(({ receivedAt }) => receivedAt - start),
    [7, 6, 5],
  );
  await assert.rejects(spool.messages({ limit: 1, cursor: 'x' }), /cursor/);
});

test('messages are found by state, tag and recipient, among more than one look reads', async (t) => {
  const spool = await openSpool(t);
  const tagged = mail({
    tags: ['welcome'],
    to: ['Ann@Dest.test'],
    subject: 's'.repeat(300),
    category: 'bulk',
  });
  await spool.accept(tagged);
  await Promise.all(Array.from({ length: 700 }, () => spool.accept(mail({ to: ['bob@dest.test'] }))));
  for (const query of [{ tag: 'welcome' }, { recipient: 'ann@dest.test' }]) {
    const [found, ...others] = await pages(spool, { limit: 10, ...query });
    assert.deepEqual([found!.queueId, others], [tagged.queueId, []]);
    assert.deepEqual([found!.subject!.length, found!.tags, found!.category], [200, ['welcome'], 'bulk']);
  }
  const [claim] = await due(spool, 1, start);
  await spool.settle({ recipientId: claim!.recipientId, attempt: delivered(), next: { state: 'sent' } });
  assert.deepEqual(
    (await pages(spool, { limit: 10, state: 'sent' })).map(({ queueId }) => queueId),
    [claim!.queueId],
  );
});

test('the queue is listed in pages, by what is selected, and looking changes nothing', async (t) => {
  const spool = await openSpool(t);
  for (let n = 0; n < 30; n++)
    await spool.accept(
      mail({ did: n % 2 ? two : 'did:plc:reef', to: [`u@d${n % 3}.test`], receivedAt: start + n }),
    );
  const [claim] = await due(spool, 1, start + 30);
  const next = { state: 'deferred', at: start + minute } as const;
  await spool.settle({ recipientId: claim!.recipientId, attempt: putOff(), next });
  const list = async (selection: Parameters<Spool['hold']>[0]) => {
    const entries = [];
    for (let cursor: string | undefined; ; ) {
      const page = await spool.list({ ...selection, limit: 7, cursor });
      entries.push(...page.entries);
      cursor = page.cursor;
      if (cursor === undefined) return entries;
    }
  };
  const all = await list({});
  assert.equal(new Set(all.map(({ recipientId }) => recipientId)).size, 30);
  assert.equal((await list({ did: two })).length, 15);
  assert.equal((await list({ site: 'd1.test' })).length, 10);
  assert.equal((await list({ site: 'd1.test', did: two, before: start + 10 })).length, 2);
  const [deferred, ...others] = await list({ states: ['deferred'] });
  assert.deepEqual([deferred!.recipientId, deferred!.last, others], [claim!.recipientId, 'put off', []]);
  assert.deepEqual(
    (await list({ ids: [claim!.queueId, 'nothing'] })).map(({ nextAt }) => nextAt),
    [start + minute],
  );
  await assert.rejects(spool.list({ limit: 1, cursor: '[1]' }), /cursor/);
  assert.deepEqual(await list({}), all);
});

test('the shape of the queue: for each site its states, its ages and its oldest', async (t) => {
  const spool = await openSpool(t);
  const now = start + 2_000 * minute;
  for (const age of [0, 4, 5, 39, 1_279, 1_280, 2_000])
    await spool.accept(mail({ to: ['u@old.test'], receivedAt: now - age * minute }));
  await spool.accept(mail({ to: ['u@new.test', 'v@new.test'], receivedAt: now, hold: 'x' }));
  const { total, messages, bytes, sites } = await spool.summary(now);
  assert.deepEqual([total, messages, bytes], [9, 8, 8 * mail().body.length]);
  assert.deepEqual(
    sites.map(({ site, states }) => [site, states]),
    [
      ['old.test', { accepted: 7 }],
      ['new.test', { held: 2 }],
    ],
  );
  assert.equal(sites[0]!.oldest, start);
  assert.deepEqual(sites[0]!.ages, [2, 1, 0, 1, 0, 0, 0, 0, 1, 2]);
  assert.equal(sites[0]!.ages.length, ageBuckets.length + 1);
});
