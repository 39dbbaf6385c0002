/**
 * The process that delivery-kill.test.ts kills: takes messages, delivers them to a real destination, ends
 * when nothing is left.
 *
 * argv: folder, port, messages to take, crash point or '', how often it is reached before the kill, and
 * `at-once` to deliver while it takes. Lines out: `A <queue id>` accepted, `C <queue id>` claimed in the answer to
 * that, `S <queue id>` its outcome is on disk.
 */
import { writeSync } from 'node:fs';
import type { CrashPoint } from '../../node/delivery/attempt.ts';
import { Deliverer } from '../../node/delivery/deliverer.ts';
import { Spool, type Taker } from '../../node/spool/spool.ts';
import { anywhere, everyHost, everythingHere } from '../unit/delivery-fixtures.ts';
import { mail, silent } from '../unit/spool-fixtures.ts';

const [dir, port, messages, crashPoint, times, order] = process.argv.slice(2) as [
  string,
  string,
  string,
  CrashPoint | '',
  string,
  'at-once' | undefined,
];
let left = Number(times);
let isTaking = true;

const spool = await Spool.open({ dir, log: silent });
const handTo = spool.handTo.bind(spool);
spool.handTo = (taker) => handTo(taker && told(taker));
const settle = spool.settle.bind(spool);
spool.settle = async (settlement) => {
  const settled = await settle(settlement);
  writeSync(1, `S ${settlement.recipientId.split('.')[0]}\n`);
  return settled;
};

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
if (order === 'at-once') deliverer.start();
await take();
deliverer.start();
await endWhenDone();

async function take(): Promise<void> {
  for (let i = 0; i < Number(messages); i++) {
    const message = mail({ to: [`u${i}@dest.test`], receivedAt: Date.now() });
    if ((await spool.accept(message)).kind === 'committed') writeSync(1, `A ${message.queueId}\n`);
  }
  isTaking = false;
}

function told(taker: Taker): Taker {
  return {
    wants: (message) => taker.wants(message),
    recall: () => taker.recall(),
    answered(size, claim) {
      if (claim) writeSync(1, `C ${claim.queueId}\n`);
      taker.answered(size, claim);
    },
  };
}

async function endWhenDone(): Promise<void> {
  const open = await spool.messages({ state: 'accepted', limit: 1 });
  const next = await spool.nextDueAt(anywhere);
  if (isTaking || open.messages.length > 0 || next !== undefined) return;
  await deliverer.stop();
  await spool.close();
  process.exit(0);
}
