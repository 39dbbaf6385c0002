/**
 * The process that spool-kill.test.ts kills: takes messages as fast as it can, delivers some, and writes
 * each id to the pipe only when the spool says that it is on disk.
 *
 * argv: folder, seed, crash point or ''. Lines out: `A <queue id>` accepted, `C <queue id>` claimed in the
 * answer to that, `D <queue id>` taken by the peer, `S <queue id>` and that is on disk.
 */
import { writeSync } from 'node:fs';
import type { CrashPoint } from '../../node/spool/crash.ts';
import type { Claim } from '../../node/spool/spool.ts';
import { Spool } from '../../node/spool/spool.ts';
import { bodyFor, delivered, due, mail, silent } from '../unit/spool-fixtures.ts';

const [dir, seed, crashPoint] = process.argv.slice(2) as [string, string, CrashPoint | ''];
const spool = await Spool.open({ dir, log: silent, ...(crashPoint ? { crashPoint } : {}) });

const senders = 20;
/** Mostly small, some in files, which are not claimed at once. */
const sizes = [100, 10_000, 10_000, 10_000, 100_000, 300_000];

/** Mail for it waits, and so is before nobody: else hardly anything would be claimed at once. */
const closed = ['closed.test'];
await due(spool, 1, 0, closed);
spool.handTo({
  wants: () => true,
  recall: () => undefined,
  answered(_size, claim) {
    if (!claim) return;
    writeSync(1, `C ${claim.queueId}\n`);
    if (!claim.body!.equals(bodyFor(claim.queueId, claim.size)))
      throw new Error(`${claim.queueId} is not whole`);
    void deliver(claim);
  },
});

await Promise.all([...Array.from({ length: senders }, (_, index) => send(index)), deliverForever()]);

async function send(sender: number): Promise<never> {
  for (let round = Number(seed) + sender; ; round++) {
    const isWaiting = sender % 2 === 0;
    const to = [isWaiting ? 'ann@closed.test' : 'ann@dest.test'];
    const message = mail({ to, receivedAt: Date.now() });
    const size = sizes[round % (isWaiting ? sizes.length : sizes.length - 1)]!;
    message.body = bodyFor(message.queueId, crashPoint === 'after-body-file' ? 300_000 : size);
    if ((await spool.accept(message)).kind === 'committed') writeSync(1, `A ${message.queueId}\n`);
  }
}

async function deliverForever(): Promise<never> {
  for (;;) {
    for (const claim of await due(spool, 3, Date.now(), closed)) await deliver(claim);
  }
}

async function deliver({ recipientId, queueId }: Claim): Promise<void> {
  writeSync(1, `D ${queueId}\n`);
  await spool.settle({ recipientId, attempt: delivered(Date.now()), next: { state: 'sent' } });
  writeSync(1, `S ${queueId}\n`);
}
