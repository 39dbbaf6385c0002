/** Programs of the benchmarks in C, made by the machine's compiler when first needed and after each change. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const flags = ['-std=c11', '-D_GNU_SOURCE', '-O2', '-Wall', '-Wextra', '-Werror'];

export type CProgram = {
  name: string;
  sources: readonly string[];
  headers?: readonly string[];
  libraries?: readonly string[];
};

/** @returns the program's path in a cache folder. @throws when the compiler does */
export function compiled({ name, sources, headers = [], libraries = [] }: CProgram): string {
  const version = createHash('sha256').update([...flags, ...libraries].join());
  for (const file of [...headers, ...sources]) version.update(readFileSync(file));
  const cache = join(tmpdir(), 'atmos-bench-cache', `ends-${version.digest('hex').slice(0, 16)}`);
  const program = join(cache, name);
  if (existsSync(program)) return program;
  mkdirSync(cache, { recursive: true });
  // Under another name until it is whole: two benchmarks may begin at once.
  const made = `${program}.${process.pid}`;
  execFileSync('cc', [...flags, '-o', made, ...sources, ...libraries], { encoding: 'utf8', stdio: 'pipe' });
  renameSync(made, program);
  return program;
}

/** The reason why they cannot be made here. @param debian the packages that bring what is needed */
export function missingPrograms(programs: readonly CProgram[], debian: string): string | false {
  try {
    for (const program of programs) compiled(program);
    return false;
  } catch (error) {
    const words = String((error as { stderr?: string }).stderr ?? error).trim();
    return `cc did not make its ends (Debian: ${debian}): ${words.slice(0, 300)}`;
  }
}
