/**
 * A start over a long queue: all of it is there, in order, soon, and memory does not grow with it.
 *
 * 3,000 messages; with ATMOS_FUZZ_ROUNDS, the long form, 100,000, for which the figures are promised.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { Spool } from '../../node/spool/spool.ts';
import { bodyFor, mail, silent, start, temporaryFolder } from '../unit/spool-fixtures.ts';

const queued = process.env.ATMOS_FUZZ_ROUNDS === undefined ? 3_000 : 100_000;
const child = new URL('./spool-recovery-child.ts', import.meta.url).pathname;
const body = bodyFor('body', 4_000);
const answers = { committed: '', 'over-cap': 'refused', 'queue-full': 'refused' };

type Started = { ms: number; residentMb: number; order: { receivedAt: number; lane: string }[] };

test(`${queued} queued messages are back in under 2 s, in order, in the memory of none`, async (t) => {
  const [empty, full] = [temporaryFolder(t), temporaryFolder(t)];
  await (await Spool.open({ dir: empty, log: silent })).close();
  await fill(full);
  const none = started(empty);
  const all = started(full);
  console.log(
    `spool-recovery: ${queued} queued, started in ${all.ms.toFixed(0)} ms (none: ${none.ms.toFixed(0)}), ` +
      `${all.residentMb.toFixed(0)} MB resident (none: ${none.residentMb.toFixed(0)})`,
  );
  assert.equal(all.order.length, 200);
  for (const lane of Map.groupBy(all.order, (one) => one.lane).values()) {
    const times = lane.map(({ receivedAt }) => receivedAt);
    assert.deepEqual(
      times,
      [...times].sort((a, b) => a - b),
    );
  }
  assert.ok(Math.max(...all.order.map(({ receivedAt }) => receivedAt)) < start + 1_000, 'the oldest first');
  assert.ok(all.ms < 2_000, `${all.ms} ms`);
  assert.ok(all.residentMb - none.residentMb < 60, `${none.residentMb} MB, then ${all.residentMb}`);
});

async function fill(dir: string): Promise<void> {
  const spool = await Spool.open({ dir, log: silent, now: () => start });
  for (let n = 0; n < queued; ) {
    const items = Array.from({ length: 500 }, () => ({ message: message(n++), answers }));
    const done = await spool.acceptBatch({ did: 'did:plc:reef', items });
    assert.ok(done.kind === 'done' && done.answers.every((answer) => answer === ''));
    for (let events = await spool.eventsAfter('0', 1_000); events.length > 1; ) {
      await spool.forgetEvents(events.at(-1)!.id);
      events = await spool.eventsAfter('0', 1_000);
    }
  }
  await spool.close();
}

function message(n: number) {
  const to = [`u@site${n % 300}.test`];
  return mail({ did: `did:plc:m${n % 50}`, to, receivedAt: start + n, body });
}

function started(dir: string): Started {
  return JSON.parse(execFileSync(process.execPath, [child, dir], { encoding: 'utf8' })) as Started;
}
