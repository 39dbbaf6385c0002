/** A disk that hangs, and one that turns read-only under us: nothing is promised, and all is well when it is. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type TestContext, test } from 'node:test';
import { needs } from '../peers.ts';
import { temporaryFolder } from '../unit/spool-fixtures.ts';
import { until } from '../until.ts';

const source = new URL('./spool-bad-disk.c', import.meta.url).pathname;
const child = new URL('./spool-bad-disk-child.ts', import.meta.url).pathname;
const skip = needs('cc');

async function onBadDisk(t: TestContext) {
  const dir = temporaryFolder(t);
  const library = join(dir, 'bad-disk.so');
  const built = spawnSync('cc', ['-shared', '-fPIC', '-o', library, source, '-ldl'], { encoding: 'utf8' });
  assert.equal(built.status, 0, built.stderr);
  const control = join(dir, 'control');
  const running = spawn(process.execPath, [child, join(dir, 'state')], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, LD_PRELOAD: library, BAD_DISK: control },
  });
  t.after(() => running.kill('SIGKILL'));
  const lines = createInterface({ input: running.stdout })[Symbol.asyncIterator]();
  const next = async () => (await lines.next()).value as string;
  const ask = (call: string) => running.stdin.write(`${call}\n`);
  assert.equal(await next(), 'open');
  return {
    control,
    next,
    ask,
    hears: (call: string) => {
      ask(call);
      return next();
    },
    turn: (mode: 'hangs' | 'read-only' | 'well') =>
      mode === 'well' ? rmSync(control) : writeFileSync(control, mode),
    end: async () => {
      running.stdin.end();
      await once(running, 'exit');
    },
  };
}

test('a hung disk: no acknowledgement until it has synced, the process goes on, nothing is lost', {
  skip,
}, async (t) => {
  const { control, next, ask, hears, turn, end } = await onBadDisk(t);
  assert.equal(await hears('accept'), 'accept committed');
  turn('hangs');
  ask('accept');
  await until('the sync that hangs', () => existsSync(`${control}.hangs`));
  assert.equal(await hears('ping'), 'ping', 'the main thread serves');
  turn('well');
  assert.equal(await next(), 'accept committed');
  assert.equal(await hears('due'), 'due 2');
  await end();
});

test('a disk that turns read-only: not taken, what is there is served, and well again by itself', {
  skip,
}, async (t) => {
  const { hears, turn, end } = await onBadDisk(t);
  assert.equal(await hears('accept'), 'accept committed');
  turn('read-only');
  for (let n = 0; n < 3; n++) assert.equal(await hears('accept'), 'accept failed');
  assert.equal(await hears('due'), 'due 1');
  turn('well');
  assert.equal(await hears('accept'), 'accept committed');
  assert.equal(await hears('due'), 'due 1', 'the other one is claimed');
  await end();
});
