/** Who earns clean-sender: both sides of each figure, and how the figures are counted from events. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Database, openDatabase, transaction } from '../../appview/database.ts';
import { EventStore, type OwnEvent } from '../../node/enforcement/event-store.ts';
import { Rates } from '../../node/enforcement/rates.ts';
import { SentRecipients } from '../../node/enforcement/sent-recipients.ts';
import { cleanSenders, judgeSending, type SendingFigures } from '../../node/labeler/clean-sender.ts';
import { sendingFigures } from '../../node/labeler/sending-figures.ts';
import { nodeMigrations } from '../../node/migrations.ts';

const justEnough: SendingFigures = {
  ...{ sends: 100, days: 14, recipients: 20, organisations: 5 },
  ...{ accepted: 100, recipientInvalid: 2, complaints: 1 },
};

const sides: [figure: string, enough: Partial<SendingFigures>, not: Partial<SendingFigures>][] = [
  ['sends', { sends: 100 }, { sends: 99 }],
  ['days', { days: 14 }, { days: 13 }],
  ['recipients', { recipients: 20 }, { recipients: 19 }],
  ['organisations', { organisations: 5 }, { organisations: 4 }],
  ['recipientInvalid', { recipientInvalid: 2 }, { recipientInvalid: 3 }],
  ['recipientInvalid', { accepted: 150, recipientInvalid: 3 }, { accepted: 149, recipientInvalid: 3 }],
  ['complaints', { complaints: 1 }, { complaints: 2 }],
  // 0.05 % of 1,999 is no complaint; the share counts from 2,000 on, and is more than one from 4,000.
  ['complaints', { accepted: 2_000, complaints: 1 }, { accepted: 2_000, complaints: 2 }],
  ['complaints', { accepted: 4_000, complaints: 2 }, { accepted: 3_999, complaints: 2 }],
  ['complaints', { accepted: 10_000, complaints: 5 }, { accepted: 10_000, complaints: 6 }],
];
for (const [figure, enough, not] of sides) {
  test(`${figure}: ${JSON.stringify(enough)} earns it, ${JSON.stringify(not)} does not`, () => {
    assert.deepEqual(judgeSending({ ...justEnough, ...enough }, false).missing, []);
    const { earned, missing } = judgeSending({ ...justEnough, ...not }, false);
    assert.equal(earned, false);
    assert.deepEqual(
      missing.map((one) => one.figure),
      [figure],
    );
  });
}

test('a warning alone is enough to lose it', () => {
  assert.deepEqual(
    judgeSending(justEnough, true).missing.map(({ figure }) => figure),
    ['standing'],
  );
});

test('what is missing is said with what was seen and what is needed', () => {
  const [missing] = judgeSending({ ...justEnough, days: 9 }, false).missing;
  assert.deepEqual(missing, {
    ...{ figure: 'days', observed: 9, needed: 14 },
    text: '9 days with such deliveries in 30 days; 14 are needed',
  });
});

const did = 'did:plc:reef';
const domain = 'news.reef.test';
const dayMs = 86_400_000;
const key = Buffer.alloc(32, 5);

function makeWorld() {
  const db = openDatabase(':memory:', nodeMigrations, { synchronous: 'NORMAL' });
  const clock = { now: 20_000 * dayMs };
  const now = () => clock.now;
  const rates = new Rates({ db, now });
  const recipients = new SentRecipients({ db, key, now });
  const store = new EventStore({ db, projections: [rates, recipients], now });
  const ownDomains = () => [domain, 'reef.co.uk'];
  const figuresOf = sendingFigures({ db, rates: rates.of, ownDomains, now });
  const tell = (...events: OwnEvent[]) => store.record(0, events, () => undefined);
  return { db, clock, recipients, tell, figures: () => figuresOf(did, domain), figuresOf };
}

const about = (recipient: string, detail: object = {}): OwnEvent => ({
  ...{ type: 'delivery_result', did, domain, recipientId: recipient },
  detail: { state: 'sent', recipient, simulated: false, ...detail },
});
/** Accepted and delivered. */
const sent = (recipient: string): OwnEvent[] => [
  { ...about(recipient), type: 'relay_attempt', detail: { recipient } },
  about(recipient),
];

test('an honest month earns it: 34 recipients at 5 organisations, three times each', () => {
  const { clock, tell, figures } = makeWorld();
  for (let day = 0; day < 14; day++) {
    clock.now += dayMs;
    for (let n = 0; n < 34; n++) if ((n + day) % 4 === 0) tell(...sent(`u${n}@mail.org${n % 5}.test`));
  }
  const counted = figures();
  assert.deepEqual([counted.days, counted.recipients, counted.organisations], [14, 34, 5]);
  assert.equal(counted.accepted, 119);
  assert.equal(counted.sends, 102);
  assert.equal(judgeSending(counted, false).earned, true);
});

test('one recipient counts three times, however often and on however many days it is written to', () => {
  const { clock, tell, figures } = makeWorld();
  for (let day = 0; day < 5; day++) {
    clock.now += dayMs;
    tell(...sent('Ann@far.test'), ...sent('ann@FAR.test'));
  }
  assert.deepEqual(pick(figures()), { sends: 3, days: 5, recipients: 1, organisations: 1 });
});

test('mail to the own organisations, simulated mail and what was not delivered count nowhere', () => {
  const { tell, figures } = makeWorld();
  tell(
    ...['a@reef.test', 'b@deep.reef.test', 'c@x.reef.co.uk'].flatMap(sent),
    about('d@far.test', { simulated: true }),
    about('e@far.test', { state: 'deferred' }),
    about('f@far.test', { state: 'bounced' }),
    { ...about('g@far.test'), type: 'relay_attempt' },
    { ...about('h@far.test'), did: 'did:plc:other' },
    { ...about('i@far.test'), domain: 'reef.co.uk' },
  );
  assert.deepEqual(pick(figures()), { sends: 0, days: 0, recipients: 0, organisations: 0 });
});

test('organisations are those of the public suffix list', () => {
  const { tell, figures } = makeWorld();
  tell(...['a@a.one.co.uk', 'b@b.one.co.uk', 'c@two.co.uk', 'd@x.github.io', 'e@y.github.io'].flatMap(sent));
  assert.equal(figures().organisations, 4);
});

test('what is thirty days old counts no more, and is removed', () => {
  const { db, clock, recipients, tell, figures } = makeWorld();
  tell(...sent('a@far.test'));
  clock.now += 29 * dayMs;
  assert.equal(figures().sends, 1);
  clock.now += dayMs;
  assert.equal(figures().sends, 0);
  transaction(db, () => recipients.housekeep());
  assert.equal(rows(db), 0);
});

test('of a day the first 64 recipients are kept, as hashes, and go with the member', () => {
  const { db, tell } = makeWorld();
  db.exec(`INSERT INTO member (did, enrolled_at) VALUES ('${did}', 0)`);
  for (let n = 0; n < 100; n++) tell(...sent(`u${n}@far.test`));
  for (let n = 0; n < 100; n++) tell(...sent(`u${n}@far.test`));
  assert.equal(rows(db), 64);
  const [row] = db.prepare('SELECT recipient, sends FROM sent_recipient LIMIT 1').all() as {
    recipient: ArrayBuffer;
    sends: number;
  }[];
  assert.deepEqual([row!.recipient.byteLength, row!.sends], [8, 2]);
  db.exec(`DELETE FROM member WHERE did = '${did}'`);
  assert.equal(rows(db), 0);
});

test('the progress that a member is shown rests on the same figures and on its standing', () => {
  const { tell, figuresOf } = makeWorld();
  tell(...sent('a@far.test'));
  const progress = cleanSenders({ figuresOf, standingOf: () => ({ state: 'throttled' }) })(did, domain);
  assert.equal(progress.earned, false);
  assert.deepEqual(
    progress.missing.map(({ figure, observed }) => [figure, observed]),
    [
      ['sends', 1],
      ['days', 1],
      ['recipients', 1],
      ['organisations', 1],
      ['standing', 1],
    ],
  );
});

function pick({ sends, days, recipients, organisations }: SendingFigures) {
  return { sends, days, recipients, organisations };
}

function rows(db: Database.Database): number {
  return (db.prepare('SELECT count(*) AS n FROM sent_recipient').get() as { n: number }).n;
}
