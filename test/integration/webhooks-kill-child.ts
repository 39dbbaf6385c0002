/** A node's webhooks on a database of their own, until somebody kills it. argv: folder. Prints what it stored. */
import { pino } from 'pino';
import { openDatabase } from '../../appview/database.ts';
import { guardedFetch } from '../../appview/identity/fetch.ts';
import { EventLog } from '../../node/enforcement/event-log.ts';
import { Seal } from '../../node/members/seal.ts';
import { nodeMigrations } from '../../node/migrations.ts';
import { Deliveries } from '../../node/webhooks/deliveries.ts';
import { Endpoints } from '../../node/webhooks/endpoints.ts';
import { WebhookSender } from '../../node/webhooks/sender.ts';

const rules = { allowLoopback: true, loopbackOnly: true };
const shared = { now: Date.now, log: pino({ level: 'silent' }), count: () => undefined };
const db = openDatabase(`${process.argv[2]}/node.db`, nodeMigrations, { synchronous: 'FULL' });
const endpoints = new Endpoints({ db, seal: new Seal(Buffer.alloc(32, 7)), rules, ...shared });
const deliveries = new Deliveries({ db, endpoints, ...shared });
const source = { eventsAfter: async () => [], forgetEvents: async () => undefined };
const events = new EventLog({ db, source, outbox: 1, projections: [deliveries], ...shared });
const sender = new WebhookSender({
  ...{ endpoints, deliveries, fetch: guardedFetch(rules), ...shared },
  record: (recorded, change) => {
    events.record(recorded, change);
    console.log('stored');
  },
});
sender.start();
setInterval(() => undefined, 1_000);
