/** The guard against a real spool: what it holds, what stays held, what goes on. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { openDatabase } from '../../appview/database.ts';
import { EventLog } from '../../node/enforcement/event-log.ts';
import { outboxes } from '../../node/enforcement/events.ts';
import { Guard } from '../../node/enforcement/guard.ts';
import { Measures } from '../../node/enforcement/measures.ts';
import { OperatorNotices } from '../../node/enforcement/operator-notices.ts';
import { Rates } from '../../node/enforcement/rates.ts';
import { standings } from '../../node/enforcement/standing.ts';
import { suppressionProjection } from '../../node/enforcement/suppression-projection.ts';
import { Suppressions } from '../../node/members/suppressions.ts';
import { nodeMigrations } from '../../node/migrations.ts';
import { enrol, log, policy, reef } from '../unit/enforcement-fixtures.ts';
import { Clock, due, mail, minute, openSpool } from '../unit/spool-fixtures.ts';

async function node(t: TestContext) {
  const clock = new Clock();
  const { now } = clock;
  const db = openDatabase(':memory:', nodeMigrations, { synchronous: 'NORMAL' });
  enrol(db, reef, 'reef.test');
  enrol(db, 'did:plc:atoll', 'atoll.test');
  const spool = await openSpool(t, { now });
  const shared = { db, now, log, count: () => undefined };
  const rates = new Rates(shared);
  const suppressions = new Suppressions(shared);
  const told = new OperatorNotices(shared);
  const projections = [rates, suppressionProjection(suppressions), told];
  const events = new EventLog({ ...shared, source: spool, outbox: outboxes.spool, projections });
  const by = 'standing';
  const queue = {
    hold: (did: string, reason: string) => spool.hold({ did, kind: 'mail' }, { by, reason }),
    release: (did: string, reason: string) => spool.unhold({ did, heldBy: by }, { by, reason }),
  };
  const measures = new Measures({ ...shared, record: events.record, queue });
  const standingOf = standings({ db, policy, now });
  const figures = { velocityFactor: 100 };
  const notices = () => told.waiting(100).map(({ subject }) => subject);
  const guard = new Guard({ db, now, log, rates, standingOf, measures, figures });
  events.onStored((stored) => guard.examine(stored));
  const states = async (did: string) => {
    const { entries } = await spool.list({ did, limit: 100 });
    return entries.map(({ state }) => state).sort();
  };
  /** Tries what is due; a recipient that begins with `no` does not exist. */
  const deliver = async (limit: number) => {
    for (const { recipientId, address } of await due(spool, limit, now())) {
      const isUnknown = address.startsWith('no');
      const about = { at: now(), durationMs: 1, counted: true, site: 'dest.test' } as const;
      const attempt = isUnknown
        ? ({
            ...about,
            outcome: 'failed',
            status: '5.1.1',
            summary: 'refused',
            recipientInvalid: true,
          } as const)
        : ({ ...about, outcome: 'delivered', status: '2.0.0', summary: 'delivered' } as const);
      await spool.settle({ recipientId, attempt, next: { state: isUnknown ? 'bounced' : 'sent' } });
    }
    await events.copy();
  };
  return { spool, clock, measures, standingOf, states, deliver, notices, suppressions };
}

test('a run of unknown users holds the queue of that member alone; a reinstatement lets it go on', async (t) => {
  const { spool, clock, measures, standingOf, states, deliver, notices, suppressions } = await node(t);
  const unknown = Array.from({ length: 5 }, (_, n) => `no${n}@dest.test`);
  await spool.accept(mail({ to: unknown }));
  await deliver(5);
  const waiting = Array.from({ length: 6 }, (_, n) => `ann${n}@dest.test`);
  assert.equal(standingOf(reef).state, 'held');
  assert.equal(suppressions.find(reef, 'no3@dest.test')?.reason, 'bounce');

  // What was being accepted while the standing changed.
  await spool.accept(mail({ to: waiting }));
  await spool.accept(mail({ to: ['bob@dest.test'], did: 'did:plc:atoll', domain: 'atoll.test' }));
  await measures.settle();
  clock.forward(10_000);
  await measures.settle();
  assert.deepEqual(await states(reef), Array(6).fill('held'));
  assert.deepEqual(await states('did:plc:atoll'), ['accepted']);
  assert.deepEqual(notices(), [`${reef} is held for review, with all of its queue`]);

  clock.forward(minute);
  measures.setStanding('active', { did: reef, by: 'person', reason: 'an old list', actor: 'mira' });
  await measures.settle();
  assert.deepEqual(await states(reef), Array(6).fill('accepted'));
  await deliver(100);
  assert.deepEqual([await states(reef), standingOf(reef).state], [[], 'active']);
});

test('what an operator held stays held when the standing is over', async (t) => {
  const { spool, measures, clock, states } = await node(t);
  const one = mail({ to: ['ann@dest.test'] });
  await spool.accept(one);
  await spool.accept(mail({ to: ['bob@dest.test'] }));
  await spool.hold({ ids: [one.queueId] }, { by: 'mira', reason: 'looks odd' });
  measures.suspend({ did: reef, reason: 'fraud', by: 'person', actor: 'mira' });
  await measures.settle();
  assert.deepEqual(await states(reef), ['held', 'held']);
  clock.forward(minute);
  measures.setStanding('active', { did: reef, by: 'person', reason: 'no fraud', actor: 'mira' });
  await measures.settle();
  assert.deepEqual(await states(reef), ['accepted', 'held']);
  assert.equal((await spool.message(one.queueId))!.recipients[0]!.state, 'held');
});

test('a suspension holds the mail of a member, and not our own letters and bounces to it', async (t) => {
  const { spool, measures } = await node(t);
  const [theirs, bounce, letter] = (['mail', 'dsn', 'notice'] as const).map((kind) => mail({ kind }));
  for (const message of [theirs!, bounce!, letter!]) await spool.accept(message);
  measures.suspend({ did: reef, reason: 'fraud', by: 'person', actor: 'mira' });
  await measures.settle();
  const states = await Promise.all(
    [theirs!, bounce!, letter!].map(
      async ({ queueId }) => (await spool.message(queueId))!.recipients[0]!.state,
    ),
  );
  assert.deepEqual(states, ['held', 'accepted', 'accepted']);
  assert.deepEqual(measures.stoppedMembers(), [reef]);
});
