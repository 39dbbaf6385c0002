/** Suspensions that are made public: labels of a real labeler over a real node.db. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { IssuedLabels } from '../../node/labeler/issued-labels.ts';
import {
  type PublishedSuspension,
  PublishedSuspensions,
} from '../../node/reputation/published-suspensions.ts';
import { log, reef, world } from './enforcement-fixtures.ts';
import { cooperative, harbor, reefUri } from './reputation-fixtures.ts';

const day = 86_400_000;

async function openHarbor() {
  const { db, now, events, clock } = world();
  const { key } = await cooperative(harbor);
  const issued = new IssuedLabels({ db, did: harbor, key, now });
  const open = () => new PublishedSuspensions({ db, issued, record: events.record, now, log });
  const published = open();
  events.onStored(published.examine);
  const standing = (state: string, until: number | null = null) =>
    events.record({ type: 'staff_act', did: reef, detail: { act: 'standing', state } }, () => {
      db.prepare('UPDATE member SET state = ?, state_until = ? WHERE did = ?').run(state, until, reef);
    });
  const publish = (more: Partial<PublishedSuspension> = {}) =>
    published.publishSuspension({
      ...{ did: reef, domain: 'reef.test', reason: 'spam', until: now() + 30 * day, by: 'ana' },
      ...more,
    });
  const stands = () =>
    issued
      .inForce(reef)
      .map(({ uri, val }) => `${val}${uri === reefUri ? ' *' : ''}`)
      .sort();
  const acts = () =>
    (
      db.prepare("SELECT detail FROM event WHERE type = 'staff_act' ORDER BY id").all() as {
        detail: string;
      }[]
    )
      .map(({ detail }) => JSON.parse(detail) as { act: string; actor: string })
      .filter(({ act }) => act !== 'standing')
      .map(({ act, actor }) => `${act} ${actor}`);
  return { db, clock, issued, published, open, standing, publish, stands, acts };
}

test('a published suspension stands on the record’s URI and on the DID, until the end of its term', async () => {
  const { standing, publish, stands, acts, clock, issued } = await openHarbor();
  standing('suspended');
  const made = await publish();
  const end = new Date(clock.at + 30 * day).toISOString();
  assert.deepEqual(
    (made as Exclude<typeof made, string>).map(({ label: { uri, val, exp, cid, src } }) => ({
      uri,
      val,
      exp,
      cid,
      src,
    })),
    [reefUri, reef].map((uri) => ({ uri, val: 'suspended-spam', exp: end, cid: undefined, src: harbor })),
  );
  assert.deepEqual(
    [stands(), acts()],
    [['suspended-spam', 'suspended-spam *'], ['suspension_published ana']],
  );
  clock.at += 30 * day;
  assert.deepEqual([stands(), issued.newest], [[], 2]);
});

for (const [why, state, more] of [
  ['not-suspended', 'active', {}],
  ['not-suspended', 'held', {}],
  ['not-enrolled', 'suspended', { domain: 'other.test' }],
  ['not-enrolled', 'suspended', { did: 'did:plc:nobody' }],
  ['term', 'suspended', { until: 1 }],
  ['term', 'suspended', { until: 4e12 }],
] as const) {
  test(`nothing is published: ${why}, ${state} ${JSON.stringify(more)}`, async () => {
    const { standing, publish, stands, acts } = await openHarbor();
    standing(state);
    assert.equal(await publish(more), why);
    assert.deepEqual([stands(), acts()], [[], []]);
  });
}

test('another reason takes the place of the first', async () => {
  const { standing, publish, stands } = await openHarbor();
  standing('removed');
  await publish();
  await publish({ reason: 'phishing' });
  assert.deepEqual(stands(), ['suspended-phishing', 'suspended-phishing *']);
});

test('withdrawn by a person, it is over, and a second time there is nothing to do', async () => {
  const { standing, publish, published, stands, acts } = await openHarbor();
  standing('suspended');
  await publish();
  assert.equal((await published.withdrawSuspension({ did: reef, by: 'ben' })).length, 2);
  assert.deepEqual(await published.withdrawSuspension({ did: reef, by: 'ben' }), []);
  assert.deepEqual([stands(), acts()], [[], ['suspension_published ana', 'suspension_withdrawn ben']]);
});

test('reinstated, the member is public no more at once', async () => {
  const { standing, publish, published, stands } = await openHarbor();
  standing('suspended');
  await publish();
  standing('active');
  await published.stop();
  assert.deepEqual(stands(), []);
});

test('a suspension that grew into a removal stays public', async () => {
  const { standing, publish, published, stands } = await openHarbor();
  standing('suspended');
  await publish();
  standing('removed');
  await published.stop();
  assert.equal(stands().length, 2);
});

test('what ended while nobody looked is withdrawn at the start, and the rest stays', async () => {
  const { db, standing, publish, open, stands } = await openHarbor();
  standing('suspended');
  await publish();
  await open().start();
  assert.equal(stands().length, 2);
  db.prepare("UPDATE member SET state = 'active' WHERE did = ?").run(reef);
  await open().start();
  assert.deepEqual(stands(), []);
});

test('what a crash cut short between the act and its labels is carried out at the next start, once', async () => {
  const { standing, publish, published, open, stands, acts, issued } = await openHarbor();
  const append = issued.append.bind(issued);
  const powerFailure = () => Promise.reject(new Error('power failure'));
  standing('suspended');
  issued.append = powerFailure;
  await assert.rejects(publish(), /power failure/);
  issued.append = append;
  await open().start();
  await open().start();
  assert.deepEqual([stands(), issued.newest], [['suspended-spam', 'suspended-spam *'], 2]);

  issued.append = powerFailure;
  await assert.rejects(published.withdrawSuspension({ did: reef, by: 'ben' }), /power failure/);
  issued.append = append;
  await open().start();
  await open().start();
  assert.deepEqual([stands(), issued.newest], [[], 4]);
  assert.deepEqual(acts(), ['suspension_published ana', 'suspension_withdrawn ben']);
});

test('what was not carried out is forgotten with the standing that it was about, and at its end', async () => {
  const { db, standing, publish, open, stands, issued, clock } = await openHarbor();
  const append = issued.append.bind(issued);
  standing('suspended');
  issued.append = () => Promise.reject(new Error('power failure'));
  await assert.rejects(publish(), /power failure/);
  issued.append = append;
  db.prepare('UPDATE member SET state_at = ?').run(clock.at + 1);
  await open().start();
  assert.deepEqual(stands(), []);
  db.prepare('UPDATE member SET state_at = NULL').run();
  clock.at += 30 * day;
  await open().start();
  assert.equal(issued.newest, 0);
});
