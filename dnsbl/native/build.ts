/**
 * `npm run build:native`: compiles batch.c into build/batch.node.
 *
 * Needs a C compiler (`CC`, or cc) on Linux; node's headers come with the package `node`. What keeps it
 * from building is printed, and kept for the start-up line of the server. With `--if-possible`, for the
 * install, that is no failure.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, realpathSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { addonFile, failureFile, loadAddon, sourceFile, sourceHash } from './addon.ts';

/** @returns undefined when the addon is there, else one line that says why it is not */
export function buildAddon(flags: readonly string[] = []): string | undefined {
  mkdirSync(dirname(addonFile), { recursive: true });
  const why = compiled(flags);
  if (why === undefined) rmSync(failureFile, { force: true });
  else writeFileSync(failureFile, `${why}\n`);
  return why;
}

function compiled(flags: readonly string[]): string | undefined {
  if (process.platform !== 'linux') return `recvmmsg is not on ${process.platform}`;
  const headers = headersFolder();
  if (headers === undefined) return 'node_api.h was found nowhere beside node';
  // Beside, then renamed: a running server keeps what it has mapped, and nobody loads half a file.
  const fresh = `${addonFile}.${process.pid}`;
  const command = process.env.CC || 'cc';
  const { error, status, stderr } = spawnSync(
    command,
    [
      ...['-std=gnu11', '-O2', '-Wall', '-Wextra', '-Werror', '-fPIC', '-shared', '-fvisibility=hidden'],
      ...flags,
      `-DSOURCE_HASH="${sourceHash()}"`,
      ...['-isystem', headers, '-o', fresh, sourceFile],
    ],
    { encoding: 'utf8', timeout: 60_000 },
  );
  if (error) return 'code' in error && error.code === 'ENOENT' ? `no C compiler (${command})` : error.message;
  if (status !== 0) {
    rmSync(fresh, { force: true });
    return `${command} failed: ${stderr.split('\n').find((line) => line.includes('error')) ?? stderr.trim()}`;
  }
  renameSync(fresh, addonFile);
  return undefined;
}

/** The npm package `node` keeps them in the package that it takes its binary from; others beside bin. */
function headersFolder(): string | undefined {
  const folders = [join(dirname(realpathSync(process.execPath)), '..')];
  try {
    const node = createRequire(import.meta.url).resolve('node/package.json');
    const binary = `node-linux-${process.arch}/package.json`;
    folders.unshift(dirname(createRequire(node).resolve(binary)));
  } catch {
    // Run by another node than the package's: its own headers, or the system's, are as good for Node-API.
  }
  return [...folders.map((folder) => join(folder, 'include', 'node')), '/usr/include/node'].find((folder) =>
    existsSync(join(folder, 'node_api.h')),
  );
}

if (import.meta.main) {
  const isOptional = process.argv.includes('--if-possible');
  const loaded = loadAddon();
  const why = 'addon' in loaded ? undefined : buildAddon();
  if (why === undefined) console.log('native DNS sockets: built');
  else console.log(`native DNS sockets: ${why}. DNS is served without them.`);
  if (why !== undefined && !isOptional) process.exitCode = 1;
}
