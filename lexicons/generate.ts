/**
 * Makes `lexicons/gen` from the JSON schemas, when a schema or the generator is newer than what is there.
 *
 * Runs before every start and test; an unchanged tree costs some milliseconds.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, globSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';

const here = import.meta.dirname;
const root = dirname(here);
const stamp = join(here, 'gen', 'email.ts');
const generator = join(root, 'node_modules', '@atproto', 'lex');

if (!isCurrent()) {
  const built = spawnSync(
    process.execPath,
    [
      join(generator, 'bin', 'lex'),
      ...['build', '--lexicons', here, '--out', join(here, 'gen')],
      ...['--import-ext', '.ts', '--clear', '--no-pretty'],
    ],
    { stdio: ['ignore', 'inherit', 'inherit'] },
  );
  if (built.status !== 0) process.exit(built.status ?? 1);
}

function isCurrent(): boolean {
  if (!existsSync(stamp)) return false;
  const made = statSync(stamp).mtimeMs;
  const sources = [...globSync('{com,email}/**/*.json', { cwd: here }).map((file) => join(here, file))];
  sources.push(join(generator, 'package.json'), import.meta.filename);
  return sources.every((file) => statSync(file).mtimeMs <= made);
}
