/** 100,000 enrolled domains in steady state fit into little memory: a process of its own, measured. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { temporaryFolder } from '../unit/spool-fixtures.ts';

const child = fileURLToPath(new URL('labeler-memory-child.ts', import.meta.url));
const mib = 1024 * 1024;

test('a labeler with 100,000 domains in steady state stays within 200 MB', async (t) => {
  // As the first line of node/atmos.js starts a node.
  const flags = ['--max-semi-space-size=2', '--heap-growing-percent=60'];
  const { stdout } = await promisify(execFile)(process.execPath, [...flags, child, temporaryFolder(t)], {
    env: { ...process.env, MALLOC_ARENA_MAX: '1', MALLOC_TRIM_THRESHOLD_: '262144' },
    timeout: 55_000,
  });
  const { maxRss, asked, verdicts } = JSON.parse(stdout) as Record<string, number>;
  t.diagnostic(stdout.trim());
  assert.ok(verdicts! >= 800, `${verdicts}`);
  assert.ok(maxRss! < 200 * mib, `${Math.round(maxRss! / mib)} MiB`);
  assert.ok(asked! < verdicts! * 6, `${asked} questions for ${verdicts} domains`);
});
