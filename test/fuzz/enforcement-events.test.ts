/** Events carry peers' words and strangers' addresses: whatever stands in them, they are stored and counted. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Database, openDatabase } from '../../appview/database.ts';
import { Attempts } from '../../node/enforcement/attempts.ts';
import { EventStore } from '../../node/enforcement/event-store.ts';
import { type Event, type EventType, eventIds, outboxes } from '../../node/enforcement/events.ts';
import { Guard } from '../../node/enforcement/guard.ts';
import { OperatorNotices } from '../../node/enforcement/operator-notices.ts';
import { Rates } from '../../node/enforcement/rates.ts';
import { standings } from '../../node/enforcement/standing.ts';
import { suppressionProjection } from '../../node/enforcement/suppression-projection.ts';
import { Seal } from '../../node/members/seal.ts';
import { Suppressions } from '../../node/members/suppressions.ts';
import { nodeMigrations } from '../../node/migrations.ts';
import { Deliveries } from '../../node/webhooks/deliveries.ts';
import { Endpoints } from '../../node/webhooks/endpoints.ts';
import { payloadOf } from '../../node/webhooks/payload.ts';
import { log, policy, reef, start } from '../unit/enforcement-fixtures.ts';
import { Fuzz } from './random.ts';

const fuzz = new Fuzz('enforcement-events');
const types: EventType[] = [
  ...(['relay_attempt', 'delivery_result', 'bounce_received', 'complaint_received', 'unsubscribe'] as const),
  ...(['auth_failure', 'staff_act', 'peer_signal'] as const),
];
const names = [
  'recipient',
  'state',
  'recipientInvalid',
  'refused',
  'recipients',
  'site',
  'reply',
  'host',
  'act',
];
const texts = [
  '',
  'sent',
  'bounced',
  'standing',
  'ana@harbor.example',
  '@',
  'ü@ünï.example',
  'a\0b',
  '\ud800',
  "'; --",
];

function anything(): unknown {
  const kind = fuzz.below(8);
  if (kind === 0) return fuzz.below(2) === 0;
  if (kind === 1) return fuzz.pick([0, -1, 1.5, 2 ** 53, Number.NaN, Number.POSITIVE_INFINITY]);
  if (kind === 2) return null;
  if (kind === 3) return [fuzz.pick(texts)];
  if (kind === 4) return { at: fuzz.pick(texts) };
  if (kind === 5) return 'x'.repeat(fuzz.below(5_000));
  return fuzz.pick(texts);
}

const done = 'done' as const;

function open(db: Database.Database) {
  const now = () => start;
  const rates = new Rates({ db, now });
  const endpoints = new Endpoints({
    ...{ db, seal: new Seal(Buffer.alloc(32)), now },
    rules: { allowLoopback: true, loopbackOnly: true },
  });
  endpoints.create({ did: reef, url: 'http://127.0.0.1:9/', description: '', types: [] });
  const deliveries = new Deliveries({ db, endpoints, now, count: () => undefined, maxWaiting: 1e9 });
  const projections = [
    rates,
    suppressionProjection(new Suppressions({ db, now })),
    deliveries,
    new OperatorNotices({ db, now, log }),
  ];
  const store = new EventStore({ db, projections, now });
  const measures = {
    ...{ throttle: () => done, hold: () => done, suspend: () => done },
    personActedAt: () => 0,
  };
  const standingOf = standings({ db, policy, now });
  const guard = new Guard({ db, rates, standingOf, measures, now, log });
  return { store, guard, rates };
}

test('no detail of an event stops its commit, and every figure stays a whole number', () => {
  const db = openDatabase(':memory:', nodeMigrations, { synchronous: 'NORMAL' });
  db.prepare('INSERT INTO member (did, enrolled_at) VALUES (?, 0)').run(reef);
  const { store, guard, rates } = open(db);
  const nextId = eventIds(outboxes.spool, () => start);
  for (let round = fuzz.rounds(300); round > 0; round--) {
    const events = Array.from({ length: 1 + fuzz.below(60) }, (): Event => {
      const detail = Object.fromEntries(
        names.filter(() => fuzz.below(2) === 0).map((name) => [name, anything()]),
      );
      return {
        id: nextId(),
        type: fuzz.pick(types),
        at: start,
        did: fuzz.pick([reef, 'did:plc:x', '']),
        detail,
      };
    });
    assert.equal(store.store(outboxes.spool, events).length, events.length);
    guard.examine(events);
    for (const event of events) JSON.stringify(payloadOf(event));
  }
  for (const figure of Object.values(rates.of({ did: reef, window: 'total' })))
    assert.ok(Number.isSafeInteger(figure) && figure >= 0, `${figure}`);
});

test('no user name and no address of a wrong login stops its event', () => {
  const db = openDatabase(':memory:', nodeMigrations, { synchronous: 'NORMAL' });
  const { store } = open(db);
  const attempts = new Attempts({
    record: (events) => store.record(outboxes.node, [events].flat(), () => undefined),
    ...{ log, now: () => start, count: (what) => assert.fail(what) },
  });
  for (let round = fuzz.rounds(300); round > 0; round--) {
    const address = fuzz.pick([undefined, '192.0.2.1', '2001:db8::1', ...texts]);
    attempts.authFailed({ address, user: String(anything()), did: fuzz.pick([undefined, reef]) });
    if (fuzz.below(20) === 0) attempts.stop();
  }
  attempts.stop();
  assert.ok((db.prepare('SELECT count(*) AS n FROM event').get() as { n: number }).n > 0);
});
