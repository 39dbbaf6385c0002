/**
 * A node's event log that dies: between the commit and the outbox's forgetting, or between a standing and
 * its queue. Says on standard output what it has done; the parent kills it, or it kills itself.
 */
import { pino } from 'pino';
import { openDatabase } from '../../appview/database.ts';
import { EventLog } from '../../node/enforcement/event-log.ts';
import { outboxes } from '../../node/enforcement/events.ts';
import { Measures } from '../../node/enforcement/measures.ts';
import { Rates } from '../../node/enforcement/rates.ts';
import { suppressionProjection } from '../../node/enforcement/suppression-projection.ts';
import { Seal } from '../../node/members/seal.ts';
import { Suppressions } from '../../node/members/suppressions.ts';
import { nodeMigrations } from '../../node/migrations.ts';
import { Deliveries } from '../../node/webhooks/deliveries.ts';
import { Endpoints } from '../../node/webhooks/endpoints.ts';
import { openOutbox } from './enforcement-outbox.ts';

const [dir, point] = process.argv.slice(2) as [string, string];
const log = pino({ level: 'silent' });
const count = () => undefined;
const now = Date.now;
const db = openDatabase(`${dir}/node.db`, nodeMigrations, { synchronous: 'FULL' });
const outbox = openOutbox(dir);
const die = () => process.kill(process.pid, 'SIGKILL');

const endpoints = new Endpoints({
  ...{ db, seal: new Seal(Buffer.alloc(32, 1)), now },
  rules: { allowLoopback: true, loopbackOnly: true },
});
const events = new EventLog({
  db,
  source: {
    eventsAfter: async (id, limit) => outbox.eventsAfter(id, limit),
    forgetEvents: async (through) => {
      if (point === 'before-forget') die();
      outbox.forget(through);
      if (point === 'after-forget') die();
    },
  },
  outbox: outboxes.spool,
  projections: [
    new Rates({ db, now }),
    suppressionProjection(new Suppressions({ db, now })),
    new Deliveries({ db, endpoints, now, count }),
    {
      project: () => {
        if (point === 'in-the-transaction') die();
      },
    },
  ],
  ...{ log, count, now },
});
const queue = {
  hold: async () => {
    if (point === 'before-queue') die();
  },
  release: async () => undefined,
};
const measures = new Measures({ db, record: events.record, queue, now, log, count });
if (point === 'before-queue') {
  measures.hold({ did: 'did:plc:reef', reason: 'too many', by: 'automatic', actor: 'guard' });
  await measures.settle();
}
if (point === 'loop') events.start();
else await events.copy();
if (point === 'loop') setInterval(() => events.wake(), 1);
console.log('done');
