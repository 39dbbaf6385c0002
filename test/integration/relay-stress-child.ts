/**
 * The process that relay-stress.test.ts drives and kills: a spool and a deliverer, at a clock that runs fast.
 *
 * argv: folder, port of the sinks, epoch of the clock. Over IPC it does what it is asked, and answers.
 */
import { Deliverer } from '../../node/delivery/deliverer.ts';
import { type NewMessage, Spool } from '../../node/spool/spool.ts';
import { everyHost } from '../unit/delivery-fixtures.ts';
import { mail, silent } from '../unit/spool-fixtures.ts';
import { type Asked, clockFrom, dsnTo, type Order, resolver } from './relay-stress-world.ts';

const [dir, port, epoch] = process.argv.slice(2) as [string, string, string];
const now = clockFrom(Number(epoch));
/** Timers know nothing of the fast clock. */
const wakeEveryMs = 10;

const spool = await Spool.open({ dir, log: silent, now });
let isUnlucky = false;
const deliverer = new Deliverer({
  ...{ spool, resolver, port: Number(port), loopbackOnly: true, hostname: 'harbor.test' },
  tls: everyHost('opportunistic'),
  dsn: { recipientFor: () => dsnTo, seal, from: 'x@harbor.test' },
  timeouts: { connectMs: 500, sessionMs: 500, idleMs: 500, totalMs: 1_000 },
  signatures: { isCurrent: () => !isUnlucky, renew: async () => Buffer.from('DKIM-Signature: anew\r\n') },
  concurrency: { total: 20, perSite: 8 },
  retryMinutes: [1, 1, 2],
  lifetimeMs: 120 * 60_000,
  delayNoticeMs: 3 * 60_000,
  graceMs: 200,
  log: silent,
  count: () => undefined,
  now,
});
deliverer.start();
const waking = setInterval(() => {
  isUnlucky = Math.random() < 0.1;
  deliverer.wake();
}, wakeEveryMs);

async function seal(): Promise<Buffer> {
  if (Math.random() < 0.1) throw new Error('the signing thread died');
  return Buffer.from('X-Sealed: yes\r\n');
}

process.on('message', async ({ id, order }: Asked) => {
  const value = await obey(order);
  process.send!({ id, value });
  if (order.what === 'stop') process.disconnect();
});

async function obey(order: Order): Promise<unknown> {
  switch (order.what) {
    case 'accept':
      return (await spool.accept(messageOf(order))).kind;
    case 'act':
      return act(order);
    case 'cancelScheduled':
      return spool.cancelScheduled('did:plc:reef', order.queueId);
    case 'summary':
      return spool.summary(now());
    case 'message':
      return spool.message(order.queueId);
    case 'messages':
      return spool.messages({ limit: 200, ...(order.cursor && { cursor: order.cursor }) });
    case 'events':
      return spool.eventsAfter(order.after, 1_000);
    case 'stop':
      clearInterval(waking);
      await deliverer.stop();
      await spool.close();
  }
}

function messageOf({ queueId, to, size, later, hold, did }: Extract<Order, { what: 'accept' }>): NewMessage {
  const receivedAt = now();
  // What nobody can say anything of waits for its end.
  const lifetimeMs = (to.some((one) => one.endsWith('@down.test')) ? 20 : 120) * 60_000;
  const message = mail({
    ...{ queueId, to, receivedAt, did, expiresAt: receivedAt + lifetimeMs, ...(hold && { hold }) },
    ...(later && { sendAt: receivedAt + 60_000 }),
    body: Buffer.concat([Buffer.from('Subject: stress\r\n\r\n'), Buffer.alloc(size, 'A line of it.\r\n')]),
  });
  for (const one of message.recipients) if (one.address.includes('@simulator.')) one.simulated = true;
  return message;
}

function act({ act: name, selection, to }: Extract<Order, { what: 'act' }>): Promise<number> {
  const reasoned = { by: 'ops', reason: 'stress' };
  if (name === 'retryNow') return spool.retryNow(selection, reasoned);
  if (name === 'reroute') return spool.reroute(selection, { by: 'ops', to: to ?? null });
  return spool[name](selection, reasoned);
}
