/**
 * The process that spool-kill.test.ts kills: takes messages as fast as it can, delivers some, and writes
 * each id to the pipe only when the spool says that it is on disk.
 *
 * argv: folder, seed, crash point or ''. Lines out: `A <queue id>` accepted, `D <queue id>`
 * taken by the peer, `S <queue id>` and that is on disk.
 */
import { writeSync } from 'node:fs';
import type { CrashPoint } from '../../node/spool/crash.ts';
import { Spool } from '../../node/spool/spool.ts';
import { bodyFor, delivered, due, mail, silent } from '../unit/spool-fixtures.ts';

const [dir, seed, crashPoint] = process.argv.slice(2) as [string, string, CrashPoint | ''];
const spool = await Spool.open({ dir, log: silent, ...(crashPoint ? { crashPoint } : {}) });

const senders = 20;
/** Mostly small, some in files. */
const sizes = [100, 10_000, 10_000, 10_000, 100_000, 300_000];

await Promise.all([...Array.from({ length: senders }, (_, index) => send(index)), deliverForever()]);

async function send(sender: number): Promise<never> {
  for (let round = Number(seed) + sender; ; round++) {
    const message = mail({ receivedAt: Date.now() });
    message.body = bodyFor(
      message.queueId,
      crashPoint === 'after-body-file' ? 300_000 : sizes[round % sizes.length]!,
    );
    if ((await spool.accept(message)).kind === 'committed') writeSync(1, `A ${message.queueId}\n`);
  }
}

async function deliverForever(): Promise<never> {
  for (;;) {
    for (const { recipientId, queueId } of await due(spool, 3, Date.now())) {
      writeSync(1, `D ${queueId}\n`);
      await spool.settle({ recipientId, attempt: delivered(Date.now()), next: { state: 'sent' } });
      writeSync(1, `S ${queueId}\n`);
    }
  }
}
