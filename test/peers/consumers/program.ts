/**
 * A foreign program in a folder of its own, asking our resolver, gone with us however we end.
 *
 * What reads /etc/resolv.conf gets a view of the file system of its own (a mount namespace) in which that
 * file names our resolver; outside, nothing changes. That takes root.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { boundToUs } from '../../foreign.ts';
import { until } from '../../until.ts';

export type Program = { log(): string; stop(): Promise<void> };

/** Some compile thousands of rules first, on a machine that does other things too. */
const maxStartMs = 60_000;

export const asRoot = process.getuid?.() === 0 ? false : 'needs root: it changes its user, or asks port 53';

/** Others may enter it: these programs give up root's rights. */
export function newFolder(name: string): { dir: string; remove: () => void } {
  const dir = mkdtempSync(join(tmpdir(), `atmos-${name}-`));
  chmodSync(dir, 0o755);
  return { dir, remove: () => rmSync(dir, { recursive: true, force: true }) };
}

/**
 * @param ready asked again and again until it is true
 * @throws with its log when it ends before that
 */
export async function startProgram(o: {
  dir: string;
  command: readonly string[];
  ready: () => boolean | Promise<boolean>;
}): Promise<Program> {
  const logFile = join(o.dir, 'log');
  const [file, ...args] = boundToUs(o.command);
  const output = openSync(logFile, 'a');
  const child = spawn(file, args, { stdio: ['ignore', output, output], detached: true, cwd: o.dir });
  closeSync(output);
  const program = { log: () => readFileSync(logFile, 'utf8'), stop: () => end(child) };
  try {
    const isReady = async () => child.exitCode !== null || (await o.ready());
    await until(`${o.command[0]} is ready`, isReady, maxStartMs);
    if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}`);
  } catch (error) {
    await end(child);
    throw new Error(`${o.command.join(' ')} did not start:\n${program.log()}`, { cause: error });
  }
  return program;
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGTERM');
  await gone;
}

/** @param more lines of shell, run in the same view before the command */
export function withResolver(
  dir: string,
  resolver: string,
  command: readonly string[],
  more: readonly string[] = [],
): string[] {
  writeFileSync(join(dir, 'resolv.conf'), `nameserver ${resolver}\noptions timeout:5 attempts:2\n`);
  writeFileSync(join(dir, 'nsswitch.conf'), 'passwd: files\ngroup: files\nhosts: dns\n');
  const binds = ['resolv.conf', 'nsswitch.conf'].map((name) => `mount --bind ${dir}/${name} /etc/${name}`);
  writeFileSync(join(dir, 'inside.sh'), ['set -e', ...binds, ...more, 'exec "$@"', ''].join('\n'));
  return ['unshare', '--mount', 'sh', join(dir, 'inside.sh'), ...command];
}
