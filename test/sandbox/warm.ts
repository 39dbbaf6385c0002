/**
 * Before the first start of an installed tree: lets Node compile everything once and keep the result.
 *
 * Without it each process and thread of that start loads the type stripper, 20 MB apiece, and the nodes
 * compile the same sources at the same moment. What is kept is bound to V8's flags, so both kinds of
 * process are imitated: first the entry file, with words that it refuses, then what it loads.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { compileCache } from './compile-cache.ts';
import { nodeFlags } from './cooperative.ts';

const root = join(import.meta.dirname, '../..');

if (!existsSync(compileCache)) {
  await Promise.all([
    compile(nodeFlags, 'node/atmos.js', ['node/cli/start.ts', 'node/spool/worker.ts']),
    // This process was started with the flags of `npm start`.
    compile(process.execArgv, 'test/sandbox/main.ts', ['test/sandbox/sandbox.ts', 'test/sandbox/pds.ts']),
  ]);
}

/** Failing is harmless: the start then compiles for itself. */
async function compile(flags: string[], entry: string, modules: string[]): Promise<void> {
  await run([...flags, join(root, entry), '--no-such-option']);
  // A worker's file does not run outside its worker, but it is compiled.
  const imports = modules.map((file) => `await import('${pathToFileURL(join(root, file))}').catch(() => 0);`);
  await run([...flags, '--input-type=module', '-e', `${imports.join('')}process.exit(0)`]);
}

async function run(args: string[]): Promise<void> {
  const env = { ...process.env, NODE_COMPILE_CACHE: compileCache };
  await once(spawn(process.execPath, args, { stdio: 'ignore', env }), 'exit');
}
