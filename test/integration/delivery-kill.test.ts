/**
 * SIGKILL at each named point of a delivery: what was acknowledged arrives, and what arrives twice is what
 * was under way. Real spool, real process, real destination.
 *
 * ATMOS_KILL_ROUNDS sets the rounds of each point (default 1), ATMOS_FUZZ_SEED repeats a run.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { type TestContext, test } from 'node:test';
import type { CrashPoint } from '../../node/delivery/attempt.ts';
import { Spool } from '../../node/spool/spool.ts';
import { Fuzz } from '../fuzz/random.ts';
import { destination, type Received } from '../unit/delivery-fixtures.ts';
import { silent, temporaryFolder } from '../unit/spool-fixtures.ts';

const fuzz = new Fuzz('delivery-kill', 'ATMOS_KILL_ROUNDS');
const child = new URL('./delivery-kill-child.ts', import.meta.url).pathname;
const messages = 60;

type Run = {
  dir: string;
  port: number;
  take: number;
  crashPoint: CrashPoint | '';
  times: number;
  order?: 'at-once';
};

type Ran = { acknowledged: string[]; claimedAtOnce: number; marked: string[] };

function run(t: TestContext, { dir, port, take, crashPoint, times, order }: Run): Promise<Ran> {
  const args = [child, dir, String(port), String(take), crashPoint, String(times), ...(order ? [order] : [])];
  const process_ = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => process_.kill('SIGKILL'));
  let out = '';
  process_.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text;
  });
  return new Promise((resolve, reject) => {
    process_.once('error', reject);
    process_.once('close', (code, signal) => {
      const asExpected = crashPoint === '' ? code === 0 : signal === 'SIGKILL';
      const said = (what: string) =>
        [...out.matchAll(/^(\w) (\S+)$/gm)].filter(([, how]) => how === what).map(([, , id]) => id!);
      if (asExpected)
        resolve({ acknowledged: said('A'), claimedAtOnce: said('C').length, marked: said('S') });
      else reject(new Error(`the child ended with ${code ?? signal}`));
    });
  });
}

function timesById(received: Received[]): Map<string, number> {
  const times = new Map<string, number>();
  for (const { bytes } of received) {
    const [, id] = /^X-Atmos-Id: ([^.\r]+)\./.exec(bytes.toString())!;
    times.set(id!, (times.get(id!) ?? 0) + 1);
  }
  return times;
}

/** From its second point on, the message for which it died was with the peer, and is not marked. */
const points: [point: CrashPoint, leastTwice: number][] = [
  ['during-attempt', 0],
  ['after-reply', 1],
  ['before-mark', 1],
];
const rounds = fuzz.rounds(1);

for (const [crashPoint, leastTwice] of points) {
  test(`killed ${crashPoint}: every acknowledged message arrives, duplicates only of those under way`, async (t) => {
    for (let round = 0; round < rounds; round++) {
      const first = { take: messages, crashPoint, times: 1 + fuzz.below(messages / 2) };
      const { acknowledged } = await killedAndStartedAgain(t, first, leastTwice);
      assert.equal(acknowledged.length, messages);
    }
  });

  test(`killed ${crashPoint}: the same of what was claimed in the answer to its acceptance`, async (t) => {
    for (let round = 0; round < rounds; round++) {
      const first = { take: 100_000, crashPoint, times: 10 + fuzz.below(200), order: 'at-once' as const };
      const { claimedAtOnce } = await killedAndStartedAgain(t, first, leastTwice);
      assert.ok(claimedAtOnce > 0);
    }
  });
}

async function killedAndStartedAgain(
  t: TestContext,
  first: Omit<Run, 'dir' | 'port'>,
  leastTwice: number,
): Promise<Ran> {
  const dir = temporaryFolder(t);
  const { port, received } = await destination(t);
  const ran = await run(t, { dir, port, ...first });
  await run(t, { dir, port, take: 0, crashPoint: '', times: 0 });
  const times = timesById(received);
  for (const id of ran.acknowledged) assert.ok(times.has(id), `${id} was acknowledged and is lost`);
  const twice = [...times].flatMap(([id, count]) => (count > 1 ? [id] : []));
  assert.ok(twice.length >= leastTwice, `${twice.length} arrived twice`);
  for (const id of ran.marked) assert.ok(!twice.includes(id), `${id} was marked as sent and arrived twice`);
  assert.ok(Math.max(...times.values()) <= 2);
  console.log(
    `delivery-kill: ${first.crashPoint}: ${ran.acknowledged.length} acknowledged, ${ran.claimedAtOnce} claimed ` +
      `at once, none lost, ${twice.length} arrived twice`,
  );
  await everythingSent(dir, ran.acknowledged);
  return ran;
}

async function everythingSent(dir: string, queueIds: string[]): Promise<void> {
  const spool = await Spool.open({ dir, log: silent });
  for (const queueId of queueIds)
    assert.equal((await spool.message(queueId))!.recipients[0]!.state, 'sent', queueId);
  await spool.close();
}
