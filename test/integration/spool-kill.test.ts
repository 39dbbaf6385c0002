/**
 * SIGKILL under load: what was acknowledged is there afterwards, whole, and what is noted as sent is not sent
 * again. What the peer took just before the kill is taken twice: duplicates are counted and reported.
 *
 * ATMOS_KILL_ROUNDS sets the rounds (default 2), ATMOS_FUZZ_SEED repeats a run.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { CrashPoint } from '../../node/spool/crash.ts';
import { Spool } from '../../node/spool/spool.ts';
import { Fuzz } from '../fuzz/random.ts';
import { bodyFor, day, due, silent, start, temporaryFolder } from '../unit/spool-fixtures.ts';

const fuzz = new Fuzz('spool-kill', 'ATMOS_KILL_ROUNDS');
const child = new URL('./spool-kill-child.ts', import.meta.url).pathname;

type Ledger = Record<'accepted' | 'atOnce' | 'taken' | 'sent', Set<string>> & { duplicates: number };

const emptyLedger = (): Ledger => ({
  ...{ accepted: new Set(), atOnce: new Set(), taken: new Set(), sent: new Set() },
  duplicates: 0,
});

test('SIGKILL at random: nothing acknowledged is lost', async (t) => {
  const total = { accepted: 0, atOnce: 0, sent: 0, duplicates: 0 };
  // A spool of its own for every few, since each is looked at in whole after each kill.
  for (let left = fuzz.rounds(2); left > 0; left -= 10) {
    const { accepted, atOnce, sent, duplicates } = await killOften(t, Math.min(left, 10));
    total.accepted += accepted.size;
    total.atOnce += atOnce.size;
    total.sent += sent.size;
    total.duplicates += duplicates;
  }
  const { accepted, atOnce, sent, duplicates } = total;
  assert.ok(atOnce > 0, 'some were claimed in the answer to their acceptance');
  console.log(
    `spool-kill: ${accepted} acknowledged, ${atOnce} claimed at once, ${sent} sent, none lost, ${duplicates} delivered twice`,
  );
});

async function killOften(t: TestContext, rounds: number): Promise<Ledger> {
  const dir = temporaryFolder(t);
  const ledger = emptyLedger();
  for (let round = 0; round < rounds; round++) {
    const before = ledger.accepted.size;
    await runUntil(t, { dir, seed: fuzz.below(1_000), ledger, killAfterMs: 50 + fuzz.below(500) });
    assert.ok(ledger.accepted.size > before, 'the round accepted something');
    await checkLedger(dir, ledger);
  }
  rmSync(dir, { recursive: true });
  return ledger;
}

test('killed before the commit: not acknowledged, and not there', async (t) => {
  const { dir, ledger } = await crashed(t, 'before-commit');
  assert.equal(ledger.accepted.size, 0);
  assert.equal(await queued(dir), 0);
});

test('killed after the commit: not acknowledged, but there, so a client’s retry makes a duplicate', async (t) => {
  const { dir, ledger } = await crashed(t, 'after-commit');
  assert.equal(ledger.accepted.size, 0);
  assert.ok((await queued(dir)) > 0);
});

test('killed between a body file and its row: the file is swept after the next start', async (t) => {
  const { dir } = await crashed(t, 'after-body-file');
  assert.equal(readdirSync(join(dir, 'spool')).length, 1);
  assert.equal(await queued(dir), 0);
  assert.deepEqual(readdirSync(join(dir, 'spool')), []);
});

async function crashed(t: TestContext, crashPoint: CrashPoint): Promise<{ dir: string; ledger: Ledger }> {
  const dir = temporaryFolder(t);
  const ledger = emptyLedger();
  await runUntil(t, { dir, seed: 0, ledger, crashPoint });
  return { dir, ledger };
}

type Run = { dir: string; seed: number; ledger: Ledger; killAfterMs?: number; crashPoint?: CrashPoint };

/** Runs the child until it is killed: by us some time after its first acknowledgement, or by its crash point. */
function runUntil(t: TestContext, { dir, seed, ledger, killAfterMs, crashPoint }: Run): Promise<void> {
  const process_ = spawn(process.execPath, [child, dir, String(seed), crashPoint ?? ''], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => process_.kill('SIGKILL'));
  let timer: NodeJS.Timeout | undefined;
  let rest = '';
  process_.stdout.setEncoding('utf8').on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop()!;
    for (const line of lines) note(line, ledger);
    // What was left of the round before may be delivered first.
    const hasAccepted = lines.some((line) => line.startsWith('A '));
    if (killAfterMs !== undefined && hasAccepted)
      timer ??= setTimeout(() => process_.kill('SIGKILL'), killAfterMs);
  });
  return new Promise((resolve, reject) => {
    process_.once('error', reject);
    process_.once('close', (_code, signal) => {
      clearTimeout(timer);
      if (signal === 'SIGKILL') resolve();
      else reject(new Error('the child ended by itself'));
    });
  });
}

function note(line: string, ledger: Ledger): void {
  const [kind, queueId] = line.split(' ') as [string, string];
  if (kind === 'D' && ledger.taken.has(queueId)) ledger.duplicates += 1;
  ({ A: ledger.accepted, C: ledger.atOnce, D: ledger.taken, S: ledger.sent })[kind]!.add(queueId);
}

async function checkLedger(dir: string, { accepted, sent }: Ledger): Promise<void> {
  const spool = await Spool.open({ dir, log: silent });
  const queueIds = [...accepted];
  // Some at once: one by one, the check would wait for the thread far longer than the child was alive.
  while (queueIds.length > 0)
    await Promise.all(queueIds.splice(-50).map((queueId) => checkMessage(spool, queueId, sent)));
  await spool.close();
}

async function checkMessage(spool: Spool, queueId: string, sent: Set<string>): Promise<void> {
  const message = await spool.message(queueId);
  assert.ok(message, `${queueId} was acknowledged and is lost`);
  const { state } = message.recipients[0]!;
  if (sent.has(queueId)) assert.equal(state, 'sent', queueId);
  if (state === 'sent') return;
  assert.deepEqual(await spool.body(queueId), bodyFor(queueId, message.size), queueId);
}

async function queued(dir: string): Promise<number> {
  const spool = await Spool.open({ dir, log: silent });
  // Between the calls it removes the body files that nobody wants.
  await spool.message('none');
  const claims = await due(spool, 1_000, start + 10_000 * day);
  for (const { queueId } of claims) assert.ok((await spool.body(queueId))!.length > 0);
  await spool.close();
  return claims.length;
}
