/**
 * Debian packages that conflict with an installed one: fetched, unpacked into a cache folder, never installed.
 *
 * Offline, or on another system, the reason stands in place of a folder, and tests skip with it.
 */
import { type ExecFileSyncOptions, execFileSync } from 'node:child_process';
import { existsSync, globSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export type Unpacked = { folder: string } | { missing: string };

const cache = join(tmpdir(), 'atmos-peers-cache');

/** @param program in the package, relative to its folder; its libraries must be installed */
export function unpacked(name: string, program: string): Unpacked {
  const folder = join(cache, name);
  try {
    if (!existsSync(join(folder, program))) fetch(name, folder);
    const libraries = execFileSync('ldd', [join(folder, program)], { encoding: 'utf8' });
    const absent = [...libraries.matchAll(/(\S+) => not found/g)].map(([, library]) => library);
    return absent.length > 0 ? { missing: `${name} lacks ${absent.join(', ')}` } : { folder };
  } catch (error) {
    const { stderr, message } = error as { stderr?: Buffer; message: string };
    return { missing: `Debian's ${name} could not be fetched: ${(stderr?.toString() || message).trim()}` };
  }
}

function fetch(name: string, folder: string): void {
  mkdirSync(cache, { recursive: true });
  // Made aside and moved when whole: two test files may do this at once.
  const aside = mkdtempSync(join(cache, `${name}-`));
  const quiet: ExecFileSyncOptions = { cwd: aside, stdio: ['ignore', 'ignore', 'pipe'] };
  try {
    execFileSync('apt-get', ['download', '-qq', name], quiet);
    const [file] = globSync('*.deb', { cwd: aside });
    execFileSync('dpkg', ['-x', file!, 'tree'], quiet);
    if (!existsSync(folder)) renameSync(join(aside, 'tree'), folder);
  } finally {
    rmSync(aside, { recursive: true, force: true });
  }
}
