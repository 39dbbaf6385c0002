import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Spool } from '../../node/spool/spool.ts';
import { bodyFor, delivered, due, mail, silent, start } from '../unit/spool-fixtures.ts';

/** Only root may mount; spool-queue.test.ts has the same claim with a fault in SQL for everyone else. */
const skip = canMount() ? false : 'a tmpfs cannot be mounted here';

for (const [name, size] of [
  ['a row', 20_000],
  ['a file', 300_000],
] as const) {
  test(
    `a full disk answers failed for a body in ${name}, and recovers by itself`,
    { skip },
    onSmallDisk(async (spool, dir) => {
      const accept = () => spool.accept(mail({ body: bodyFor('x', size) }));
      assert.equal((await accept()).kind, 'committed');
      const filler = fill(dir);
      const answers = await Promise.all(Array.from({ length: 30 }, accept));
      const failed = answers.filter(({ kind }) => kind === 'failed');
      assert.ok(failed.length > 0, 'the disk was full');
      const stored = answers.length - failed.length + 1;
      // The queue still serves what it has.
      const claims = await due(spool, 100, start);
      assert.equal(claims.length, stored);
      assert.deepEqual(await spool.body(claims[0]!.queueId), bodyFor('x', size));
      assert.equal(readdirSync(join(dir, 'spool')).length, size > 256 * 1024 ? stored : 0);

      rmSync(filler);
      assert.equal((await accept()).kind, 'committed');
      for (const { recipientId } of claims) {
        await spool.settle({ recipientId, attempt: delivered(), next: { state: 'sent' } });
      }
      assert.equal((await due(spool, 100, start)).length, 1);
    }),
  );
}

test(
  'an outcome that cannot be stored is rejected, and the claim stands until it can',
  { skip },
  onSmallDisk(async (spool, dir) => {
    const message = mail();
    await spool.accept(message);
    const [claim] = await due(spool, 1, start);
    const filler = fill(dir);
    const attempt = { ...delivered(), reply: 'x'.repeat(500_000) };
    const settle = () => spool.settle({ recipientId: claim!.recipientId, attempt, next: { state: 'sent' } });
    await assert.rejects(settle());
    assert.deepEqual(await due(spool, 1, start), []);
    rmSync(filler);
    await settle();
    assert.equal((await spool.message(message.queueId))!.recipients[0]!.state, 'sent');
  }),
);

test(
  'a cancellation that the disk refused at the end of a try is done when there is room again',
  { skip },
  onSmallDisk(async (spool, dir) => {
    const message = mail();
    await spool.accept(message);
    const [claim] = await due(spool, 1, start);
    await spool.cancel({ ids: [message.queueId] }, { by: 'ops', reason: 'why' });
    const filler = fill(dir);
    await spool.release([claim!.recipientId]);
    // Its turn on the disk comes before this one's.
    assert.equal((await spool.accept(mail({ body: bodyFor('x', 20_000) }))).kind, 'failed');
    const state = async () => (await spool.message(message.queueId))!.recipients[0]!.state;
    assert.equal(await state(), 'accepted');
    rmSync(filler);
    for (let n = 0; n < 2; n++) assert.equal((await spool.accept(mail())).kind, 'committed');
    assert.equal(await state(), 'cancelled');
  }),
);

function onSmallDisk(claim: (spool: Spool, dir: string) => Promise<void>): () => Promise<void> {
  return async () => {
    const dir = mkdtempSync(join(tmpdir(), 'atmos-disk-'));
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', dir]);
    const spool = await Spool.open({ dir, log: silent, now: () => start });
    try {
      await claim(spool, dir);
    } finally {
      await spool.close();
      execFileSync('umount', [dir]);
      rmdirSync(dir);
    }
  };
}

/** @returns the file that takes the rest of the disk */
function fill(dir: string): string {
  const filler = join(dir, 'filler');
  const chunk = Buffer.alloc(4_096);
  try {
    for (;;) writeFileSync(filler, chunk, { flag: 'a' });
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC');
    return filler;
  }
}

function canMount(): boolean {
  if (process.getuid?.() !== 0) return false;
  // In a container root may be refused.
  return spawnSync('unshare', ['--mount', 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt']).status === 0;
}
