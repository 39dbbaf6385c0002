/**
 * `npm test`: node's own runner over all test files, and the list of foreign software that is missing.
 *
 * `--long` runs the fuzzers and kill loops in full; names after it select files (`npm test -- dns`).
 */
import { spawn } from 'node:child_process';
import { globSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { missingPeers } from './peers.ts';

/** What the long form turns up; each test prints its seed and its rounds. */
const longRun = { ATMOS_FUZZ_ROUNDS: '1000000', ATMOS_KILL_ROUNDS: '200' };

/** A whole file counts as one test. In the long form the longest takes about 5 min by itself on two cores. */
const timeoutMs = (isLong: boolean) => (isLong ? 30 : 5) * 60_000;

const args = process.argv.slice(2);
const long = args.includes('--long');
const words = args.filter((arg) => !arg.startsWith('--'));

const files = globSync('{unit,fuzz,integration,peers,e2e}/**/*.test.ts', { cwd: import.meta.dirname })
  .filter((file) => words.length === 0 || words.some((word) => file.includes(word)))
  .sort()
  .map((file) => join(import.meta.dirname, file));

if (files.length === 0) {
  console.error(`no test file matches ${words.join(' ')}`);
  process.exit(64);
}

const runner = spawn(
  process.execPath,
  [
    '--test',
    // Whole worlds run in some files: more of them at once than cores only makes them wait for each other.
    `--test-concurrency=${Math.max(1, availableParallelism())}`,
    `--test-timeout=${timeoutMs(long)}`,
    ...files,
  ],
  { stdio: 'inherit', env: { ...process.env, ...(long ? longRun : {}) } },
);

runner.on('exit', (code, signal) => {
  const missing = missingPeers();
  if (missing.length > 0)
    console.log(`\nForeign software not here, its tests skipped: ${missing.join('; ')}`);
  process.exit(signal ? 1 : (code ?? 1));
});
