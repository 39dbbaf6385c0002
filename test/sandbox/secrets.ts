/**
 * Small JSON files of the sandbox that hold secrets: mode 0600, written whole or not at all.
 */
import { randomBytes } from 'node:crypto';
import { chmodSync, readFileSync, renameSync, writeFileSync } from 'node:fs';

/** Replaces the file in one step, so that a crash leaves the old one or the new one. */
export function writeSecret(file: string, value: unknown): void {
  const draft = `${file}.new`;
  writeFileSync(draft, `${JSON.stringify(value, null, 2)}\n`, { mode: 0o600 });
  // An older draft would have kept its mode.
  chmodSync(draft, 0o600);
  renameSync(draft, file);
}

/** @returns undefined when there is no such file; @throws when it is not JSON */
export function readSecret<T>(file: string): T | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as T;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new Error(`${file} is damaged: ${(error as Error).message}`, { cause: error });
  }
}

/** Made once, the same ever after. */
export function keptSecret<T>(file: string, make: () => T): T {
  const kept = readSecret<T>(file);
  if (kept !== undefined) return kept;
  const made = make();
  writeSecret(file, made);
  return made;
}

/** @param bytes of randomness; the text is twice as long */
export function randomHex(bytes: number): string {
  return randomBytes(bytes).toString('hex');
}
