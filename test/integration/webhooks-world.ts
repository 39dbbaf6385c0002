/** Members' servers on loopback, a node.db with one member, and the webhooks of a node between them. */
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import { pino } from 'pino';
import { openDatabase } from '../../appview/database.ts';
import type { AddressRules } from '../../appview/identity/address.ts';
import { guardedFetch } from '../../appview/identity/fetch.ts';
import { EventLog } from '../../node/enforcement/event-log.ts';
import type { OwnEvent } from '../../node/enforcement/event-store.ts';
import { outboxes } from '../../node/enforcement/events.ts';
import { Seal } from '../../node/members/seal.ts';
import { nodeMigrations } from '../../node/migrations.ts';
import { Deliveries, type DeliveriesOptions } from '../../node/webhooks/deliveries.ts';
import { Endpoints } from '../../node/webhooks/endpoints.ts';
import { type SenderOptions, WebhookSender } from '../../node/webhooks/sender.ts';

export const reef = 'did:plc:reef';
export const log = pino({ level: 'silent' });
export const start = 1_700_000_000_000;

export type Received = { path: string; headers: IncomingHttpHeaders; body: string };
export type Reply = { status: number; body?: string; headers?: Record<string, string> } | 'silence';

/** @param answer to each request, from 1 */
export async function receiver(t: TestContext, answer: (nth: number, request: Received) => Reply) {
  const received: Received[] = [];
  const waiting: { count: number; resolve: () => void }[] = [];
  const server: Server = createServer(async (request, reply) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const one = { path: request.url!, headers: request.headers, body: Buffer.concat(chunks).toString() };
    received.push(one);
    const said = answer(received.length, one);
    if (said !== 'silence') reply.writeHead(said.status, said.headers).end(said.body);
    for (const { resolve } of waiting.filter(({ count }) => received.length >= count)) resolve();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`;
  const until = (count: number) =>
    received.length >= count
      ? Promise.resolve()
      : new Promise<void>((resolve) => waiting.push({ count, resolve }));
  return { url, received, until, server };
}

export type WorldOptions = Partial<Omit<SenderOptions, 'endpoints' | 'deliveries'>> &
  Pick<DeliveriesOptions, 'maxWaiting'> & { file?: string; rules?: AddressRules };

export function world(t: TestContext, o: WorldOptions = {}) {
  const {
    file = ':memory:',
    maxWaiting,
    rules = { allowLoopback: true, loopbackOnly: true },
    ...sending
  } = o;
  const db = openDatabase(file, nodeMigrations, { synchronous: 'NORMAL' });
  const clock = { at: start };
  const now = () => clock.at;
  const counted: string[] = [];
  const count = (what: string, reason?: string) => counted.push([what, reason].filter(Boolean).join(' '));
  const endpoints = new Endpoints({ db, seal: new Seal(Buffer.alloc(32, 7)), rules, now });
  const deliveries = new Deliveries({
    db,
    endpoints,
    now,
    count,
    ...(maxWaiting !== undefined && { maxWaiting }),
  });
  const source = { eventsAfter: async () => [], forgetEvents: async () => undefined };
  const events = new EventLog({
    ...{ db, source, outbox: outboxes.spool, projections: [deliveries], log, count, now },
  });
  const commits = new Set<() => void>();
  const record: SenderOptions['record'] = (recorded, change) => {
    events.record(recorded, change);
    for (const resolve of commits) resolve();
  };
  const makeSender = () =>
    new WebhookSender({
      ...{ endpoints, deliveries, fetch: guardedFetch(rules), record, now, log, count, commitEveryMs: 1 },
      ...sending,
    });
  const sender = makeSender();
  t.after(async () => {
    await sender.stop();
    db.close();
  });
  /** The next commit of outcomes. */
  const commit = () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    commits.add(resolve);
    return promise.finally(() => commits.delete(resolve));
  };
  const hook = (url: string, types: Parameters<Endpoints['create']>[0]['types'] = [], did = reef) =>
    endpoints.create({ did, url, description: '', types })!;
  const happen = (...recorded: OwnEvent[]) => events.record(recorded);
  return { db, clock, now, endpoints, deliveries, events, sender, makeSender, counted, commit, hook, happen };
}

/** A queue id of the time of `start`, as spool/ids.ts makes it. */
export function queueId(n = 0): string {
  return start.toString(32).padStart(9, '0') + n.toString(32).padStart(7, '0');
}

export function bounced(n = 0, did = reef): OwnEvent {
  const detail = { state: 'bounced', recipient: `r${n}@harbor.example`, status: '5.1.1', reply: '550 no' };
  return { type: 'delivery_result', did, messageId: queueId(n), recipientId: `${queueId(n)}.1`, detail };
}
