import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Rates, type RateWindow } from '../../node/enforcement/rates.ts';
import {
  accepted,
  day,
  enrol,
  hour,
  minute,
  reef,
  result,
  start,
  times,
  unknownUser,
  world,
} from './enforcement-fixtures.ts';

function setUp() {
  const made: Rates[] = [];
  const base = world((db, now) => {
    made.push(new Rates({ db, now }));
    return made;
  });
  const rates = made[0]!;
  const of = (window: RateWindow, more: object = {}) => rates.of({ did: reef, window, ...more });
  return { ...base, rates, of };
}

test('each event counts in its figure', async () => {
  const { happen, events, of } = setUp();
  await happen(
    ...[accepted(), accepted(), accepted()],
    ...[result('sent'), result('deferred'), result('bounced'), unknownUser('no@harbor.example')],
    { type: 'bounce_received', detail: { recipient: 'late@harbor.example', recipientInvalid: true } },
    { type: 'bounce_received', detail: { recipient: 'full@harbor.example', recipientInvalid: false } },
    { type: 'complaint_received', detail: { recipient: 'angry@harbor.example' } },
  );
  events.record([
    { type: 'relay_attempt', did: reef, detail: { refused: 'RATE_LIMITED', recipients: 7 } },
    { type: 'unsubscribe', did: reef, domain: 'reef.test', detail: { recipient: 'ana@harbor.example' } },
  ]);
  assert.deepEqual(of('5m'), {
    ...{ sends: 3, refused: 7, attempted: 10, delivered: 1, deferred: 1, bounced: 2 },
    ...{ unknownUsers: 1, recipientInvalid: 2, complaints: 1, unsubscribes: 1 },
  });
});

const windows: [RateWindow, inside: number, outside: number][] = [
  ['5m', 4 * minute, 5 * minute],
  ['10m', 9 * minute, 10 * minute],
  ['1h', 59 * minute, 60 * minute],
  ['24h', day - minute, day],
  ['7d', 6 * day, 7 * day],
  ['14d', 13 * day, 14 * day],
  ['30d', 29 * day, 30 * day],
];
for (const [window, inside, outside] of windows) {
  test(`the window ${window} ends where it says`, async () => {
    const { happen, clock, of, rates } = setUp();
    await happen(accepted());
    clock.at = start + inside;
    while (rates.housekeep());
    assert.equal(of(window).sends, 1);
    clock.at = start + outside;
    while (rates.housekeep());
    assert.equal(of(window).sends, 0);
  });
}

test('minutes become days after 48 h, days go after 13 months, totals stay', async () => {
  const { happen, clock, of, rates, db } = setUp();
  const rows = (table: string) => (db.prepare(`SELECT count(*) AS n FROM ${table}`).get() as { n: number }).n;
  await happen(accepted(), accepted(), result('sent'));
  assert.deepEqual([rows('rate_minute'), rows('rate_day')], [2, 0]);
  assert.equal(of('total').sends, 2, 'what is still in minutes is part of the total');
  clock.at = start + 48 * hour + minute;
  while (rates.housekeep());
  assert.deepEqual([rows('rate_minute'), rows('rate_day'), rows('rate_total')], [0, 2, 1]);
  assert.deepEqual([of('7d').sends, of('7d').delivered, of('total').sends], [2, 1, 2]);
  await happen(accepted());
  assert.deepEqual(
    [of('7d').sends, of('total').sends, of('total', { domain: 'reef.test' }).sends],
    [3, 3, 3],
  );
  clock.at = start + 400 * day;
  while (rates.housekeep());
  assert.deepEqual([rows('rate_minute'), rows('rate_day')], [0, 0]);
  assert.deepEqual([of('total').sends, of('total').delivered], [3, 1]);
});

test('a long time without housekeeping is summed up in pieces, and nothing is lost', async () => {
  const { happen, clock, of, rates } = setUp();
  for (let n = 0; n < 50; n++) {
    await happen(accepted());
    clock.at += 13 * minute;
  }
  clock.at = start + 3 * day;
  let pieces = 1;
  while (rates.housekeep()) pieces++;
  assert.ok(pieces > 5, `${pieces}`);
  assert.deepEqual([of('7d').sends, of('total').sends], [50, 50]);
});

test('figures go with the member', async () => {
  const { happen, of, db, clock, rates } = setUp();
  await happen(accepted(), unknownUser('a@harbor.example'));
  clock.at += 3 * day;
  while (rates.housekeep());
  await happen(accepted());
  db.exec(`DELETE FROM domain; DELETE FROM member`);
  assert.deepEqual([of('total').sends, of('30d').sends], [0, 0]);
});

test('a recipient that does not exist counts once in 7 days, for each member', async () => {
  const { happen, clock, of, rates, db } = setUp();
  enrol(db, 'did:plc:atoll', 'atoll.test');
  await happen(
    unknownUser('No@Harbor.example'),
    unknownUser('no@harbor.example'),
    unknownUser('other@harbor.example'),
  );
  await happen({
    type: 'bounce_received',
    detail: { recipient: 'no@harbor.example', recipientInvalid: true },
  });
  await happen({ ...unknownUser('no@harbor.example'), did: 'did:plc:atoll' });
  assert.deepEqual([of('5m').unknownUsers, of('5m').recipientInvalid, of('5m').bounced], [2, 2, 3]);
  assert.equal(rates.of({ did: 'did:plc:atoll', window: '5m' }).unknownUsers, 1);
  clock.at += 7 * day - 1;
  await happen(unknownUser('no@harbor.example'));
  assert.equal(of('10m').unknownUsers, 0);
  clock.at += 1;
  await happen(unknownUser('no@harbor.example'));
  assert.equal(of('10m').unknownUsers, 1);
});

test('one recipient complains once in 30 days', async () => {
  const { happen, of } = setUp();
  const complaint = { type: 'complaint_received', detail: { recipient: 'ana@harbor.example' } } as const;
  await happen(complaint, complaint);
  assert.equal(of('5m').complaints, 1);
});

test('simulated mail counts nowhere', async () => {
  const { happen, of } = setUp();
  const simulated = { simulated: true };
  await happen(
    ...[accepted('a@x.example', simulated), result('sent', simulated), unknownUser('b@x.example', simulated)],
    { type: 'complaint_received', detail: { recipient: 'c@x.example', ...simulated } },
  );
  assert.deepEqual(
    Object.values(of('total')).filter((figure) => figure !== 0),
    [],
  );
});

test('a recipient refused because it is on the list is no send and no bounce', async () => {
  const { happen, of } = setUp();
  const suppressed = { suppressed: true };
  await happen(accepted('a@x.example', suppressed), result('bounced', suppressed));
  assert.deepEqual([of('5m').sends, of('5m').bounced], [0, 0]);
});

test('domains and providers have figures of their own', async () => {
  const { happen, of, rates } = setUp();
  await happen(accepted(), { ...accepted(), domain: 'kelp.test' });
  await happen(
    result('sent'),
    result('bounced', { site: 'big.example' }),
    result('deferred', { site: 'big.example' }),
  );
  assert.deepEqual([of('1h').sends, of('1h', { domain: 'kelp.test' }).sends], [2, 1]);
  const big = of('1h', { provider: 'big.example' });
  assert.deepEqual([big.sends, big.delivered, big.bounced, big.deferred], [1, 0, 1, 1]);
  assert.equal(of('1h', { provider: 'harbor.example' }).sends, 1, 'by provider, what ended there');
  assert.deepEqual(rates.providersOf(reef, '14d'), ['big.example', 'harbor.example']);
  assert.throws(() => of('total', { provider: 'big.example' }), RangeError);
});

test('providers beyond the hundredth of a day are one, also after a restart', async () => {
  const { happen, of, db, now } = setUp();
  await happen(...times(150, (n) => result('sent', { site: `mx${n}.example` })));
  assert.deepEqual([of('1h').delivered, of('1h', { provider: 'other' }).delivered], [150, 50]);
  const restarted = new Rates({ db, now });
  const again = { id: '1', type: 'delivery_result', at: now(), did: reef, domain: 'reef.test' } as const;
  restarted.project([{ ...again, detail: { state: 'sent', site: 'mx149.example' } }]);
  restarted.project([{ ...again, detail: { state: 'sent', site: 'mx3.example' } }]);
  assert.deepEqual(
    [of('1h', { provider: 'other' }).delivered, of('1h', { provider: 'mx3.example' }).delivered],
    [51, 2],
  );
});

test('a figure can begin later, with the next whole minute', async () => {
  const { happen, clock, of } = setUp();
  await happen(accepted());
  clock.at += minute;
  await happen(accepted());
  assert.equal(of('10m', { notBefore: start }).sends, 1);
  assert.equal(of('10m', { notBefore: start - 1 }).sends, 2);
});

test('what a clock that ran ahead wrote counts nowhere, and is removed', async () => {
  const { happen, clock, of, rates, db } = setUp();
  clock.at = start + 400 * day;
  await happen(accepted());
  clock.at = start;
  assert.deepEqual([of('24h').sends, of('30d').sends], [0, 0]);
  rates.housekeep();
  assert.deepEqual(db.prepare('SELECT * FROM rate_minute').all(), []);
});

test('members who sent are found by time', async () => {
  const { happen, clock, rates } = setUp();
  await happen(accepted());
  assert.deepEqual(rates.active(start), [reef]);
  clock.at += 2 * minute;
  assert.deepEqual(rates.active(start + minute), []);
});
