/**
 * The process that delivery-kill.test.ts kills: takes messages, delivers them to a real destination, ends
 * when nothing is left.
 *
 * argv: folder, port, messages to take, crash point or '', how often it is reached before the kill.
 * Lines out: `A <queue id>` accepted.
 */
import { writeSync } from 'node:fs';
import type { CrashPoint } from '../../node/delivery/attempt.ts';
import { Deliverer } from '../../node/delivery/deliverer.ts';
import { Spool } from '../../node/spool/spool.ts';
import { anywhere, everyHost, everythingHere } from '../unit/delivery-fixtures.ts';
import { mail, silent } from '../unit/spool-fixtures.ts';

const [dir, port, messages, crashPoint, times] = process.argv.slice(2) as [
  string,
  string,
  string,
  CrashPoint | '',
  string,
];
let left = Number(times);

const spool = await Spool.open({ dir, log: silent });
for (let i = 0; i < Number(messages); i++) {
  const message = mail({ to: [`u${i}@dest.test`], receivedAt: Date.now() });
  if ((await spool.accept(message)).kind === 'committed') writeSync(1, `A ${message.queueId}\n`);
}

const deliverer = new Deliverer({
  ...{ spool, resolver: everythingHere, port: Number(port), loopbackOnly: true, hostname: 'harbor.test' },
  tls: everyHost('required'),
  dsn: {
    recipientFor: () => undefined,
    seal: () => Promise.reject(new Error('no DSN is due')),
    from: 'x@harbor.test',
  },
  log: silent,
  count: () => void endWhenDone(),
  now: Date.now,
  // No handler, no flush, no exit code of ours: as if the power went.
  reached: (point) => {
    if (point === crashPoint && --left === 0) process.kill(process.pid, 'SIGKILL');
  },
});
deliverer.start();
await endWhenDone();

async function endWhenDone(): Promise<void> {
  const open = await spool.messages({ state: 'accepted', limit: 1 });
  const next = await spool.nextDueAt(anywhere);
  if (open.messages.length > 0 || next !== undefined) return;
  await deliverer.stop();
  await spool.close();
  process.exit(0);
}
